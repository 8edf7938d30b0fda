//! Why a lock was not acquired as asked, and what a death or a panic left.

use crate::Error;
use crate::memory::ShmData;
use crate::raw::poison::Cause;
use crate::raw::{RawLock, Robust};
use crate::sync::mutex::guard::SharedMutexGuard;
use std::error::Error as StdError;
use std::fmt;
use zerocopy::FromBytes;

/// A lock that was acquired, with the news that its data may be broken.
///
/// Dropped as it is, it releases the lock and leaves the poison for the next locker.
pub struct Poisoned<'a, T, R: RawLock = Robust> {
    guard: SharedMutexGuard<'a, T, R>,
    cause: Cause,
    fresh: bool,
}

impl<'a, T, R: RawLock> Poisoned<'a, T, R> {
    pub(super) fn new(mut guard: SharedMutexGuard<'a, T, R>, cause: Cause, fresh: bool) -> Self {
        // Until it is handed out, a panic does not concern the data.
        guard.suspend_poisoning();
        Poisoned {
            guard,
            cause,
            fresh,
        }
    }

    /// What happened: the worst of it, where both did.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Whether this lock call is the one that is told of the death: true for exactly one locker a death.
    pub fn is_first_report(&self) -> bool {
        self.fresh
    }

    /// Replaces the data whole, clears the poison, and gives the guard.
    pub fn replace(self, value: T) -> SharedMutexGuard<'a, T, R>
    where
        T: ShmData,
    {
        let guard = self.resume_poisoning();
        // SAFETY: the lock is held. The old bytes may be no `T`, so they are not dropped; `ShmData` has nothing to drop.
        unsafe { guard.place().write(value) };
        SharedMutexGuard::clear_poison(&guard);
        guard
    }

    /// The guard, for data of which any mixture of bytes is a valid value. Repair it in place, then
    /// [`SharedMutexGuard::clear_poison`]; until then the lock stays poisoned.
    pub fn into_guard(self) -> SharedMutexGuard<'a, T, R>
    where
        T: FromBytes,
    {
        self.resume_poisoning()
    }

    /// The guard, where a panic is all that happened: the data is whole then, as in `std`.
    ///
    /// # Errors
    ///
    /// Itself, where a holder died.
    pub fn try_into_guard(self) -> Result<SharedMutexGuard<'a, T, R>, Self> {
        match self.cause {
            Cause::Panicked => Ok(self.resume_poisoning()),
            Cause::Died => Err(self),
        }
    }

    /// The guard, whatever happened.
    ///
    /// # Safety
    ///
    /// The bytes are a valid `T`. A holder that died in the middle of an assignment leaves a mixture of two values.
    pub unsafe fn assume_valid(self) -> SharedMutexGuard<'a, T, R> {
        self.resume_poisoning()
    }

    fn resume_poisoning(self) -> SharedMutexGuard<'a, T, R> {
        let mut guard = self.guard;
        guard.resume_poisoning();
        guard
    }
}

impl<T, R: RawLock> fmt::Debug for Poisoned<'_, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poisoned")
            .field("cause", &self.cause)
            .field("fresh", &self.fresh)
            .finish_non_exhaustive()
    }
}

/// Why a lock was not acquired as asked.
///
/// It borrows the mutex, since [`Poisoned`](LockError::Poisoned) holds the lock; `?` turns it into [`Error`] or into a
/// `Box<dyn Error>`, which do not, and releases it.
#[non_exhaustive]
pub enum LockError<'a, T, R: RawLock = Robust> {
    /// The lock was acquired; a holder died or panicked in its section.
    Poisoned(Poisoned<'a, T, R>),
    /// The calling thread holds the lock; waiting for it would never end.
    Deadlock,
    /// The thread that held the lock ended without releasing it, so its guard was forgotten, and its process lives: the
    /// data may have been handed on there. Once that process is gone, the next locker is told of a death.
    ///
    /// A call that does not wait, or not for long, is told so once that is certain; before, that the lock is held. Only where the
    /// process cannot be looked at (no `/proc`, another PID namespace) it may be told so while that process is being killed.
    HolderThreadEnded,
    /// Somebody holds the lock, and the call was one that does not wait.
    WouldBlock,
    /// Somebody held the lock until the time was over.
    TimedOut,
}

/// The error of [`SharedMutex::try_lock`](crate::SharedMutex::try_lock), under the name that it has in `std`.
pub type TryLockError<'a, T, R = Robust> = LockError<'a, T, R>;

impl<T, R: RawLock> fmt::Debug for LockError<'_, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Poisoned(poisoned) => f.debug_tuple("Poisoned").field(poisoned).finish(),
            LockError::Deadlock => f.write_str("Deadlock"),
            LockError::HolderThreadEnded => f.write_str("HolderThreadEnded"),
            LockError::WouldBlock => f.write_str("WouldBlock"),
            LockError::TimedOut => f.write_str("TimedOut"),
        }
    }
}

impl<T, R: RawLock> fmt::Display for LockError<'_, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Error::from_lock(self).fmt(f)
    }
}

impl<T, R: RawLock> From<LockError<'_, T, R>> for Error {
    fn from(error: LockError<'_, T, R>) -> Self {
        Error::from_lock(&error)
    }
}

// `LockError` is no `std::error::Error` itself, as `anyhow::Error` is none: it holds a borrow of the mutex, which a
// `Box<dyn Error>` could not, and so `?` would not compile where it is wanted most.
impl<T, R: RawLock> From<LockError<'_, T, R>> for Box<dyn StdError> {
    fn from(error: LockError<'_, T, R>) -> Self {
        Box::new(Error::from_lock(&error))
    }
}

impl<T, R: RawLock> From<LockError<'_, T, R>> for Box<dyn StdError + Send + Sync> {
    fn from(error: LockError<'_, T, R>) -> Self {
        Box::new(Error::from_lock(&error))
    }
}

impl Error {
    fn from_lock<T, R: RawLock>(error: &LockError<'_, T, R>) -> Self {
        match error {
            LockError::Poisoned(poisoned) => Error::Poisoned {
                cause: poisoned.cause,
            },
            LockError::Deadlock => Error::Deadlock,
            LockError::HolderThreadEnded => Error::HolderThreadEnded,
            LockError::WouldBlock => Error::WouldBlock,
            LockError::TimedOut => Error::TimedOut,
        }
    }
}

static_assertions::assert_not_impl_any!(Poisoned<'static, u64>: Send, Sync);
