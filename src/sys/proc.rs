//! What `/proc` shows of threads and processes. Anything that cannot be read counts as unknown, and
//! never as an answer. Possible reasons are that no descriptor is left, that `/proc` hides the
//! processes of other users, or that there is no `/proc` after a `chroot`.

use super::clock;
use super::kernel::Feature;
use super::owner::ImageId;
use super::process;
use nix::fcntl::readlinkat;
use std::ffi::{CStr, OsStr};
use std::fs;
use std::io::{self, Write as _};
use std::mem::MaybeUninit;

/// Asks statx(2) for the unique id of a mount (Linux 6.8). The oldest libc that this crate accepts
/// lacks it.
const STATX_MNT_ID_UNIQUE: libc::c_uint = 0x4000;

/// Returns the offset of `CLOCK_BOOTTIME` in the caller's time namespace, in clock ticks of 10 ms,
/// or `None` if it is not known.
pub(super) fn boot_offset() -> io::Result<Option<i64>> {
    let Ok(own) = fs::read_link("/proc/self/ns/time") else {
        // The kernel has no time namespaces (before 5.6), or there is no /proc. In the latter case
        // there are no start times either.
        return Ok(Some(0));
    };
    // `timens_offsets` shows the offsets of the namespace that children get.
    if own != fs::read_link("/proc/self/ns/time_for_children")? {
        return Ok(None);
    }
    let text = fs::read_to_string("/proc/self/timens_offsets")?;
    let offset = || {
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("boottime"))?;
        let mut numbers = line.split_whitespace().map(str::parse::<i64>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    Ok(match offset() {
        Some((seconds, 0)) => Some(seconds * 100),
        _ => None,
    })
}

/// Returns the offset that the start times in `/proc` have for the caller, in clock ticks of 10 ms,
/// or `None` if it is not known.
///
/// Since Linux 5.11, start times and the time of the boot in `/proc/stat` include the [boot-time
/// offset](boot_offset) of the reader's time namespace. Before, neither does.
pub(super) fn start_time_offset() -> io::Result<Option<i64>> {
    let offset = match boot_offset()? {
        Some(offset) if offset != 0 => offset,
        zero_or_unknown => return Ok(zero_or_unknown),
    };
    let stat = fs::read_to_string("/proc/stat")?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "));
    let boot = boot.and_then(|seconds| seconds.trim().parse().ok());
    let now = |clock| clock::now(clock).as_secs() as i64;
    let by_clocks = now(libc::CLOCK_REALTIME) - now(libc::CLOCK_BOOTTIME);
    Ok(boot.and_then(|boot| offset_of_shown_times(offset, boot, by_clocks)))
}

/// Returns the offset that the times in `/proc` have, or `None` if that is not clear.
///
/// `offset` is that of the caller's time namespace in clock ticks. `boot` is the time of the boot
/// that `/proc` shows, and `by_clocks` is that time by the clocks in the namespace. Both are in
/// seconds since 1970.
fn offset_of_shown_times(offset: i64, boot: i64, by_clocks: i64) -> Option<i64> {
    // The clocks are read one after the other, and in whole seconds.
    const TOLERANCE: u64 = 2;
    let is_shown_as = |time: i64| boot.abs_diff(time) <= TOLERANCE;
    match (
        is_shown_as(by_clocks),
        is_shown_as(by_clocks + offset / 100),
    ) {
        (true, false) => Some(offset),
        (false, true) => Some(0),
        _ => None,
    }
}

/// Returns the number of the process's own PID namespace, or 0 if it is not known: there is no
/// `/proc`, the kernel shows it nowhere else, and the process may mount no `/proc`.
pub(crate) fn own_namespace() -> u32 {
    namespace("/proc/self/ns/pid")
        .or_else(|_| process::own_pid_namespace())
        .or_else(|_| {
            let root = process::mount_proc_nowhere()?;
            number_of(&readlinkat(root, "self/ns/pid")?)
        })
        .unwrap_or(0)
}

/// Returns the number of the PID namespace that the next child of the process would get, or 0 if
/// `/proc` does not show it.
pub(crate) fn childrens_namespace() -> u32 {
    namespace("/proc/self/ns/pid_for_children").unwrap_or(0)
}

/// Returns the number of the PID namespace to which a link refers.
pub(super) fn namespace(link: &str) -> io::Result<u32> {
    number_of(fs::read_link(link)?.as_os_str())
}

/// Returns the number of the PID namespace that a link names, such as `pid:[4026531836]`.
fn number_of(target: &OsStr) -> io::Result<u32> {
    let number = || {
        target
            .to_str()?
            .strip_prefix("pid:[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    };
    number().ok_or_else(malformed)
}

/// The directory in which the kernel lists the threads of the process.
pub(crate) const OWN_THREADS: &str = "/proc/self/task";

/// The threads of the process, as [`OWN_THREADS`] lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadCounts {
    /// Those that run, with the calling one.
    pub(crate) running: usize,
    /// Those that run no more instructions of the program. The kernel lists a joined thread until
    /// it has released it.
    pub(crate) ending: usize,
}

impl ThreadCounts {
    pub(crate) fn read() -> io::Result<Self> {
        let listed: Vec<_> = fs::read_dir(OWN_THREADS)?.collect::<Result<_, _>>()?;
        if listed.len() == 1 {
            return Ok(ThreadCounts {
                running: 1,
                ending: 0,
            });
        }
        let mut counts = ThreadCounts {
            running: 0,
            ending: 0,
        };
        for thread in listed {
            match fs::read_to_string(thread.path().join("stat")) {
                Ok(line) => match Stat::parse(&line).ok_or_else(malformed)? {
                    stat if stat.has_ended() || stat.is_exiting() => counts.ending += 1,
                    _ => counts.running += 1,
                },
                // The kernel has released it meanwhile.
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(counts)
    }
}

/// Returns whether a file of a process or thread could not be read because it has ended: `ESRCH`
/// from an open file, `ENOENT` from its name.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Returns whether `/proc` was mounted in the process's own PID namespace. If so, it shows every
/// process under the id by which this process knows it. The kernel lists the ids of a process from
/// the namespace of the mount inwards.
pub(super) fn shows_own_namespace() -> io::Result<bool> {
    Ok(pids("/proc/self/status")? == [std::process::id()])
}

/// Returns the id that distinguishes the mount of `/proc` from every other mount, past, present or
/// future (Linux 6.8), or 0 if there is no such id.
pub(super) fn mount() -> u64 {
    statx(c"/proc", STATX_MNT_ID_UNIQUE).map_or(0, |answer| mount_of(&answer))
}

fn mount_of(answer: &libc::statx) -> u64 {
    let has_id = answer.stx_mask & STATX_MNT_ID_UNIQUE != 0 && !Feature::UniqueMountId.is_hidden();
    if has_id { answer.stx_mnt_id } else { 0 }
}

/// Returns the number of threads of a process, including a leader that has ended, and the [`mount`]
/// on which the number was read.
///
/// The kernel includes the number in the link count of `/proc/PID/task`, which takes one call to
/// read. Reading a file there takes several.
pub(super) fn threads(pid: u32) -> Option<(u32, u64)> {
    // On the stack: a thread that was just woken for a lock has nothing in its caches, least of all
    // the state of the allocator.
    let mut path = [0; 32];
    write!(&mut path[..], "/proc/{pid}/task\0").ok()?;
    let answer = statx(
        CStr::from_bytes_until_nul(&path).ok()?,
        libc::STATX_NLINK | STATX_MNT_ID_UNIQUE,
    )?;
    Some((answer.stx_nlink.checked_sub(2)?, mount_of(&answer)))
}

fn statx(path: &CStr, mask: u32) -> Option<libc::statx> {
    let mut answer = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path ends in a zero byte, and `answer` is a statx that may be written.
    let error = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, mask, answer.as_mut_ptr()) };
    // SAFETY: it was zeroed, and zero bytes are a valid statx.
    (error == 0).then(|| unsafe { answer.assume_init() })
}

/// Returns whether the first thread of a process has certainly given the memory of the process up:
/// the kernel shows no link `/proc/PID/exe` any more. This needs no descriptor.
pub(super) fn gave_up_memory(pid: u32) -> bool {
    let link = fs::read_link(format!("/proc/{pid}/exe"));
    link.is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT))
}

