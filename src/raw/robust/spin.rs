//! How a waiter spins on a lock word before it sleeps.
//!
//! Each check of the word takes the cache line from the owner. Two kinds of workload need opposite
//! strategies:
//!
//! - The critical sections are far apart. A short one ends soon, and the word is then free for a
//!   while. The waiter that checks all the time gets it first.
//! - The critical sections follow each other faster than the line moves from one CPU to another. A
//!   waiter that checks all the time keeps the owner from its work. So waiters check rarely, and
//!   the owner runs a hundred critical sections in between.
//!
//! The waiters [measure](crate::sys::critical_sections_are_short) which of the two applies.

use crate::sys;

/// The number of checks if the critical sections are far apart, with one pause between two checks.
const BUSY_SPINS: u32 = 100;

/// The number of rounds if the critical sections are short. A round is a long pause and then a
/// burst of checks, because the word may be held again when the waiter receives the line.
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
    left: u32,
    short_sections: bool,
}

impl SpinWait {
    pub(in crate::raw) fn new(short_sections: bool) -> Self {
        let spins = if short_sections {
            ROUNDS * BURST
        } else {
            BUSY_SPINS
        };
        SpinWait {
            left: sys::spin_limit(spins),
            short_sections,
        }
    }

    /// Returns whether each check is an attempt to acquire the lock (test-and-set). Such a check
    /// fetches the cache line for writing. After a check that only reads, the line would have to be
    /// fetched once more, and the owner, which needs it too, would have requested it first.
    pub(in crate::raw) fn uses_tas(&self) -> bool {
        self.short_sections
    }

    /// Pauses before the next check. Returns false, without a pause, if the waiter has checked
    /// often enough and should sleep.
    pub(in crate::raw) fn spin(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        let pauses = match (self.short_sections, self.left.is_multiple_of(BURST)) {
            (true, true) => LONG_PAUSE,
            (true, false) => BURST_PAUSE,
            (false, _) => 1,
        };
        (0..pauses).for_each(|_| sys::pause());
        self.left -= 1;
        true
    }
}
