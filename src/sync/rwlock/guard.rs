//! The guards of a [`SharedRwLock`](crate::SharedRwLock), which give access to its data.

use crate::memory::ShmData;
use crate::raw::outcome::{AcquireError, WaitMode};
use crate::raw::poison::{Cause, Poison};
use crate::raw::rwlock::{READER_SLOTS, ReadPosition, RwLock};
use crate::sync::lock_error::{LockGuard, Poisoned, Sealed, UpgradeError};
use crate::sys::{CurrentThread, Deadline};
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// The parts that every guard has: the lock, and the process that acquired it.
pub(in crate::sync) struct RawGuard<'a, T, const N: usize> {
    raw: &'a RwLock<N>,
    poison: &'a Poison,
    data: &'a UnsafeCell<T>,
    /// The process that acquired the lock. In a child of that process the guard is a copy, and the
    /// parent holds the lock.
    generation: u64,
    /// The lock words, the robust list and the owner records name the acquiring thread.
    not_send: PhantomData<*mut ()>,
}

impl<T, const N: usize> Clone for RawGuard<'_, T, N> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const N: usize> Copy for RawGuard<'_, T, N> {}

impl<'a, T, const N: usize> RawGuard<'a, T, N> {
    #[inline(always)]
    pub(in crate::sync) fn new(
        raw: &'a RwLock<N>,
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

/// The guard of a read of a [`SharedRwLock`](crate::SharedRwLock). It dereferences to the data.
/// Dropping the guard ends the read.
///
/// A guard is neither `Send` nor `Sync`: it stays in its thread. After a `fork`, the guard belongs
/// to the parent; dropping the child's copy does nothing.
///
/// If a guard is leaked ([`std::mem::forget`]), it excludes writers as long as the thread lives.
/// After that it excludes them as long as the process lives, because the process may have passed
/// the reference to the data on.
#[must_use = "if unused the SharedRwLock will immediately unlock"]
pub struct SharedRwLockReadGuard<'a, T, const N: usize = READER_SLOTS> {
    raw_guard: RawGuard<'a, T, N>,
    position: ReadPosition,
}

impl<'a, T, const N: usize> SharedRwLockReadGuard<'a, T, N> {
    /// # Safety
    ///
    /// The calling thread must have just acquired the lock for this guard, and must read at
    /// `position`.
    #[inline(always)]
    pub(in crate::sync) unsafe fn new(
        raw_guard: RawGuard<'a, T, N>,
        position: ReadPosition,
    ) -> Self {
        SharedRwLockReadGuard {
            raw_guard,
            position,
        }
    }
}

impl<T, const N: usize> Drop for SharedRwLockReadGuard<'_, T, N> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(current) = CurrentThread::of_generation(self.raw_guard.generation) {
            // SAFETY: this thread acquired the lock in this process, and only this drop ends the
            // read.
            unsafe { self.raw_guard.raw.end_read(current, self.position) };
        }
    }
}

/// The guard of a write of a [`SharedRwLock`](crate::SharedRwLock). It dereferences to the data.
/// Dropping the guard releases the lock.
///
/// Like a [read guard](SharedRwLockReadGuard), it stays in its thread, and belongs to the parent
/// after a `fork`.
#[must_use = "if unused the SharedRwLock will immediately unlock"]
pub struct SharedRwLockWriteGuard<'a, T, const N: usize = READER_SLOTS> {
    raw_guard: RawGuard<'a, T, N>,
    was_panicking: bool,
}

impl<'a, T, const N: usize> SharedRwLockWriteGuard<'a, T, N> {
    /// # Safety
    ///
    /// The calling thread must have just acquired the lock for this guard, as its writer.
    #[inline(always)]
    pub(in crate::sync) unsafe fn new(raw_guard: RawGuard<'a, T, N>) -> Self {
        SharedRwLockWriteGuard {
            raw_guard,
            was_panicking: std::thread::panicking(),
        }
    }

