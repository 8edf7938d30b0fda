//! The plain futex mutex: the algorithm of `std`, on a word that processes share.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free |
//! | 1 | held; no thread sleeps |
//! | 2 | held; a thread may sleep |
//!
//! A waiter spins for a while, then stores 2 and sleeps. When it acquires the lock, it stores 2
//! again, because other waiters may sleep. A release that finds 2 wakes one waiter. The word does
//! not identify the owner: if the owner dies, the lock stays held for ever.
//!
//! A waiter that dies after it was woken takes the wake with it. The other waiters recheck the word
//! at intervals ([`RecheckTimer`]).
//!
//! **Orderings.** The release exchange of an unlock synchronizes with the acquire operation of the
//! thread that takes the word from it.
//!
//! Source: Ulrich Drepper, *Futexes Are Tricky*, mutex 2 and 3, as in
//! `library/std/src/sys/sync/mutex/futex.rs`.

use crate::raw::outcome::WaitMode;
use crate::sys::{self, AtomicU32, Deadline, RecheckTimer};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// How often a waiter checks the word before it sleeps: the number that `std` uses.
const SPINS: u32 = 100;

/// A mutex that does not record its owner. `FREE` is the word of a free mutex. It is 0, except for
/// a word that has other uses too.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct FutexWord<const FREE: u32 = 0>(AtomicU32);

impl FutexWord {
    sys::const_fn! {
        /// Creates a free mutex.
        pub(crate) fn new() -> Self {
            FutexWord(AtomicU32::new(0))
        }
    }
}

impl<const FREE: u32> FutexWord<FREE> {
    const HELD: u32 = FREE + 1;
    pub(in crate::raw) const CONTENDED: u32 = FREE + 2;

    /// Returns the mutex that a word represents.
    pub(crate) fn of(word: &AtomicU32) -> &Self {
        // SAFETY: `FutexWord` is `repr(transparent)` over its word.
        unsafe { &*core::ptr::from_ref(word).cast() }
    }

    /// Frees the mutex.
    ///
    /// # Safety
    ///
    /// No thread may use the mutex.
    pub(crate) unsafe fn init(&self) {
        self.0.store(FREE, Relaxed);
    }

    /// Acquires the mutex if it is free.
    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        self.0
            .compare_exchange(FREE, Self::HELD, Acquire, Relaxed)
            .is_ok()
    }

    /// Acquires the mutex, and waits as long as `mode` allows. Returns false if the mutex did not
    /// become free in that time.
    #[cold]
    pub(crate) fn lock(&self, mode: WaitMode) -> bool {
        match mode {
            WaitMode::Try | WaitMode::TryIfReleased => self.try_lock(),
            WaitMode::Until(deadline) => self.wait_and_lock(deadline),
        }
    }

    /// Releases the mutex, and wakes a waiter if there may be one.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the mutex.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        if self.0.swap(FREE, Release) == Self::CONTENDED {
            sys::futex_wake(&self.0, 1);
        }
    }

    fn wait_and_lock(&self, deadline: Option<Deadline>) -> bool {
        let mut word = self.spin();
        if word == FREE && self.try_lock() {
            return true;
        }
        let mut timer = RecheckTimer::new();
        loop {
            // A woken waiter tries again here, also after its deadline. Otherwise, its wake would
            // be lost.
            if word != Self::CONTENDED && self.0.swap(Self::CONTENDED, Acquire) == FREE {
                return true;
            }
            if deadline.is_some_and(Deadline::has_passed) {
                return false;
            }
            sys::futex_wait(&self.0, Self::CONTENDED, timer.next_deadline(deadline));
            word = self.spin();
        }
    }

    /// Spins while the mutex is held and no thread sleeps, for a short critical section. Sleeping
    /// waiters come first, so it does not spin while there may be any. Returns the last word read.
    fn spin(&self) -> u32 {
        let mut spins = sys::spin_limit(SPINS).max(1);
        loop {
            let word = self.0.load(Relaxed);
            spins -= 1;
            if word != Self::HELD || spins == 0 {
                return word;
            }
            sys::pause();
        }
    }
}
