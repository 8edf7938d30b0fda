//! The guards of a [`SharedMutex`](crate::sync::SharedMutex): its data, for as long as the lock is held.

use crate::raw::poison::{Cause, Poison};
use crate::raw::{RawLock, Robust};
use crate::sys::CurrentThread;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// What a mutex is made of, as its guards know it: enough to lock it again.
pub(in crate::sync) struct Parts<'a, T, R: RawLock> {
    pub(in crate::sync) raw: &'a R,
    pub(in crate::sync) poison: &'a Poison,
    pub(in crate::sync) data: &'a UnsafeCell<T>,
}

/// A lock that the calling thread holds, without its data. Releases it when dropped.
struct Held<'a, R: RawLock> {
    raw: &'a R,
    poison: &'a Poison,
    /// The process that acquired it. In a child of that process the guard is a copy: the lock is the parent's.
    generation: u64,
    was_panicking: bool,
    /// The word, the robust list and the record name the acquiring thread.
    not_send: PhantomData<*mut ()>,
}

impl<R: RawLock> Drop for Held<'_, R> {
    #[inline(always)]
    fn drop(&mut self) {
        let Some(current) = CurrentThread::of_generation(self.generation) else {
            return;
        };
        if !self.was_panicking && std::thread::panicking() {
            self.poison.set(Cause::Panicked);
        }
        // SAFETY: this thread acquired the lock in this process, and nothing but this drop releases it.
        unsafe { self.raw.release(current) };
    }
}

/// The data of a [`SharedMutex`](crate::SharedMutex), for as long as the lock is held. Dropping the guard releases the lock.
///
/// A guard stays in its thread: it is neither `Send` nor `Sync`. One that crosses a `fork` is the parent's; the child's
/// copy does nothing when it is dropped.
///
/// Forgetting a guard ([`std::mem::forget`], [`Box::leak`]) leaves the lock held, for as long as the thread lives, and
/// after that, since the data may have been handed on, for as long as its process lives.
#[must_use = "if unused the SharedMutex will immediately unlock"]
pub struct SharedMutexGuard<'a, T, R: RawLock = Robust> {
    held: Held<'a, R>,
    data: &'a UnsafeCell<T>,
}

impl<'a, T, R: RawLock> SharedMutexGuard<'a, T, R> {
    /// The guard of a lock that the calling thread, `me`, has just acquired.
    ///
    /// # Safety
    ///
    /// The thread holds `raw`, this guard is the only one that says so, and `raw` guards `data`.
    #[inline(always)]
    pub(in crate::sync) unsafe fn new(
        raw: &'a R,
        poison: &'a Poison,
        data: &'a UnsafeCell<T>,
        current: CurrentThread,
    ) -> Self {
        SharedMutexGuard {
            held: Held {
                raw,
                poison,
                generation: current.generation(),
                was_panicking: std::thread::panicking(),
                not_send: PhantomData,
            },
            data,
        }
    }

    /// The mutex that the guard is of, in its parts.
    pub(in crate::sync) fn mutex(&self) -> Parts<'a, T, R> {
        Parts {
            raw: self.held.raw,
            poison: self.held.poison,
            data: self.data,
        }
    }

    /// Says that the data is not in the user's hands yet: a panic does not concern it.
    pub(in crate::sync) fn suspend_poisoning(&mut self) {
        self.held.was_panicking = true;
    }

    /// Says that the data is in the user's hands from here on.
    pub(in crate::sync) fn resume_poisoning(&mut self) {
        self.held.was_panicking = std::thread::panicking();
    }

    /// Where the data lies. It may be read as a `T` only where it is whole.
    pub(in crate::sync) fn place(&self) -> *mut T {
        self.data.get()
    }

    /// Clears the poison of the guard's mutex, that of a death included: you have repaired the data.
    ///
    /// An associated function, as for `std`'s guards: `SharedMutexGuard::clear_poison(&guard)`.
    pub fn clear_poison(guard: &Self) {
        guard.held.poison.clear();
    }

    /// A guard for a part of the data.
    ///
    /// An associated function, as for `std`'s guards: `SharedMutexGuard::map(guard, |table| &mut table.row)`.
    pub fn map<U: ?Sized>(
        guard: Self,
        part: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedSharedMutexGuard<'a, U, R> {
        // SAFETY: the lock is held, and `guard` is consumed, so this is the only borrow of the data.
        let data = NonNull::from(part(unsafe { &mut *guard.data.get() }));
        MappedSharedMutexGuard {
            _held: guard.held,
            data,
            borrow: PhantomData,
        }
    }
}

impl<T, R: RawLock> Deref for SharedMutexGuard<'_, T, R> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held by this guard, whose borrow the reference shares.
        unsafe { &*self.data.get() }
    }
}

impl<T, R: RawLock> DerefMut for SharedMutexGuard<'_, T, R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held by this guard, which is borrowed exclusively.
        unsafe { &mut *self.data.get() }
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

/// A part of the data of a [`SharedMutex`](crate::SharedMutex); see [`SharedMutexGuard::map`]. Dropping it releases the whole lock.
#[must_use = "if unused the SharedMutex will immediately unlock"]
pub struct MappedSharedMutexGuard<'a, U: ?Sized, R: RawLock = Robust> {
    _held: Held<'a, R>,
    data: NonNull<U>,
    borrow: PhantomData<&'a mut U>,
}

impl<U: ?Sized, R: RawLock> Deref for MappedSharedMutexGuard<'_, U, R> {
    type Target = U;

    fn deref(&self) -> &U {
        // SAFETY: points into the data of the lock that is held, and was made from its only borrow.
        unsafe { self.data.as_ref() }
    }
}

impl<U: ?Sized, R: RawLock> DerefMut for MappedSharedMutexGuard<'_, U, R> {
    fn deref_mut(&mut self) -> &mut U {
        // SAFETY: as in `deref`, and the guard is borrowed exclusively.
        unsafe { self.data.as_mut() }
    }
}

impl<U: ?Sized + fmt::Debug, R: RawLock> fmt::Debug for MappedSharedMutexGuard<'_, U, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        U::fmt(self, f)
    }
}

static_assertions::assert_not_impl_any!(SharedMutexGuard<'static, u64>: Send, Sync);
static_assertions::assert_not_impl_any!(MappedSharedMutexGuard<'static, u64>: Send, Sync);
