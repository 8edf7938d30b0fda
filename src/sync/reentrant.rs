//! [`SharedReentrantLock`]: a mutex that its holder may lock again.

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmData, ShmSafe};
use crate::raw::outcome::{AcquireError, WaitMode};
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

/// A mutex that its holder may lock again, like [`std::sync::ReentrantLock`].
///
/// One thread may have several guards at once, so a guard gives `&T`. Put data that changes into a
/// [`Cell`](std::cell::Cell) or an atomic. The lock is released when the thread has dropped all its
/// guards, in any order.
///
/// # What a death does
///
/// As for [`SharedMutex`](crate::SharedMutex): the next [`lock`](Self::lock) acquires the lock and
/// returns [`LockError::Poisoned`]. Exactly one locker receives the first report of each death, and
/// the poison stays until the data is repaired. It does not matter how many times the holder had
/// locked before it died. A panic does not poison the lock, as in `std`.
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
/// The count of `std`'s `library/std/src/sync/reentrant_lock.rs`, with the robust lock of
/// [`SharedMutex`](crate::SharedMutex).
#[repr(C)]
pub struct SharedReentrantLock<T> {
    raw: Reentrant,
    poison: Poison,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives `&T` to one thread at a time, so sharing the mutex only sends the `T`.
// `ShmData` types are `Send`.
unsafe impl<T: ShmData> Sync for SharedReentrantLock<T> {}

impl<T: ShmData> SharedReentrantLock<T> {
    /// Creates an unlocked mutex around `value`.
    pub const fn new(value: T) -> Self {
        SharedReentrantLock {
            raw: Reentrant::new(),
            poison: Poison::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Acquires this lock, blocking the current thread until it is able to do so.
    ///
    /// If the calling thread holds the lock already, this call does not block.
    ///
    /// # Errors
    ///
    /// - [`LockError::Poisoned`] if the lock was acquired, but a holder died in its critical
    ///   section since the data was last repaired.
    /// - [`LockError::HolderThreadEnded`] if the thread that held the lock ended without releasing
    ///   it, and its process still runs.
    ///
    /// # Panics
    ///
    /// Panics if the calling thread holds the lock 2^32 - 1 times already.
    #[inline]
    pub fn lock(&self) -> LockResult<SharedReentrantLockGuard<'_, T>> {
        self.lock_with(WaitMode::Until(None))
    }

    /// Attempts to acquire this lock without blocking.
    ///
    /// # Errors
    ///
    /// Returns [`LockError::WouldBlock`] if another thread holds the lock. Otherwise as for
    /// [`lock`](Self::lock).
    ///
    /// # Panics
    ///
    /// As for [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> LockResult<SharedReentrantLockGuard<'_, T>> {
        self.lock_with(WaitMode::Try)
    }

    /// Acquires this lock, blocking the current thread for at most `timeout`, measured on the
    /// monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`LockError::TimedOut`] if the lock was not released within `timeout`. Otherwise as
    /// for [`lock`](Self::lock).
    ///
    /// # Panics
    ///
    /// As for [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<SharedReentrantLockGuard<'_, T>> {
        self.lock_with(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// Acquires this lock, blocking the current thread until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`lock_timeout`](Self::lock_timeout).
    ///
    /// # Panics
    ///
    /// As for [`lock`](Self::lock).
    pub fn lock_until(&self, deadline: Instant) -> LockResult<SharedReentrantLockGuard<'_, T>> {
        self.lock_with(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Returns whether the lock is poisoned: a holder died since the data was last repaired.
    ///
    /// After a death, this may return false until a thread has acquired the lock.
    pub fn is_poisoned(&self) -> bool {
        !self.poison.is_clear()
    }

    /// Returns the thread that holds the lock, if there is one. The result may be out of date as
    /// soon as it is returned; use it only for reports.
    pub fn holder(&self) -> Option<Holder> {
        self.raw.lock().owner().map(Holder::of)
    }

    /// Returns a mutable reference to the data. Only a lock that is not placed can be borrowed
    /// exclusively.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// Consumes the lock, which is not placed, and returns the data.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }

    #[inline]
    fn lock_with(&self, mode: WaitMode) -> LockResult<SharedReentrantLockGuard<'_, T>> {
        let current = sys::current_thread();
        let outcome = self.raw.acquire(current, mode);
        debug_assert_ne!(
            outcome,
            Err(AcquireError::Deadlock),
            "the owner acquires it again"
        );
        let acquired = outcome?;
        let owner_died = acquired.owner_died();
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
            Some(cause) => Err(LockError::Poisoned(Poisoned::new(
                guard,
                cause,
                owner_died,
                acquired.dead_owner(),
            ))),
        }
    }
}

/// The guard of a [`SharedReentrantLock`]. It dereferences to the data. Dropping a thread's last
/// guard releases the lock.
///
/// A guard is neither `Send` nor `Sync`: it stays in its thread. After a `fork`, the guard belongs
/// to the parent; dropping the child's copy does nothing. If a guard is leaked, the lock stays
/// held.
#[must_use = "if unused the SharedReentrantLock will immediately unlock"]
pub struct SharedReentrantLockGuard<'a, T> {
    mutex: &'a SharedReentrantLock<T>,
    /// The process that acquired the lock. In a child of that process the guard is a copy.
    generation: u64,
    not_send: PhantomData<*mut ()>,
}

