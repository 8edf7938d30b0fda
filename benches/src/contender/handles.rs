//! The crate's locks with their state outside the map: in file locks, or in the kernel.

use super::{Contender, DeathReport, Failed, Handle};
use pshared::{Error, FileLock, SysvSemaphore};
use std::marker::PhantomData;
use std::path::Path;
use tempfile::TempDir;

/// A kind of file lock.
pub trait Kind {
    fn open(path: &Path) -> Result<FileLock, Error>;
}

/// `flock(2)`.
pub struct Flock;

impl Kind for Flock {
    fn open(path: &Path) -> Result<FileLock, Error> {
        FileLock::flock(path)
    }
}

/// Open file description locks.
pub struct Ofd;

impl Kind for Ofd {
    fn open(path: &Path) -> Result<FileLock, Error> {
        FileLock::ofd(path)
    }
}

/// Lock files in a temporary directory. Each process opens them for itself.
pub struct Files<K> {
    directory: TempDir,
    kind: PhantomData<K>,
}

impl<K: Kind> Contender for Files<K> {
    type Handle<'a>
        = FileLock
    where
        K: 'a;

    fn prepare(_: usize) -> Result<Self, Failed> {
        let directory = TempDir::new().map_err(|error| Failed::from_io("mkdir", &error))?;
        Ok(Files {
            directory,
            kind: PhantomData,
        })
    }

    fn attach(&self, lock: usize) -> Result<FileLock, Failed> {
        K::open(&self.directory.path().join(lock.to_string())).map_err(|_| Failed::last("open"))
    }
}

impl Handle for FileLock {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        let _guard = self.lock().map_err(|_| Failed::last("FileLock::lock"))?;
        body(DeathReport::None);
        Ok(())
    }
}

/// System V semaphores, each a set of its own.
pub struct Sysv(Vec<SysvSemaphore>);

impl Contender for Sysv {
    type Handle<'a> = &'a SysvSemaphore;

    fn prepare(locks: usize) -> Result<Self, Failed> {
        (0..locks)
            .map(|_| SysvSemaphore::private(1))
            .collect::<Result<_, _>>()
            .map(Sysv)
            .map_err(|_| Failed::last("semget"))
    }

    fn attach(&self, lock: usize) -> Result<&SysvSemaphore, Failed> {
        Ok(&self.0[lock])
    }
}

impl Handle for &SysvSemaphore {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        let _permit = self.acquire().map_err(|_| Failed::last("semop"))?;
        body(DeathReport::None);
        Ok(())
    }
}
