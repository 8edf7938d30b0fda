//! Time: it passes when a model says so.

use super::task;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// Has already passed, for a caller that does not wait.
    Passed,
    /// Passes at [`World::deadline_passes`](super::World::deadline_passes).
    Ahead,
    /// The end of a recheck interval.
    EndOfRecheckInterval,
}

impl Deadline {
    pub(crate) fn now() -> Self {
        Deadline::Passed
    }

    /// Whether the deadline has passed. After a sleep that timed out this is true, because the
    /// [queue's lock](super::futex) orders both.
    pub(crate) fn has_passed(self) -> bool {
        match self {
            Deadline::Passed => true,
            Deadline::Ahead => task::current().world.futexes.deadline_has_passed(),
            // Never counts as passed: a thread that waits until then in several sleeps keeps
            // waiting.
            Deadline::EndOfRecheckInterval => false,
        }
    }
}

/// The recheck timer of the liveness check.
///
/// It expires at [`World::expire_recheck_timers`](super::World::expire_recheck_timers), and never
/// in a model that does not call it: there a lost wake-up is a deadlock.
#[derive(Debug)]
pub(crate) struct RecheckTimer;

impl RecheckTimer {
    pub(crate) fn new() -> Self {
        RecheckTimer
    }

    pub(crate) fn next_deadline(&mut self, deadline: Option<Deadline>) -> Deadline {
        deadline.unwrap_or(Deadline::EndOfRecheckInterval)
    }

    /// Here only the result of a sleep says that a timer has expired.
    pub(crate) fn is_due(&self) -> bool {
        false
    }
}
