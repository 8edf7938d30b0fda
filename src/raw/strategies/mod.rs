//! [`RawLock`]: the seam between a mutex and its lock strategy.

mod c_lock;
pub(in crate::raw) mod futex;
mod plain;
mod pthread;
mod spin;
mod ticket;

pub use plain::{Futex, PosixSem, Pthread, Spin, Ticket};
pub use pthread::{PthreadPi, PthreadRobust};

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::Robust;
use crate::raw::robust::owner::OwnerRecord;
use crate::sys::{self, CurrentThread, OwnerId, RobustListUnusable};

/// A lock without data, whose state lies in the map: what a [`SharedMutex`](crate::SharedMutex) locks by.
///
/// It is sealed: a strategy that lets two in at once would be undefined behaviour in every safe program that uses it.
pub trait RawLock: Strategy {}

impl<S: Strategy> RawLock for S {}

/// What a strategy does.
///
/// Before it is [armed](Self::init) a lock excludes the threads of one process, and may be moved and forgotten.
pub trait Strategy: Send + Sync + Sized + 'static {
    /// A free lock that is not placed. (Zero bytes are a free lock too, one that is placed or is about to be.)
    const NEW: Self;
    /// The name under which a file's directory has it: one word.
    const KIND: &'static str;

    /// Whether the calling thread can use such a lock where it is placed.
    fn check() -> Result<(), RobustListUnusable> {
        Ok(())
    }

    /// Readies the lock, free, at the address where it will stay.
    ///
    /// # Safety
    ///
    /// Nobody else uses the lock yet, it never moves again, and its memory stays mapped while any thread of the process
    /// holds it.
    unsafe fn init(&self);

    /// Acquires the lock in the common case. False says nothing; call [`acquire`](Self::acquire).
    fn try_acquire_fast(&self, current: CurrentThread) -> bool;

    /// Acquires the lock, whatever the case, waiting for it as long as `mode` says.
    fn acquire_slow(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Acquired, AcquireError>;

    /// Releases the lock.
    ///
    /// # Safety
    ///
    /// The calling thread holds it.
    unsafe fn release(&self, current: CurrentThread);

    /// The name of the owner, if there is one. It is out of date as soon as it is read.
    fn holder(&self) -> Option<OwnerId> {
        self.record().id()
    }

    /// Whether the last holder died, and nobody has acquired the lock since, as far as the lock can tell.
    fn owner_died(&self) -> bool {
        false
    }

    /// As [`owner_died`](Self::owner_died), and looks for one that was not marked.
    fn owner_is_dead(&self) -> bool {
        self.owner_died()
    }

    /// Whether a thread of the calling process holds the lock.
    fn is_held_by_this_process(&self) -> bool {
        self.record().is_this_process()
    }

    /// Whether a thread of the calling process ended with the lock in its hands, and nobody has taken it since.
    fn was_leaked_by_this_process(&self) -> bool {
        false
    }

    /// Whether the lock looks held by somebody whose death it would not tell of after a [`reset`](Self::reset).
    fn hides_a_death(&self) -> bool {
        self.record().id().is_some()
    }

    /// Frees a lock that may look held.
    ///
    /// # Safety
    ///
    /// Nobody uses the lock any more: whoever held it is gone.
    unsafe fn reset(&self);

    /// Marks a lock that was reset as one whose owner died. True where the next acquirer will not be told.
    ///
    /// # Safety
    ///
    /// Nobody uses the lock.
    unsafe fn mark(&self) -> bool {
        true
    }

    /// Who holds it.
    fn record(&self) -> &OwnerRecord;
}

impl Strategy for Robust {
    const NEW: Self = Robust::new();
    const KIND: &'static str = "mutex";

    fn check() -> Result<(), RobustListUnusable> {
        sys::check_robust_list()
    }

    unsafe fn init(&self) {
        // SAFETY: the caller's promise.
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
        // SAFETY: the caller's promise.
        unsafe { self.unlock(current) };
    }

    fn holder(&self) -> Option<OwnerId> {
        self.holder()
    }

    fn owner_died(&self) -> bool {
        self.owner_died()
    }

    fn owner_is_dead(&self) -> bool {
        self.owner_is_dead()
    }

    fn is_held_by_this_process(&self) -> bool {
        self.is_held_by_this_process()
    }

    fn was_leaked_by_this_process(&self) -> bool {
        self.was_leaked_by_this_process()
    }

    fn hides_a_death(&self) -> bool {
        false
    }

    unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.reset() };
    }

    unsafe fn mark(&self) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.mark() };
        false
    }

    fn record(&self) -> &OwnerRecord {
        self.record()
    }
}