impl<T> SharedReentrantLockGuard<'_, T> {
    /// Clears the poison of the lock. Call this after you have repaired the data.
    ///
    /// This is an associated function, as for `std`'s guards:
    /// `SharedReentrantLockGuard::clear_poison(&guard)`.
    pub fn clear_poison(guard: &Self) {
        guard.mutex.poison.clear();
    }

    /// Returns whether this is the only guard of its lock.
    fn is_only_one(&self) -> bool {
        // A copy of a guard in a child process does not count: the parent holds the lock.
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
    /// Returns `self` if the calling thread has another guard of the lock, or has leaked one: a
    /// reference to the data may exist.
    pub fn replace(self, value: T) -> Result<SharedReentrantLockGuard<'a, T>, Self> {
        if !self.guard().is_only_one() {
            return Err(self);
        }
        let guard = self.into_guard_unchecked();
        // SAFETY: the lock is held, and there is no other guard, so there is no reference to the
        // data. The old bytes may not be a valid `T`, so they are not dropped; `ShmData` types have
        // no drop glue.
        unsafe { guard.mutex.data.get().write(value) };
        SharedReentrantLockGuard::clear_poison(&guard);
        Ok(guard)
    }
}

impl<T> Drop for SharedReentrantLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(current) = CurrentThread::of_generation(self.generation) {
            // SAFETY: this thread acquired the lock in this process, and each guard releases one
            // acquisition.
            unsafe { self.mutex.raw.release(current) };
        }
    }
}

impl<T> Deref for SharedReentrantLockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this thread holds the lock, and `replace` writes only if there is no guard other
        // than its own.
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

// SAFETY: the type is `repr(C)` over atomics and a `ShmData`. The links have a meaning only for the
// thread that holds the lock. The whole state is described, and the only primitive is visited. Zero
// bytes are a free lock around zero bytes of `T`.
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
        sys::check_robust()?;
        // SAFETY: guaranteed by the caller.
        unsafe { self.raw.init() };
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        self.raw.lock().is_held_by_this_process()
    }

    fn owners_in_this_process(&self, each: &mut dyn FnMut(u32)) {
        self.raw
            .lock()
            .owner_in_this_process()
            .into_iter()
            .for_each(each);
    }

    unsafe fn reset(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.raw.lock().reset() };
    }

    unsafe fn mark_inconsistent(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.raw.lock().mark_after_reboot() };
    }
}

static_assertions::assert_eq_size!(SharedReentrantLock<()>, [u8; 56]);
static_assertions::assert_impl_all!(SharedReentrantLock<std::cell::Cell<u64>>: Sync, Send, ShmSafe);
static_assertions::assert_not_impl_any!(SharedReentrantLock<u64>: ShmData);
static_assertions::assert_not_impl_any!(SharedReentrantLockGuard<'static, u64>: Send, Sync);
static_assertions::assert_not_impl_any!(Poisoned<SharedReentrantLockGuard<'static, u64>>: Send, Sync);
