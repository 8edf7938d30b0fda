//! What a path must name before a value or a lock is put there.

use crate::Error;
use crate::sys::files::{self, Named};
use std::fs::{File, FileType};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Rejects everything except regular files.
pub(crate) fn reject_irregular(kind: FileType, path: &Path) -> Result<(), Error> {
    let path = path.to_path_buf();
    if kind.is_symlink() {
        return Err(Error::SymbolicLink { path });
    }
    if kind.is_file() {
        return Ok(());
    }
    let found = match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_char_device() => "a character device",
        () => "a block device",
    };
    Err(Error::NotARegularFile { path, found })
}

/// Rejects a file, or a directory for new files, on a file system whose files other machines or a
/// user-space server may change: no futex reaches those, and perhaps no file lock does. `file` may
/// be open with `O_PATH`.
pub(crate) fn reject_remote_fs(file: &File, path: &Path) -> Result<(), Error> {
    match files::remote_fs(file, path)? {
        None => Ok(()),
        Some(kind) => Err(Error::RemoteFileSystem {
            path: path.into(),
            kind,
        }),
    }
}

/// Returns what the path names, compared with a file that was opened by it.
pub(crate) fn named_by(path: &Path, file: impl AsFd) -> Result<Named, Error> {
    files::named_by(path, file)
        .map_err(|source| Error::os(format!("stat of {}", path.display()), source))
}

/// Makes a path absolute, so that it can be resolved again after a `chdir`.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| {
        let call = format!("getcwd, to make {} absolute,", path.display());
        Error::os(call, source)
    })
}

/// Opens the file that `found` names, which has been checked, for reading and writing.
pub(crate) fn reopen(found: &File, path: &Path) -> Result<File, Error> {
    files::reopen(found).map_err(|source| {
        let call = format!("open of {} through /proc/thread-self/fd", path.display());
        through_proc(call, source, path)
    })
}

/// The error of a call that names a descriptor through `/proc`.
pub(in crate::memory) fn through_proc(call: String, source: io::Error, path: &Path) -> Error {
    match files::has_proc() {
        true => Error::os(call, source),
        false => Error::ProcMissing { path: path.into() },
    }
}
