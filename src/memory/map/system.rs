//! The system calls of a map, with the names that this crate gives to their errors.

use crate::Error;
use crate::sys::copy_on_write::{unshare_blocks, write_in_place};
use crate::sys::mmap::{self as sys, Access, FileKind};
use crate::sys::{Errno, SysError, limits};
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::ptr::NonNull;

pub(super) fn map_file(
    fd: BorrowedFd<'_>,
    access: Access,
    offset: i64,
    len: NonZeroUsize,
) -> Result<NonNull<u8>, Error> {
    sys::map_file(fd, access, offset, len).map_err(|error| match error.errno {
        Errno::ENODEV => Error::NotMappable {
            found: "a file of a file system that maps none".into(),
        },
        // The only cause left: without PROT_EXEC no mount option forbids a map.
        Errno::EPERM if access.shared && access.writable => Error::SealedAgainstWriting,
        _ => no_memory(error, len.get()),
    })
}

pub(super) fn no_memory(error: SysError, len: usize) -> Error {
    match error.errno {
        Errno::ENOMEM => Error::NoMemory { len },
        // mmap(2) has no other cause for it.
        Errno::EAGAIN => Error::LockedMemoryLimit {
            len,
            limit: limits::locked_memory_limit().unwrap_or(u64::MAX),
        },
        _ => error.into(),
    }
}

pub(super) fn regular_file_size(fd: BorrowedFd<'_>) -> Result<u64, Error> {
    match sys::file_kind(fd)? {
        FileKind::Regular(size) => Ok(size),
        FileKind::Other(found) => Err(Error::NotMappable { found }),
    }
}

/// Extends a new file to `len` bytes.
pub(super) fn set_len(fd: BorrowedFd<'_>, len: u64) -> Result<(), Error> {
    check_size_limit(len, None)?;
    Ok(sys::set_len(fd, len as i64)?)
}

/// Rejects a file size above `RLIMIT_FSIZE`. Otherwise the kernel would kill the process with
/// SIGXFSZ, unless the program handles that signal.
fn check_size_limit(len: u64, path: Option<&Path>) -> Result<(), Error> {
    match limits::file_size_limit() {
        Some(limit) if len > limit => Err(Error::FileSizeLimit {
            path: path.map(Path::to_path_buf),
            len,
            limit,
        }),
        _ => Ok(()),
    }
}

/// Returns the length of a file that holds `len` bytes: on a hugetlbfs, `len` rounded up to whole
/// huge pages.
pub(in crate::memory) fn length_in_file_system(fd: BorrowedFd<'_>, len: u64) -> Result<u64, Error> {
    let granule = sys::huge_page_size(fd)?.map_or(1, |bytes| bytes as u64);
    Ok(len.checked_next_multiple_of(granule).unwrap_or(u64::MAX))
}

/// Reserves the blocks of a range, and extends a shorter file to its end. `path` is for the error.
pub(in crate::memory) fn reserve(
    fd: BorrowedFd<'_>,
    offset: u64,
    len: u64,
    path: Option<&Path>,
) -> Result<(), Error> {
    let end = offset
        .checked_add(len)
        .filter(|end| i64::try_from(*end).is_ok())
        .ok_or(Error::TooLarge)?;
    let size = regular_file_size(fd)?;
    // The limit applies only to an extension.
    if end > size {
        check_size_limit(end, path)?;
    }
    let path = || path.map(Path::to_path_buf);
    if let Some(kind) = write_in_place(fd, size == 0)? {
        return Err(Error::CopyOnWrite { path: path(), kind });
    }
    let (offset, range) = (offset as i64, len as i64);
    sys::reserve(fd, offset, range)
        .and_then(|()| match size {
            0 => Ok(()),
            _ => unshare_blocks(fd, offset, range),
        })
        .map_err(|error| match error.errno {
            Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG | Errno::ENOMEM => Error::NoSpace {
                path: path(),
                len,
                source: error.errno.into(),
            },
            _ => error.into(),
        })
}
