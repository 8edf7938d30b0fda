//! What a path must name before a value or a lock is put there.

use crate::Error;
use crate::sys::files;
use std::fs::{File, FileType};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

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
