//! A robust lock before it is placed: a [plain futex mutex](super::futex) in its word, which may be moved and forgotten.

use super::futex::FutexWord;
use super::outcome::{Acquired, Patience, Refused};
use super::robust::{Robust, TID, UNPLACED};
use crate::sys::{self, Deadline, Me, Nap};
use core::sync::atomic::Ordering::Relaxed;

impl Robust {
    pub(super) fn is_unplaced(&self) -> bool {
        self.word.load(Relaxed) & TID >= UNPLACED
    }

    pub(super) fn in_process(&self) -> &FutexWord<UNPLACED> {
        FutexWord::of(&self.word)
    }

    pub(super) fn acquire_unplaced(&self, me: Me, patience: Patience) -> Result<Acquired, Refused> {
        if self.record.is_mine(me) {
            return Err(patience.refusal_of_the_holder());
        }
        let deadline = patience.deadline();
        let mut nap = Nap::first();
        // A nap at a time: its holder may be a thread that has ended, whose guard was forgotten.
        while !self.in_process().lock(Patience::Until(nap.end(deadline))) {
            let none = matches!(patience, Patience::None | Patience::IfReleased);
            if none && sys::looked_lately(&self.word, self.word.load(Relaxed)) {
                return Err(patience.refusal());
            }
            let holder = self.record.read_whole();
            // And the record is its still when it has been seen to be gone: it did not release before it ended.
            let is_gone = |(who, image)| {
                who != 0 && sys::owner_is_gone(who, image) && self.record.is_still(who)
            };
            if holder.is_some_and(is_gone) {
                return Err(Refused::HolderThreadEnded);
            }
            if deadline.is_some_and(Deadline::has_passed) {
                return Err(patience.refusal());
            }
        }
        self.record.write(me);
        Ok(Acquired::Released)
    }
}
