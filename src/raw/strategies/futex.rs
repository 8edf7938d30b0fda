//! The plain futex mutex: `std`'s, in a word that processes share.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free |
//! | 1 | held, nobody sleeps |
//! | 2 | held, somebody may sleep |
//!
//! Who has to wait spins for a while, then sets 2 and sleeps, and sets 2 again when it acquires, since others may sleep. The
//! release wakes one where it finds 2. The word does not say whose it is: a holder that dies holds it for ever.
//!
//! A waiter that dies just when it was woken takes the wake with it. The others look once in a while ([`RecheckTimer`]).
//!
//! **Orderings.** The release exchange of an unlock synchronizes with the acquire operation of whoever takes the word from it.
//!
//! Source: Ulrich Drepper, *Futexes Are Tricky*, mutex 2 and 3, as `library/std/src/sys/sync/mutex/futex.rs` has it.

use crate::raw::outcome::WaitMode;
use crate::sys::{self, AtomicU32, Deadline, RecheckTimer};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Looks at the word before a contender sleeps: `std`'s number.
const LOOKS: u32 = 100;

/// A mutex that knows no owner. `FREE` is what its word starts from; 0 but for a word that has other uses too.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct FutexWord<const FREE: u32 = 0>(AtomicU32);

impl FutexWord {
    sys::const_fn! {
        /// A free mutex.
        pub(crate) fn new() -> Self {
            FutexWord(AtomicU32::new(0))
        }
    }
}

impl<const FREE: u32> FutexWord<FREE> {
    const HELD: u32 = FREE + 1;
    const CONTENDED: u32 = FREE + 2;

    /// The mutex that is made of a word.
    pub(crate) fn of(word: &AtomicU32) -> &Self {
        // SAFETY: a mutex is its word, and nothing else.
        unsafe { &*core::ptr::from_ref(word).cast() }
    }

    /// Frees the mutex.
    ///
    /// # Safety
    ///
    /// Nobody uses it.
    pub(crate) unsafe fn init(&self) {
        self.0.store(FREE, Relaxed);
    }

    /// Acquires it if nobody holds it.
    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        self.0
            .compare_exchange(FREE, Self::HELD, Acquire, Relaxed)
            .is_ok()
    }

    /// Acquires it, waiting as long as `mode` says. False where that was not long enough.
    #[cold]
    pub(crate) fn lock(&self, mode: WaitMode) -> bool {
        match mode {
            WaitMode::Try | WaitMode::TryIfReleased => self.try_lock(),
            WaitMode::Until(deadline) => self.wait_and_lock(deadline),
        }
    }

    /// Releases it and wakes a sleeper if there may be one.
    ///
    /// # Safety
    ///
    /// The calling thread holds it.
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
            // A sleeper that was woken has its try here, also after its deadline: otherwise its wake would be lost.
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

    /// Waits for a short section to end. Not while somebody sleeps: they come first.
    fn spin(&self) -> u32 {
        let mut looks = sys::spin_limit(LOOKS).max(1);
        loop {
            let word = self.0.load(Relaxed);
            looks -= 1;
            if word != Self::HELD || looks == 0 {
                return word;
            }
            sys::pause();
        }
    }
}
