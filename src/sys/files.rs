//! Files that hold a placed value: they are found without side effects, locked, and published
//! complete.

use super::error::SysError;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::{Mode, fstat, lstat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{LinkatFlags, linkat};

/// The mode of a new file: only its owner may read and write it.
pub(crate) const MODE: u32 = 0o600;

/// Finds the file at `path` without opening it. Follows no symbolic link at the end of the path,
/// does not block on a FIFO, and starts no device.
///
/// `open(2)` with `O_PATH | O_NOFOLLOW`. If the path is a symbolic link, finds the link itself.
pub(crate) fn open_path(path: &Path) -> io::Result<File> {
    find(path, OFlag::O_NOFOLLOW)
}

/// `open(2)` with `O_PATH` and these flags. The `custom_flags` of `std` ignore `O_PATH` under musl,
/// whose `O_ACCMODE` contains it.
fn find(path: &Path, flags: OFlag) -> io::Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | flags;
    loop {
        match open(path, flags, Mode::empty()) {
            Ok(found) => return Ok(found.into()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Returns the directory that contains the last component of the path.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Finds a directory without opening it. Follows symbolic links to it.
pub(crate) fn open_directory(path: &Path) -> io::Result<File> {
    find(path, OFlag::O_DIRECTORY)
}

/// Opens the regular file that [`open_path`] found, for reading and writing, even if its path now
/// names another file.
///
/// `O_NONBLOCK` has no effect on a regular file unless another process holds a lease on it. Without
/// the flag, the open would then block until the lease is released or broken.
pub(crate) fn reopen(found: &File) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(descriptor_path(found))
}

/// Creates an unnamed file in `directory`: `O_TMPFILE`.
///
/// # Errors
///
/// Returns `EOPNOTSUPP`, `EISDIR` or `EINVAL` on file systems that do not support unnamed files.
pub(crate) fn open_tmpfile(directory: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(MODE)
        .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
        .open(directory)
}

/// Creates a file at `path`, which must not exist yet: `O_CREAT | O_EXCL`.
pub(crate) fn create_exclusive(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(MODE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}

/// Links a file from [`open_tmpfile`] to `path`, which must not exist yet: `linkat(2)` through
/// `/proc`, which needs no privilege.
pub(crate) fn link(file: &File, path: &Path) -> io::Result<()> {
    let file = descriptor_path(file);
    linkat(
        AT_FDCWD,
        &file,
        AT_FDCWD,
        path,
        LinkatFlags::AT_SYMLINK_FOLLOW,
    )?;
    Ok(())
}

/// Whether `/proc` is mounted, through which [`link`] and [`reopen`] name a descriptor.
pub(crate) fn has_proc() -> bool {
    Path::new("/proc/thread-self/fd").exists()
}

/// Renames a file to `to`, which must not exist yet: `renameat2(RENAME_NOREPLACE)`.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (c_string(from)?, c_string(to)?);
    let (directory, flag) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
    // musl has no function for this call.
    // SAFETY: the paths are strings that end with a null byte.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            directory,
            from.as_ptr(),
            directory,
            to.as_ptr(),
            flag,
        )
    };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns the path as the kernel takes it. A path with a null byte names no file (`EINVAL`).
fn c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL.into())
}

/// The mode of a `flock(2)` lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileLock {
    /// Allows other shared locks.
    Shared,
    /// Excludes all other locks.
    Exclusive,
}

