//! [`SharedMutex`]: mutual exclusion between processes, with reports of deaths.

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

/// A mutex for data in memory that several processes map, like [`std::sync::Mutex`].
///
/// [`Shared`](crate::Shared) places the mutex in a map. It then excludes the threads of every
/// process that uses the map. Before that, it is an ordinary mutex of one process, and may be moved
/// and leaked.
///
/// # What a death does
///
/// A process can be killed at any instruction. If it held the lock, the kernel marks the lock and
/// frees it. The next [`lock`](Self::lock) acquires it and returns
/// [`LockError::Poisoned`](crate::LockError::Poisoned) with [`Cause::Died`](crate::Cause::Died).
/// Exactly one locker receives the first report of each death
/// ([`Poisoned::is_first_report`](crate::Poisoned::is_first_report)). The other lockers find the
/// mutex poisoned until the data is repaired.
///
/// Waiters do not hang. One of them is woken at once. If the kernel could not mark the lock, the
/// waiters detect the death within a second.
///
/// # Strategies
///
/// `R` is the lock strategy. Use the default, [`raw::Robust`](crate::raw::Robust). The other
/// strategies in [`raw`](crate::raw) are for comparison, and [behave
/// differently](crate::guide::choosing) when a holder dies.
///
/// # Signal handlers
///
/// No method may be called in a signal handler. A handler that interrupts a lock call finds the
/// thread's robust list in the middle of a change.
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
/// // A child dies while it holds the lock.
/// fork::spawn(|| {
///     let _guard = account.lock().unwrap();
///     std::process::abort();
/// })?
/// .wait()?;
/// match account.lock() {
///     Err(LockError::Poisoned(poisoned)) => drop(poisoned.replace(75)),
///     other => panic!("the death was not reported: {other:?}"),
/// }
/// assert_eq!(*account.lock()?, 75);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// The guide on [what a crash does](crate::guide::crash) describes the lock word. The order of the
/// steps is that of glibc's robust mutexes, which use the kernel's [robust
/// futexes](https://docs.kernel.org/locking/robust-futex-ABI.html).
#[repr(C)]
pub struct SharedMutex<T, R: RawLock = Robust> {
    pub(super) inner: Inner<T, R>,
}

// SAFETY: the lock gives `&mut T` to one thread at a time, so sharing the mutex only sends the `T`.
// `ShmData` types are `Send`.
unsafe impl<T: ShmData, R: RawLock> Sync for SharedMutex<T, R> {}

impl<T: ShmData> SharedMutex<T> {
    /// Creates an unlocked, robust mutex around `value`.
    pub const fn new(value: T) -> Self {
        Self::with_strategy(value)
    }
}

impl<T: ShmData, R: RawLock> SharedMutex<T, R> {
    /// Creates an unlocked mutex around `value`, with the strategy `R`.
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

