//! The errors of the locks that can be poisoned, generic over the guard.

use crate::Error;
use crate::raw::outcome::AcquireError;
use crate::raw::poison::Cause;
use crate::sync::holder::Holder;
use crate::sys::Owner;
use std::error::Error as StdError;
use std::fmt;
use zerocopy::FromBytes;

/// A guard that can be part of an error: of a [`SharedMutex`](crate::SharedMutex), a
/// [`SharedRwLock`](crate::SharedRwLock) or a [`SharedReentrantLock`](crate::SharedReentrantLock).
///
/// This trait is sealed.
pub trait LockGuard: Sealed {
    /// The type of the data that the lock protects.
    type Data;

    /// Keeps a panic from poisoning the lock while the guard is inside an error.
    #[doc(hidden)]
    fn suspend_poisoning(&mut self) {}

    /// Lets a panic poison the lock again.
    #[doc(hidden)]
    fn resume_poisoning(&mut self) {}
}

/// Restricts [`LockGuard`] to the guards of this crate.
pub trait Sealed {}

/// The result of a lock call, like [`std::sync::LockResult`].
pub type LockResult<G> = Result<G, LockError<G>>;

/// A lock that was acquired although its data may be inconsistent, like [`std::sync::PoisonError`].
///
/// The lock is held. Dropping this value releases it and keeps the poison for the next locker.
///
/// Safe code can take the guard out if every byte pattern is a valid value of the data
/// ([`into_guard`](Self::into_guard)), or if a panic is the only cause
/// ([`try_into_guard`](Self::try_into_guard)). A guard that can write can also replace the data.
pub struct Poisoned<G> {
    guard: G,
    cause: Cause,
    is_first_report: bool,
    dead: Option<Owner>,
}

impl<G: LockGuard> Poisoned<G> {
    pub(super) fn new(
        mut guard: G,
        cause: Cause,
        is_first_report: bool,
        dead: Option<Owner>,
    ) -> Self {
        // The caller cannot reach the data yet, so a panic does not concern it.
        guard.suspend_poisoning();
        Poisoned {
            guard,
            cause,
            is_first_report,
            dead,
        }
    }

    /// Returns why the lock is poisoned. If one holder died and another panicked, this is
    /// [`Cause::Died`].
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Returns whether this call received the first report of a death. Exactly one call receives
    /// the first report of each death. If a panic is the only cause, this is false.
    pub fn is_first_report(&self) -> bool {
        self.is_first_report
    }

    /// Returns the last holder that died, if this call received the [first
    /// report](Self::is_first_report) of its death and knows it.
    ///
    /// It does not know it if the holder died at the start or the end of its critical section, or
    /// if another call found the death: one that was then killed, or one that only read or
    /// formatted the lock. If a holder died that had not repaired what an earlier dead one left,
    /// only the later one is returned.
    ///
    /// The death of a process does not end I/O that it started into the map. If the data is an I/O
    /// buffer, call [`Holder::wait_for_exit`] before using it; and read there what that does not
    /// end. If the holder is not known, replace the buffer and do not use its memory again, or wait
    /// for all processes that may have held the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{fork, LockError, Shared, SharedMutex};
    /// use std::time::Duration;
    ///
    /// let lock = Shared::anonymous(SharedMutex::new([0_u64; 8]))?;
    /// let child = fork::spawn(|| {
    ///     let _guard = lock.lock().unwrap();
    ///     std::process::abort();
    /// })?;
    /// assert!(!child.wait()?.success());
    /// let Err(LockError::Poisoned(poisoned)) = lock.lock() else { unreachable!() };
    /// let dead = poisoned.dead_holder().expect("the first report of a holder");
    /// assert_eq!(dead.process, child.id());
    /// assert!(dead.wait_for_exit(Duration::from_secs(10)));
    /// let _guard = poisoned.replace([0; 8]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dead_holder(&self) -> Option<Holder> {
        self.dead.map(Holder::of)
    }

    /// Returns the guard, for data for which every byte pattern is a valid value.
    ///
    /// The lock stays poisoned. Repair the data, then call `clear_poison` of the guard. Guards that
    /// only read have no such function: the lock stays poisoned until a writer has repaired the
    /// data and calls
    /// [`SharedRwLockWriteGuard::clear_poison`](crate::SharedRwLockWriteGuard::clear_poison).
    pub fn into_guard(self) -> G
    where
        G::Data: FromBytes,
    {
        self.into_guard_unchecked()
    }

    /// Returns the guard if a panic is the only cause. The data is then a whole value, as in `std`.
    ///
    /// # Errors
    ///
    /// Returns `self` if a holder died.
    pub fn try_into_guard(self) -> Result<G, Self> {
        match self.cause {
            Cause::Panicked => Ok(self.into_guard_unchecked()),
            Cause::Died => Err(self),
        }
    }

    /// Returns the guard, whatever the cause.
    ///
    /// # Safety
    ///
    /// The bytes of the data must be a valid value. A holder that died during an assignment leaves
    /// a mixture of two values.
    pub unsafe fn assume_valid(self) -> G {
        self.into_guard_unchecked()
    }

    /// Returns the guard inside the error.
    pub(super) fn guard(&self) -> &G {
        &self.guard
    }

    /// Takes the guard out, for callers that checked or replaced the data.
    pub(super) fn into_guard_unchecked(self) -> G {
        let mut guard = self.guard;
        guard.resume_poisoning();
        guard
    }
}

