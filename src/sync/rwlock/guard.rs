//! The guards of a [`SharedRwLock`]: its data, for as long as the lock is held.

use crate::memory::ShmData;
use crate::raw::outcome::{AcquireError, WaitMode};
use crate::raw::poison::{Cause, Poison};
use crate::raw::rwlock::{ReadPosition, RwLock};
use crate::sync::lock_error::{LockGuard, Poisoned, Sealed, UpgradeError};
use crate::sys::{CurrentThread, Deadline};
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// What every guard has: the lock, and who acquired it.
pub(in crate::sync) struct RawGuard<'a, T> {
    raw: &'a RwLock,
    poison: &'a Poison,
    data: &'a UnsafeCell<T>,
    /// The process that acquired it. In a child of that process the guard is a copy: the lock is the parent's.
    generation: u64,
    /// The words, the robust list and the records name the acquiring thread.
    not_send: PhantomData<*mut ()>,
}

impl<T> Clone for RawGuard<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for RawGuard<'_, T> {}

impl<'a, T> RawGuard<'a, T> {
    pub(in crate::sync) fn new(
        raw: &'a RwLock,
        poison: &'a Poison,
        data: &'a UnsafeCell<T>,
        current: CurrentThread,
    ) -> Self {
        RawGuard {
            raw,
            poison,
            data,
            generation: current.generation(),
            not_send: PhantomData,
        }
    }
}

/// The data of a [`SharedRwLock`](crate::SharedRwLock), to be read. Dropping the guard ends the read.
///
/// A guard stays in its thread: it is neither `Send` nor `Sync`. One that crosses a `fork` is the parent's; the child's
/// copy does nothing when it is dropped. Forgetting a guard keeps writers away for as long as the thread lives, and after that,
/// since the reference may have been handed on, for as long as its process lives.
#[must_use = "if unused the SharedRwLock will immediately unlock"]
pub struct SharedRwLockReadGuard<'a, T> {
    raw_guard: RawGuard<'a, T>,
    position: ReadPosition,
}

impl<'a, T> SharedRwLockReadGuard<'a, T> {
    /// # Safety
    ///
    /// The calling thread has just acquired the lock for this guard, and reads at `position`.
    #[inline]
    pub(in crate::sync) unsafe fn new(raw_guard: RawGuard<'a, T>, position: ReadPosition) -> Self {
        SharedRwLockReadGuard {
            raw_guard,
            position,
        }
    }
}

impl<T> Drop for SharedRwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(current) = CurrentThread::of_generation(self.raw_guard.generation) {
            // SAFETY: this thread acquired the lock in this process, and nothing but this drop ends the read.
            unsafe { self.raw_guard.raw.end_read(current, self.position) };
        }
    }
}

/// The data of a [`SharedRwLock`](crate::SharedRwLock), to be written. Dropping the guard releases the lock.
///
/// As for the [read guard](SharedRwLockReadGuard), it stays in its thread, and after a `fork` it is the parent's.
#[must_use = "if unused the SharedRwLock will immediately unlock"]
pub struct SharedRwLockWriteGuard<'a, T> {
    raw_guard: RawGuard<'a, T>,
    was_panicking: bool,
}

impl<'a, T> SharedRwLockWriteGuard<'a, T> {
    /// # Safety
    ///
    /// The calling thread has just acquired the lock for this guard, as its writer.
    pub(in crate::sync) unsafe fn new(raw_guard: RawGuard<'a, T>) -> Self {
        SharedRwLockWriteGuard {
            raw_guard,
            was_panicking: std::thread::panicking(),
        }
    }

