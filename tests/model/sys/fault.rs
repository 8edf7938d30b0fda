//! What can be broken in the seam, so that a model can be seen to notice.

use super::task::Task;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release};

/// One thing broken. The algorithm above the seam is the library's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing acquires: every `Acquire` acts as `Relaxed`.
    NoAcquire,
    /// No store releases.
    NoReleaseByStores,
    /// No read-modify-write releases.
    NoReleaseByChanges,
    /// `FUTEX_WAIT` compares, and goes to sleep a step later.
    CompareApartFromSleep,
    /// The bit of `FUTEX_WAKE_OP` is cleared, and its wake is lost.
    ClearingWakesNobody,
    /// The kernel before Linux 6.2: it does not wake for a dead thread whose pending lock has an owner of 0 but is not 0.
    KernelBefore6_2,
    /// `list_op_pending` ends before the wake of an unlock, and not after it.
    PendingEndsEarly,
    /// An image does not tell whose it is.
    ImagesNameNobody,
    /// A process that lives is taken for gone.
    ProcessesLookGone,
}

/// The kinds of access that a [`Fault`] tells apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Load,
    Store,
    Change,
}

impl Task {
    /// Whether the running model has this fault.
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.world.model.fault == Some(fault)
    }

    /// The order of an access in the running model.
    pub(super) fn weaken(&self, access: Access, order: Ordering) -> Ordering {
        match self.world.model.fault {
            Some(Fault::NoAcquire) => without_acquire(order),
            Some(Fault::NoReleaseByStores) if access == Access::Store => without_release(order),
            Some(Fault::NoReleaseByChanges) if access == Access::Change => without_release(order),
            _ => order,
        }
    }
}

fn without_acquire(order: Ordering) -> Ordering {
    match order {
        Acquire => Relaxed,
        AcqRel => Release,
        order => order,
    }
}

fn without_release(order: Ordering) -> Ordering {
    match order {
        Release => Relaxed,
        AcqRel => Acquire,
        order => order,
    }
}
