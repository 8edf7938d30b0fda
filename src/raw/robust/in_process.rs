//! A robust lock before it is placed: its word is a
//! [plain futex mutex](crate::raw::strategies::futex), which may be moved and leaked
//! (`mem::forget`).

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::{IN_PROCESS, Robust, TID_MASK};
use crate::raw::strategies::futex::FutexWord;
use crate::sys::{self, CurrentThread, Deadline, Owner, RecheckTimer};
use core::sync::atomic::Ordering::Relaxed;

impl Robust {
    #[inline]
    pub(in crate::raw) fn is_in_process(&self) -> bool {
        self.word.load(Relaxed) & TID_MASK >= IN_PROCESS
    }

    fn in_process_mutex(&self) -> &FutexWord<IN_PROCESS> {
        FutexWord::of(&self.word)
    }

    pub(in crate::raw) fn acquire_in_process(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Acquired, AcquireError> {
        if self.record.is_current_thread(current) {
            return Err(mode.on_relock());
        }
        let deadline = mode.deadline();
        let mut timer = RecheckTimer::new();
        loop {
            // A wait ends after one recheck interval at the latest, because the owner might be a
            // thread that has ended and leaked its guard. If the caller only tries, `deadline` has
            // passed and the wait ends at once.
            let wait = WaitMode::Until(Some(timer.next_deadline(deadline)));
            if self.in_process_mutex().lock(wait) {
                break;
            }
            let only_tries = matches!(mode, WaitMode::Try | WaitMode::TryIfReleased);
            // A caller that polls runs the liveness check only from time to time.
            if only_tries && sys::checked_recently(&self.word, self.word.load(Relaxed)) {
                return Err(mode.on_timeout());
            }
            let owner = self.record.load_consistent();
            // The record is compared after the liveness check. If it still names the owner, the
            // owner did not release the lock before it ended.
            let is_dead =
                |owner: Owner| sys::thread_is_gone(owner) && self.record.still_is(Some(owner.id));
            if owner.is_some_and(is_dead) {
                return Err(AcquireError::HolderThreadEnded);
            }
            if deadline.is_some_and(Deadline::has_passed) {
                return Err(mode.on_timeout());
            }
        }
        self.record.write_unplaced(current);
        Ok(Acquired::Released)
    }

    /// Unlocks a lock that is not placed.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock.
    pub(super) unsafe fn unlock_in_process(&self, current: CurrentThread) {
        self.record.clear_unplaced(current);
        // SAFETY: guaranteed by the caller.
        unsafe { self.in_process_mutex().unlock() };
    }
}
