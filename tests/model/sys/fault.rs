//! The faults that can be put into the system interface, to show that a model detects them.

use super::kernel::FUTEX_WAITERS;
use super::task::Task;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

/// One fault. The algorithm above the interface is the library's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No access acquires: every `Acquire` acts as `Relaxed`.
    NoAcquire,
    /// No access releases: every `Release` acts as `Relaxed`.
    NoRelease,
    /// A write that leaves only `WAITERS` in a word does not release.
    NoReleaseWithWaiters,
    /// `FUTEX_WAIT` compares the word, and goes to sleep in a later step.
    CompareApartFromSleep,
    /// `FUTEX_WAKE_OP` clears its bit, and its wake is lost.
    ClearingWakeIsLost,
    /// A mark drops `WAITERS`, and one waiter is woken. musl marks so at the end of a thread, but
    /// only in its own list.
    MarkDropsWaiters,
    /// `list_op_pending` is cleared before the wake of an unlock, and not after it.
    PendingClearedEarly,
    /// A live process is taken for a dead one.
    LiveProcessesSeemDead,
    /// The kernel has no sleep on several words (`futex_waitv`).
    NoFutexWaitv,
    /// The two sides of a Dekker pattern write and read without a fence in between.
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

    /// The order of a write or a read-modify-write in the running model.
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

/// `order` without its acquire half. `SeqCst` is taken as a read-modify-write's order.
fn without_acquire(order: Ordering) -> Ordering {
    match order {
        Acquire => Relaxed,
        SeqCst => Release,
        AcqRel => Release,
        order => order,
    }
}

/// `order` without its release half. `SeqCst` is taken as a read-modify-write's order.
fn without_release(order: Ordering) -> Ordering {
    match order {
        Release => Relaxed,
        SeqCst => Acquire,
        AcqRel => Acquire,
        order => order,
    }
}