    /// Turns the write into a read. No other thread writes in between, and this call does not
    /// block.
    ///
    /// This is an associated function, as for `std`'s guards:
    /// `SharedRwLockWriteGuard::downgrade(guard)`.
    ///
    /// If waiting readers have taken all slots, the new reader has no slot. Until its read ends, it
    /// then excludes upgradable readers too, and no writer can begin to wait for the readers.
    pub fn downgrade(guard: Self) -> SharedRwLockReadGuard<'a, T, N> {
        let guard = ManuallyDrop::new(guard);
        let raw_guard = guard.raw_guard;
        let position = match CurrentThread::of_generation(raw_guard.generation) {
            // SAFETY: this thread acquired the lock in this process, and the guard is not dropped.
            Some(current) => unsafe { raw_guard.raw.downgrade(current) },
            None => ReadPosition::WRITER_LOCK,
        };
        // SAFETY: the thread reads at `position` from now on. In a child the guard is a copy, and
        // its drop does nothing.
        unsafe { SharedRwLockReadGuard::new(raw_guard, position) }
    }

    /// Clears the poison of the lock, also the poison of a death. Call this after you have repaired
    /// the data.
    ///
    /// This is an associated function, as for `std`'s guards:
    /// `SharedRwLockWriteGuard::clear_poison(&guard)`.
    pub fn clear_poison(guard: &Self) {
        guard.raw_guard.poison.clear();
    }

    /// Overwrites the whole data, whatever bytes were there.
    pub(in crate::sync) fn replace(&mut self, value: T)
    where
        T: ShmData,
    {
        // SAFETY: the lock is held for writing. The old bytes may not be a valid `T`, so they are
        // not dropped; `ShmData` types have no drop glue.
        unsafe { self.raw_guard.data.get().write(value) };
    }
}

impl<T, const N: usize> Drop for SharedRwLockWriteGuard<'_, T, N> {
    // Always inlined, for the reason that the mutex's guard gives.
    #[inline(always)]
    fn drop(&mut self) {
        let Some(current) = CurrentThread::of_generation(self.raw_guard.generation) else {
            return;
        };
        if !self.was_panicking && std::thread::panicking() {
            self.raw_guard.poison.set(Cause::Panicked);
        }
        // SAFETY: this thread acquired the lock in this process, and only this drop releases it.
        unsafe { self.raw_guard.raw.end_write(current) };
    }
}

/// The guard of an upgradable read of a [`SharedRwLock`](crate::SharedRwLock). It dereferences to
/// the data. Other threads may read meanwhile, but no other thread writes or reads upgradably.
/// Dropping the guard ends the read.
///
/// Like a [read guard](SharedRwLockReadGuard), it stays in its thread, and belongs to the parent
/// after a `fork`.
#[must_use = "if unused the SharedRwLock will immediately unlock"]
pub struct SharedRwLockUpgradableReadGuard<'a, T, const N: usize = READER_SLOTS> {
    raw_guard: RawGuard<'a, T, N>,
}

impl<'a, T: ShmData + Sync, const N: usize> SharedRwLockUpgradableReadGuard<'a, T, N> {
    /// Turns the read into a write, blocking the current thread until the other readers have left.
    /// No other thread writes in between.
    ///
    /// This is an associated function: `SharedRwLockUpgradableReadGuard::upgrade(guard)`.
    ///
    /// # Errors
    ///
    /// Returns an [`UpgradeError`], which holds the guard, with the error
    ///
    /// - [`Error::Deadlock`](crate::Error::Deadlock) if the calling thread also reads with another
    ///   guard.
    /// - [`Error::HolderThreadEnded`](crate::Error::HolderThreadEnded) if a thread ended that had
    ///   leaked its read guard, and its process still runs.
    /// - [`Error::WouldBlock`](crate::Error::WouldBlock) if the guard is a copy in a child process:
    ///   the parent holds the lock.
    pub fn upgrade(guard: Self) -> Result<SharedRwLockWriteGuard<'a, T, N>, UpgradeError<Self>> {
        Self::upgrade_with(guard, WaitMode::Until(None))
    }

    /// Attempts to turn the read into a write without blocking.
    ///
    /// # Errors
    ///
    /// Returns [`Error::WouldBlock`](crate::Error::WouldBlock) if another thread reads, or if the
    /// calling thread also reads with another guard. Otherwise as for [`upgrade`](Self::upgrade).
    pub fn try_upgrade(
        guard: Self,
    ) -> Result<SharedRwLockWriteGuard<'a, T, N>, UpgradeError<Self>> {
        Self::upgrade_with(guard, WaitMode::Try)
    }

    /// Turns the read into a write, blocking the current thread for at most `timeout`, measured on
    /// the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`](crate::Error::TimedOut) if the other readers have not left
    /// within `timeout`. Otherwise as for [`upgrade`](Self::upgrade).
    pub fn upgrade_timeout(
        guard: Self,
        timeout: Duration,
    ) -> Result<SharedRwLockWriteGuard<'a, T, N>, UpgradeError<Self>> {
        Self::upgrade_with(guard, WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// Turns the read into a write, blocking the current thread until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`upgrade_timeout`](Self::upgrade_timeout).
    pub fn upgrade_until(
        guard: Self,
        deadline: Instant,
    ) -> Result<SharedRwLockWriteGuard<'a, T, N>, UpgradeError<Self>> {
        Self::upgrade_with(guard, WaitMode::Until(Some(Deadline::at(deadline))))
    }

    fn upgrade_with(
        guard: Self,
        mode: WaitMode,
    ) -> Result<SharedRwLockWriteGuard<'a, T, N>, UpgradeError<Self>> {
        let raw_guard = guard.raw_guard;
        let Some(current) = CurrentThread::of_generation(raw_guard.generation) else {
            // The guard is a copy in a child process: the parent holds the lock.
            return Err(UpgradeError::new(guard, AcquireError::WouldBlock));
        };
        // SAFETY: the guard exists only while this thread is the upgradable reader.
        match unsafe { raw_guard.raw.upgrade(current, mode) } {
            Ok(()) => {
                std::mem::forget(guard);
                // SAFETY: the thread became the writer above, and the upgradable guard is not
                // dropped.
                Ok(unsafe { SharedRwLockWriteGuard::new(raw_guard) })
            }
            Err(error) => Err(UpgradeError::new(guard, error)),
        }
    }
}

