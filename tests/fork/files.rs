//! Files that processes create and open: with races and deaths, under every umask, on full disks
//! and on remote ones.

mod create;
mod image;
mod kinds;
mod limits;
mod namespace;
mod race;
mod unfinished;

use pshared::memory::Placeable;
use pshared::{Error, Shared, SharedCounter, ShmSafe};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub fn tests() -> Vec<crate::harness::Test> {
    [
        create::tests(),
        kinds::tests(),
        limits::tests(),
        namespace::tests(),
        race::tests(),
        unfinished::tests(),
    ]
    .concat()
}

/// Returns a test's own directory, and an unused path in it.
pub fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("board");
    (directory, path)
}

pub fn create<T: ShmSafe>(path: &Path, value: T) -> Result<Shared<T>, Error> {
    // SAFETY: the files of these tests lie in directories that belong to one test each.
    unsafe { Shared::create(path, value) }
}

pub fn open<T: ?Sized + Placeable>(path: &Path) -> Result<Shared<T>, Error> {
    // SAFETY: as above; a file that a test tampered with is not in use.
    unsafe { Shared::open(path) }
}

pub fn open_or_create<T: ShmSafe>(
    path: &Path,
    value: impl FnOnce() -> T,
) -> Result<Shared<T>, Error> {
    // SAFETY: as above.
    unsafe { Shared::open_or_create(path, value) }
}

/// Returns the names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Returns the value of a counter in a file.
fn count(path: &Path) -> u64 {
    open::<SharedCounter>(path).unwrap().get()
}
