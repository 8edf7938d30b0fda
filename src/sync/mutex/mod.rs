//! [`SharedMutex`]: mutual exclusion between processes, and the news of a death.

pub(in crate::sync) mod guard;
pub(in crate::sync) mod inner;

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmData, ShmSafe};
use crate::raw::outcome::WaitMode;
use crate::raw::{RawLock, Robust};
use crate::sync::holder::Holder;
use crate::sync::lock_error::LockResult;
use crate::sync::mutex::guard::SharedMutexGuard;
use crate::sync::mutex::inner::Inner;
use crate::sys::{self, Deadline};
use std::mem::offset_of;
use std::sync::{LockResult as StdLockResult, PoisonError};
use std::time::{Duration, Instant};

/// A mutex for data in memory that several processes map, in the manner of [`std::sync::Mutex`].
///
/// Placed in a map by [`Shared`](crate::Shared), it excludes the threads of every process that uses the map. Before it is
/// placed it is an ordinary mutex of this process, and may be moved and forgotten.
///
/// # What a death does
///
/// A process may be killed at any instruction. If it held the lock, the kernel frees it; the next [`lock`](Self::lock)
/// gets it inside [`LockError::Poisoned`], with [`Cause::Died`], and exactly one locker is told of each death as it
/// happens ([`Poisoned::is_first_report`]). The poison stays for the others until somebody repairs the data. Waiters do not hang:
/// one is woken at once, and where the kernel could not mark the lock, they find out within a second.
///
/// # Strategies
///
/// `R` is how it locks. [`raw::Robust`](crate::raw::Robust), which it is without being asked, is the one to use; the others in
/// [`raw`](crate::raw) are for comparison, and [do other things](crate::guide::choosing) when a holder dies.
///
/// # Signal handlers
///
/// Nothing here may be called in a signal handler: one that interrupts a lock call finds the robust list between two steps.
///
/// # Examples
///
/// ```
/// use pshared::{fork, LockError, Shared, SharedMutex};
///
/// let account = Shared::anonymous(SharedMutex::new(100_u64))?;
/// let child = fork::spawn(|| *account.lock().unwrap() -= 30)?;
/// *account.lock()? += 5;
/// assert!(child.wait()?.success());
/// assert_eq!(*account.lock()?, 75);
///
/// // A child that dies with the lock in its hands.
/// fork::spawn(|| {
///     let _guard = account.lock().unwrap();
///     std::process::abort();
/// })?
/// .wait()?;
/// match account.lock() {
///     Err(LockError::Poisoned(poisoned)) => drop(poisoned.replace(75)),
///     other => panic!("the death was not told: {other:?}"),
/// }
/// assert_eq!(*account.lock()?, 75);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// The lock word is described in the guide on what a crash does; the order of its steps is that of glibc's robust mutexes,
/// on the kernel's [robust futexes](https://docs.kernel.org/locking/robust-futex-ABI.html).
#[repr(C)]
pub struct SharedMutex<T, R: RawLock = Robust> {
    pub(super) inner: Inner<T, R>,
}

// SAFETY: the lock gives `&mut T` to one thread at a time, so sharing the mutex only ever sends the `T`; `ShmData` is `Send`.
unsafe impl<T: ShmData, R: RawLock> Sync for SharedMutex<T, R> {}

impl<T: ShmData> SharedMutex<T> {
    /// A free, robust mutex around `value`.
    pub const fn new(value: T) -> Self {
        Self::with_strategy(value)
    }
}

impl<T: ShmData, R: RawLock> SharedMutex<T, R> {
    /// A free mutex around `value`, of the strategy that its type names.
    ///
    /// ```
    /// use pshared::{raw, SharedMutex};
    ///
    /// let lock = SharedMutex::<u64, raw::Ticket>::with_strategy(7);
    /// assert_eq!(*lock.lock()?, 7);
    /// # Ok::<(), pshared::Error>(())
    /// ```
    pub const fn with_strategy(value: T) -> Self {
        SharedMutex {
            inner: Inner::new(value),
        }
    }

