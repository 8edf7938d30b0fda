//! File systems that copy a block when it is written. A write to a reserved block needs another
//! block there.

use super::error::SysError;
use nix::errno::Errno;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, FsType, NILFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, fstatfs,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The file system copies all blocks, and no attribute changes that. These numbers are from the
/// sources of the file systems.
const ALWAYS: [(FsType, &str); 4] = [
    (FsType(0x2FC1_2FC1), "ZFS"),
    (FsType(0xCA45_1A4E), "bcachefs"),
    (NILFS_SUPER_MAGIC, "NILFS2"),
    (FsType(0x2405_1905), "UBIFS"),
];

/// The attributes of a file that `chattr(1)` shows as `C` and `c`; see ioctl_iflags(2).
const FS_NOCOW_FL: libc::c_long = 0x0080_0000;
const FS_COMPR_FL: libc::c_long = 0x0000_0004;

/// Makes the file system write the blocks of the file in their place, if that takes an attribute
/// (`FS_NOCOW_FL`) and the file is empty. Returns the name of a file system that will copy them.
///
/// On an overlay file system, the attribute goes to the file below. If that has no such attribute,
/// nothing is known about it.
pub(crate) fn write_in_place(
    fd: BorrowedFd<'_>,
    is_empty: bool,
) -> Result<Option<&'static str>, SysError> {
    let system = fstatfs(fd).map_err(|errno| SysError::new("fstatfs", errno))?;
    let kind = system.filesystem_type();
    if let Some((_, name)) = ALWAYS.iter().find(|(copying, _)| *copying == kind) {
        return Ok(Some(name));
    }
    if kind != BTRFS_SUPER_MAGIC && kind != OVERLAYFS_SUPER_MAGIC {
        return Ok(None);
    }
    if is_empty && let Ok(flags) = attributes(fd) {
        // A compressed file is not written in its place, and btrfs refuses to change both
        // attributes at once. The outcome is read below.
        let flags = flags & !FS_COMPR_FL;
        let _ = set_attributes(fd, flags);
        let _ = set_attributes(fd, flags | FS_NOCOW_FL);
    }
    let is_in_place = attributes(fd).is_ok_and(|flags| flags & FS_NOCOW_FL != 0);
    Ok((kind == BTRFS_SUPER_MAGIC && !is_in_place).then_some("btrfs"))
}

/// `ioctl(fd, FS_IOC_GETFLAGS)`.
fn attributes(fd: BorrowedFd<'_>) -> Result<libc::c_long, Errno> {
    let mut flags: libc::c_long = 0;
    // SAFETY: the call writes at most a `long`, as the number of the request says.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) };
    Errno::result(answer).map(|_| flags)
}

/// `ioctl(fd, FS_IOC_SETFLAGS)`.
fn set_attributes(fd: BorrowedFd<'_>, flags: libc::c_long) -> Result<(), Errno> {
    // SAFETY: the call reads at most a `long`, as the number of the request says.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) };
    Errno::result(answer).map(drop)
}

/// Gives the file copies of its own of the blocks that it shares with other files:
/// `fallocate(fd, FALLOC_FL_UNSHARE_RANGE, offset, len)`. XFS has this; other file systems share no
/// blocks, or have no such call.
pub(crate) fn unshare_blocks(fd: impl AsFd, offset: i64, len: i64) -> Result<(), SysError> {
    let flag = nix::fcntl::FallocateFlags::FALLOC_FL_UNSHARE_RANGE;
    loop {
        match nix::fcntl::fallocate(fd.as_fd(), flag, offset, len) {
            Err(Errno::EINTR) => {}
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL | Errno::ENODEV) => {
                return Ok(());
            }
            Err(errno) => {
                let call = format!("fallocate(FALLOC_FL_UNSHARE_RANGE) of {len} bytes");
                return Err(SysError::new(call, errno));
            }
        }
    }
}
