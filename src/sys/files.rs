//! Files that hold a placed value: found without side effects, locked, and published whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::statfs::fstatfs;
use nix::unistd::{LinkatFlags, linkat};

/// The mode of a new file: its owner's alone.
pub(crate) const MODE: u32 = 0o600;

/// Finds the file at `path` without opening it: no symbolic link is followed at its end, no FIFO waits, no device starts.
///
/// `open(2)` with `O_PATH | O_NOFOLLOW`. A symbolic link is found as itself.
pub(crate) fn find(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}

/// Opens what [`find`] found, whatever its name points at by now, for reading and writing.
pub(crate) fn open_found(found: &File) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open(descriptor_path(found))
}

/// A new file without a name in `directory`: `O_TMPFILE`.
///
/// # Errors
///
/// `EOPNOTSUPP`, `EISDIR` or `EINVAL` on file systems that have no such files.
pub(crate) fn nameless(directory: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(MODE)
        .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
        .open(directory)
}

/// A new file under a name that nothing has yet: `O_CREAT | O_EXCL`.
pub(crate) fn named(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(MODE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}

/// Gives a nameless file a name that nothing has yet: `linkat(2)` by way of `/proc/self/fd`, which needs no privilege.
pub(crate) fn link(file: &File, path: &Path) -> io::Result<()> {
    let file = descriptor_path(file);
    linkat(AT_FDCWD, &file, AT_FDCWD, path, LinkatFlags::AT_SYMLINK_FOLLOW)?;
    Ok(())
}

/// Renames a file to a name that nothing has yet: `renameat2(RENAME_NOREPLACE)`.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)?;
    Ok(())
}

/// Sets a file's length and reserves its blocks: `posix_fallocate(3)`. A full disk is an error here, and not a bus error
/// at the first touch later.
pub(crate) fn reserve(file: &File, length: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(length)
        .map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    loop {
        // SAFETY: takes numbers.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
            0 => return Ok(()),
            libc::EINTR => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// How a file is locked by `flock(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileLock {
    /// Beside others.
    Shared,
    /// Alone.
    Exclusive,
}

/// Tries to lock the file's open description, or to change the lock it has: false where somebody else's is in the way. (A
/// change gives up the old lock first, also where it then fails.)
pub(crate) fn try_flock(file: impl AsFd, lock: FileLock) -> io::Result<bool> {
    let operation = match lock {
        FileLock::Shared => libc::LOCK_SH,
        FileLock::Exclusive => libc::LOCK_EX,
    };
    loop {
        // SAFETY: takes numbers.
        if unsafe { libc::flock(file.as_fd().as_raw_fd(), operation | libc::LOCK_NB) } == 0 {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

/// The name of the file's file system where it is one whose files other machines, or a server in user space, may change:
/// a futex reaches nobody there.
pub(crate) fn distant_file_system(file: &File) -> io::Result<Option<&'static str>> {
    // linux/magic.h, and the sources of the file systems that are not in it.
    const DISTANT: [(i64, &str); 9] = [
        (0x6969, "NFS"),
        (0x0102_1997, "9p"),
        (0x6573_5546, "FUSE"),
        (0xFF53_4D42, "CIFS"),
        (0xFE53_4D42, "SMB2"),
        (0x517B, "SMB"),
        (0x5346_414F, "AFS"),
        (0x00C3_6400, "Ceph"),
        (0x0116_1970, "GFS2"),
    ];
    let kind = fstatfs(file.as_fd())?.filesystem_type().0;
    Ok(DISTANT
        .iter()
        .find(|(magic, _)| *magic == kind)
        .map(|(_, name)| *name))
}

/// The effective user, who owns what it creates.
pub(crate) fn effective_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The number that this boot of the machine drew, or zero where `/proc` does not tell.
pub(crate) fn boot_id() -> u128 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0)
}

/// A number that nobody draws again: `getrandom(2)`.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: eight bytes that may be written.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got != 8 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from_ne_bytes(bytes))
}

fn descriptor_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_the_kernels() {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let ours = format!("{:032x}", boot_id());
        assert_eq!(ours, text.trim().replace('-', ""));
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