    /// Acquires the lock, waiting for it as long as it takes.
    ///
    /// # Errors
    ///
    /// - [`LockError::Poisoned`]: the lock was acquired, and a holder died or panicked in its section since the data was
    ///   last repaired.
    /// - [`LockError::Deadlock`]: the calling thread holds the lock already.
    /// - [`LockError::HolderThreadEnded`]: the thread that held the lock ended without releasing it, and its process lives.
    #[inline]
    pub fn lock(&self) -> LockResult<SharedMutexGuard<'_, T, R>> {
        self.inner.lock(WaitMode::Until(None))
    }

    /// Acquires the lock if nobody holds it, without waiting.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::WouldBlock`] where somebody holds the lock, the calling thread included.
    #[inline]
    pub fn try_lock(&self) -> LockResult<SharedMutexGuard<'_, T, R>> {
        self.inner.lock(WaitMode::Try)
    }

    /// Acquires the lock, waiting for it no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::TimedOut`].
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<SharedMutexGuard<'_, T, R>> {
        self.inner
            .lock(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// Acquires the lock, waiting for it until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::TimedOut`].
    pub fn lock_until(&self, deadline: Instant) -> LockResult<SharedMutexGuard<'_, T, R>> {
        self.inner
            .lock(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Whether a holder died or panicked in its section since the data was last repaired.
    ///
    /// A death is only known here once somebody has locked after it.
    pub fn is_poisoned(&self) -> bool {
        !self.inner.poison.is_clear()
    }

    /// Clears the poison that a panic left, as [`std::sync::Mutex::clear_poison`] does.
    ///
    /// What a death left stays: the data may be torn. It is cleared by [`Poisoned::replace`], or, after
    /// [`Poisoned::into_guard`], by [`SharedMutexGuard::clear_poison`].
    pub fn clear_poison(&self) {
        self.inner.poison.clear_panic();
    }

    /// Who holds the lock, if anybody does. The answer may be out of date when it is read; it is for reports.
    ///
    /// The ids are those of the holder's own PID namespace.
    pub fn holder(&self) -> Option<Holder> {
        self.inner.raw.holder().map(Holder::new)
    }

    /// The data, through the exclusive borrow that only a mutex which is not placed can give.
    ///
    /// # Errors
    ///
    /// [`PoisonError`] where a holder panicked; it gives the data all the same.
    pub fn get_mut(&mut self) -> StdLockResult<&mut T> {
        let poisoned = self.is_poisoned();
        let data = self.inner.data.get_mut();
        if poisoned {
            Err(PoisonError::new(data))
        } else {
            Ok(data)
        }
    }

    /// The data of a mutex that is not placed.
    ///
    /// # Errors
    ///
    /// [`PoisonError`] where a holder panicked; it gives the data all the same.
    pub fn into_inner(self) -> StdLockResult<T> {
        let poisoned = self.is_poisoned();
        let data = self.inner.data.into_inner();
        if poisoned {
            Err(PoisonError::new(data))
        } else {
            Ok(data)
        }
    }
}

impl<T: ShmData + Default, R: RawLock> Default for SharedMutex<T, R> {
    fn default() -> Self {
        SharedMutex::with_strategy(T::default())
    }
}

impl<T: ShmData> From<T> for SharedMutex<T> {
    fn from(value: T) -> Self {
        SharedMutex::new(value)
    }
}

// SAFETY: `repr(C)` over atomics and a `ShmData`; the links mean something only to the thread that holds the lock. The
// whole state is told, and the one primitive visited. Zero bytes are a free lock around zero bytes of `T`, which is armed before anybody
// sees it.
#[diagnostic::do_not_recommend]
unsafe impl<T: ShmData, R: RawLock> ShmSafe for SharedMutex<T, R> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(PrimitiveKind(R::KIND));
        layout.field("data", offset_of!(Self, inner.data), T::describe);
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.primitive(self);
    }
}

impl<T: ShmData, R: RawLock> Primitive for SharedMutex<T, R> {
    fn kind(&self) -> PrimitiveKind {
        PrimitiveKind(R::KIND)
    }

    unsafe fn init(&self) -> Result<(), Error> {
        R::check()?;
        // SAFETY: the caller's promise.
        unsafe { self.inner.raw.init() };
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        self.inner.raw.is_held_by_this_process()
    }

    fn was_leaked_by_this_process(&self) -> bool {
        self.inner.raw.was_leaked_by_this_process()
    }

    unsafe fn reset(&self) {
        // First: whoever resets may be killed, and the next one would find nothing any more.
        if self.inner.raw.hides_a_death() {
            self.inner.poison.set_unreported_death();
        }
        // SAFETY: the caller's promise.
        unsafe { self.inner.raw.reset() };
    }

    unsafe fn mark_inconsistent(&self) {
        // SAFETY: the caller's promise.
        if unsafe { self.inner.raw.mark() } {
            self.inner.poison.set_unreported_death();
        }
    }
}

static_assertions::assert_eq_size!(SharedMutex<()>, [u8; 48]);
static_assertions::const_assert_eq!(Robust::LINKS - Robust::RECORD, sys::RECORD_BEFORE_LINKS);
static_assertions::const_assert_eq!(Robust::LINKS, 24);
static_assertions::assert_impl_all!(SharedMutex<std::cell::Cell<u64>>: Sync, Send, ShmSafe);
static_assertions::assert_not_impl_any!(SharedMutex<u64>: ShmData);
