//! The results of lock operations, and how long their callers wait.

use crate::raw::robust::owner::OwnerRecord;
use crate::sys::{self, Deadline, Owner};

/// How a lock was acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquired {
    /// The last owner released it.
    Released,
    /// The last owner died while it held the lock. Exactly one acquirer receives this for each
    /// death. It holds the dead owner, if the owner is known.
    OwnerDied(Option<Owner>),
}

impl Acquired {
    /// Returns whether the last owner died while it held the lock.
    pub(crate) fn owner_died(self) -> bool {
        matches!(self, Acquired::OwnerDied(_))
    }

    /// Returns the last owner if it died while it held the lock, and is known.
    pub(crate) fn dead_owner(self) -> Option<Owner> {
        match self {
            Acquired::Released => None,
            Acquired::OwnerDied(owner) => owner,
        }
    }
}

/// Why a lock was not acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcquireError {
    /// Another thread holds it.
    WouldBlock,
    /// Another thread held it until the deadline.
    TimedOut,
    /// The calling thread holds it.
    Deadlock,
    /// The thread that held it has ended, but its process is alive and might still have access to
    /// the data.
    HolderThreadEnded,
    /// Another thread held it until the deadline, and the process of that thread is being killed
    /// and writes a core dump.
    HolderDumpsCore,
}

/// How long a caller waits for the lock.
#[derive(Debug, Clone, Copy)]
pub enum WaitMode {
    /// The caller does not wait.
    Try,
    /// The caller does not wait, and acquires the lock only if its last owner released it. A death
    /// remains to be reported to another caller.
    TryIfReleased,
    /// The caller waits until the deadline, or without a limit if there is none.
    Until(Option<Deadline>),
}

impl WaitMode {
    /// Returns when the wait ends, or `None` if it has no limit.
    pub(crate) fn deadline(self) -> Option<Deadline> {
        match self {
            WaitMode::Try | WaitMode::TryIfReleased => Some(Deadline::now()),
            WaitMode::Until(deadline) => deadline,
        }
    }

    /// Returns the error for a caller that must not wait any longer for another holder.
    pub(crate) fn on_timeout(self) -> AcquireError {
        match self {
            WaitMode::Try | WaitMode::TryIfReleased => AcquireError::WouldBlock,
            WaitMode::Until(_) => AcquireError::TimedOut,
        }
    }

    /// Like [`on_timeout`](Self::on_timeout), for a caller that waited for a single holder, whose
    /// record is `holder`. Reads `/proc`, if the caller waited.
    pub(crate) fn on_timeout_of(self, holder: &OwnerRecord) -> AcquireError {
        let dumps_core = || holder.load_consistent().is_some_and(sys::is_dumping_core);
        match self {
            WaitMode::Until(_) if dumps_core() => AcquireError::HolderDumpsCore,
            _ => self.on_timeout(),
        }
    }

    /// Returns the error for a caller that holds the lock itself.
    pub(crate) fn on_relock(self) -> AcquireError {
        match self {
            WaitMode::Try | WaitMode::TryIfReleased => AcquireError::WouldBlock,
            WaitMode::Until(_) => AcquireError::Deadlock,
        }
    }
}

/// The result of `Robust::recover`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raw) enum Recovery {
    /// The word or its record has changed: read the word again.
    Changed,
    /// The word may be taken. The record is empty. It named this owner, which is dead.
    MayTake(Option<Owner>),
    /// The word must not be taken.
    Refused(AcquireError),
}
