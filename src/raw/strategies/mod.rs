//! [`RawLock`]: the interface between a mutex and its lock strategy.

mod c_lock;
pub(in crate::raw) mod futex;
mod plain;
#[cfg(target_env = "gnu")]
mod pthread;
mod spin;
mod ticket;

pub use plain::{Futex, PosixSem, Pthread, Spin, Ticket};
#[cfg(target_env = "gnu")]
pub use pthread::{PthreadPi, PthreadRobust};

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::Robust;
use crate::raw::robust::owner::OwnerRecord;
use crate::sys::{self, CurrentThread, Owner, RobustUnusable};

/// A lock without data, with its state in the map: the lock strategy of a
/// [`SharedMutex`](crate::SharedMutex).
///
/// This trait is sealed. A strategy that lets two threads in at once would cause undefined
/// behaviour in every safe program that uses it.
pub trait RawLock: Strategy {}

impl<S: Strategy> RawLock for S {}

/// The operations of a lock strategy.
///
/// Before it is [initialized](Self::init), a lock excludes the threads of one process, and may be
/// moved and leaked (`mem::forget`).
pub trait Strategy: Send + Sync + Sized + 'static {
    /// A free lock that is not placed. (Zero bytes are a free lock too, which is placed or about to
    /// be placed.)
    const NEW: Self;
    /// The name of the strategy in a file's directory: one word.
    const KIND: &'static str;

    /// Checks whether the calling thread can use a placed lock of this strategy.
    fn check() -> Result<(), RobustUnusable> {
        Ok(())
    }

    /// Initializes the lock at its final address. The lock is then free.
    ///
    /// # Safety
    ///
    /// No other thread may use the lock during the call, and the lock must never move again. Its
    /// memory must stay mapped while any thread of the process holds the lock.
    unsafe fn init(&self);

    /// Acquires the lock in the common case. Otherwise returns false, and the caller must call
    /// [`acquire_slow`](Self::acquire_slow). False does not mean that the lock is held.
    fn try_acquire_fast(&self, current: CurrentThread) -> bool;

    /// Acquires the lock in all cases, and waits for it as long as `mode` allows.
    fn acquire_slow(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Acquired, AcquireError>;

    /// Releases the lock.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock.
    unsafe fn release(&self, current: CurrentThread);

    /// Returns the owner, if there is one. It may be out of date as soon as it is returned.
    fn owner(&self) -> Option<Owner> {
        self.record().load_consistent()
    }

    /// Returns whether the lock is marked: the last owner died, and no thread has acquired the lock
    /// since. Always false for a lock that does not detect deaths.
    fn is_marked(&self) -> bool {
        false
    }

    /// Like [`is_marked`](Self::is_marked), but also detects a dead owner whose lock was not
    /// marked.
    fn check_owner_died(&self) -> bool {
        self.is_marked()
    }

    /// Returns whether a thread of the calling process holds the lock.
    fn is_held_by_this_process(&self) -> bool {
        self.record().thread_of_this_process().is_some()
    }

    /// Returns whether the lock is recorded as held, and the lock would not report the death of its
    /// owner after a [`reset`](Self::reset).
    fn reset_would_lose_a_death(&self) -> bool {
        self.record().id().is_some()
    }

    /// Frees a lock that may be recorded as held.
    ///
    /// # Safety
    ///
    /// No thread may use the lock any more: a thread that held it must no longer exist.
    unsafe fn reset(&self);

    /// Marks the lock, held or not, after a [`reset`](Self::reset) that follows a reboot. Returns
    /// true if the lock cannot report the death to the next acquirer.
    ///
    /// # Safety
    ///
    /// No thread may use the lock.
    unsafe fn mark_after_reboot(&self) -> bool {
        true
    }

    /// Returns the record of the owner.
    fn record(&self) -> &OwnerRecord;
}

impl Strategy for Robust {
    const NEW: Self = Robust::new();
    const KIND: &'static str = "mutex";

    fn check() -> Result<(), RobustUnusable> {
        sys::check_robust()
    }

    unsafe fn init(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.init() };
    }

    #[inline(always)]
    fn try_acquire_fast(&self, current: CurrentThread) -> bool {
        self.try_acquire_fast(current)
    }

    fn acquire_slow(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Acquired, AcquireError> {
        self.acquire_slow(current, mode)
    }

    #[inline(always)]
    unsafe fn release(&self, current: CurrentThread) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.unlock(current) };
    }

    fn owner(&self) -> Option<Owner> {
        self.owner()
    }

    fn is_marked(&self) -> bool {
        self.is_marked()
    }

    fn check_owner_died(&self) -> bool {
        self.check_owner_died()
    }

    fn is_held_by_this_process(&self) -> bool {
        self.is_held_by_this_process()
    }

    fn reset_would_lose_a_death(&self) -> bool {
        false
    }

    unsafe fn reset(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.reset() };
    }

    unsafe fn mark_after_reboot(&self) -> bool {
        // SAFETY: guaranteed by the caller.
        unsafe { self.mark_after_reboot() };
        false
    }

    fn record(&self) -> &OwnerRecord {
        self.record()
    }
}
