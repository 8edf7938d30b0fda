//! The record of who holds a lock: what its word does not say.
//!
//! A lock word names a thread, or nobody. Which process that is, in which PID namespace, and which program it runs, the
//! holder records beside the word, after it has acquired it and until it releases it.
//!
//! **Orderings.** The program is written before the rest, by a release: whoever sees the record sees the program that goes
//! with it.

use crate::sys::{self, AtomicU64, CurrentThread};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Who holds a lock, as long as they may touch what it guards.
#[repr(C)]
#[derive(Debug)]
pub struct OwnerRecord {
    /// [`CurrentThread::who`] of the holder, or 0. It names the thread too, so that the record of a past holder is not taken for the
    /// present one's.
    who: AtomicU64,
    /// The program that the holder's process runs ([`CurrentThread::image`]). Valid while `who` is.
    image: AtomicU64,
}

impl OwnerRecord {
    sys::const_fn! {
        /// Nobody's.
        pub(crate) fn new() -> Self {
            OwnerRecord {
                who: AtomicU64::new(0),
                image: AtomicU64::new(0),
            }
        }
    }

    /// Records the calling thread, which has just acquired the lock.
    #[inline(always)]
    pub(crate) fn write(&self, current: CurrentThread) {
        // A store that changes nothing would cost more than the look: an atomic instruction waits for it.
        if self.image.load(Relaxed) != current.image() {
            self.image.store(current.image(), Relaxed);
        }
        self.who.store(current.who(), Release);
    }

    /// Clears it, before the lock is released: what the holder had in its hands is whole again.
    #[inline(always)]
    pub(crate) fn clear(&self) {
        self.who.store(0, Relaxed);
    }

    /// The holder's who, or 0. It is out of date as soon as it is read.
    #[inline]
    pub(crate) fn who(&self) -> u64 {
        self.who.load(Relaxed)
    }

    /// As [`who`](Self::who); and whoever sees a record's end sees what its writer did before.
    pub(crate) fn who_acquire(&self) -> u64 {
        self.who.load(Acquire)
    }

    /// Both halves, which may be of two records: [`still_is`](Self::still_is) tells.
    pub(crate) fn load(&self) -> (u64, u64) {
        (self.who.load(Acquire), self.image.load(Acquire))
    }

    /// Both halves, if they are of one record.
    pub(crate) fn load_consistent(&self) -> Option<(u64, u64)> {
        let record = self.load();
        self.still_is(record.0).then_some(record)
    }

    /// Whether the record is still this one's.
    pub(crate) fn still_is(&self, who: u64) -> bool {
        self.who.load(Relaxed) == who
    }

    /// Clears the record of somebody who is gone. False where it has changed.
    pub(crate) fn clear_if(&self, who: u64) -> bool {
        self.who.compare_exchange(who, 0, Release, Relaxed).is_ok()
    }

    /// Whether it is the calling thread's.
    pub(crate) fn is_current_thread(&self, current: CurrentThread) -> bool {
        self.load() == (current.who(), current.image())
    }

    /// Whether it is of a thread of the calling process, one that has ended included.
    pub(crate) fn is_of_this_process(&self) -> bool {
        sys::is_this_process(self.who(), self.image.load(Relaxed))
    }
}
