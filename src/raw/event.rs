//! An event: a flag and a sequence number in one futex word.
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | set |
//! | 1 | somebody may sleep |
//! | 2-31 | how often the event was set, modulo 2^30 |
//!
//! A set raises the sequence, so that whoever waits for the next news wakes by it even if the flag is reset at once. The
//! word is changed by compare-exchange alone; a waiter announces itself in bit 1 before it sleeps on the very word it saw,
//! and the set that takes the bit away wakes everybody. So a set with nobody asleep makes no system call, and none that
//! changes the word between a waiter's look and its sleep can be missed: the sleep compares.
//!
//! Nothing is owned here. A setter that dies between its change and its wake leaves sleepers to the safety net: no sleep
//! is longer than a second without a look.
//!
//! **Orderings.** The release of a set synchronizes with the acquire load by which a waiter sees it.

use crate::sys::{self, AtomicU32, Deadline, RecheckTimer};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const SET: u32 = 1;
const WAITERS: u32 = 2;
const ONE: u32 = 4;

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

    /// How often the event was set, modulo 2^30.
    pub(crate) fn sequence(&self) -> u32 {
        self.0.load(Acquire) / ONE
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Acquire) & SET != 0
    }

    /// Sets the flag, raises the sequence, and wakes everybody.
    pub(crate) fn set(&self) {
        let mut word = self.0.load(Relaxed);
        loop {
            let news = word.wrapping_add(ONE) & !WAITERS | SET;
            match self.0.compare_exchange_weak(word, news, Release, Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if word & WAITERS != 0 {
            sys::futex_wake(&self.0, u32::MAX);
        }
    }

    /// Takes the flag away. The sequence stays. Tells whether it was set.
    pub(crate) fn reset(&self) -> bool {
        self.0.fetch_and(!SET, Relaxed) & SET != 0
    }

    /// Waits until the flag is set, or was set since the call: false where `deadline` came first.
    pub(crate) fn wait(&self, deadline: Option<Deadline>) -> bool {
        let seen = self.sequence();
        self.sleep_until(deadline, |word| word & SET != 0 || word / ONE != seen)
    }

    /// Waits until the sequence is another one than `seen`: false where `deadline` came first.
    pub(crate) fn wait_past(&self, seen: u32, deadline: Option<Deadline>) -> bool {
        self.sleep_until(deadline, |word| word / ONE != seen)
    }

    /// Says that somebody is about to sleep on the word, and gives it and what it then is. `None` where the event is set.
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
            let mut news = false;
            while !news && spin.spin() {
                news = done(self.0.load(Acquire));
            }
            spin.end(news);
            if news {
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
            // After the last look: a set may have come with the deadline.
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