impl<'a, T, const N: usize> SharedRwLockUpgradableReadGuard<'a, T, N> {
    /// # Safety
    ///
    /// The calling thread must have just acquired the lock for this guard, as its upgradable
    /// reader.
    pub(in crate::sync) unsafe fn new(raw_guard: RawGuard<'a, T, N>) -> Self {
        SharedRwLockUpgradableReadGuard { raw_guard }
    }
}

impl<T, const N: usize> Drop for SharedRwLockUpgradableReadGuard<'_, T, N> {
    fn drop(&mut self) {
        if let Some(current) = CurrentThread::of_generation(self.raw_guard.generation) {
            // SAFETY: this thread acquired the lock in this process, and only this drop ends the
            // read.
            unsafe { self.raw_guard.raw.end_upgradable_read(current) };
        }
    }
}

impl<T, const N: usize> LockGuard for SharedRwLockReadGuard<'_, T, N> {
    type Data = T;
}

impl<T, const N: usize> LockGuard for SharedRwLockUpgradableReadGuard<'_, T, N> {
    type Data = T;
}

impl<T, const N: usize> LockGuard for SharedRwLockWriteGuard<'_, T, N> {
    type Data = T;

    fn suspend_poisoning(&mut self) {
        self.was_panicking = true;
    }

    fn resume_poisoning(&mut self) {
        self.was_panicking = std::thread::panicking();
    }
}

impl<'a, T: ShmData, const N: usize> Poisoned<SharedRwLockWriteGuard<'a, T, N>> {
    /// Replaces the whole data, clears the poison, and returns the guard.
    pub fn replace(self, value: T) -> SharedRwLockWriteGuard<'a, T, N> {
        let mut guard = self.into_guard_unchecked();
        guard.replace(value);
        SharedRwLockWriteGuard::clear_poison(&guard);
        guard
    }
}

macro_rules! reads {
    ($($guard:ident),*) => {
        $(
            impl<T, const N: usize> Deref for $guard<'_, T, N> {
                type Target = T;

                #[inline]
                fn deref(&self) -> &T {
                    // SAFETY: this guard holds the lock, and the reference has the lifetime of the
                    // guard's borrow. No other thread writes meanwhile.
                    unsafe { &*self.raw_guard.data.get() }
                }
            }

            impl<T, const N: usize> Sealed for $guard<'_, T, N> {}

            impl<T: fmt::Debug, const N: usize> fmt::Debug for $guard<'_, T, N> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    T::fmt(self, f)
                }
            }

            impl<T: fmt::Display, const N: usize> fmt::Display for $guard<'_, T, N> {
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

impl<T, const N: usize> DerefMut for SharedRwLockWriteGuard<'_, T, N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock for writing, and is borrowed exclusively.
        unsafe { &mut *self.raw_guard.data.get() }
    }
}
