//! How the kernel finds a robust lock: it is named by the pending field (`list_op_pending`) of its
//! thread's robust list, or linked into the list.

use crate::raw::robust::Robust;
use crate::sys::CurrentThread;

impl Robust {
    /// Clears the thread's cache entry for this lock, which turned out not to be placed.
    ///
    /// Each thread caches the last lock that it stored in the pending field, to distinguish it from
    /// a glibc lock. A lock that is not placed can move, and another lock can then lie at its
    /// address.
    pub(in crate::raw) fn forget_pending(&self, current: CurrentThread) {
        current.forget_pending(&self.links);
    }

    /// Sets the pending field to the lock, before its word is touched. Links the lock that is
    /// pending first, if there is one.
    pub(in crate::raw) fn set_pending(&self, current: CurrentThread) {
        link_pending(current);
        current.set_list_op_pending(current.list(), &self.links);
    }

    /// Ends an attempt to acquire the lock. An acquired lock stays in the pending field. After
    /// [`disable_fast_path`](CurrentThread::disable_fast_path), locks must not stay there: the lock
    /// is linked into the list, and the field is cleared. After a failed attempt, the field is
    /// cleared.
    pub(in crate::raw) fn keep_or_link_pending(&self, current: CurrentThread, acquired: bool) {
        if acquired {
            if current.fast_path_list().is_pending(&self.links) {
                return;
            }
            // SAFETY: the lock was acquired by this attempt, so it is in no list; by the contract
            // of `init` it does not move and stays mapped.
            unsafe { current.list().link(&self.links) };
        }
        current.list().clear_pending();
    }

    /// Sets the pending field to a held lock that is not in the field, before the lock is released,
    /// and unlinks the lock from the list.
    pub(in crate::raw) fn begin_unlock(&self, current: CurrentThread) {
        self.set_pending(current);
        if self.links.are_linked() {
            // SAFETY: the calling thread holds the lock, and an owner links a lock into its own
            // list. Links into the list of a dead owner were reset when the lock was acquired.
            unsafe { current.list().unlink(&self.links) };
        } else {
            // The lock was in the pending field, and other code has cleared the field.
            current.disable_fast_path();
        }
    }

    /// Sets the pending field to a held lock before it is released, if the field does not name it.
    pub(in crate::raw) fn ensure_pending(&self, current: CurrentThread) {
        if !current.fast_path_list().is_pending(&self.links) {
            self.begin_unlock(current);
        }
    }
}

/// Links the held lock that the pending field names, if it names one: a lock of this crate, or of
/// another copy of it in the program.
fn link_pending(current: CurrentThread) {
    match current.list_op_pending() {
        // SAFETY: between two operations, a lock of this crate in the pending field is held by the
        // thread and is in no list; by the contract of `init` it does not move and stays mapped.
        Some(held) => unsafe { current.list().link(held) },
        None => current.link_pending_of_another_copy(),
    }
}

/// Clears the pending field for glibc, which uses the field in each operation of its robust
/// mutexes. If the field names a held lock, links that lock into the list first.
#[allow(dead_code, reason = "the models have no glibc")]
pub(in crate::raw) fn flush_pending(current: CurrentThread) {
    link_pending(current);
    current.list().clear_pending();
}
