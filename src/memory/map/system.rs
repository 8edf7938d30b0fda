//! The system calls of a map, with the names that this crate gives to their errors.

use crate::Error;
use crate::sys::mmap::{self as sys, Access, FileKind};
use crate::sys::{Errno, SysError};
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
        _ => error.into(),
    }
}

pub(super) fn regular_file_size(fd: BorrowedFd<'_>) -> Result<u64, Error> {
    match sys::file_kind(fd)? {
        FileKind::Regular(size) => Ok(size),
        FileKind::Other(found) => Err(Error::NotMappable { found }),
    }
}

/// Reserves the blocks of a range, and extends a shorter file to its end. `path` is for the error.
///
/// `offset + len` must fit an `i64`.
pub(in crate::memory) fn reserve(
    fd: BorrowedFd<'_>,
    offset: u64,
    len: u64,
    path: Option<&Path>,
) -> Result<(), Error> {
    sys::reserve(fd, offset as i64, len as i64).map_err(|error| match error.errno {
        Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG | Errno::ENOMEM => Error::NoSpace {
            path: path.map(Path::to_path_buf),
            len,
            source: error.errno.into(),
        },
        _ => error.into(),
    })
}
