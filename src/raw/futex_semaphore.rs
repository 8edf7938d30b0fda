//! A counting semaphore in one futex word: what a semaphore is before it is placed.
//!
//! | word | meaning |
//! |---|---|
//! | n | n permits |
//!
//! Every post makes a wake call, even if no thread sleeps. A semaphore that is not placed yet is
//! used briefly, if at all. Here a simple algorithm is worth more than a saved system call.
//!
//! **Orderings.** The release of a post synchronizes with the acquire of the thread that takes that
//! permit, or one posted after it: all changes of the word are read-modify-writes.

use crate::sys::{self, AtomicU32, Deadline, RecheckTimer};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The semaphore's word.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct FutexSemaphore(AtomicU32);

impl FutexSemaphore {
    sys::const_fn! {
        pub(crate) fn new(permits: u32) -> Self {
            FutexSemaphore(AtomicU32::new(permits))
        }
    }

    pub(crate) fn value(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// Takes a permit if there is one.
    pub(crate) fn try_wait(&self) -> bool {
        let mut permits = self.0.load(Relaxed);
        while permits > 0 {
            match self
                .0
                .compare_exchange_weak(permits, permits - 1, Acquire, Relaxed)
            {
                Ok(_) => return true,
                Err(current) => permits = current,
            }
        }
        false
    }

    /// Takes a permit, waiting for one until `deadline`. Returns false if none came.
    pub(crate) fn wait_until(&self, deadline: Option<Deadline>) -> bool {
        let mut timer = RecheckTimer::new();
        let mut expired = false;
        loop {
            // Also after the deadline: a wake may have come with it.
            if self.try_wait() {
                return true;
            }
            if expired {
                return false;
            }
            sys::futex_wait(&self.0, 0, timer.next_deadline(deadline));
            expired = deadline.is_some_and(Deadline::has_passed);
        }
    }

    /// Adds a permit. Returns false if there are `max` already.
    pub(crate) fn post(&self, max: u32) -> bool {
        let mut permits = self.0.load(Relaxed);
        loop {
            if permits >= max {
                return false;
            }
            match self
                .0
                .compare_exchange_weak(permits, permits + 1, Release, Relaxed)
            {
                Ok(_) => break,
                Err(current) => permits = current,
            }
        }
        sys::futex_wake(&self.0, 1);
        true
    }
}
