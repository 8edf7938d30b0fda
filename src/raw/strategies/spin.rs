//! The spin lock: whoever waits looks again and again.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free |
//! | 1 | held |
//!
//! The looks are plain loads, which share the cache line (test and test-and-set), ever fewer of them, and after some the
//! waiter gives its CPU away before each: the holder may be waiting for that very CPU. Nobody sleeps, and nobody is woken. A holder
//! that dies holds it for ever, and its waiters burn their CPUs as long.
//!
//! **Orderings.** The release store of an unlock synchronizes with the acquire operation of whoever takes the word from it.
//!
//! Source: Thomas E. Anderson, *The Performance of Spin Lock Alternatives for Shared-Memory Multiprocessors* (1990), spinning
//! on read with exponential backoff.

use crate::raw::outcome::WaitMode;
use crate::sys::{self, AtomicU32, Deadline};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const FREE: u32 = 0;
const HELD: u32 = 1;

/// A mutex that nobody sleeps on.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct SpinWord(AtomicU32);

impl SpinWord {
    sys::const_fn! {
        /// A free mutex.
        pub(crate) fn new() -> Self {
            SpinWord(AtomicU32::new(FREE))
        }
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
            .compare_exchange(FREE, HELD, Acquire, Relaxed)
            .is_ok()
    }

    /// Acquires it, looking as long as `mode` says. False where that was not long enough.
    #[cold]
    pub(crate) fn lock(&self, mode: WaitMode) -> bool {
        let mut backoff = Backoff::new();
        loop {
            if self.0.load(Relaxed) == FREE && self.try_lock() {
                return true;
            }
            if !backoff.wait(mode) {
                return false;
            }
        }
    }

    /// Releases it.
    ///
    /// # Safety
    ///
    /// The calling thread holds it.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        self.0.store(FREE, Release);
    }
}

/// How a waiter passes the time between two looks.
#[derive(Debug)]
pub(in crate::raw) struct Backoff {
    step: u32,
}

impl Backoff {
    /// Steps of 1, 2, 4 ... 64 pauses; from then on the CPU is given away.
    const SPINS: u32 = 7;

    pub(in crate::raw) fn new() -> Self {
        let step = Self::SPINS - sys::spin_limit(Self::SPINS);
        Backoff { step }
    }

    /// Passes some time. False where the caller's mode is at its end.
    pub(in crate::raw) fn wait(&mut self, mode: WaitMode) -> bool {
        if self.step < Self::SPINS {
            (0..1 << self.step).for_each(|_| sys::pause());
            self.step += 1;
        } else {
            sys::yield_now();
        }
        match mode {
            WaitMode::Try | WaitMode::TryIfReleased => false,
            WaitMode::Until(deadline) => !deadline.is_some_and(Deadline::has_passed),
        }
    }
}
