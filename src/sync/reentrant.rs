//! [`SharedReentrantLock`]: a mutex that its holder may lock again.

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmData, ShmSafe};
use crate::raw::outcome::{Acquired, WaitMode};
use crate::raw::poison::{Cause, Poison};
use crate::raw::reentrant::Reentrant;
use crate::sync::holder::Holder;
use crate::sync::lock_error::{LockError, LockGuard, LockResult, Poisoned, Sealed};
use crate::sys::{self, CurrentThread, Deadline};
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::Deref;
use std::time::{Duration, Instant};

/// A mutex that the thread which holds it may lock again, in the manner of [`std::sync::ReentrantLock`].
///
/// Its guards give `&T`, since there may be several; what is to be changed lies in a [`Cell`](std::cell::Cell) or an atomic.
/// The lock is released when the thread has dropped them all, in whichever order.
///
/// # What a death does
///
/// As with [`SharedMutex`](crate::SharedMutex): the next [`lock`](Self::lock) gets the lock inside
/// [`LockError::Poisoned`], exactly one locker is told of each death as it happens, and the poison stays until the
/// data is repaired. How often the dead holder had locked does not matter. A panic does not poison, as with `std`'s.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedReentrantLock};
/// use std::cell::Cell;
///
/// let account = Shared::anonymous(SharedReentrantLock::new(Cell::new(100_u64)))?;
/// let withdraw = |sum| {
///     let balance = account.lock().unwrap();
///     balance.set(balance.get() - sum);
/// };
/// let child = fork::spawn(|| {
///     let balance = account.lock().unwrap();
///     if balance.get() >= 30 {
///         withdraw(30); // locks again
///     }
/// })?;
/// assert!(child.wait()?.success());
/// assert_eq!(account.lock()?.get(), 70);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// The count of `std`'s `library/std/src/sync/reentrant_lock.rs` over the robust lock of
/// [`SharedMutex`](crate::SharedMutex).
#[repr(C)]
pub struct SharedReentrantLock<T> {
    raw: Reentrant,
    poison: Poison,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives `&T` to one thread at a time, so sharing the mutex only ever sends the `T`; `ShmData` is `Send`.
unsafe impl<T: ShmData> Sync for SharedReentrantLock<T> {}

impl<T: ShmData> SharedReentrantLock<T> {
    /// A free mutex around `value`.
    pub const fn new(value: T) -> Self {
        SharedReentrantLock {
            raw: Reentrant::new(),
            poison: Poison::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Acquires the lock, waiting for it as long as another thread holds it.
    ///
    /// # Errors
    ///
    /// - [`LockError::Poisoned`]: the lock was acquired, and a holder died with it since the data was last
    ///   repaired.
    /// - [`LockError::HolderThreadEnded`]: the thread that held the lock ended without releasing it, and its
    ///   process lives.
    ///
    /// # Panics
    ///
    /// Where the calling thread holds the lock 2^32 - 1 times.
    #[inline]
    pub fn lock(&self) -> LockResult<SharedReentrantLockGuard<'_, T>> {
        self.lock_with(WaitMode::Until(None))
    }

    /// Acquires the lock if no other thread holds it, without waiting.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::WouldBlock`].
    #[inline]
    pub fn try_lock(&self) -> LockResult<SharedReentrantLockGuard<'_, T>> {
        self.lock_with(WaitMode::Try)
    }

    /// Acquires the lock, waiting for it no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::TimedOut`].
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<SharedReentrantLockGuard<'_, T>> {
        self.lock_with(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// Acquires the lock, waiting for it until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::TimedOut`].
    pub fn lock_until(&self, deadline: Instant) -> LockResult<SharedReentrantLockGuard<'_, T>> {
        self.lock_with(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Whether a holder died since the data was last repaired, as far as somebody has locked after it.
    pub fn is_poisoned(&self) -> bool {
        !self.poison.is_clear()
    }

    /// Who holds the lock, if anybody does. The answer may be out of date when it is read; it is for reports.
    pub fn holder(&self) -> Option<Holder> {
        self.raw.lock().holder().map(Holder::new)
    }

    /// The data, through the exclusive borrow that only a mutex which is not placed can give.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// The data of a mutex that is not placed.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }

    #[inline]
    fn lock_with(&self, mode: WaitMode) -> LockResult<SharedReentrantLockGuard<'_, T>> {
        let current = sys::current_thread();
        let owner_died = self.raw.acquire(current, mode)? == Acquired::OwnerDied;
        if owner_died {
            self.poison.set(Cause::Died);
        }
        let guard = SharedReentrantLockGuard {
            mutex: self,
            generation: current.generation(),
            not_send: PhantomData,
        };
        match self.poison.cause() {
            None => Ok(guard),
            Some(cause) => Err(LockError::Poisoned(Poisoned::new(guard, cause, owner_died))),
        }
    }
}

/// The data of a [`SharedReentrantLock`], for as long as the lock is held. The last one that a thread drops releases the
/// lock.
///
/// A guard stays in its thread: it is neither `Send` nor `Sync`. One that crosses a `fork` is the parent's; the child's copy
/// does nothing when it is dropped. Forgetting a guard leaves the lock held.
#[must_use = "if unused the SharedReentrantLock will immediately unlock"]
pub struct SharedReentrantLockGuard<'a, T> {
    mutex: &'a SharedReentrantLock<T>,
    /// The process that acquired it. In a child of that process the guard is a copy.
    generation: u64,
    not_send: PhantomData<*mut ()>,
}

impl<T> SharedReentrantLockGuard<'_, T> {
    /// Clears the poison of the guard's mutex: you have repaired the data.
    ///
    /// An associated function, as for `std`'s guards.
    pub fn clear_poison(guard: &Self) {
        guard.mutex.poison.clear();
    }

