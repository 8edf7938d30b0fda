//! What a thread knows about its robust list, and the lock that it left in `list_op_pending`.

use super::list::{Links, OwnList, RobustList};
use super::platform;
use crate::sys::error::RobustListUnusable;
use crate::sys::futex::probe_u64;
use crate::sys::owner::OwnerId;
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire},
};

/// What an error about a thread without a usable list advises.
pub(crate) const ROBUST_LIST_REMEDY: &str = platform::REMEDY;

/// The number of placed values that this process has unmapped.
static UNMAPPED_VALUES: AtomicU64 = AtomicU64::new(0);
/// The distance from the owner record ([`OwnerId`]) of a lock to its links, in bytes. The record
/// comes first.
pub(crate) const RECORD_BEFORE_LINKS: usize = 16;

/// The robust list of one thread, and the state that this crate keeps about it. It lies in the
/// thread's storage.
pub(in crate::sys) struct ThreadList {
    /// The thread's robust list, or `orphan` if it has none. The kernel may not know it.
    list: Cell<RobustList>,
    /// Whether the kernel knew the list when it was found.
    has_list: Cell<bool>,
    /// The list for the fast path: the thread's robust list while held locks may stay in
    /// `list_op_pending`; otherwise a dummy list whose `list_op_pending` is never empty.
    fast_path_list: Cell<RobustList>,
    /// The lock that this crate stored in `list_op_pending` last, held or not. The field alone is
    /// not sufficient: glibc leaves locks there that it no longer holds.
    last_pending: Cell<*const Links>,
    /// The value of [`UNMAPPED_VALUES`] when the pending lock was last checked.
    unmapped_values: Cell<u64>,
    /// Replaces the list of a thread that has none. Its locks are then found only by the liveness
    /// check.
    orphan: OwnList,
}

impl ThreadList {
    pub(in crate::sys) const fn new() -> Self {
        ThreadList {
            list: Cell::new(RobustList::ALWAYS_BUSY),
            has_list: Cell::new(false),
            fast_path_list: Cell::new(RobustList::ALWAYS_BUSY),
            last_pending: Cell::new(ptr::null()),
            unmapped_values: Cell::new(0),
            orphan: OwnList::new(),
        }
    }

    /// Finds the list of the calling thread, whose id is `tid`. Called for a new thread and after a
    /// fork.
    pub(in crate::sys) fn init(&self, tid: u32) {
        let found = platform::find_list(tid);
        self.has_list.set(found.usable.is_ok());
        let list = found.list.unwrap_or_else(|| self.orphan.list());
        self.list.set(list);
        // A child has a copy of its parent's `list_op_pending`.
        self.clear_own_pending();
        self.last_pending.set(ptr::null());
        self.fast_path_list.set(list);
    }

    /// Clears `list_op_pending` if it names the lock that this crate stored there last.
    pub(in crate::sys) fn clear_own_pending(&self) {
        let list = self.list.get();
        if list.names(self.last_pending.get()) {
            list.clear_pending();
        }
    }

    /// Returns an error if the calling thread has no robust list that the kernel knows.
    pub(in crate::sys) fn check(&self) -> Result<(), RobustListUnusable> {
        platform::check_list(self.list(), self.has_list.get()).map_err(RobustListUnusable)
    }

    /// Returns the thread's robust list, or a list that the kernel does not know if it has none.
    #[inline]
    pub(in crate::sys) fn list(&self) -> RobustList {
        self.list.get()
    }

    /// Returns the list for the fast path: the thread's robust list while held locks may stay in
    /// `list_op_pending`. After [`disable_fast_path`](Self::disable_fast_path) it is a dummy list
    /// whose `list_op_pending` is never empty, so the fast path fails.
    #[inline]
    pub(in crate::sys) fn fast_path_list(&self) -> RobustList {
        self.fast_path_list.get()
    }

    /// Stores a lock in the `list_op_pending` of the thread's list: its word is about to be
    /// acquired or released, or is held.
    #[inline]
    pub(in crate::sys) fn set_list_op_pending(&self, list: RobustList, links: &Links) {
        let pending = &self.last_pending;
        // An unconditional store would cost more than the comparison, because the next atomic
        // instruction waits for it.
        if !ptr::eq(pending.get(), links) {
            pending.set(links);
        }
        list.set_pending(links);
    }

    /// Forgets a lock that turns out not to be placed. It may be moved, and another object may then
    /// lie at its address.
    pub(in crate::sys) fn forget_pending(&self, links: &Links) {
        let pending = &self.last_pending;
        if ptr::eq(pending.get(), links) {
            pending.set(ptr::null());
        }
    }

    /// Returns the links of the lock that this crate stored in `list_op_pending` last, if the field
    /// still names it.
    pub(in crate::sys) fn list_op_pending(&self, owner: OwnerId) -> Option<&Links> {
        let links = self.last_pending.get();
        if !self.list().names(links) {
            return None;
        }
        let unmapped = UNMAPPED_VALUES.load(Acquire);
        if self.unmapped_values.get() != unmapped {
            // Memory has been unmapped since the last check. Another lock may now lie at this
            // address: one that glibc left in `list_op_pending`.
            let record = links.cast::<u64>().wrapping_byte_sub(RECORD_BEFORE_LINKS);
            if !is_recorded_at(record, owner) {
                self.last_pending.set(ptr::null());
                return None;
            }
            self.unmapped_values.set(unmapped);
        }
        // SAFETY: by the contract of `Robust::init`, the pending lock stays mapped: it is held, or
        // an operation on it is in progress. A lock whose memory is unmapped was removed from
        // `list_op_pending` when it was released.
        Some(unsafe { &*links })
    }

    /// Stops leaving held locks of this thread in `list_op_pending`, because other code clears the
    /// field.
    pub(in crate::sys) fn disable_fast_path(&self) {
        self.fast_path_list.set(RobustList::ALWAYS_BUSY);
    }

    /// Forgets a lock in memory that is about to be unmapped. Another lock may later lie at the
    /// same address.
    pub(in crate::sys) fn forget(&self, start: *const u8, length: usize) {
        UNMAPPED_VALUES.fetch_add(1, AcqRel);
        let offset = self.last_pending.get().addr().wrapping_sub(start.addr());
        if offset < length {
            self.last_pending.set(ptr::null());
        }
    }
}

/// Returns whether the record at this address names `owner`. Returns false if there is no record
/// any more, or if the memory cannot be read.
fn is_recorded_at(record: *const u64, owner: OwnerId) -> bool {
    // Only that thread writes its own id to a record, so the halves can be compared one after the
    // other.
    probe_u64(record, owner.to_bits())
}
