//! A reader's place in a [readers-writer lock](super::rwlock): a robust word, and what its owner says beside it.

use super::robust::Robust;
use super::row::HasWord;
use crate::sys::{self, AtomicU32, Me};
use core::sync::atomic::Ordering::Relaxed;

/// A reader's place.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Seat {
    pub(super) lock: Robust,
    pub(super) state: AtomicU32,
    /// How many reads its owner has begun besides the first. Only the owner looks here.
    nested: AtomicU32,
}

/// The state of a reader that reads, or looks whether it may.
pub(super) const IN: u32 = 0;

impl HasWord for Seat {
    fn word(&self) -> &Robust {
        &self.lock
    }
}

impl Seat {
    sys::const_fn! {
        /// An empty one.
        pub(super) fn new() -> Self {
            Seat {
                lock: Robust::new(),
                state: AtomicU32::new(IN),
                nested: AtomicU32::new(0),
            }
        }
    }

    /// What a new owner finds, and a dead one may not have left.
    pub(super) fn forget(&self) {
        self.state.store(IN, Relaxed);
        self.nested.store(0, Relaxed);
    }

    /// Begins another read of the owner's.
    pub(super) fn nest(&self) {
        let nested = self.nested.load(Relaxed);
        let more = nested.checked_add(1).expect("2^32 reads of one thread");
        self.nested.store(more, Relaxed);
    }

    /// Ends a read, and leaves the seat if it is the last one.
    ///
    /// # Safety
    ///
    /// The calling thread owns the seat.
    #[inline]
    pub(super) unsafe fn leave(&self, me: Me) {
        let nested = self.nested.load(Relaxed);
        if nested > 0 {
            self.nested.store(nested - 1, Relaxed);
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { self.lock.unlock(me) };
    }
}
