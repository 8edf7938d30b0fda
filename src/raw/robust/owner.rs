//! The record of who holds a lock: what its word does not say.
//!
//! A lock word names a thread, or nobody. Which process that is, in which PID namespace, and which program it runs, the
//! holder records beside the word, after it has acquired it and until it releases it.
//!
//! **Orderings.** The program is written before the rest, by a release: whoever sees the record sees the program that goes
//! with it.

use crate::sys::{self, AtomicU64, CurrentThread, ImageId, Owner, OwnerId};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Who holds a lock, as long as they may touch what it guards.
#[repr(C)]
#[derive(Debug)]
pub struct OwnerRecord {
    /// [`CurrentThread::id`] of the holder, or 0. It names the thread too, so that the record of a past holder is not taken for the
    /// present one's.
    id: AtomicU64,
    /// The program that the holder's process runs ([`CurrentThread::image`]). Valid while `id` is.
    image: AtomicU64,
}

impl OwnerRecord {
    sys::const_fn! {
        /// Nobody's.
        pub(crate) fn new() -> Self {
            OwnerRecord {
                id: AtomicU64::new(0),
                image: AtomicU64::new(0),
            }
        }
    }

    /// Records the calling thread, which has just acquired the lock.
    #[inline(always)]
    pub(crate) fn write(&self, current: CurrentThread) {
        // A store that changes nothing would cost more than the look: an atomic instruction waits for it.
        if self.image.load(Relaxed) != current.image().0 {
            self.image.store(current.image().0, Relaxed);
        }
        self.id.store(current.id().to_bits(), Release);
    }

    /// Clears it, before the lock is released: what the holder had in its hands is whole again.
    #[inline(always)]
    pub(crate) fn clear(&self) {
        self.id.store(0, Relaxed);
    }

    /// The owner's name, if there is one. It is out of date as soon as it is read.
    #[inline]
    pub(crate) fn id(&self) -> Option<OwnerId> {
        OwnerId::from_bits(self.id.load(Relaxed))
    }

    /// As [`id`](Self::id); and whoever sees a record's end sees what its writer did before.
    pub(crate) fn id_acquire(&self) -> Option<OwnerId> {
        OwnerId::from_bits(self.id.load(Acquire))
    }

    /// Both halves, which may be of two records: [`still_is`](Self::still_is) tells.
    pub(crate) fn load(&self) -> Option<Owner> {
        let id = self.id_acquire()?;
        let image = ImageId(self.image.load(Acquire));
        Some(Owner { id, image })
    }

    /// Both halves, if they are of one record.
    pub(crate) fn load_consistent(&self) -> Option<Owner> {
        self.load().filter(|owner| self.still_is(Some(owner.id)))
    }

    /// Whether the record is still this one's.
    pub(crate) fn still_is(&self, id: Option<OwnerId>) -> bool {
        self.id() == id
    }

    /// Clears the record of somebody who is gone. False where it has changed.
    pub(crate) fn clear_if(&self, id: OwnerId) -> bool {
        self.id
            .compare_exchange(id.to_bits(), 0, Release, Relaxed)
            .is_ok()
    }

    /// Whether it is the calling thread's.
    pub(crate) fn is_current_thread(&self, current: CurrentThread) -> bool {
        self.load() == Some(current.owner())
    }

    /// Whether it is of a thread of the calling process, one that has ended included.
    pub(crate) fn is_this_process(&self) -> bool {
        self.id().is_some_and(|id| {
            let image = ImageId(self.image.load(Relaxed));
            sys::is_this_process(Owner { id, image })
        })
    }
}
