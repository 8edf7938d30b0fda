//! Why a [`SharedRwLock`](crate::SharedRwLock) was not acquired as asked, and what a death or a panic left.

use crate::Error;
use crate::memory::ShmData;
use crate::raw::outcome::AcquireError;
use crate::raw::poison::Cause;
use crate::sync::rwlock::guard::{SharedRwLockUpgradableReadGuard, SharedRwLockWriteGuard};
use std::error::Error as StdError;
use std::fmt;
use zerocopy::FromBytes;

/// A guard of a [`SharedRwLock`](crate::SharedRwLock): for reading, for writing, or for reading upgradably.
///
/// It is sealed.
pub trait RwGuard: Sealed {
    /// What it guards.
    type Data;

    /// Says that the data is not in the user's hands yet: a panic does not concern it.
    #[doc(hidden)]
    fn suspend_poisoning(&mut self) {}

    /// Says that the data is in the user's hands from here on.
    #[doc(hidden)]
    fn resume_poisoning(&mut self) {}
}

/// What keeps the trait to this crate's guards.
pub trait Sealed {}

/// A lock that was acquired, for reading or for writing, with the news that its data may be broken.
///
/// Dropped as it is, it releases the lock and leaves the poison for the next one. Whoever reads can only look at data of which
/// any bytes are a valid value, or which a panic left; to replace it, [`write`](crate::SharedRwLock::write).
pub struct RwPoisoned<G> {
    guard: G,
    cause: Cause,
    fresh: bool,
}

impl<G: RwGuard> RwPoisoned<G> {
    pub(super) fn new(mut guard: G, cause: Cause, fresh: bool) -> Self {
        guard.suspend_poisoning();
        RwPoisoned {
            guard,
            cause,
            fresh,
        }
    }

    /// What happened: the worst of it, where both did.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Whether this call is the one that is told of the death: true for exactly one caller a death, a reader or a writer.
    pub fn is_first_report(&self) -> bool {
        self.fresh
    }

    /// The guard, for data of which any mixture of bytes is a valid value. The lock stays poisoned until a writer has repaired
    /// it and calls [`SharedRwLockWriteGuard::clear_poison`].
    pub fn into_guard(self) -> G
    where
        G::Data: FromBytes,
    {
        self.resume_poisoning()
    }

    /// The guard, where a panic is all that happened: the data is whole then, as in `std`.
    ///
    /// # Errors
    ///
    /// Itself, where a writer died.
    pub fn try_into_guard(self) -> Result<G, Self> {
        match self.cause {
            Cause::Panicked => Ok(self.resume_poisoning()),
            Cause::Died => Err(self),
        }
    }

    /// The guard, whatever happened.
    ///
    /// # Safety
    ///
    /// The bytes are a valid value. A writer that died in the middle of an assignment leaves a mixture of two.
    pub unsafe fn assume_valid(self) -> G {
        self.resume_poisoning()
    }

    fn resume_poisoning(self) -> G {
        let mut guard = self.guard;
        guard.resume_poisoning();
        guard
    }
}

impl<'a, T: ShmData> RwPoisoned<SharedRwLockWriteGuard<'a, T>> {
    /// Replaces the data whole, clears the poison, and gives the guard.
    pub fn replace(self, value: T) -> SharedRwLockWriteGuard<'a, T> {
        let mut guard = self.resume_poisoning();
        guard.replace(value);
        SharedRwLockWriteGuard::clear_poison(&guard);
        guard
    }
}

impl<G> fmt::Debug for RwPoisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwPoisoned")
            .field("cause", &self.cause)
            .field("fresh", &self.fresh)
            .finish_non_exhaustive()
    }
}