/// Returns whether the process is in another time namespace than the caller. False if either is not
/// shown.
pub(super) fn has_other_clock(pid: u32) -> bool {
    let own = fs::read_link("/proc/self/ns/time");
    let other = fs::read_link(format!("/proc/{pid}/ns/time"));
    own.is_ok_and(|own| other.is_ok_and(|other| own != other))
}

/// Returns the ids of a process, from the namespace of the `/proc` mount to its own.
pub(super) fn pids(status: &str) -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(status)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .ok_or_else(malformed)?;
    line.split_whitespace()
        .map(|id| id.parse().map_err(|_| malformed()))
        .collect()
}

/// Returns whether a thread has a pending SIGKILL on which it has not acted yet. The kernel sends
/// SIGKILL to every thread of a process at once: when the process is killed, when a thread ends the
/// whole process, and when a thread calls `exec`.
pub(super) fn kill_is_pending(status: &str) -> io::Result<bool> {
    const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);
    let text = fs::read_to_string(status)?;
    text.lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigPnd:")?.trim(), 16).ok())
        .map(|pending| pending & SIGKILL != 0)
        .ok_or_else(malformed)
}

/// Returns whether the calling thread may have a seccomp filter. It has none if `/proc` says so.
pub(super) fn may_have_seccomp_filter() -> bool {
    fs::read_to_string("/proc/thread-self/status").map_or(true, |text| {
        !text
            .lines()
            .filter_map(|line| line.strip_prefix("Seccomp:"))
            .any(|mode| mode.trim() == "0")
    })
}

