//! What every lock answers, and how long its callers wait.

use crate::sys::Deadline;

/// How a lock was acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquired {
    /// From a holder that released it.
    Released,
    /// From a holder that died with it. Exactly one acquirer is told of each death.
    OwnerDied,
}

/// Why a lock was not acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcquireError {
    /// Somebody else holds it.
    WouldBlock,
    /// Somebody else held it until the deadline.
    TimedOut,
    /// The calling thread holds it.
    Deadlock,
    /// The thread that held it ended, and its process, which may have kept access to the data, lives.
    HolderThreadEnded,
}

/// How long a caller waits for the lock.
#[derive(Debug, Clone, Copy)]
pub enum WaitMode {
    /// Not at all.
    Try,
    /// Not at all, and only for a lock that its last holder released: the news of a death is left to others.
    TryIfReleased,
    /// Until then.
    Until(Option<Deadline>),
}

impl WaitMode {
    /// When it ends, if it does.
    pub(crate) fn deadline(self) -> Option<Deadline> {
        match self {
            WaitMode::Try | WaitMode::TryIfReleased => Some(Deadline::now()),
            WaitMode::Until(deadline) => deadline,
        }
    }

    /// What a caller is told who met another holder to the end of its mode.
    pub(crate) fn on_timeout(self) -> AcquireError {
        match self {
            WaitMode::Try | WaitMode::TryIfReleased => AcquireError::WouldBlock,
            WaitMode::Until(_) => AcquireError::TimedOut,
        }
    }

    /// What a caller is told who holds the lock itself.
    pub(crate) fn on_relock(self) -> AcquireError {
        match self {
            WaitMode::Try | WaitMode::TryIfReleased => AcquireError::WouldBlock,
            WaitMode::Until(_) => AcquireError::Deadlock,
        }
    }
}
