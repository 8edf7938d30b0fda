//! A reader's slot in a [readers-writer lock](crate::raw::rwlock): a robust word, and the state of
//! its owner.

use crate::raw::robust::Robust;
use crate::sys::{self, AtomicU32, CurrentThread};
use core::sync::atomic::Ordering::Relaxed;

/// A reader's slot.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct ReaderSlot {
    pub(in crate::raw) lock: Robust,
    pub(in crate::raw) state: AtomicU32,
    /// How many reads its owner has begun after the first. Only the owner accesses it.
    recursion: AtomicU32,
}

/// The state of a reader that reads, or checks whether it may.
pub(in crate::raw) const READING: u32 = 0;

impl AsRef<Robust> for ReaderSlot {
    fn as_ref(&self) -> &Robust {
        &self.lock
    }
}

impl ReaderSlot {
    sys::const_fn! {
        /// Creates a slot that is free.
        pub(in crate::raw) fn new() -> Self {
            ReaderSlot {
                lock: Robust::new(),
                state: AtomicU32::new(READING),
                recursion: AtomicU32::new(0),
            }
        }
    }

    /// Resets what a new owner must find reset. A dead owner may have left it changed.
    pub(in crate::raw) fn clear(&self) {
        self.state.store(READING, Relaxed);
        self.recursion.store(0, Relaxed);
    }

    /// Begins another read of the slot's owner.
    pub(in crate::raw) fn recurse(&self) {
        let recursion = self.recursion.load(Relaxed);
        let next = recursion.checked_add(1).expect("2^32 reads of one thread");
        self.recursion.store(next, Relaxed);
    }

    /// Ends a read, and releases the slot after the last one.
    ///
    /// # Safety
    ///
    /// The calling thread must own the slot.
    #[inline(always)]
    pub(in crate::raw) unsafe fn release(&self, current: CurrentThread) {
        let recursion = self.recursion.load(Relaxed);
        if recursion > 0 {
            self.recursion.store(recursion - 1, Relaxed);
            return;
        }
        // SAFETY: guaranteed by the caller.
        unsafe { self.lock.unlock(current) };
    }
}