    /// Acquires this mutex, blocking the current thread until it is able to do so.
    ///
    /// # Errors
    ///
    /// - [`LockError::Poisoned`](crate::LockError::Poisoned) if the lock was acquired, but a holder
    ///   died or panicked in its critical section since the data was last repaired.
    /// - [`LockError::Deadlock`](crate::LockError::Deadlock) if the calling thread holds the lock
    ///   already.
    /// - [`LockError::HolderThreadEnded`](crate::LockError::HolderThreadEnded) if the thread that
    ///   held the lock ended without releasing it, and its process still runs.
    #[inline]
    pub fn lock(&self) -> LockResult<SharedMutexGuard<'_, T, R>> {
        self.inner.lock(WaitMode::Until(None))
    }

    /// Attempts to acquire this mutex without blocking.
    ///
    /// # Errors
    ///
    /// Returns [`LockError::WouldBlock`](crate::LockError::WouldBlock) if the lock is held, also if
    /// the calling thread holds it, and `Poisoned` or `HolderThreadEnded` as [`lock`](Self::lock)
    /// does.
    #[inline]
    pub fn try_lock(&self) -> LockResult<SharedMutexGuard<'_, T, R>> {
        self.inner.lock(WaitMode::Try)
    }

    /// Acquires this mutex, blocking the current thread for at most `timeout`, measured on the
    /// monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`LockError::TimedOut`](crate::LockError::TimedOut) if the lock was not released
    /// within `timeout`. Otherwise as for [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<SharedMutexGuard<'_, T, R>> {
        self.inner
            .lock(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// Acquires this mutex, blocking the current thread until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`lock_timeout`](Self::lock_timeout).
    pub fn lock_until(&self, deadline: Instant) -> LockResult<SharedMutexGuard<'_, T, R>> {
        self.inner
            .lock(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Returns whether the mutex is poisoned: a holder died or panicked in its critical section
    /// since the data was last repaired.
    ///
    /// After a death, this may return false until a thread has locked the mutex.
    pub fn is_poisoned(&self) -> bool {
        !self.inner.poison.is_clear()
    }

    /// Clears the poison that a panic left, as [`std::sync::Mutex::clear_poison`] does.
    ///
    /// The poison that a death left stays, because the data may be a mixture of two values. It is
    /// cleared by [`Poisoned::replace`](crate::Poisoned::replace), or after
    /// [`Poisoned::into_guard`](crate::Poisoned::into_guard) by [`SharedMutexGuard::clear_poison`].
    pub fn clear_poison(&self) {
        self.inner.poison.clear_panic();
    }

    /// Returns the thread that holds the lock, if there is one. The result may be out of date as
    /// soon as it is returned; use it only for reports.
    ///
    /// The ids are those in the PID namespace of the holder.
    pub fn holder(&self) -> Option<Holder> {
        self.inner.raw.owner().map(Holder::of)
    }

    /// Returns a mutable reference to the data. Only a mutex that is not placed can be borrowed
    /// exclusively.
    ///
    /// # Errors
    ///
    /// Returns [`PoisonError`] if the mutex is poisoned. The error holds the data.
    pub fn get_mut(&mut self) -> StdLockResult<&mut T> {
        let poisoned = self.is_poisoned();
        let data = self.inner.data.get_mut();
        if poisoned {
            Err(PoisonError::new(data))
        } else {
            Ok(data)
        }
    }

    /// Consumes the mutex, which is not placed, and returns the data.
    ///
    /// # Errors
    ///
    /// Returns [`PoisonError`] if the mutex is poisoned. The error holds the data.
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

// SAFETY: the type is `repr(C)` over atomics and a `ShmData`. The links have a meaning only for the
// thread that holds the lock. The whole state is described, and the only primitive is visited. Zero
// bytes are a free lock around zero bytes of `T`. The lock is initialized before another thread can
// access it.
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
        // SAFETY: guaranteed by the caller.
        unsafe { self.inner.raw.init() };
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        self.inner.raw.is_held_by_this_process()
    }

    fn owners_in_this_process(&self, each: &mut dyn FnMut(u32)) {
        let owner = self.inner.raw.record().thread_of_this_process();
        owner.into_iter().for_each(each);
    }

    unsafe fn reset(&self) {
        // This comes first, because the resetting process can be killed. After the reset, the next
        // process that resets could not see that the lock was held.
        if self.inner.raw.reset_would_lose_a_death() {
            self.inner.poison.set_unreported_death();
        }
        // SAFETY: guaranteed by the caller.
        unsafe { self.inner.raw.reset() };
    }

    unsafe fn mark_inconsistent(&self) {
        // SAFETY: guaranteed by the caller.
        let cannot_report = unsafe { self.inner.raw.mark_after_reboot() };
        if cannot_report {
            self.inner.poison.set_unreported_death();
        }
    }
}

static_assertions::assert_eq_size!(SharedMutex<()>, [u8; 48]);
static_assertions::const_assert_eq!(
    Robust::LINKS_OFFSET - Robust::RECORD_OFFSET,
    sys::RECORD_BEFORE_LINKS
);
static_assertions::const_assert_eq!(Robust::LINKS_OFFSET, 24);
static_assertions::assert_impl_all!(SharedMutex<std::cell::Cell<u64>>: Sync, Send, ShmSafe);
static_assertions::assert_not_impl_any!(SharedMutex<u64>: ShmData);
