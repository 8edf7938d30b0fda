//! How a contender passes the time between its looks at a lock's word, before it sleeps.
//!
//! Each look takes the cache line from the owner, and two kinds of work want opposite things. Where sections come apart, a
//! short one is over soon, and then the word is free for a while: whoever looks all the time has it first. Where they follow
//! each other faster than the line moves from one CPU to another, whoever looks all the time keeps the owner from its work:
//! they look seldom, and the owner runs a hundred sections in the time. Which of the two it is, the waiters
//! [measure](crate::sys::follow_rapidly).

use crate::sys;

/// Where sections come apart: so many looks, one pause between two.
const WATCHFUL: u32 = 100;

/// Where they follow each other rapidly: so many times a long pause, and then some looks in a row, because the word may be held
/// again by the time the waiter has the line.
const ROUNDS: u32 = 3;
const LONG: u32 = 1024;
const LOOKS: u32 = 4;
const BETWEEN_LOOKS: u32 = 4;

/// A contender's looks.
#[derive(Debug)]
pub(super) struct Spin {
    left: u32,
    rapid: bool,
}

impl Spin {
    pub(super) fn new(rapid: bool) -> Self {
        let looks = if rapid { ROUNDS * LOOKS } else { WATCHFUL };
        Spin {
            left: sys::affordable_looks(looks),
            rapid,
        }
    }

    /// Whether to look by an attempt to acquire. It takes the line for oneself; after a look that only reads, it would have to
    /// be fetched once more, and the owner, who wants it back too, has asked first.
    pub(super) fn is_a_grab(&self) -> bool {
        self.rapid
    }

    /// Lets some time pass before the next look. False where the waiter has looked often enough, and should sleep.
    pub(super) fn passes_time(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        let pauses = match (self.rapid, self.left.is_multiple_of(LOOKS)) {
            (true, true) => LONG,
            (true, false) => BETWEEN_LOOKS,
            (false, _) => 1,
        };
        (0..pauses).for_each(|_| sys::pause());
        self.left -= 1;
        true
    }
}
