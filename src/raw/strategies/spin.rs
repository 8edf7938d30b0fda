//! The spin lock: a waiter checks the word until the lock is free.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free |
//! | 1 | held |
//!
//! Each check is a plain load, which shares the cache line (test and test-and-set). The pauses
//! between the checks become longer. After some checks the waiter yields its CPU before each
//! check, because the owner may be waiting for that CPU. No thread sleeps, and no thread is woken.
//! If the owner dies, the lock stays held for ever, and its waiters use their CPUs for ever.
//!
//! **Orderings.** The release store of an unlock synchronizes with the acquire operation of the
//! thread that takes the word from it.
//!
//! Source: Thomas E. Anderson, *The Performance of Spin Lock Alternatives for Shared-Memory
//! Multiprocessors* (1990), spinning on read with exponential backoff.

use crate::raw::outcome::WaitMode;
use crate::sys::{self, AtomicU32, Deadline};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const FREE: u32 = 0;
const HELD: u32 = 1;

/// A mutex on which no thread sleeps.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct SpinWord(AtomicU32);

impl SpinWord {
    sys::const_fn! {
        /// Creates a free mutex.
        pub(crate) fn new() -> Self {
            SpinWord(AtomicU32::new(FREE))
        }
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
            .compare_exchange(FREE, HELD, Acquire, Relaxed)
            .is_ok()
    }

    /// Acquires the mutex, and spins as long as `mode` allows. Returns false if the mutex did not
    /// become free in that time.
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

    /// Releases the mutex.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the mutex.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        self.0.store(FREE, Release);
    }
}

/// The pauses of a waiter between its checks.
#[derive(Debug)]
pub(in crate::raw) struct Backoff {
    step: u32,
}

impl Backoff {
    /// The number of steps that spin, for 1, 2, 4 ... 64 pauses. Each later step yields the CPU.
    const SPINS: u32 = 7;

    pub(in crate::raw) fn new() -> Self {
        let step = Self::SPINS - sys::spin_limit(Self::SPINS);
        Backoff { step }
    }

    /// Pauses, or yields the CPU. Returns false if the caller must not wait any longer.
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
