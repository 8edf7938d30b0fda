//! Time: it passes when a model says so.

use super::task;

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// Now: for whoever does not wait.
    Passed,
    /// The one that comes with [`World::deadline_passes`](super::World::deadline_passes).
    Ahead,
    /// The end of a timer.
    EndOfNap,
}

impl Deadline {
    pub(crate) fn now() -> Self {
        Deadline::Passed
    }

    /// A sleep that timed out knows so: both rest on the [queue's lock](super::futex).
    pub(crate) fn has_passed(self) -> bool {
        match self {
            Deadline::Passed => true,
            Deadline::Ahead => task::current().world.futexes.deadline_has_passed(),
            // Whoever waits until then in several sleeps goes on.
            Deadline::EndOfNap => false,
        }
    }
}

/// The safety net's rhythm. A timer ends with [`World::naps_end`](super::World::naps_end), and never in a model that does
/// not call it: there a lost wake is a deadlock.
#[derive(Debug)]
pub(crate) struct RecheckTimer;

impl RecheckTimer {
    pub(crate) fn new() -> Self {
        RecheckTimer
    }

    pub(crate) fn next_deadline(&mut self, deadline: Option<Deadline>) -> Deadline {
        deadline.unwrap_or(Deadline::EndOfNap)
    }

    /// Here a timer ends by the answer of the sleep alone.
    pub(crate) fn is_due(&self) -> bool {
        false
    }
}
