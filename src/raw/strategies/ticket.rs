//! The ticket lock: first come, first served, without sleep.
//!
//! Two counters: the next ticket, and the one that is served. Whoever waits draws a ticket and looks until it is served; the
//! release serves the next. Both wrap around, and free is where they are equal.
//!
//! It is fair, and pays for it: the next in line may be one that is not running, and everybody waits until it does. A holder
//! that dies holds it for ever, and so does one that dies with a ticket, when its turn comes. Who waits only for a time draws
//! none: it takes the lock when nobody has one, so it may be overtaken without end.
//!
//! **Orderings.** The release store that serves a ticket synchronizes with the acquire load, or the acquire
//! compare-exchange, that sees it served.
//!
//! Source: John M. Mellor-Crummey and Michael L. Scott, *Algorithms for Scalable Synchronization on Shared-Memory
//! Multiprocessors* (1991), section 2.2.

use crate::raw::outcome::WaitMode;
use crate::raw::strategies::spin::Backoff;
use crate::sys::{self, AtomicU32};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// A mutex that serves in the order of arrival.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct TicketWords {
    next: AtomicU32,
    served: AtomicU32,
}

impl TicketWords {
    sys::const_fn! {
        /// A free mutex.
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
    /// Nobody uses it.
    pub(crate) unsafe fn init(&self) {
        self.next.store(self.served.load(Relaxed), Relaxed);
    }

    /// Draws a ticket if it is served at once.
    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        // Only a holder of a ticket serves the next, so nobody serves another while `next` is still this one's.
        let served = self.served.load(Acquire);
        let drawn = self
            .next
            .compare_exchange(served, served.wrapping_add(1), Acquire, Relaxed)
            .is_ok();
        // But where all the tickets there are have been drawn between the two, this one's turn is still to come.
        while drawn && self.served.load(Acquire) != served {
            sys::yield_now();
        }
        drawn
    }

    /// Acquires it, looking as long as `mode` says. False where that was not long enough.
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

    /// Serves the next ticket.
    ///
    /// # Safety
    ///
    /// The calling thread holds it.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // Nobody else writes it while the lock is held.
        let served = self.served.load(Relaxed);
        self.served.store(served.wrapping_add(1), Release);
    }
}
