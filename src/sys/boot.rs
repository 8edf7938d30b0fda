//! What shows which boot of the machine this is: the kernel's boot id, the time at which the
//! machine started, and a mark on an inode that a reboot removes. Anything that cannot be read
//! counts as unknown, and never as a value.

use super::clock::now;
use super::proc::{boot_offset, may_have_seccomp_filter};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Returns the random id that the kernel drew for this boot, or `None` if `/proc` does not show it.
///
/// A file that is mounted over the kernel's, as some containers have it, holds an id of the
/// container. That id may outlive the boot, or change within it, so it counts as unknown.
pub(crate) fn boot_id() -> Option<u128> {
    let mut file = File::open("/proc/sys/kernel/random/boot_id").ok()?;
    let shown_by = fstatfs(&file).ok()?.filesystem_type();
    if shown_by != PROC_SUPER_MAGIC {
        return None;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let id = u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()?;
    (id != 0).then_some(id)
}

/// When the machine started, by its clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BootTime {
    /// The earliest possible time, in nanoseconds since 1970.
    pub(crate) earliest: u64,
    /// How much later it may have been, in nanoseconds.
    pub(crate) uncertainty: u32,
    /// How long the machine had been running when this was read, in nanoseconds.
    pub(crate) elapsed: u64,
}

impl BootTime {
    /// Reads the clocks, or returns `None` if they do not show when the machine started.
    ///
    /// They show it only if the kernel's clock is synchronized with a time server or a reference
    /// clock. Otherwise the clock may have started at a saved or a fixed time. A machine without a
    /// battery-backed clock would then appear to start at the same time again and again.
    pub(crate) fn read() -> Option<Self> {
        // A reading is repeated if the thread was interrupted in it.
        const ATTEMPTS: usize = 5;
        const NARROW: Duration = Duration::from_micros(50);
        const WIDEST: Duration = Duration::from_millis(1);
        if !clock_is_synchronized() {
            return None;
        }
        let offset = boot_offset().ok()??;
        let mut best: Option<(Duration, Duration, Duration)> = None;
        for _ in 0..ATTEMPTS {
            let before = now(libc::CLOCK_BOOTTIME);
            let time = now(libc::CLOCK_REALTIME);
            let after = now(libc::CLOCK_BOOTTIME);
            let width = after.saturating_sub(before);
            if best.is_none_or(|(best, ..)| width < best) {
                best = Some((width, time, after));
            }
            if width <= NARROW {
                break;
            }
        }
        let (width, time, after) = best.filter(|(width, ..)| *width <= WIDEST)?;
        let elapsed = i128::try_from(after.as_nanos()).ok()? - i128::from(offset) * 10_000_000;
        let time = i128::try_from(time.as_nanos()).ok()?;
        Some(BootTime {
            earliest: u64::try_from(time - elapsed).ok()?,
            uncertainty: u32::try_from(width.as_nanos()).ok()?,
            elapsed: u64::try_from(elapsed).ok()?,
        })
    }
}

/// Returns whether the kernel's clock is known to be synchronized: a daemon has cleared
/// `STA_UNSYNC` since the machine started, and the clock has not been set by hand since.
fn clock_is_synchronized() -> bool {
    // A filter may kill the process for the call, as systemd's `SystemCallFilter=@system-service`
    // does.
    if may_have_seccomp_filter() {
        return false;
    }
    // SAFETY: zero bytes are a valid timex. With no mode set, the call changes nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is a timex that may be written.
    let answer = unsafe { libc::adjtimex(&mut state) };
    answer != -1 && state.status & libc::STA_UNSYNC == 0
}

/// `fcntl(2)`: reads and sets an inode's write life time hint. A hint of 0 is not set.
const F_GET_RW_HINT: libc::c_int = 1035;
const F_SET_RW_HINT: libc::c_int = 1036;
const RWH_WRITE_LIFE_NONE: u64 = 1;

/// Marks the file as used in this boot.
///
/// The mark is the write life time hint "none", which asks for nothing. The kernel keeps it in the
/// inode in memory (`i_write_hint`), and sets it to 0 whenever it reads an inode from the disk. So
/// no reboot leaves it set. All mounts and namespaces share the inode.
///
/// The file's owner may set it (Linux 6.9 checks that). If the kernel refuses, the file is not
/// marked, which shows nothing.
pub(crate) fn mark(file: impl AsFd) {
    let hint = RWH_WRITE_LIFE_NONE;
    // SAFETY: the call reads eight bytes.
    let _ = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), F_SET_RW_HINT, &raw const hint) };
}

/// Returns whether the file is [marked](mark), or `None` if the kernel has no marks.
///
/// The kernel may remove the mark of a file that no process has open, with the inode.
pub(crate) fn is_marked(file: impl AsFd) -> Option<bool> {
    let mut hint = 0_u64;
    // SAFETY: the call writes eight bytes.
    let answer = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), F_GET_RW_HINT, &raw mut hint) };
    (answer != -1).then_some(hint == RWH_WRITE_LIFE_NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_the_kernels() {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let ours = format!("{:032x}", boot_id().unwrap());
        assert_eq!(ours, text.trim().replace('-', ""));
    }

    #[test]
    fn a_mark_belongs_to_the_file_and_not_to_the_descriptor() {
        let named = tempfile::NamedTempFile::new().unwrap();
        if is_marked(&named).is_none() {
            return;
        }
        assert_eq!(is_marked(&named), Some(false));
        mark(named.reopen().unwrap());
        assert_eq!(is_marked(&named), Some(true));
        let other = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(is_marked(&other), Some(false));
    }

    #[test]
    fn two_readings_of_the_boot_time_agree() {
        // Unknown if this machine's clock is not synchronized.
        if let (Some(first), Some(second)) = (BootTime::read(), BootTime::read()) {
            assert!(first.elapsed <= second.elapsed);
            assert!(first.earliest.abs_diff(second.earliest) <= 1_000_000);
        }
    }
}
