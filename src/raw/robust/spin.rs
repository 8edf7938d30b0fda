//! How a contender passes the time between its spins at a lock's word, before it sleeps.
//!
//! Each look takes the cache line from the owner, and two kinds of work want opposite things. Where sections come apart, a
//! short one is over soon, and then the word is free for a while: whoever spins all the time has it first. Where they follow
//! each other faster than the line moves from one CPU to another, whoever spins all the time keeps the owner from its work:
//! they look seldom, and the owner runs a hundred sections in the time. Which of the two it is, the waiters
//! [measure](crate::sys::critical_sections_are_short).

use crate::sys;

/// Where sections come apart: so many spins, one pause between two.
const BUSY_SPINS: u32 = 100;

/// Where they follow each other rapidly: so many times a long pause, and then some spins in a row, because the word may be held
/// again by the time the waiter has the line.
const ROUNDS: u32 = 3;
const LONG_PAUSE: u32 = 1024;
const BURST: u32 = 4;
const BURST_PAUSE: u32 = 4;

/// A contender's spins.
#[derive(Debug)]
pub(in crate::raw) struct SpinWait {
    left: u32,
    rapid: bool,
}

impl SpinWait {
    pub(in crate::raw) fn new(rapid: bool) -> Self {
        let spins = if rapid { ROUNDS * BURST } else { BUSY_SPINS };
        SpinWait {
            left: sys::spin_limit(spins),
            rapid,
        }
    }

    /// Whether to look by an attempt to acquire. It takes the line for oneself; after a look that only reads, it would have to
    /// be fetched once more, and the owner, who wants it back too, has asked first.
    pub(in crate::raw) fn uses_tas(&self) -> bool {
        self.rapid
    }

    /// Lets some time pass before the next look. False where the waiter has looked often enough, and should sleep.
    pub(in crate::raw) fn spin(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        let pauses = match (self.rapid, self.left.is_multiple_of(BURST)) {
            (true, true) => LONG_PAUSE,
            (true, false) => BURST_PAUSE,
            (false, _) => 1,
        };
        (0..pauses).for_each(|_| sys::pause());
        self.left -= 1;
        true
    }
}
