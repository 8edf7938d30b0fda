//! The guards of a [`SharedMutex`](crate::sync::SharedMutex), which give access to its data.

use crate::memory::ShmData;
use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::poison::{Cause, Poison};
use crate::raw::{RawLock, Robust};
use crate::sync::lock_error::{LockError, LockGuard, LockResult, Poisoned, Sealed};
use crate::sync::mutex::inner::Inner;
use crate::sys::{self, CurrentThread};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// The guard of a locked [`SharedMutex`](crate::SharedMutex). It dereferences to the data. Dropping
/// the guard releases the lock.
///
/// A guard is neither `Send` nor `Sync`: it stays in its thread. After a `fork`, the guard belongs
/// to the parent; dropping the child's copy does nothing.
///
/// If a guard is leaked ([`std::mem::forget`], [`Box::leak`]), the lock stays held as long as the
/// thread lives. After that it stays held as long as the process lives, because the process can
/// have passed the data on.
#[must_use = "if unused the SharedMutex will immediately unlock"]
pub struct SharedMutexGuard<'a, T, R: RawLock = Robust> {
    mutex: &'a Inner<T, R>,
    acquisition: Acquisition,
}

/// Which process acquired the lock, and whether a panic poisons it.
#[derive(Clone, Copy)]
struct Acquisition {
    /// The process that acquired the lock. In a child of that process the guard is a copy, and the
    /// parent holds the lock.
    generation: u64,
    /// A panic does not poison the lock: the thread panicked already when it acquired the lock, or
    /// the guard is inside an error.
    ignores_panic: bool,
    /// The lock word, the robust list and the owner record name the acquiring thread.
    not_send: PhantomData<*mut ()>,
}

impl Acquisition {
    /// Releases the lock, unless the guard is a copy in a child process.
    ///
    /// # Safety
    ///
    /// This must be called only from the `drop` of the only guard of this acquisition, in the
    /// acquiring thread or in the copy of that thread in a child process.
    #[inline(always)]
    unsafe fn release<R: RawLock>(self, raw: &R, poison: &Poison) {
        let Some(current) = CurrentThread::of_generation(self.generation) else {
            return;
        };
        if !self.ignores_panic && std::thread::panicking() {
            poison.set(Cause::Panicked);
        }
        // SAFETY: this thread acquired the lock in this process, and only this drop releases it.
        unsafe { raw.release(current) };
    }
}

impl<T, R: RawLock> Drop for SharedMutexGuard<'_, T, R> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the guard is dropped once, and it is not `Send`.
        unsafe {
            self.acquisition
                .release(&self.mutex.raw, &self.mutex.poison)
        };
    }
}

impl<'a, T, R: RawLock> SharedMutexGuard<'a, T, R> {
    /// Makes the guard of a lock that the calling thread, `current`, has just acquired.
    ///
    /// # Safety
    ///
    /// The thread must hold the lock of `mutex`, and no other guard may exist for this acquisition.
    #[inline(always)]
    pub(in crate::sync) unsafe fn new(mutex: &'a Inner<T, R>, current: CurrentThread) -> Self {
        SharedMutexGuard {
            mutex,
            acquisition: Acquisition {
                generation: current.generation(),
                ignores_panic: std::thread::panicking(),
                not_send: PhantomData,
            },
        }
    }

    /// Returns the mutex of this guard.
    pub(in crate::sync) fn mutex(&self) -> &'a Inner<T, R> {
        self.mutex
    }

    /// Clears the poison of the mutex, also the poison of a death. Call this after you have
    /// repaired the data.
    ///
    /// This is an associated function, as for `std`'s guards:
    /// `SharedMutexGuard::clear_poison(&guard)`.
    pub fn clear_poison(guard: &Self) {
        guard.mutex.poison.clear();
    }

    /// Makes a guard for a part of the data.
    ///
    /// This is an associated function, as for `std`'s guards:
    /// `SharedMutexGuard::map(guard, |table| &mut table.row)`.
    pub fn map<U: ?Sized>(
        guard: Self,
        part: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedSharedMutexGuard<'a, U, R> {
        // SAFETY: the lock is held, and `guard` is consumed, so this is the only borrow of the
        // data.
        let data = NonNull::from(part(unsafe { &mut *guard.mutex.data.get() }));
        // From here on, the mapped guard releases the lock.
        let guard = ManuallyDrop::new(guard);
        MappedSharedMutexGuard {
            raw: &guard.mutex.raw,
            poison: &guard.mutex.poison,
            acquisition: guard.acquisition,
            data,
            borrow: PhantomData,
        }
    }
}

impl<T, R: RawLock> Deref for SharedMutexGuard<'_, T, R> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock, and the reference has the lifetime of the guard's
        // borrow.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T, R: RawLock> DerefMut for SharedMutexGuard<'_, T, R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock, and is borrowed exclusively.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T: fmt::Debug, R: RawLock> fmt::Debug for SharedMutexGuard<'_, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T: fmt::Display, R: RawLock> fmt::Display for SharedMutexGuard<'_, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