    /// Makes the writer a reader, with nobody writing in between. It does not wait.
    ///
    /// An associated function, as for `std`'s guards: `SharedRwLockWriteGuard::downgrade(guard)`. Where the row of readers is
    /// full of those who wait, the new reader keeps writers and upgradable readers from beginning to wait, too.
    pub fn downgrade(guard: Self) -> SharedRwLockReadGuard<'a, T> {
        let guard = ManuallyDrop::new(guard);
        let raw_guard = guard.raw_guard;
        let place = match CurrentThread::of_generation(raw_guard.generation) {
            // SAFETY: this thread acquired the lock in this process, and the guard is not dropped.
            Some(current) => unsafe { raw_guard.raw.downgrade(current) },
            None => ReadPosition::WRITER_LOCK,
        };
        // SAFETY: it reads there from now on; in a child the guard is a copy, whose drop does nothing.
        unsafe { SharedRwLockReadGuard::new(raw_guard, place) }
    }

    /// Clears the poison of the guard's lock, that of a death included: you have repaired the data.
    ///
    /// An associated function, as for `std`'s guards: `SharedRwLockWriteGuard::clear_poison(&guard)`.
    pub fn clear_poison(guard: &Self) {
        guard.raw_guard.poison.clear();
    }

    /// Writes the data whole, whatever bytes were there.
    pub(in crate::sync) fn replace(&mut self, value: T)
    where
        T: ShmData,
    {
        // SAFETY: the lock is held for writing. The old bytes may be no `T`, so they are not dropped; `ShmData` has nothing to
        // drop.
        unsafe { self.raw_guard.data.get().write(value) };
    }
}

impl<T> Drop for SharedRwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let Some(current) = CurrentThread::of_generation(self.raw_guard.generation) else {
            return;
        };
        if !self.was_panicking && std::thread::panicking() {
            self.raw_guard.poison.set(Cause::Panicked);
        }
        // SAFETY: this thread acquired the lock in this process, and nothing but this drop releases it.
        unsafe { self.raw_guard.raw.end_write(current) };
    }
}

/// The data of a [`SharedRwLock`](crate::SharedRwLock), to be read, and perhaps to be written later: others read meanwhile,
/// and nobody else writes, or may come to write. Dropping the guard ends the read.
///
/// As for the [read guard](SharedRwLockReadGuard), it stays in its thread, and after a `fork` it is the parent's.
#[must_use = "if unused the SharedRwLock will immediately unlock"]
pub struct SharedRwLockUpgradableReadGuard<'a, T> {
    raw_guard: RawGuard<'a, T>,
}

impl<'a, T: ShmData + Sync> SharedRwLockUpgradableReadGuard<'a, T> {
    /// Makes the reader the writer, once the other readers have left. Nobody writes in between.
    ///
    /// An associated function: `SharedRwLockUpgradableReadGuard::upgrade(guard)`.
    ///
    /// # Errors
    ///
    /// [`UpgradeError`], which gives the guard back: the calling thread also reads by another guard
    /// ([`Error::Deadlock`](crate::Error::Deadlock)), or a thread ended that had forgotten its read guard, and its process lives
    /// ([`Error::HolderThreadEnded`](crate::Error::HolderThreadEnded)).
    pub fn upgrade(guard: Self) -> Result<SharedRwLockWriteGuard<'a, T>, UpgradeError<Self>> {
        Self::upgrade_with(guard, WaitMode::Until(None))
    }

    /// The same, if nobody else reads.
    ///
    /// # Errors
    ///
    /// As [`upgrade`](Self::upgrade), and [`Error::WouldBlock`](crate::Error::WouldBlock).
    pub fn try_upgrade(guard: Self) -> Result<SharedRwLockWriteGuard<'a, T>, UpgradeError<Self>> {
        Self::upgrade_with(guard, WaitMode::Try)
    }

    /// The same, waiting for the others no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// As [`upgrade`](Self::upgrade), and [`Error::TimedOut`](crate::Error::TimedOut).
    pub fn upgrade_timeout(
        guard: Self,
        timeout: Duration,
    ) -> Result<SharedRwLockWriteGuard<'a, T>, UpgradeError<Self>> {
        Self::upgrade_with(guard, WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// As [`upgrade_timeout`](Self::upgrade_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`upgrade_timeout`](Self::upgrade_timeout).
    pub fn upgrade_until(
        guard: Self,
        deadline: Instant,
    ) -> Result<SharedRwLockWriteGuard<'a, T>, UpgradeError<Self>> {
        Self::upgrade_with(guard, WaitMode::Until(Some(Deadline::at(deadline))))
    }

    fn upgrade_with(
        guard: Self,
        mode: WaitMode,
    ) -> Result<SharedRwLockWriteGuard<'a, T>, UpgradeError<Self>> {
        let raw_guard = guard.raw_guard;
        let Some(current) = CurrentThread::of_generation(raw_guard.generation) else {
            // The copy of a guard in a child: the parent holds the lock.
            return Err(UpgradeError::new(guard, AcquireError::WouldBlock));
        };
        let report_death = || raw_guard.poison.set_unreported_death();
        // SAFETY: the guard says that the thread is the upgradable reader.
        match unsafe { raw_guard.raw.upgrade(current, mode, &report_death) } {
            Ok(()) => {
                std::mem::forget(guard);
                // SAFETY: it was made the writer just now, and the other guard is not dropped.
                Ok(unsafe { SharedRwLockWriteGuard::new(raw_guard) })
            }
            Err(refused) => Err(UpgradeError::new(guard, refused)),
        }
    }
}