impl<G> fmt::Debug for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poisoned")
            .field("cause", &self.cause)
            .field("is_first_report", &self.is_first_report)
            .finish_non_exhaustive()
    }
}

/// The error of a lock call. `G` is the type of the guard.
///
/// The error borrows the lock, because [`Poisoned`](LockError::Poisoned) holds it. The operator `?`
/// turns the error into an [`Error`] or a `Box<dyn Error>`, which borrow nothing, and releases the
/// lock.
#[non_exhaustive]
pub enum LockError<G> {
    /// The lock was acquired, but a holder died or panicked in its critical section.
    Poisoned(Poisoned<G>),
    /// The calling thread holds the lock already, so waiting would never end. Calls that do not
    /// wait return [`WouldBlock`](LockError::WouldBlock) instead. A reentrant lock never returns
    /// this.
    Deadlock,
    /// The thread that held the lock ended without releasing it, because its guard was leaked, and
    /// its process still runs. That process may still use the data. Once it has ended, the next
    /// locker receives [`Poisoned`](LockError::Poisoned).
    ///
    /// A call that does not wait, or waits only for a short time, returns
    /// [`WouldBlock`](LockError::WouldBlock) or [`TimedOut`](LockError::TimedOut) until the process
    /// is known to be alive. There is one exception: if the process cannot be examined (no `/proc`,
    /// or another PID namespace), such a call can return this error while the process is being
    /// killed.
    HolderThreadEnded,
    /// The lock is held, possibly by the calling thread, and the call does not wait.
    WouldBlock,
    /// The lock could not be acquired before the timeout expired or the deadline passed.
    TimedOut,
    /// The lock could not be acquired before the timeout expired or the deadline passed, because
    /// the holder's process is being killed and still writes its core dump. The kernel releases its
    /// locks afterwards. [What delays a death](crate::guide::crash#what-delays-a-death) says how to
    /// make the dump small.
    ///
    /// This is returned instead of [`TimedOut`](LockError::TimedOut), and only if `/proc` shows the
    /// dump (Linux 4.15).
    HolderDumpsCore,
}

impl<G> LockError<G> {
    fn error(&self) -> Error {
        match self {
            LockError::Poisoned(poisoned) => Error::Poisoned {
                cause: poisoned.cause,
            },
            LockError::Deadlock => Error::Deadlock,
            LockError::HolderThreadEnded => Error::HolderThreadEnded,
            LockError::WouldBlock => Error::WouldBlock,
            LockError::TimedOut => Error::TimedOut,
            LockError::HolderDumpsCore => Error::HolderDumpsCore,
        }
    }
}

impl<G> From<AcquireError> for LockError<G> {
    fn from(error: AcquireError) -> Self {
        match error {
            AcquireError::WouldBlock => LockError::WouldBlock,
            AcquireError::TimedOut => LockError::TimedOut,
            AcquireError::Deadlock => LockError::Deadlock,
            AcquireError::HolderThreadEnded => LockError::HolderThreadEnded,
            AcquireError::HolderDumpsCore => LockError::HolderDumpsCore,
        }
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Poisoned(poisoned) => f.debug_tuple("Poisoned").field(poisoned).finish(),
            LockError::Deadlock => f.write_str("Deadlock"),
            LockError::HolderThreadEnded => f.write_str("HolderThreadEnded"),
            LockError::WouldBlock => f.write_str("WouldBlock"),
            LockError::TimedOut => f.write_str("TimedOut"),
            LockError::HolderDumpsCore => f.write_str("HolderDumpsCore"),
        }
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)
    }
}

impl<G> From<LockError<G>> for Error {
    fn from(error: LockError<G>) -> Self {
        error.error()
    }
}

// `LockError` does not implement `std::error::Error`. With it, the conversions below would conflict
// with the one in `std`, as for `anyhow::Error`. They are needed because this error borrows the
// lock and `Box<dyn Error>` is `'static`, so `?` would not compile in most callers.
impl<G> From<LockError<G>> for Box<dyn StdError> {
    fn from(error: LockError<G>) -> Self {
        Box::new(error.error())
    }
}

impl<G> From<LockError<G>> for Box<dyn StdError + Send + Sync> {
    fn from(error: LockError<G>) -> Self {
        Box::new(error.error())
    }
}

/// The error of an upgrade from reading to writing. It holds the guard `G` of the upgradable read.
/// The read continues.
pub struct UpgradeError<G> {
    guard: G,
    error: Error,
}

impl<G> UpgradeError<G> {
    pub(super) fn new(guard: G, error: AcquireError) -> Self {
        UpgradeError {
            guard,
            error: LockError::<G>::from(error).error(),
        }
    }

    /// Returns why the upgrade failed: [`Error::Deadlock`], [`Error::HolderThreadEnded`],
    /// [`Error::WouldBlock`], [`Error::TimedOut`] or [`Error::HolderDumpsCore`].
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns the guard of the upgradable read.
    pub fn into_guard(self) -> G {
        self.guard
    }
}

impl<G> fmt::Debug for UpgradeError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<G> fmt::Display for UpgradeError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upgradable read guard was not upgraded")
    }
}

impl<G> StdError for UpgradeError<G> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

impl<G> From<UpgradeError<G>> for Error {
    fn from(error: UpgradeError<G>) -> Self {
        error.error
    }
}