/// The guard of a part of the data of a [`SharedMutex`](crate::SharedMutex); see
/// [`SharedMutexGuard::map`]. Dropping it releases the lock of the whole data.
#[must_use = "if unused the SharedMutex will immediately unlock"]
pub struct MappedSharedMutexGuard<'a, U: ?Sized, R: RawLock = Robust> {
    raw: &'a R,
    poison: &'a Poison,
    acquisition: Acquisition,
    data: NonNull<U>,
    borrow: PhantomData<&'a mut U>,
}

impl<U: ?Sized, R: RawLock> Drop for MappedSharedMutexGuard<'_, U, R> {
    fn drop(&mut self) {
        // SAFETY: this guard took over the acquisition of the guard that it was made from. It is
        // dropped once, and it is not `Send`.
        unsafe { self.acquisition.release(self.raw, self.poison) };
    }
}

impl<U: ?Sized, R: RawLock> Deref for MappedSharedMutexGuard<'_, U, R> {
    type Target = U;

    fn deref(&self) -> &U {
        // SAFETY: the pointer points into the data of the lock, which this guard holds. It was made
        // from the only borrow of the data.
        unsafe { self.data.as_ref() }
    }
}

impl<U: ?Sized, R: RawLock> DerefMut for MappedSharedMutexGuard<'_, U, R> {
    fn deref_mut(&mut self) -> &mut U {
        // SAFETY: as in `deref`, and this guard is borrowed exclusively.
        unsafe { self.data.as_mut() }
    }
}

impl<U: ?Sized + fmt::Debug, R: RawLock> fmt::Debug for MappedSharedMutexGuard<'_, U, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        U::fmt(self, f)
    }
}

impl<T, R: RawLock> Sealed for SharedMutexGuard<'_, T, R> {}

impl<T, R: RawLock> LockGuard for SharedMutexGuard<'_, T, R> {
    type Data = T;

    fn suspend_poisoning(&mut self) {
        self.acquisition.ignores_panic = true;
    }

    fn resume_poisoning(&mut self) {
        self.acquisition.ignores_panic = std::thread::panicking();
    }
}

impl<'a, T: ShmData, R: RawLock> Poisoned<SharedMutexGuard<'a, T, R>> {
    /// Replaces the whole data, clears the poison, and returns the guard.
    pub fn replace(self, value: T) -> SharedMutexGuard<'a, T, R> {
        let guard = self.into_guard_unchecked();
        // SAFETY: the lock is held. The old bytes might not be a valid `T`, so they are not
        // dropped;
        // `ShmData` types have no drop glue.
        unsafe { guard.mutex.data.get().write(value) };
        SharedMutexGuard::clear_poison(&guard);
        guard
    }
}

impl<T, R: RawLock> Inner<T, R> {
    // Always inlined: in larger programs the compiler would emit a call, which costs a tenth of the
    // whole lock operation.
    #[inline(always)]
    pub(in crate::sync) fn lock(&self, mode: WaitMode) -> LockResult<SharedMutexGuard<'_, T, R>> {
        let current = sys::current_thread();
        let acquired = self.raw.try_acquire_fast(current);
        if acquired && self.poison.is_clear() {
            // SAFETY: the lock was acquired above, for this guard.
            return Ok(unsafe { SharedMutexGuard::new(self, current) });
        }
        // The fast path succeeded on a poisoned lock, or failed.
        let outcome = match acquired {
            true => Ok(Acquired::Released),
            false => self.raw.acquire_slow(current, mode),
        };
        // The slow path acquired a lock that is not poisoned.
        if outcome == Ok(Acquired::Released) && self.poison.is_clear() {
            // SAFETY: as above.
            return Ok(unsafe { SharedMutexGuard::new(self, current) });
        }
        self.report(current, outcome)
    }

    /// Records a death of the last owner, and makes the guard or the error.
    #[cold]
    fn report(
        &self,
        current: CurrentThread,
        outcome: Result<Acquired, AcquireError>,
    ) -> LockResult<SharedMutexGuard<'_, T, R>> {
        let acquired = outcome?;
        let owner_died = acquired.owner_died();
        if owner_died {
            self.poison.set(Cause::Died);
        }
        // A death that a reset or `Debug` recorded is reported by this call too, so it is consumed
        // in either case.
        let is_first_report = self.poison.take_unreported() || owner_died;
        // SAFETY: `outcome` says that the lock was acquired, and this is the only guard made for
        // it.
        let guard = unsafe { SharedMutexGuard::new(self, current) };
        match self.poison.cause() {
            None => Ok(guard),
            Some(cause) => Err(LockError::Poisoned(Poisoned::new(
                guard,
                cause,
                is_first_report,
                acquired.dead_owner(),
            ))),
        }
    }
}

static_assertions::assert_not_impl_any!(SharedMutexGuard<'static, u64>: Send, Sync);
static_assertions::assert_not_impl_any!(Poisoned<SharedMutexGuard<'static, u64>>: Send, Sync);
static_assertions::assert_not_impl_any!(MappedSharedMutexGuard<'static, u64>: Send, Sync);
