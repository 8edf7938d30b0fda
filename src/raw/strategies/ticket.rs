//! The ticket lock: it serves threads in the order of arrival, and no thread sleeps.
//!
//! The lock has two counters: the next ticket to draw, and the ticket that is served. A waiter
//! draws a ticket and spins until it is served. A release serves the next ticket. Both counters
//! wrap around. The lock is free if they are equal.
//!
//! Fairness has a price: the thread with the next ticket may not be running, and then all waiters
//! wait until it runs. If the owner dies, the lock stays held for ever. If a thread with a ticket
//! dies, the lock stays held for ever once that ticket is served. A thread that waits for a limited
//! time draws no ticket. It takes the lock when no thread has a ticket, so other threads may
//! overtake it without limit.
//!
//! **Orderings.** The release store that serves a ticket synchronizes with the acquire load of
//! `served` that sees the ticket served.
//!
//! Source: John M. Mellor-Crummey and Michael L. Scott, *Algorithms for Scalable Synchronization on
//! Shared-Memory Multiprocessors* (1991), section 2.2.

use crate::raw::outcome::WaitMode;
use crate::raw::strategies::spin::Backoff;
use crate::sys::{self, AtomicU32};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// A mutex that serves threads in the order of arrival.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct TicketWords {
    next: AtomicU32,
    served: AtomicU32,
}

impl TicketWords {
    sys::const_fn! {
        /// Creates a free mutex.
        pub(crate) fn new() -> Self {
            TicketWords {
                next: AtomicU32::new(0),
                served: AtomicU32::new(0),
            }
        }
    }

    /// Frees the mutex.
    ///
    /// # Safety
    ///
    /// No thread may use the mutex.
    pub(crate) unsafe fn init(&self) {
        self.next.store(self.served.load(Relaxed), Relaxed);
    }

    /// Draws a ticket if that ticket is served at once.
    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        // Only a thread with a ticket serves the next one. So no thread changes `served` while
        // `next` still equals it.
        let served = self.served.load(Acquire);
        let drawn = self
            .next
            .compare_exchange(served, served.wrapping_add(1), Acquire, Relaxed)
            .is_ok();
        // If `next` has wrapped around between the two operations, the drawn ticket is not served
        // yet.
        while drawn && self.served.load(Acquire) != served {
            sys::yield_now();
        }
        drawn
    }

    /// Acquires the mutex, and spins as long as `mode` allows. Returns false if the mutex did not
    /// become free in that time.
    #[cold]
    pub(crate) fn lock(&self, mode: WaitMode) -> bool {
        let mut backoff = Backoff::new();
        if !matches!(mode, WaitMode::Until(None)) {
            while !self.try_lock() {
                if !backoff.wait(mode) {
                    return false;
                }
            }
            return true;
        }
        let ticket = self.next.fetch_add(1, Relaxed);
        while self.served.load(Acquire) != ticket {
            backoff.wait(mode);
        }
        true
    }

    /// Releases the mutex: serves the next ticket.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the mutex.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // No other thread writes `served` while the lock is held.
        let served = self.served.load(Relaxed);
        self.served.store(served.wrapping_add(1), Release);
    }
}
