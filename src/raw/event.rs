//! An event: a flag and a sequence number in one futex word.
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | set |
//! | 1 | a thread may sleep |
//! | 2-31 | how often the event was set, modulo 2^30 |
//!
//! A set raises the sequence, so a thread that waits for the next set returns even if the flag is
//! reset at once. A waiter sets bit 1 by a compare-exchange before it sleeps, and sleeps on the
//! very word that it saw. The set that clears the bit wakes all sleepers. So a set makes no system
//! call if no thread sleeps. No set between a waiter's check and its sleep is missed, because the
//! kernel compares the word.
//!
//! An event has no owner. If a setter dies between its change and its wake, the sleepers depend on
//! the recheck timer: no sleep is longer than a second without a check.
//!
//! **Orderings.** The release of a set synchronizes with the acquire load by which a waiter sees
//! it.

use crate::sys::{self, AtomicU32, Deadline, RecheckTimer};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const SET: u32 = 1;
const WAITERS: u32 = 2;
const ONE_SET: u32 = 4;

/// The event's word.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Event(AtomicU32);

impl Event {
    sys::const_fn! {
        pub(crate) fn new() -> Self {
            Event(AtomicU32::new(0))
        }
    }

    /// Returns how often the event was set, modulo 2^30.
    pub(crate) fn sequence(&self) -> u32 {
        self.0.load(Acquire) / ONE_SET
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Acquire) & SET != 0
    }

    /// Sets the flag, raises the sequence, and wakes all waiters.
    pub(crate) fn set(&self) {
        let mut word = self.0.load(Relaxed);
        loop {
            let next = word.wrapping_add(ONE_SET) & !WAITERS | SET;
            match self.0.compare_exchange_weak(word, next, Release, Relaxed) {
                Ok(_) => break,
                Err(current) => word = current,
            }
        }
        if word & WAITERS != 0 {
            sys::futex_wake(&self.0, u32::MAX);
        }
    }

    /// Clears the flag. The sequence stays. Returns whether the flag was set.
    pub(crate) fn reset(&self) -> bool {
        self.0.fetch_and(!SET, Relaxed) & SET != 0
    }

    /// Waits until the flag is set, or was set since the call. Returns false if `deadline` passed
    /// first.
    pub(crate) fn wait(&self, deadline: Option<Deadline>) -> bool {
        let seen = self.sequence();
        self.sleep_until(deadline, |word| word & SET != 0 || word / ONE_SET != seen)
    }

    /// Waits until the sequence differs from `seen`. Returns false if `deadline` passed first.
    pub(crate) fn wait_past(&self, seen: u32, deadline: Option<Deadline>) -> bool {
        self.sleep_until(deadline, |word| word / ONE_SET != seen)
    }

    /// Sets the bit that a thread may sleep. Returns the word and its new value, or `None` if the
    /// event is set.
    pub(crate) fn register_waiter(&self) -> Option<(&AtomicU32, u32)> {
        loop {
            let word = self.0.load(Acquire);
            let with_waiters = word | WAITERS;
            if word & SET != 0 {
                return None;
            }
            if word == with_waiters
                || self
                    .0
                    .compare_exchange(word, with_waiters, Relaxed, Relaxed)
                    .is_ok()
            {
                return Some((&self.0, with_waiters));
            }
        }
    }

    fn sleep_until(&self, deadline: Option<Deadline>, done: impl Fn(u32) -> bool) -> bool {
        if done(self.0.load(Acquire)) {
            return true;
        }
        if deadline.is_none_or(|deadline| !deadline.has_passed()) {
            let mut spin = sys::AdaptiveSpin::start(&self.0);
            let mut is_done = false;
            while !is_done && spin.spin() {
                is_done = done(self.0.load(Acquire));
            }
            spin.end(is_done);
            if is_done {
                return true;
            }
        }
        let mut timer = RecheckTimer::new();
        let mut expired = false;
        loop {
            let word = self.0.load(Acquire);
            if done(word) {
                return true;
            }
            // Only after a last check: a set may have come at the deadline.
            if expired {
                return false;
            }
            let with_waiters = word | WAITERS;
            if word != with_waiters
                && self
                    .0
                    .compare_exchange(word, with_waiters, Relaxed, Relaxed)
                    .is_err()
            {
                continue;
            }
            sys::futex_wait(&self.0, with_waiters, timer.next_deadline(deadline));
            expired = deadline.is_some_and(Deadline::has_passed);
        }
    }
}