impl<'a, T> SharedRwLockUpgradableReadGuard<'a, T> {
    /// # Safety
    ///
    /// The calling thread has just acquired the lock for this guard, as its upgradable reader.
    pub(in crate::sync) unsafe fn new(raw_guard: RawGuard<'a, T>) -> Self {
        SharedRwLockUpgradableReadGuard { raw_guard }
    }
}

impl<T> Drop for SharedRwLockUpgradableReadGuard<'_, T> {
    fn drop(&mut self) {
        if let Some(current) = CurrentThread::of_generation(self.raw_guard.generation) {
            // SAFETY: this thread acquired the lock in this process, and nothing but this drop ends the read.
            unsafe { self.raw_guard.raw.end_upgradable_read(current) };
        }
    }
}

impl<T> LockGuard for SharedRwLockReadGuard<'_, T> {
    type Data = T;
}

impl<T> LockGuard for SharedRwLockUpgradableReadGuard<'_, T> {
    type Data = T;
}

impl<T> LockGuard for SharedRwLockWriteGuard<'_, T> {
    type Data = T;

    fn suspend_poisoning(&mut self) {
        self.was_panicking = true;
    }

    fn resume_poisoning(&mut self) {
        self.was_panicking = std::thread::panicking();
    }
}

impl<'a, T: ShmData> Poisoned<SharedRwLockWriteGuard<'a, T>> {
    /// Replaces the whole data, clears the poison, and returns the guard.
    pub fn replace(self, value: T) -> SharedRwLockWriteGuard<'a, T> {
        let mut guard = self.into_guard_unchecked();
        guard.replace(value);
        SharedRwLockWriteGuard::clear_poison(&guard);
        guard
    }
}

macro_rules! reads {
    ($($guard:ident),*) => {
        $(
            impl<T> Deref for $guard<'_, T> {
                type Target = T;

                #[inline]
                fn deref(&self) -> &T {
                    // SAFETY: the lock is held by this guard, whose borrow the reference shares; nobody else writes meanwhile.
                    unsafe { &*self.raw_guard.data.get() }
                }
            }

            impl<T> Sealed for $guard<'_, T> {}

            impl<T: fmt::Debug> fmt::Debug for $guard<'_, T> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    T::fmt(self, f)
                }
            }

            impl<T: fmt::Display> fmt::Display for $guard<'_, T> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    T::fmt(self, f)
                }
            }

            static_assertions::assert_not_impl_any!($guard<'static, u64>: Send, Sync);
        )*
    };
}

reads!(
    SharedRwLockReadGuard,
    SharedRwLockWriteGuard,
    SharedRwLockUpgradableReadGuard
);

impl<T> DerefMut for SharedRwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held for writing by this guard, which is borrowed exclusively.
        unsafe { &mut *self.raw_guard.data.get() }
    }
}
