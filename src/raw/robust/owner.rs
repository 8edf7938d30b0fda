//! The record of a lock's owner: it identifies the owner among all processes.
//!
//! A lock word holds the id of a thread, or 0. Next to the word, the owner records its process id,
//! its thread id once more, its PID namespace and its process image. The owner writes the record
//! after it has acquired the lock, and clears it before it releases the lock.
//!
//! **Orderings.** The image is written before the id, and the id is stored with release ordering. A
//! thread that loads the id with acquire ordering sees the image that belongs to it.

use crate::sys::{self, AtomicU64, CurrentThread, ImageId, Owner, OwnerId};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The recorded owner of a lock. It is set while the owner can access the data.
#[repr(C)]
#[derive(Debug)]
pub struct OwnerRecord {
    /// [`CurrentThread::id`] of the owner, or 0. It includes the thread id, so that the record of a
    /// past owner is not mistaken for that of the present one.
    id: AtomicU64,
    /// The process image of the owner ([`CurrentThread::image`]). Valid while `id` is not 0.
    image: AtomicU64,
}

impl OwnerRecord {
    sys::const_fn! {
        /// Creates an empty record.
        pub(crate) fn new() -> Self {
            OwnerRecord {
                id: AtomicU64::new(0),
                image: AtomicU64::new(0),
            }
        }
    }

    /// Records the calling thread, which has acquired the lock.
    #[inline(always)]
    pub(crate) fn write(&self, current: CurrentThread) {
        // A store of the same value would cost more than this check: the next atomic instruction
        // waits for the store.
        if self.image.load(Relaxed) != current.image().0 {
            self.image.store(current.image().0, Relaxed);
        }
        self.id.store(current.id().to_bits(), Release);
    }

    /// Like [`write`](Self::write), for a lock that is not placed. A fork must know of the hold.
    pub(in crate::raw) fn write_unplaced(&self, current: CurrentThread) {
        self.write(current);
        current.add_unplaced_hold();
    }

    /// Like [`clear`](Self::clear), for a lock that is not placed.
    pub(in crate::raw) fn clear_unplaced(&self, current: CurrentThread) {
        self.clear();
        current.remove_unplaced_hold();
    }

    /// Clears the record of a lock that is being placed. If the record names the calling thread,
    /// that thread leaked its guard before the lock moved here: a fork need not know of that hold.
    pub(in crate::raw) fn clear_placed(&self) {
        if self.id().is_some() && self.is_current_thread(sys::current_thread()) {
            sys::current_thread().remove_unplaced_hold();
        }
        self.clear();
    }

    /// Clears the record. The owner does so before it releases the lock, when the data is complete
    /// again.
    #[inline(always)]
    pub(crate) fn clear(&self) {
        self.id.store(0, Relaxed);
    }

    /// Returns the id of the recorded owner. It might be out of date as soon as it is returned.
    #[inline]
    pub(crate) fn id(&self) -> Option<OwnerId> {
        OwnerId::from_bits(self.id.load(Relaxed))
    }

    /// Like [`id`](Self::id), with acquire ordering. It pairs with the releases in
    /// [`write`](Self::write) and [`clear_if`](Self::clear_if): a caller that sees the new id, or
    /// the cleared record, sees what the storing thread did before.
    pub(crate) fn id_acquire(&self) -> Option<OwnerId> {
        OwnerId::from_bits(self.id.load(Acquire))
    }

    /// Returns the id and the image. They might belong to two different records;
    /// [`still_is`](Self::still_is) checks that.
    pub(crate) fn load(&self) -> Option<Owner> {
        let id = self.id_acquire()?;
        let image = ImageId(self.image.load(Acquire));
        Some(Owner { id, image })
    }

    /// Returns the id and the image, if they belong to one record.
    pub(crate) fn load_consistent(&self) -> Option<Owner> {
        self.load().filter(|owner| self.still_is(Some(owner.id)))
    }

    /// Returns whether the record still has this id.
    pub(crate) fn still_is(&self, id: Option<OwnerId>) -> bool {
        self.id() == id
    }

    /// Clears the record of an owner that no longer exists. Returns false if the record has
    /// changed.
    pub(crate) fn clear_if(&self, id: OwnerId) -> bool {
        self.id
            .compare_exchange(id.to_bits(), 0, Release, Relaxed)
            .is_ok()
    }

    /// Returns whether the record names the calling thread.
    pub(crate) fn is_current_thread(&self, current: CurrentThread) -> bool {
        self.load() == Some(current.owner())
    }

    /// Returns the id of the recorded thread, if it is a thread of the calling process. The thread
    /// might have ended.
    pub(crate) fn thread_of_this_process(&self) -> Option<u32> {
        let id = self.id()?;
        let image = ImageId(self.image.load(Relaxed));
        sys::is_this_process(Owner { id, image }).then(|| id.tid())
    }
}