/// Returns whether the kernel writes a core dump of the process (Linux 4.15).
pub(super) fn is_dumping_core(pid: u32) -> io::Result<bool> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("CoreDumping:"));
    Ok(line.is_some_and(|dumping| dumping.trim() == "1"))
}

/// The fields of a `stat` file that are used here; see proc_pid_stat(5).
#[derive(Debug)]
pub(super) struct Stat {
    state: u8,
    flags: u64,
    started: i64,
    stack: u64,
    exit_code: i64,
}

impl Stat {
    pub(super) fn of(path: &str) -> io::Result<Self> {
        Self::parse(&fs::read_to_string(path)?).ok_or_else(malformed)
    }

    fn parse(line: &str) -> Option<Self> {
        // The second field is the name of the program in parentheses. It may contain any
        // characters.
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Stat {
            state: *field(3)?.as_bytes().first()?,
            flags: field(9)?.parse().ok()?,
            started: field(22)?.parse().ok()?,
            stack: field(28)?.parse().ok()?,
            exit_code: field(52)?.parse().ok()?,
        })
    }

    /// Returns whether the thread is a zombie or is about to disappear. It runs no instruction, and
    /// the kernel has walked its robust list.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Returns whether the kernel's PF_EXITING is set: the thread runs no more instructions of its
    /// process image.
    pub(super) fn is_exiting(&self) -> bool {
        self.flags & 0x4 != 0
    }

    /// Returns whether the kernel's PF_POSTCOREDUMP (Linux 5.16) is set: the thread is about to be
    /// [exiting](Self::is_exiting).
    pub(super) fn is_about_to_exit(&self) -> bool {
        self.flags & 0x8 != 0
    }

    /// Returns whether the kernel's PF_SIGNALED or PF_DUMPCORE is set: the thread died, or is
    /// dying, of a signal that [kills all threads](kill_is_pending).
    pub(super) fn was_killed(&self) -> bool {
        self.flags & (0x400 | 0x200) != 0
    }

    /// Returns whether the thread sleeps voluntarily, or was stopped. A thread that has begun to
    /// die sleeps only when it [is about to exit](Self::is_about_to_exit).
    pub(super) fn sleeps(&self) -> bool {
        matches!(self.state, b'S' | b'T')
    }

    /// Returns whether the whole process is exiting, according to its own `stat` file and that of
    /// its first thread.
    ///
    /// Only the file of the process shows how the process ends. As long as that is not known, the
    /// same file shows how the first thread ended.
    pub(super) fn group_is_exiting(&self, first_thread: Option<&Stat>) -> bool {
        // A stopped process shows the signal that stopped it, and a traced thread shows any signal.
        let stopped = matches!(
            self.exit_code as i32,
            libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
        ) || matches!(self.state, b'T' | b't');
        if self.exit_code == 0 || stopped {
            false
        } else if self.has_ended() || self.is_exiting() {
            // The first thread may have exited alone, with an exit code of its own.
            first_thread.is_some_and(|own| own.exit_code != self.exit_code)
        } else {
            true
        }
    }

    /// Returns the image of a process that started at this time and has this stack: see
    /// [`ImageId`].
    pub(super) fn image(&self, offset: i64) -> ImageId {
        let started = (self.started - offset) as u64;
        // Multiplicative hashing by the golden ratio. The upper bits are well mixed. 0 stays 0.
        let stack = self.stack.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        ImageId(started << 24 | stack)
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not in the format of proc(5)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted_without_reading_a_file() {
        let own = std::process::id();
        let held = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            // The threads of other tests start and end, so only a lower bound is known.
            scope.spawn(|| held.wait());
            let listed = fs::read_dir("/proc/self/task").unwrap().count();
            assert!(listed >= 2 && threads(own).unwrap().0 >= 2);
            held.wait();
        });
        assert_eq!(threads(u32::MAX), None);
        // SAFETY: the child only makes system calls.
        let child = unsafe { libc::fork() };
        if child == 0 {
            loop {
                // SAFETY: pause(2) has no preconditions.
                unsafe { libc::pause() };
            }
        }
        assert_eq!(threads(child as u32), Some((1, mount())));
        // SAFETY: the child belongs to this test.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        assert_eq!(threads(child as u32), None);
    }

    #[test]
    fn start_times_count_with_an_offset_only_if_proc_shows_it() {
        let day = 86_400;
        for offset in [day, -day] {
            let shown = |boot| offset_of_shown_times(offset * 100, boot, 1_000_000);
            assert_eq!(shown(1_000_001), Some(offset * 100), "Linux 5.11 and later");
            assert_eq!(shown(1_000_000 + offset - 1), Some(0), "before");
            assert_eq!(shown(1_000_000 + 10), None, "the clock was set meanwhile");
        }
        assert_eq!(
            offset_of_shown_times(100, 1_000_000, 1_000_000),
            None,
            "too small"
        );
    }

    #[test]
    fn a_thread_that_has_been_joined_does_not_run() {
        // The other tests of this program have threads too.
        process::tests::passes_in_a_child(|| {
            let counts = || ThreadCounts::read().unwrap();
            assert_eq!(counts().running, 1);
            let (held, runs) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    runs.wait();
                    held.wait();
                });
                runs.wait();
                assert_eq!((counts().running, counts().ending), (2, 0));
                held.wait();
                thread.join().unwrap();
                assert_eq!(counts().running, 1);
            });
        });
    }

    #[test]
    fn a_mount_has_an_id_only_if_the_kernel_says_so() {
        // SAFETY: zero bytes are a valid statx.
        let mut answer: libc::statx = unsafe { std::mem::zeroed() };
        answer.stx_mnt_id = 7;
        answer.stx_mask = !STATX_MNT_ID_UNIQUE;
        assert_eq!(mount_of(&answer), 0);
        if !Feature::UniqueMountId.is_hidden() {
            answer.stx_mask = STATX_MNT_ID_UNIQUE;
            assert_eq!(mount_of(&answer), 7);
        }
    }

    #[test]
    fn a_program_name_may_contain_any_characters() {
        let tail = "0 ".repeat(60);
        let line = format!("1 (a) Z b) R 1 1 1 0 -1 4 {tail}");
        let stat = Stat::parse(&line).unwrap();
        assert!(!stat.has_ended());
        assert!(stat.is_exiting());
    }

    #[test]
    fn a_threads_start_time_is_not_that_of_its_process() {
        // The liveness check must not take the start time of a thread for that of its process.
        let leader = Stat::of("/proc/self/stat").unwrap().image(0);
        assert!(leader.may_be(leader));
        let later = ImageId(leader.0 + (1 << 24));
        assert!(!leader.may_be(later));
    }

    #[test]
    fn a_process_end_is_distinguished_from_its_leaders_end_and_from_a_stop() {
        let stat = |state: u8, flags, exit_code| Stat {
            state,
            flags,
            started: 0,
            stack: 0,
            exit_code,
        };
        let ends = |whole: Stat, own: i64| whole.group_is_exiting(Some(&stat(b'Z', 4, own)));
        assert!(ends(stat(b'R', 0, 9), 0) && ends(stat(b'S', 0, 3 << 8), 0));
        assert!(ends(stat(b'Z', 4, 9), 0) && ends(stat(b'Z', 4, 3 << 8), 0));
        assert!(!ends(stat(b'S', 0, 0), 0), "alive");
        assert!(
            !ends(stat(b'Z', 4, 3 << 8), 3 << 8),
            "only its first thread exited"
        );
        assert!(
            !ends(stat(b'R', 4, 3 << 8), 3 << 8),
            "the first thread is exiting alone"
        );
        assert!(!ends(stat(b'T', 0, 19), 0), "stopped");
        assert!(
            !ends(stat(b'Z', 4, 19), 0),
            "stopped, and its first thread has ended"
        );
        assert!(!ends(stat(b't', 0, 5), 0), "traced");
        assert!(!stat(b'Z', 4, 9).group_is_exiting(None), "not known");
    }
}
