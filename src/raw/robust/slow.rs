//! The slow paths of the robust lock: how a locker waits for the word, and how a word that has
//! waiters is released.

use crate::raw::outcome::{AcquireError, Acquired, Recovery, WaitMode};
use crate::raw::robust::spin::SpinWait;
use crate::raw::robust::{
    FREE, IN_PROCESS, IN_PROCESS_CONTENDED, OWNER_DIED, Robust, TID_MASK, WAITERS, WAITERS_SHIFT,
};
use crate::sys::{self, CurrentThread, Deadline, RecheckTimer, Wait};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

impl Robust {
    /// Acquires the lock as `mode` specifies. The caller sets `list_op_pending` before, and records
    /// the owner afterwards.
    pub(super) fn acquire_by_mode(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Acquired, AcquireError> {
        match mode {
            WaitMode::Try => self.try_acquire(current),
            WaitMode::TryIfReleased => self.try_acquire_released(current),
            WaitMode::Until(deadline) => self.acquire_until(current, deadline),
        }
    }

    fn try_acquire(&self, current: CurrentThread) -> Result<Acquired, AcquireError> {
        loop {
            // Acquire: see *Orderings*, reading a mark.
            let word = self.word.load(Acquire);
            if word & TID_MASK == 0 {
                if let Some(outcome) = self.try_take(current, word, Some(Deadline::now())) {
                    return outcome.map_err(|error| match error {
                        AcquireError::TimedOut => AcquireError::WouldBlock,
                        other => other,
                    });
                }
            } else if self.word_names(current, word)
                || sys::checked_recently(&self.word, word)
                || !self.mark_if_owner_dead()
            {
                // Held by this thread, or by a thread that this thread checked in the last 10 ms,
                // or by a thread that is alive now. `checked_recently` also records this check.
                return Err(AcquireError::WouldBlock);
            }
        }
    }

    /// Acquires the lock if its last owner released it. Does not take a marked word, and does not
    /// mark a word: the next locker whose mode is `Try` or `Until` receives the death report.
    fn try_acquire_released(&self, current: CurrentThread) -> Result<Acquired, AcquireError> {
        loop {
            let word = self.word.load(Relaxed);
            if word & (TID_MASK | OWNER_DIED) != 0 {
                return Err(AcquireError::WouldBlock);
            }
            // The compare-exchange expects exactly this word. So a word that is marked in the
            // meantime is not taken either.
            if let Some(outcome) = self.try_take(current, word, None) {
                return outcome;
            }
        }
    }

    fn acquire_until(
        &self,
        current: CurrentThread,
        deadline: Option<Deadline>,
    ) -> Result<Acquired, AcquireError> {
        self.mark_if_death_known();
        let mut timer = RecheckTimer::new();
        let mut expired = false;
        let mut spin = self.new_spin();
        loop {
            // Acquire: see *Orderings*, reading a mark.
            let word = match spin.checks_by_cas() {
                true => match self
                    .word
                    .compare_exchange(FREE, current.tid(), Acquire, Acquire)
                {
                    Ok(_) => return Ok(Acquired::Released),
                    Err(word) => word,
                },
                false => self.word.load(Acquire),
            };
            if word & TID_MASK == 0 {
                if let Some(outcome) = self.try_take(current, word, deadline) {
                    return outcome;
                }
                continue;
            }
            if self.word_names(current, word) {
                return Err(AcquireError::Deadlock);
            }
            // Check the deadline only here. A woken waiter whose deadline passed has tried once
            // more above. It found an owner, and the next unlock wakes another waiter, because that
            // owner kept `WAITERS`.
            if expired {
                // A caller that polls reads `/proc` only from time to time.
                return Err(match sys::checked_recently(&self.word, word) {
                    true => AcquireError::TimedOut,
                    false => WaitMode::Until(deadline).on_timeout_of(&self.record),
                });
            }
            if spin.pause() {
                continue;
            }
            let with_waiters = word | WAITERS;
            if word != with_waiters
                && self
                    .word
                    .compare_exchange(word, with_waiters, Relaxed, Relaxed)
                    .is_err()
            {
                continue;
            }
            let answer = sys::futex_wait(&self.word, with_waiters, timer.next_deadline(deadline));
            if answer == Wait::TimedOut || timer.is_due() {
                // Check the present owner. The lock can have changed owners during the sleep, with
                // each wake going to another waiter. `is_due`: even if this thread was woken, it
                // checks the owner once per interval.
                self.mark_if_owner_dead();
            }
            spin = self.new_spin();
            expired = deadline.is_some_and(Deadline::has_passed);
        }
    }

    /// Starts a spin on the word, as the rate of the critical sections suggests.
    pub(in crate::raw) fn new_spin(&self) -> SpinWait {
        let count = self.section_count.load(Relaxed);
        SpinWait::new(sys::critical_sections_are_dense(&self.word, count))
    }

    /// Tries to acquire the lock by a compare-exchange that expects `word`, which has no owner. If
    /// `word` is marked, calls [`recover`](Self::recover) first. Returns `None` if the caller must
    /// read the word again.
    pub(super) fn try_take(
        &self,
        current: CurrentThread,
        word: u32,
        deadline: Option<Deadline>,
    ) -> Option<Result<Acquired, AcquireError>> {
        let acquired = match word & OWNER_DIED {
            0 => Acquired::Released,
            _ => match self.recover(word, deadline) {
                Recovery::MayTake(owner) => Acquired::OwnerDied(owner),
                Recovery::Changed => return None,
                Recovery::Refused(error) => return Some(Err(error)),
            },
        };
        let taken = current.tid() | word & WAITERS;
        // Release: see *Orderings* of `robust`, taking a mark.
        if self
            .word
            .compare_exchange(word, taken, AcqRel, Relaxed)
            .is_err()
        {
            return None;
        }
        if acquired == Acquired::Released {
            return Some(Ok(acquired));
        }
        if self.record.id_acquire().is_some() {
            // `recover` left the record empty, so this record is that of a later owner. The word
            // was marked, so that owner has ended too, and its process has not been checked. Give
            // the word back, marked. It keeps `WAITERS` for sleepers, as after an unlock.
            self.store_and_wake(current, OWNER_DIED | WAITERS);
            return None;
        }
        self.links.clear();
        Some(Ok(acquired))
    }

    /// Sets `WAITERS` in the word of a lock that is held or marked, before the caller sleeps on it.
    /// (A lock that is not placed becomes contended instead.) Returns the resulting word, or `None`
    /// if the lock has been released.
    pub(in crate::raw) fn prepare_wait(&self) -> Option<u32> {
        loop {
            let word = self.word.load(Relaxed);
            let with_waiters = match word {
                IN_PROCESS => return None,
                word if word & TID_MASK > IN_PROCESS => IN_PROCESS_CONTENDED,
                word if word & (TID_MASK | OWNER_DIED) == 0 => return None,
                word => word | WAITERS,
            };
            if word == with_waiters
                || self
                    .word
                    .compare_exchange(word, with_waiters, Relaxed, Relaxed)
                    .is_ok()
            {
                return Some(with_waiters);
            }
        }
    }

    /// Gives up a word on which threads might sleep: stores `released`, which includes `WAITERS`,
    /// and wakes one waiter. If no thread slept, clears the bit and wakes all threads that went to
    /// sleep in the meantime, in one step.
    #[cold]
    pub(super) fn store_and_wake(&self, current: CurrentThread, released: u32) {
        loop {
            let word = self.word.load(Relaxed);
            if word & TID_MASK != current.tid() {
                // Defensive: other code has overwritten the word of a live owner. Do not release
                // another thread's lock.
                return;
            }
            if self
                .word
                .compare_exchange(word, released, Release, Relaxed)
                .is_ok()
            {
                break;
            }
        }
        if sys::futex_wake(&self.word, 1) == 0 {
            sys::futex_wake_clearing(&self.word, WAITERS_SHIFT);
        }
    }
}
