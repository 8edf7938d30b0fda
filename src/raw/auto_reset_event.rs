//! An event that lets one waiter through for each set.
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | set, and nobody has taken it yet |
//! | 1 | somebody may sleep |
//!
//! Whoever finds the event set takes it away, in one step; so one gets it. A waiter announces itself in bit 1 before it
//! sleeps on the very word that it saw. A set leaves the bit to the others and wakes one; where that found nobody, the bit
//! is taken away and whoever went to sleep meanwhile woken, in one step, as the [robust lock](crate::raw::robust) does.
//!
//! A waiter that dies as it was woken has taken nothing: the set is there for the next one who looks, which every sleeper
//! does at the end of its [timer](RecheckTimer), or whom the next set wakes.
//!
//! **Orderings.** The release of a set synchronizes with the acquire by which somebody takes it, also through the
//! read-modify-writes that change bit 1 between the two.

use crate::sys::{self, AtomicU32, Deadline, RecheckTimer};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const SET: u32 = 1;
const WAITERS_BIT: u32 = 1;
const WAITERS: u32 = 1 << WAITERS_BIT;

/// The event's word.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct AutoResetEvent(AtomicU32);

impl AutoResetEvent {
    sys::const_fn! {
        pub(crate) fn new() -> Self {
            AutoResetEvent(AtomicU32::new(0))
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed) & SET != 0
    }

    /// Sets the event, and wakes one who waits for it.
    #[inline]
    pub(crate) fn set(&self) {
        // Also where it is set already: whom that set woke may have died.
        if self.0.fetch_or(SET, Release) & WAITERS != 0 && sys::futex_wake(&self.0, 1) == 0 {
            sys::futex_wake_clearing(&self.0, WAITERS_BIT);
        }
    }

    /// Takes the set away, if there is one.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        // The look first: an atomic change would take the line from whoever sets.
        self.is_set() && self.0.fetch_and(!SET, Acquire) & SET != 0
    }

    /// Takes the set away, waiting for one: false where `deadline` came first.
    pub(crate) fn wait(&self, deadline: Option<Deadline>) -> bool {
        if self.take() || self.spin(deadline) {
            return true;
        }
        let mut timer = RecheckTimer::new();
        let mut expired = false;
        loop {
            let word = self.0.load(Relaxed);
            if word & SET != 0 {
                if self.take() {
                    return true;
                }
                continue;
            }
            // After the last look: a set may have come with the deadline, and its wake gone to this waiter.
            if expired {
                return false;
            }
            let is_announced = word & WAITERS != 0
                || self
                    .0
                    .compare_exchange(word, WAITERS, Relaxed, Relaxed)
                    .is_ok();
            if is_announced {
                sys::futex_wait(&self.0, WAITERS, timer.next_deadline(deadline));
                expired = deadline.is_some_and(Deadline::has_passed);
            }
        }
    }

    /// For a little while, as long as that has paid.
    fn spin(&self, deadline: Option<Deadline>) -> bool {
        if deadline.is_some_and(Deadline::has_passed) {
            return false;
        }
        let mut spin = sys::AdaptiveSpin::start(&self.0);
        let mut taken = false;
        while !taken && spin.spin() {
            taken = self.take();
        }
        spin.end(taken);
        taken
    }
}
