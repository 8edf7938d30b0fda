//! How a waiter spins on a lock word before it sleeps.
//!
//! Each check of the word takes the cache line from the owner. Two kinds of workload need opposite
//! strategies:
//!
//! - **Sparse**: the critical sections are far apart, and the word is free for a while after each.
//!   The waiter that checks all the time gets it first.
//! - **Dense**: the critical sections follow each other faster than the line moves from one CPU to
//!   another. A waiter that checks all the time keeps the owner from its work. So waiters check
//!   rarely, and the owner runs a hundred critical sections in between.
//!
//! The waiters [measure](crate::sys::critical_sections_are_dense) which of the two applies.

use crate::sys;

/// The number of checks if the critical sections are sparse, with one pause between two checks.
const BUSY_SPINS: u32 = 100;

/// The number of rounds if the critical sections are dense. A round is a long pause and then a
/// burst of checks, because the word might be held again when the waiter receives the line.
const ROUNDS: u32 = 3;
/// The long pause of a round, in pause instructions.
const LONG_PAUSE: u32 = 1024;
/// The number of checks in a burst.
const BURST: u32 = 4;
/// The pause between two checks of a burst, in pause instructions.
const BURST_PAUSE: u32 = 4;

/// The spinning of one waiter.
#[derive(Debug)]
pub(in crate::raw) struct SpinWait {
    checks_left: u32,
    /// Whether the critical sections are dense.
    dense: bool,
}

impl SpinWait {
    pub(in crate::raw) fn new(dense: bool) -> Self {
        let spins = if dense { ROUNDS * BURST } else { BUSY_SPINS };
        SpinWait {
            checks_left: sys::spin_limit(spins),
            dense,
        }
    }

    /// Returns whether each check is an attempt to acquire the lock: a compare-exchange, which
    /// fetches the cache line for writing. After a check that only reads, the line would have to be
    /// fetched once more, and the owner, which needs it too, would have requested it first.
    pub(in crate::raw) fn checks_by_cas(&self) -> bool {
        self.dense
    }

    /// Pauses before the next check. Returns false, without a pause, if the waiter has checked
    /// often enough and should sleep.
    pub(in crate::raw) fn pause(&mut self) -> bool {
        if self.checks_left == 0 {
            return false;
        }
        let pauses = match (self.dense, self.checks_left.is_multiple_of(BURST)) {
            (true, true) => LONG_PAUSE,
            (true, false) => BURST_PAUSE,
            (false, _) => 1,
        };
        (0..pauses).for_each(|_| sys::pause());
        self.checks_left -= 1;
        true
    }
}
