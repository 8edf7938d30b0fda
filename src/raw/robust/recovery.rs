//! Recovery from a dead owner: whether its word may be taken, and whether it died without being
//! marked.

use crate::raw::outcome::{AcquireError, Recovery};
use crate::raw::robust::{OWNER_DIED, Robust, TID, WAITERS};
use crate::sys::{self, Deadline, ProcessState};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

impl Robust {
    /// Checks whether a marked word may be taken. The check can take a quarter of a second. The
    /// word stays marked in the meantime, so that no thread waits for the thread that runs the
    /// check.
    pub(in crate::raw) fn recover(&self, word: u32, deadline: Option<Deadline>) -> Recovery {
        let owner = self.record.load();
        // This load pairs with the mark. If the record is the same before and after the load, it
        // belongs to the owner that was marked. It does not belong to an earlier owner, nor to a
        // thread that has taken the word since.
        if self.word.load(Acquire) & (OWNER_DIED | TID) != OWNER_DIED
            || !self.record.still_is(owner.map(|owner| owner.id))
        {
            return Recovery::Changed;
        }
        let Some(owner) = owner else {
            // An owner writes the record before its first access to the data, and clears it after
            // the last. So this owner died before its first access, or after its last; or another
            // thread has checked its process already, and cleared the record.
            return Recovery::Free;
        };
        let error = match sys::process_state(owner, deadline) {
            // The record is not needed any more. If it stayed, the next owner could be mistaken for
            // this one.
            ProcessState::Dead => {
                return match self.record.clear_if(owner.id) {
                    true => Recovery::Free,
                    false => Recovery::Changed,
                };
            }
            // The dead thread may have passed its access to the data to another thread.
            ProcessState::Alive => AcquireError::HolderThreadEnded,
            ProcessState::Undecided => AcquireError::TimedOut,
        };
        if word & WAITERS != 0 {
            // The other waiters need the result too. If a wake brought this thread here, the wake
            // was for all of them.
            sys::futex_wake(&self.word, 1);
        }
        Recovery::Refused(error)
    }

    /// Runs the liveness check: if the owner has died and its word was not marked, marks the word
    /// as the kernel does. Returns whether this call has marked it.
    pub(in crate::raw) fn mark_if_owner_dead(&self) -> bool {
        let (word, record) = (self.word.load(Acquire), self.record.load_consistent());
        let Some(owner) = record else {
            return false;
        };
        // If the ids match, the record is that of the owner in `word`, and this owner has not
        // released the lock since: an owner clears its record before it releases.
        if word & TID == 0 || owner.id.tid() != word & TID || !sys::owner_is_dead(owner) {
            return false;
        }
        loop {
            let now = self.word.fetch_or(0, Acquire);
            // Both must be unchanged after the owner was found dead. Otherwise, the mark would
            // apply to a later owner.
            if now & TID != word & TID || self.record.load_consistent() != record {
                return false;
            }
            // This fails if other threads have set or cleared `WAITERS`. The loop then retries at
            // once, without a sleep.
            if self
                .word
                .compare_exchange(now, now & WAITERS | OWNER_DIED, Release, Relaxed)
                .is_ok()
            {
                return true;
            }
        }
    }
}
