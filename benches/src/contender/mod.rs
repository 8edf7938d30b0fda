//! What is measured: a seam over locks whose state lies in the map, and over those that each process opens for itself.

use crate::mapped::{Mapped, Place};
use std::fmt;
use std::io;

pub mod bare;
pub mod crates;
pub mod glibc;
pub mod handles;
pub mod in_process;
pub mod list;
pub mod ours;
pub mod signals;

/// What a locker is told when it gets the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    None,
    /// A holder died with the lock.
    Died,
}

/// A row of locks, made by the parent before it forks.
pub trait Contender: Sized {
    /// What a process locks by.
    type Handle<'a>: Handle
    where
        Self: 'a;

    /// So many free locks, none sharing a cache line with another.
    fn prepare(locks: usize) -> Result<Self, Failed>;

    /// The handle of one of them, made in the process that will use it.
    fn attach(&self, lock: usize) -> Result<Self::Handle<'_>, Failed>;
}

/// A process's access to a lock.
pub trait Handle {
    /// Runs `body` under the lock. Where it was told of a death, the lock is whole again afterwards: `body` repairs what the
    /// lock protects.
    fn with(&mut self, body: impl FnOnce(News)) -> Result<(), Failed>;
}

/// A call that failed, and by which number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    call: &'static str,
    code: i32,
}

impl Failed {
    /// By an error number that a call returned.
    pub fn by(call: &'static str, errno: i32) -> Self {
        Failed { call, code: errno }
    }

    /// By an error that has no number.
    pub fn at(call: &'static str) -> Self {
        Failed { call, code: 0 }
    }

    /// By `errno`.
    pub fn last(call: &'static str) -> Self {
        Failed::from_io(call, &io::Error::last_os_error())
    }

    pub fn from_io(call: &'static str, error: &io::Error) -> Self {
        Failed::by(call, error.raw_os_error().unwrap_or(0))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            0 => write!(f, "{} failed", self.call),
            errno => write!(f, "{}: {}", self.call, io::Error::from_raw_os_error(errno)),
        }
    }
}

/// What a call that returns 0 or an error number says.
#[inline]
pub fn check(call: &'static str, errno: i32) -> Result<(), Failed> {
    match errno {
        0 => Ok(()),
        errno => Err(Failed::by(call, errno)),
    }
}

/// Room for a row of somebody else's locks.
pub fn mapped<T>(locks: usize) -> Result<Mapped<Place<T>>, Failed> {
    Mapped::new(locks).map_err(|error| Failed::from_io("mmap", &error))
}
