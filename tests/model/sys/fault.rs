//! What can be broken in the seam, so that a model can be seen to notice.

use super::kernel::FUTEX_WAITERS;
use super::task::Task;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

/// One thing broken. The algorithm above the seam is the library's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing acquires: every `Acquire` acts as `Relaxed`.
    NoAcquire,
    /// Nothing releases: every `Release` acts as `Relaxed`.
    NoRelease,
    /// What leaves nothing but `WAITERS` in a word does not release.
    NoReleaseWithWaiters,
    /// `FUTEX_WAIT` compares, and goes to sleep a step later.
    CompareApartFromSleep,
    /// The bit of `FUTEX_WAKE_OP` is cleared, and its wake is lost.
    ClearingWakesNobody,
    /// The kernel before Linux 6.2: it does not wake for a dead thread whose pending lock has an owner of 0 but is not 0.
    KernelBefore6_2,
    /// `list_op_pending` ends before the wake of an unlock, and not after it.
    PendingEndsEarly,
    /// A process that lives is taken for gone.
    ProcessesLookGone,
    /// The kernel has no sleep on several words.
    FutexWaitvUnsupported,
    /// The two sides of a Dekker pattern write and read without a fence between.
    NoDekkerFence,
}

impl Task {
    /// Whether the running model has this fault.
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.world.model.fault == Some(fault)
    }

    /// The order of a read in the running model.
    pub(super) fn order_of_read(&self, order: Ordering) -> Ordering {
        match (self.has(Fault::NoAcquire), order) {
            (true, Acquire | SeqCst) => Relaxed,
            _ => order,
        }
    }

    /// The order of a write, or of a change that also reads.
    pub(super) fn order_of_write(&self, value: u64, order: Ordering) -> Ordering {
        let order = match self.has(Fault::NoAcquire) {
            true => without_acquire(order),
            false => order,
        };
        let only_waiters = value == u64::from(FUTEX_WAITERS);
        if self.has(Fault::NoRelease) || self.has(Fault::NoReleaseWithWaiters) && only_waiters {
            without_release(order)
        } else {
            order
        }
    }
}

/// A read-modify-write's, where it is `SeqCst`.
fn without_acquire(order: Ordering) -> Ordering {
    match order {
        Acquire => Relaxed,
        SeqCst => Release,
        AcqRel => Release,
        order => order,
    }
}

/// A read-modify-write's, where it is `SeqCst`.
fn without_release(order: Ordering) -> Ordering {
    match order {
        Release => Relaxed,
        SeqCst => Acquire,
        AcqRel => Acquire,
        order => order,
    }
}