    /// Whether it is the only guard of its mutex.
    fn is_only_one(&self) -> bool {
        // The copy of a guard in a child counts for nothing: the lock is the parent's.
        CurrentThread::of_generation(self.generation).is_some() && self.mutex.raw.depth() == 1
    }
}

impl<T> Sealed for SharedReentrantLockGuard<'_, T> {}

impl<T> LockGuard for SharedReentrantLockGuard<'_, T> {
    type Data = T;
}

impl<'a, T: ShmData> Poisoned<SharedReentrantLockGuard<'a, T>> {
    /// Replaces the whole data, clears the poison, and returns the guard.
    ///
    /// # Errors
    ///
    /// Returns `self` if the calling thread has another guard of the lock, which may lend the data,
    /// or has leaked one.
    pub fn replace(self, value: T) -> Result<SharedReentrantLockGuard<'a, T>, Self> {
        if !self.guard().is_only_one() {
            return Err(self);
        }
        let guard = self.into_guard_unchecked();
        // SAFETY: the lock is held, and no other guard lends the data. The old bytes may be no valid
        // `T`, so they are not dropped; `ShmData` types have no drop glue.
        unsafe { guard.mutex.data.get().write(value) };
        SharedReentrantLockGuard::clear_poison(&guard);
        Ok(guard)
    }
}

impl<T> Drop for SharedReentrantLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(current) = CurrentThread::of_generation(self.generation) {
            // SAFETY: this thread acquired the lock in this process, and each guard releases one acquisition.
            unsafe { self.mutex.raw.release(current) };
        }
    }
}

impl<T> Deref for SharedReentrantLockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held by this thread, and `replace` writes only where there is no other guard than its own.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T: fmt::Debug> fmt::Debug for SharedReentrantLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T: ShmData + Default> Default for SharedReentrantLock<T> {
    fn default() -> Self {
        SharedReentrantLock::new(T::default())
    }
}

impl<T: ShmData> From<T> for SharedReentrantLock<T> {
    fn from(value: T) -> Self {
        SharedReentrantLock::new(value)
    }
}

impl<T: ShmData> fmt::Debug for SharedReentrantLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReentrantLock")
            .field("holder", &self.holder())
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

const KIND: PrimitiveKind = PrimitiveKind("reentrant_lock");

// SAFETY: `repr(C)` over atomics and a `ShmData`; the links mean something only to the thread that holds the lock. The whole
// state is told, and the one primitive visited. Zero bytes are a free lock around zero bytes of `T`.
#[diagnostic::do_not_recommend]
unsafe impl<T: ShmData> ShmSafe for SharedReentrantLock<T> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(KIND);
        layout.field("data", offset_of!(Self, data), T::describe);
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.primitive(self);
    }
}

impl<T: ShmData> Primitive for SharedReentrantLock<T> {
    fn kind(&self) -> PrimitiveKind {
        KIND
    }

    unsafe fn init(&self) -> Result<(), Error> {
        sys::check_robust_list()?;
        // SAFETY: the caller's promise.
        unsafe { self.raw.init() };
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        self.raw.lock().is_held_by_this_process()
    }

    fn was_leaked_by_this_process(&self) -> bool {
        self.raw.lock().was_leaked_by_this_process()
    }

    unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.raw.lock().reset() };
    }

    unsafe fn mark_inconsistent(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.raw.lock().mark() };
    }
}

static_assertions::assert_eq_size!(SharedReentrantLock<()>, [u8; 56]);
static_assertions::assert_impl_all!(SharedReentrantLock<std::cell::Cell<u64>>: Sync, Send, ShmSafe);
static_assertions::assert_not_impl_any!(SharedReentrantLock<u64>: ShmData);
static_assertions::assert_not_impl_any!(SharedReentrantLockGuard<'static, u64>: Send, Sync);
static_assertions::assert_not_impl_any!(Poisoned<SharedReentrantLockGuard<'static, u64>>: Send, Sync);
