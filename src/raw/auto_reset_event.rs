//! An event that lets one waiter through for each set.
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | set, and not taken yet |
//! | 1 | a thread may sleep |
//!
//! A thread that finds the event set clears bit 0, in one step, so only one thread takes the
//! set. A waiter sets bit 1 before it sleeps, and sleeps on the very word that it saw. A set leaves
//! bit 1 for the other waiters and wakes one thread. If it found no sleeper, it clears the bit and
//! wakes the threads that went to sleep meanwhile, in one step, as the
//! [robust lock](crate::raw::robust) does.
//!
//! A waiter that dies after it was woken has taken nothing. The event stays set for the next thread
//! that checks it. Every sleeper checks when its [recheck timer](RecheckTimer) expires, and the
//! next set wakes a sleeper too.
//!
//! **Orderings.** The release of a set synchronizes with the acquire of the thread that takes it,
//! also through the read-modify-writes that change bit 1 between the two.

use crate::sys::{self, AtomicU32, Deadline, RecheckTimer};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const SET: u32 = 1;
const WAITERS_SHIFT: u32 = 1;
const WAITERS: u32 = 1 << WAITERS_SHIFT;

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

    /// Sets the event, and wakes one waiter.
    #[inline]
    pub(crate) fn set(&self) {
        // Wakes a waiter even if the event was set already: the waiter that the last set woke may
        // have died.
        if self.0.fetch_or(SET, Release) & WAITERS != 0 && sys::futex_wake(&self.0, 1) == 0 {
            sys::futex_wake_clearing(&self.0, WAITERS_SHIFT);
        }
    }

    /// Clears the event if it is set. Returns whether it was set.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        // Load first: a read-modify-write would take the cache line from the thread that sets.
        self.is_set() && self.0.fetch_and(!SET, Acquire) & SET != 0
    }

    /// Takes a set, waiting for one if necessary. Returns false if `deadline` passed first.
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
            // Only after a last check: a set may have come at the deadline, and its wake to this
            // waiter.
            if expired {
                return false;
            }
            let is_registered = word & WAITERS != 0
                || self
                    .0
                    .compare_exchange(word, WAITERS, Relaxed, Relaxed)
                    .is_ok();
            if is_registered {
                sys::futex_wait(&self.0, WAITERS, timer.next_deadline(deadline));
                expired = deadline.is_some_and(Deadline::has_passed);
            }
        }
    }

    /// Spins for a short time, as long as that has paid off on this word.
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