/// Why a readers-writer lock was not acquired as asked; `G` is the guard that was asked for.
///
/// As a [`LockError`](crate::LockError), it borrows the lock, and `?` turns it into what does not.
#[non_exhaustive]
pub enum RwLockError<G> {
    /// The lock was acquired; a writer died or panicked in its section.
    Poisoned(RwPoisoned<G>),
    /// The calling thread has the lock in a way that excludes this one: waiting would never end.
    Deadlock,
    /// A thread that had the lock ended with its guard forgotten, and its process lives: the data may have been handed on there.
    HolderThreadEnded,
    /// Somebody has the lock, and the call was one that does not wait.
    WouldBlock,
    /// Somebody had the lock until the time was over.
    TimedOut,
}

impl<G> RwLockError<G> {
    pub(super) fn refused(refused: AcquireError) -> Self {
        match refused {
            AcquireError::WouldBlock => RwLockError::WouldBlock,
            AcquireError::TimedOut => RwLockError::TimedOut,
            AcquireError::Deadlock => RwLockError::Deadlock,
            AcquireError::HolderThreadEnded => RwLockError::HolderThreadEnded,
        }
    }

    fn error(&self) -> Error {
        match self {
            RwLockError::Poisoned(poisoned) => Error::Poisoned {
                cause: poisoned.cause,
            },
            RwLockError::Deadlock => Error::Deadlock,
            RwLockError::HolderThreadEnded => Error::HolderThreadEnded,
            RwLockError::WouldBlock => Error::WouldBlock,
            RwLockError::TimedOut => Error::TimedOut,
        }
    }
}

impl<G> fmt::Debug for RwLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RwLockError::Poisoned(poisoned) => f.debug_tuple("Poisoned").field(poisoned).finish(),
            RwLockError::Deadlock => f.write_str("Deadlock"),
            RwLockError::HolderThreadEnded => f.write_str("HolderThreadEnded"),
            RwLockError::WouldBlock => f.write_str("WouldBlock"),
            RwLockError::TimedOut => f.write_str("TimedOut"),
        }
    }
}

impl<G> fmt::Display for RwLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)
    }
}

impl<G> From<RwLockError<G>> for Error {
    fn from(error: RwLockError<G>) -> Self {
        error.error()
    }
}

// As for `LockError`: it is no `std::error::Error` itself, since it borrows the lock.
impl<G> From<RwLockError<G>> for Box<dyn StdError> {
    fn from(error: RwLockError<G>) -> Self {
        Box::new(error.error())
    }
}

impl<G> From<RwLockError<G>> for Box<dyn StdError + Send + Sync> {
    fn from(error: RwLockError<G>) -> Self {
        Box::new(error.error())
    }
}

/// An upgrade that failed, with the guard of the upgradable read, which goes on.
pub struct UpgradeError<'a, T> {
    guard: SharedRwLockUpgradableReadGuard<'a, T>,
    why: Error,
}

impl<'a, T> UpgradeError<'a, T> {
    pub(super) fn new(
        guard: SharedRwLockUpgradableReadGuard<'a, T>,
        refused: AcquireError,
    ) -> Self {
        UpgradeError {
            guard,
            why: RwLockError::<()>::refused(refused).error(),
        }
    }

    /// A child's copy of its parent's guard: the parent has the lock.
    pub(super) fn of_the_parent(guard: SharedRwLockUpgradableReadGuard<'a, T>) -> Self {
        Self::new(guard, AcquireError::WouldBlock)
    }

    /// Why: [`Error::Deadlock`], [`Error::HolderThreadEnded`], [`Error::WouldBlock`] or [`Error::TimedOut`].
    pub fn why(&self) -> &Error {
        &self.why
    }

    /// The guard, which reads as before.
    pub fn into_guard(self) -> SharedRwLockUpgradableReadGuard<'a, T> {
        self.guard
    }
}

impl<T> fmt::Debug for UpgradeError<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeError")
            .field("why", &self.why)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for UpgradeError<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl<T> From<UpgradeError<'_, T>> for Error {
    fn from(error: UpgradeError<'_, T>) -> Self {
        error.why
    }
}
