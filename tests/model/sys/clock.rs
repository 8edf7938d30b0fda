//! Time: it passes when a model says so.

use super::task;

/// A moment in the future. There is one, which comes with [`World::deadline_passes`](super::World::deadline_passes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    /// Whether the sleeper asked for it, or it is only the end of a nap.
    pub(super) is_the_callers: bool,
}

impl Deadline {
    pub(crate) const AHEAD: Deadline = Deadline { is_the_callers: true };

    /// A sleep that timed out knows so: both rest on the [queue's lock](super::futex).
    pub(crate) fn has_passed(self) -> bool {
        assert!(self.is_the_callers, "a nap has no deadline to compare with the clock");
        task::current().world.futexes.deadline_has_passed()
    }
}

/// The safety net's rhythm. A nap ends with [`World::naps_end`](super::World::naps_end), and never in a model that does
/// not call it: there a lost wake is a deadlock.
#[derive(Debug)]
pub(crate) struct Nap;

impl Nap {
    pub(crate) fn first() -> Self {
        Nap
    }

    pub(crate) fn end(&mut self, deadline: Option<Deadline>) -> Deadline {
        deadline.unwrap_or(Deadline { is_the_callers: false })
    }
}
