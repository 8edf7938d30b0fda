//! Why a reentrant lock was not acquired as asked, and what a death left.

use crate::Error;
use crate::memory::ShmData;
use crate::raw::poison::Cause;
use crate::sync::reentrant::SharedReentrantLockGuard;
use std::error::Error as StdError;
use std::fmt;
use zerocopy::FromBytes;

/// A reentrant lock that was acquired, with the news that its data may be torn.
///
/// Dropped as it is, it releases the lock and leaves the poison for the next locker.
pub struct ReentrantPoisoned<'a, T> {
    guard: SharedReentrantLockGuard<'a, T>,
    fresh: bool,
}

impl<'a, T> ReentrantPoisoned<'a, T> {
    pub(super) fn new(guard: SharedReentrantLockGuard<'a, T>, fresh: bool) -> Self {
        ReentrantPoisoned { guard, fresh }
    }

    /// Whether this lock call is the one that is told of the death: true for exactly one locker a death.
    pub fn is_first_report(&self) -> bool {
        self.fresh
    }

    /// Replaces the data whole, clears the poison, and gives the guard.
    ///
    /// # Errors
    ///
    /// Itself, where the thread has another guard of the mutex, which may lend the data, or has forgotten one.
    pub fn replace(self, value: T) -> Result<SharedReentrantLockGuard<'a, T>, Self>
    where
        T: ShmData,
    {
        if !self.guard.is_only_one() {
            return Err(self);
        }
        // SAFETY: the lock is held, and there is no other guard that lends the data. The old bytes may be no `T`, so they
        // are not dropped; `ShmData` has nothing to drop.
        unsafe { self.guard.place().write(value) };
        SharedReentrantLockGuard::clear_poison(&self.guard);
        Ok(self.guard)
    }

    /// The guard, for data of which any mixture of bytes is a valid value. Repair it in place, then
    /// [`SharedReentrantLockGuard::clear_poison`]; until then the lock stays poisoned.
    pub fn into_guard(self) -> SharedReentrantLockGuard<'a, T>
    where
        T: FromBytes,
    {
        self.guard
    }

    /// The guard, whatever the data is.
    ///
    /// # Safety
    ///
    /// The bytes are a valid `T`. A holder that died in the middle of an assignment leaves a mixture of two values.
    pub unsafe fn assume_valid(self) -> SharedReentrantLockGuard<'a, T> {
        self.guard
    }
}

impl<T> fmt::Debug for ReentrantPoisoned<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantPoisoned")
            .field("fresh", &self.fresh)
            .finish_non_exhaustive()
    }
}

/// Why a reentrant lock was not acquired as asked.
///
/// As [`LockError`](crate::LockError), but for `Deadlock`, which cannot be: `?` turns it into [`Error`] or a `Box<dyn
/// Error>`.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReentrantLockError<'a, T> {
    /// The lock was acquired; a holder died with it.
    Poisoned(ReentrantPoisoned<'a, T>),
    /// The thread that held the lock ended without releasing it, and its process lives: the data may have been handed on
    /// there. Once that process is gone, the next locker is told of a death.
    HolderThreadEnded,
    /// Another thread holds the lock, and the call was one that does not wait.
    WouldBlock,
    /// Another thread held the lock until the time was over.
    TimedOut,
}

impl<T> fmt::Display for ReentrantLockError<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Error::from_reentrant(self).fmt(f)
    }
}

impl<T> From<ReentrantLockError<'_, T>> for Error {
    fn from(error: ReentrantLockError<'_, T>) -> Self {
        Error::from_reentrant(&error)
    }
}

impl<T> From<ReentrantLockError<'_, T>> for Box<dyn StdError> {
    fn from(error: ReentrantLockError<'_, T>) -> Self {
        Box::new(Error::from_reentrant(&error))
    }
}

impl<T> From<ReentrantLockError<'_, T>> for Box<dyn StdError + Send + Sync> {
    fn from(error: ReentrantLockError<'_, T>) -> Self {
        Box::new(Error::from_reentrant(&error))
    }
}

impl Error {
    fn from_reentrant<T>(error: &ReentrantLockError<'_, T>) -> Self {
        match error {
            ReentrantLockError::Poisoned(_) => Error::Poisoned { cause: Cause::Died },
            ReentrantLockError::HolderThreadEnded => Error::HolderThreadEnded,
            ReentrantLockError::WouldBlock => Error::WouldBlock,
            ReentrantLockError::TimedOut => Error::TimedOut,
        }
    }
}

static_assertions::assert_not_impl_any!(ReentrantPoisoned<'static, u64>: Send, Sync);
