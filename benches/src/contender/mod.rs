//! The contenders. The traits cover locks with their state in the map, and locks that each process
//! opens for itself.

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

/// What a locker is notified of when it acquires the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeathReport {
    /// No death.
    None,
    /// A holder died while it held the lock.
    Died,
}

/// Locks of one kind, created by the parent before it forks.
pub trait Contender: Sized {
    /// The handle through which a process locks.
    type Handle<'a>: Handle
    where
        Self: 'a;

    /// Creates the given number of free locks. No two share a cache line.
    fn prepare(locks: usize) -> Result<Self, Failed>;

    /// Returns the handle of one lock. Must be called in the process that will use the handle.
    fn attach(&self, lock: usize) -> Result<Self::Handle<'_>, Failed>;
}

/// A process's access to a lock.
pub trait Handle {
    /// Runs `body` under the lock. If the lock reported a death, `body` repairs the protected data,
    /// and the lock is consistent afterwards.
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed>;
}

/// A call that failed, with its error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    call: &'static str,
    code: i32,
}

impl Failed {
    /// Creates an error from a number that a call returned.
    pub fn by(call: &'static str, errno: i32) -> Self {
        Failed { call, code: errno }
    }

    /// Creates an error that has no number.
    pub fn at(call: &'static str) -> Self {
        Failed { call, code: 0 }
    }

    /// Creates an error from `errno`.
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

/// Converts the result of a call that returns 0 or an error number.
#[inline]
pub fn check(call: &'static str, errno: i32) -> Result<(), Failed> {
    match errno {
        0 => Ok(()),
        errno => Err(Failed::by(call, errno)),
    }
}

/// Returns memory for locks of a foreign type.
pub fn mapped<T>(locks: usize) -> Result<Mapped<Place<T>>, Failed> {
    Mapped::new(locks).map_err(|error| Failed::from_io("mmap", &error))
}
