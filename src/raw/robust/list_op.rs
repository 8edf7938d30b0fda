//! How a robust lock is with_waiters to the kernel: in the slot of its thread's list, or linked into the list.

use crate::raw::robust::Robust;
use crate::sys::CurrentThread;

impl Robust {
    /// Takes the announcement of a lock back that turns out not to be placed.
    pub(in crate::raw) fn retract_list_op(&self, current: CurrentThread) {
        current.clear_list_op_pending(&self.links);
    }

    /// Puts the lock into the slot, before its word is touched. A held lock that stays there moves to the list.
    pub(in crate::raw) fn begin_list_op(&self, current: CurrentThread) {
        link_pending(current);
        current.set_list_op_pending(current.list(), &self.links);
    }

    /// After the attempt: an acquired lock stays in the slot, or is linked where locks may not stay there.
    pub(in crate::raw) fn finish_list_op(&self, current: CurrentThread, acquired: bool) {
        if acquired {
            if current.pending_slot().is_pending(&self.links) {
                return;
            }
            // SAFETY: it was acquired just now, so it is in no list; by `init`'s contract it stays where it is.
            unsafe { current.list().link(&self.links) };
        }
        current.list().clear_pending();
    }

    /// Puts a held lock that is not there into the slot, before it is released, and takes it out of the list.
    pub(in crate::raw) fn begin_unlock(&self, current: CurrentThread) {
        self.begin_list_op(current);
        if self.links.are_linked() {
            // SAFETY: the thread that holds a lock linked it in its own list; the links of a dead holder's list were
            // forgotten when the lock was taken.
            unsafe { current.list().unlink(&self.links) };
        } else {
            // It was there, and something else has emptied the slot.
            current.disable_fast_path();
        }
    }

    /// Puts a held lock into the slot, before it is released, if it is not there.
    pub(in crate::raw) fn ensure_list_op_pending(&self, current: CurrentThread) {
        if !current.pending_slot().is_pending(&self.links) {
            self.begin_unlock(current);
        }
    }
}

/// Links the held lock that is in the slot, if one is.
fn link_pending(current: CurrentThread) {
    if let Some(held) = current.list_op_pending() {
        // SAFETY: between two operations, what this crate has in the slot is a lock that the thread holds, in no list; by
        // `init`'s contract it stays where it is.
        unsafe { current.list().link(held) };
    }
}

/// Leaves the slot to glibc, which uses it in every operation of its robust mutexes.
#[allow(dead_code, reason = "the models have no glibc")]
pub(in crate::raw) fn flush_pending(current: CurrentThread) {
    link_pending(current);
    current.list().clear_pending();
}
