//! How the kernel finds a robust lock: through `list_op_pending` of its thread's robust list, or
//! linked into the list.

use crate::raw::robust::Robust;
use crate::sys::CurrentThread;

impl Robust {
    /// Makes the thread forget that it last set `list_op_pending` to this lock. The lock turned out
    /// not to be placed.
    pub(in crate::raw) fn forget_list_op(&self, current: CurrentThread) {
        current.forget_pending(&self.links);
    }

    /// Sets `list_op_pending` to the lock, before its word is touched. If the field names a held
    /// lock, that lock is linked into the list first.
    pub(in crate::raw) fn begin_list_op(&self, current: CurrentThread) {
        link_pending(current);
        current.set_list_op_pending(current.list(), &self.links);
    }

    /// Ends an attempt to acquire the lock. An acquired lock stays in `list_op_pending`. If locks
    /// may not stay there, it is linked into the list and the field is cleared. After a failed
    /// attempt, the field is cleared.
    pub(in crate::raw) fn finish_list_op(&self, current: CurrentThread, acquired: bool) {
        if acquired {
            if current.pending_slot().is_pending(&self.links) {
                return;
            }
            // SAFETY: the lock was acquired by this attempt, so it is in no list; by the contract
            // of `init` it does not move and stays mapped.
            unsafe { current.list().link(&self.links) };
        }
        current.list().clear_pending();
    }

    /// Sets `list_op_pending` to a held lock that is not in the field, before the lock is released,
    /// and unlinks the lock from the list.
    pub(in crate::raw) fn begin_unlock(&self, current: CurrentThread) {
        self.begin_list_op(current);
        if self.links.are_linked() {
            // SAFETY: the calling thread holds the lock, and an owner links a lock into its own
            // list. Links into the list of a dead owner were reset when the lock was acquired.
            unsafe { current.list().unlink(&self.links) };
        } else {
            // The lock was in `list_op_pending`, and other code has cleared the field.
            current.disable_fast_path();
        }
    }

    /// Sets `list_op_pending` to a held lock before it is released, if the field does not name it.
    pub(in crate::raw) fn ensure_list_op_pending(&self, current: CurrentThread) {
        if !current.pending_slot().is_pending(&self.links) {
            self.begin_unlock(current);
        }
    }
}

/// Links the held lock that `list_op_pending` names, if it names one.
fn link_pending(current: CurrentThread) {
    if let Some(held) = current.list_op_pending() {
        // SAFETY: between two operations, a lock of this crate in `list_op_pending` is held by the
        // thread and is in no list; by the contract of `init` it does not move and stays mapped.
        unsafe { current.list().link(held) };
    }
}

/// Clears `list_op_pending` for glibc, which uses the field in each operation of its robust
/// mutexes. If the field names a held lock, the lock is linked into the list first.
#[allow(dead_code, reason = "the models have no glibc")]
pub(in crate::raw) fn flush_pending(current: CurrentThread) {
    link_pending(current);
    current.list().clear_pending();
}