/// Tries to lock the file's open description, or to change the lock that it has. Returns false if a
/// lock of another description conflicts. (A change releases the old lock first, even if it then
/// fails.)
pub(crate) fn try_flock(file: impl AsFd, lock: FileLock) -> io::Result<bool> {
    let operation = match lock {
        FileLock::Shared => libc::LOCK_SH,
        FileLock::Exclusive => libc::LOCK_EX,
    };
    match flock(file.as_fd(), operation | libc::LOCK_NB) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Releases the lock of the open description, for every process that shares the description.
pub(crate) fn unlock(file: impl AsFd) -> io::Result<()> {
    flock(file.as_fd(), libc::LOCK_UN)
}

/// `flock(2)`, called again if a signal interrupts it.
pub(super) fn flock(file: BorrowedFd<'_>, operation: libc::c_int) -> io::Result<()> {
    loop {
        // SAFETY: flock(2) takes two integers.
        if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

/// What a path names, compared with an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    ThisFile,
    AnotherFile,
    Nothing,
}

/// Compares the file that `path` names now with an open file: `lstat(2)` and `fstat(2)`.
///
/// The open file keeps its inode number, so no other file has it.
pub(crate) fn named_by(path: &Path, file: impl AsFd) -> io::Result<Named> {
    let ours = fstat(file.as_fd())?;
    match lstat(path) {
        Ok(found) if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino) => {
            Ok(Named::ThisFile)
        }
        Ok(_) => Ok(Named::AnotherFile),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(Named::Nothing),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns the name of the file system of `file`, if other machines or a user-space server may
/// change its files. `file` may be open with `O_PATH`.
pub(crate) fn remote_fs(file: &File, path: &Path) -> Result<Option<&'static str>, SysError> {
    let status = fstatfs(file.as_fd())
        .map_err(|errno| SysError::new(format!("statfs of {}", path.display()), errno))?;
    Ok(remote_fs_name(status.filesystem_type()))
}

/// Returns the name of the remote file system with this magic number in `statfs(2)`, or `None` if
/// it is not remote.
fn remote_fs_name(kind: FsType) -> Option<&'static str> {
    // linux/magic.h, and the sources of the file systems that are not in it.
    const REMOTE: [(FsType, &str); 18] = [
        (FsType(0x6969), "NFS"),
        (FsType(0x0102_1997), "9p"),
        (FsType(0x6573_5546), "FUSE"), // virtiofs too
        (FsType(0xFF53_4D42), "CIFS"),
        (FsType(0xFE53_4D42), "SMB2"),
        (FsType(0x517B), "SMB"),
        (FsType(0x5346_414F), "AFS"),
        (FsType(0x6B41_4653), "kAFS"),
        (FsType(0x7375_7245), "Coda"),
        (FsType(0x00C3_6400), "Ceph"),
        (FsType(0x0116_1970), "GFS2"),
        (FsType(0x7461_636F), "OCFS2"),
        (FsType(0x0BD0_0BD0), "Lustre"),
        (FsType(0x4750_4653), "GPFS"),
        (FsType(0x1983_0326), "BeeGFS"),
        (FsType(0x2003_0528), "OrangeFS"),
        (FsType(0x786F_4256), "a VirtualBox shared folder"),
        (FsType(0xBACB_ACBC), "a VMware shared folder"),
    ];
    REMOTE
        .iter()
        .find(|(remote, _)| *remote == kind)
        .map(|(_, name)| *name)
}

/// Returns a random number that is not drawn again: `getrandom(2)`.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: `bytes` is eight bytes that may be written.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got != 8 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from_ne_bytes(bytes))
}

/// Returns the path of the descriptor in the table of the calling thread, which may differ from
/// that of the process (`unshare(CLONE_FILES)`).
fn descriptor_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/thread-self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_file_systems_are_known_by_their_magic_numbers_and_local_ones_are_not() {
        use nix::sys::statfs::{
            CODA_SUPER_MAGIC, EXT4_SUPER_MAGIC, FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC,
            OVERLAYFS_SUPER_MAGIC, SMB_SUPER_MAGIC, TMPFS_MAGIC,
        };
        assert_eq!(remote_fs_name(NFS_SUPER_MAGIC), Some("NFS"));
        assert_eq!(remote_fs_name(FUSE_SUPER_MAGIC), Some("FUSE"));
        assert_eq!(remote_fs_name(SMB_SUPER_MAGIC), Some("SMB"));
        assert_eq!(remote_fs_name(CODA_SUPER_MAGIC), Some("Coda"));
        let xfs = FsType(0x5846_5342);
        for local in [EXT4_SUPER_MAGIC, TMPFS_MAGIC, OVERLAYFS_SUPER_MAGIC, xfs] {
            assert_eq!(remote_fs_name(local), None);
        }
    }

    #[test]
    fn a_refused_lock_change_leaves_no_lock_and_unlocking_releases_the_file() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let (one, other) = (named.reopen().unwrap(), named.reopen().unwrap());
        assert!(try_flock(&one, FileLock::Shared).unwrap());
        assert!(try_flock(&other, FileLock::Shared).unwrap());
        assert!(!try_flock(&one, FileLock::Exclusive).unwrap());
        // The refused change has released the shared lock.
        assert!(try_flock(&other, FileLock::Exclusive).unwrap());
        assert!(!try_flock(&one, FileLock::Shared).unwrap());
        unlock(&other).unwrap();
        assert!(try_flock(&one, FileLock::Exclusive).unwrap());
    }

    #[test]
    fn a_path_names_the_open_file_another_one_or_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = create_exclusive(&path).unwrap();
        let named = |path: &Path| named_by(path, &file).unwrap();
        assert_eq!(named(&path), Named::ThisFile);
        // A name below a file cannot exist.
        assert_eq!(named(&path.join("below")), Named::Nothing);
        std::fs::rename(&path, directory.path().join("moved")).unwrap();
        assert_eq!(named(&path), Named::Nothing);
        std::os::unix::fs::symlink("moved", &path).unwrap();
        assert_eq!(named(&path), Named::AnotherFile);
        assert_eq!(named(&directory.path().join("moved")), Named::ThisFile);
        assert!(named_by(Path::new("with a \0"), &file).is_err());
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
