//! What is found of an owner that is gone: whether its word may be taken, and whether it died unmarked.

use crate::raw::outcome::AcquireError;
use crate::raw::robust::{OWNER_DIED, Robust, TID, WAITERS};
use crate::sys::{self, Deadline, ProcessState};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// What was found of a marked word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raw) enum Recovery {
    /// The word or its record has changed: read the word again.
    Changed,
    /// The word may be taken. Its record is cleared.
    Free,
    /// The word may not be taken.
    Refused(AcquireError),
}

impl Robust {
    /// Finds out whether a word that is marked may be taken. It stays marked meanwhile, so that nobody waits for the
    /// examiner, who may take a quarter of a second.
    ///
    pub(in crate::raw) fn recover(&self, word: u32, deadline: Option<Deadline>) -> Recovery {
        let owner = self.record.load();
        // The pair of the mark. The same record before and after it is the dead owner's: not that of an owner before it,
        // nor of one that has taken the word since.
        if self.word.load(Acquire) & (OWNER_DIED | TID) != OWNER_DIED
            || !self.record.still_is(owner.map(|owner| owner.id))
        {
            return Recovery::Changed;
        }
        let Some(owner) = owner else {
            // It had not handed the data out yet, or had them back.
            return Recovery::Free;
        };
        let error = match sys::process_state(owner, deadline) {
            // From here on the record tells nothing. Were it left, the next owner could be taken for this one.
            ProcessState::Dead => {
                return match self.record.clear_if(owner.id) {
                    true => Recovery::Free,
                    false => Recovery::Changed,
                };
            }
            // What the dead thread held may have been handed on.
            ProcessState::Alive => AcquireError::HolderThreadEnded,
            ProcessState::Undecided => AcquireError::TimedOut,
        };
        if word & WAITERS != 0 {
            // The others want an answer too; and a wake that brought this one here was for all of them.
            sys::futex_wake(&self.word, 1);
        }
        Recovery::Refused(error)
    }

    /// The safety net's look: marks the word as the kernel does when its owner died without being marked.
    pub(in crate::raw) fn mark_if_owner_dead(&self) -> bool {
        let (word, record) = (self.word.load(Acquire), self.record.load_consistent());
        let Some(owner) = record else {
            return false;
        };
        // The record is this owner's, who has not released since: it clears it first.
        if word & TID == 0 || owner.id.tid() != word & TID || !sys::owner_is_dead(owner) {
            return false;
        }
        loop {
            let now = self.word.fetch_or(0, Acquire);
            // And it still is when the owner has been seen to be gone, so that no later holder is meant.
            if now & TID != word & TID || self.record.load_consistent() != record {
                return false;
            }
            // It fails where others have set or cleared `WAITERS`, which takes no sleep to find out.
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
