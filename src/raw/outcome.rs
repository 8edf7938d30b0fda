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
pub enum Refused {
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
pub enum Patience {
    /// Not at all.
    None,
    /// Not at all, and only for a lock that its last holder released: the news of a death is left to others.
    IfReleased,
    /// Until then.
    Until(Deadline),
    /// As long as it takes.
    Endless,
}

impl Patience {
    /// When it ends, if it does.
    pub(crate) fn deadline(self) -> Option<Deadline> {
        match self {
            Patience::None | Patience::IfReleased => Some(Deadline::now()),
            Patience::Until(deadline) => Some(deadline),
            Patience::Endless => None,
        }
    }

    /// What a caller is told who met another holder to the end of its patience.
    pub(crate) fn refusal(self) -> Refused {
        match self {
            Patience::None | Patience::IfReleased => Refused::WouldBlock,
            Patience::Until(_) | Patience::Endless => Refused::TimedOut,
        }
    }

    /// What a caller is told who holds the lock itself.
    pub(crate) fn refusal_of_the_holder(self) -> Refused {
        match self {
            Patience::None | Patience::IfReleased => Refused::WouldBlock,
            Patience::Until(_) | Patience::Endless => Refused::Deadlock,
        }
    }
}
