//! Recovery from a dead owner: whether its word may be taken, and whether the kernel left its word
//! unmarked.

use crate::raw::outcome::{AcquireError, Recovery};
use crate::raw::robust::{OWNER_DIED, Robust, TID_MASK, WAITERS};
use crate::sys::{self, Deadline, ProcessState};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

impl Robust {
    /// Decides whether a marked word may be taken: whether the process of the dead thread has died
    /// too. The check takes up to a quarter of a second, or as long as a dying process needs to
    /// end. It ends at `deadline` at the latest. The word stays marked in the meantime, so that no
    /// thread waits for the thread that runs the check.
    pub(in crate::raw) fn recover(&self, word: u32, deadline: Option<Deadline>) -> Recovery {
        let owner = self.record.load();
        // Acquire: see *Orderings* of `robust`, reading a mark. If the record is the same before
        // and after the load, it belongs to the owner that was marked. It does not belong to an
        // earlier owner, nor to a thread that has taken the word since.
        if self.word.load(Acquire) & (OWNER_DIED | TID_MASK) != OWNER_DIED
            || !self.record.still_is(owner.map(|owner| owner.id))
        {
            return Recovery::Changed;
        }
        let Some(owner) = owner else {
            // An owner writes the record before its first access to the data, and clears it after
            // the last. So this owner died before its first access, or after its last; or another
            // thread has checked its process already, and cleared the record. The caller reports a
            // death in each case: in the third, the death is real and not reported yet, and an
            // empty record does not distinguish the three.
            return Recovery::MayTake(None);
        };
        let error = match sys::process_state(owner, deadline) {
            // The record is not needed any more. If it stayed, the next owner could be mistaken for
            // this one.
            ProcessState::Dead => {
                return match self.record.clear_if(owner.id) {
                    true => Recovery::MayTake(Some(owner)),
                    false => Recovery::Changed,
                };
            }
            // The dead thread can have passed its access to the data to another thread.
            ProcessState::Alive => AcquireError::HolderThreadEnded,
            ProcessState::Undecided => AcquireError::TimedOut,
        };
        if word & WAITERS != 0 {
            // The result holds for all waiters, but the death woke only one. Each refused waiter
            // wakes the next.
            sys::futex_wake(&self.word, 1);
        }
        Recovery::Refused(error)
    }

    /// Runs the liveness check if this thread has found the process of the recorded owner dead.
    /// Returns whether the word was marked.
    ///
    /// A waiter calls this before it spins and sleeps. The kernel marks only 2,048 locks of a
    /// thread. Without this call, each of the others would cost a sleep of one recheck interval.
    pub(in crate::raw) fn mark_if_death_known(&self) -> bool {
        sys::knows_death(|| self.record.load()) && self.mark_if_owner_dead()
    }

    /// Runs the liveness check: if the owner thread has ended and its word was not marked, marks
    /// the word. Returns whether this call has marked it.
    ///
    /// Unlike the kernel, this wakes no waiter. A locker then tries to take the word itself, and a
    /// watcher propagates the wake. After the other callers, each waiter finds the mark when its
    /// recheck timer expires, within a second, as it would have found the death.
    pub(in crate::raw) fn mark_if_owner_dead(&self) -> bool {
        let (word, record) = (self.word.load(Acquire), self.record.load_consistent());
        let Some(owner) = record else {
            return false;
        };
        // If the ids match, the record is that of the owner in `word`, and this owner has not
        // released the lock since: an owner clears its record before it releases.
        if word & TID_MASK == 0 || owner.id.tid() != word & TID_MASK || !sys::thread_is_gone(owner)
        {
            return false;
        }
        loop {
            // A read-modify-write reads the latest value, and so synchronizes with the release of
            // every earlier owner. A plain load could return an old word with an old record, while
            // a later owner with the same thread id holds the lock.
            let current_word = self.word.fetch_or(0, Acquire);
            // The word and the record must be unchanged after the owner was found dead. Otherwise,
            // the mark would apply to a later owner.
            if current_word & TID_MASK != word & TID_MASK || self.record.load_consistent() != record
            {
                return false;
            }
            // One case is left: between the check above and the exchange below, another thread
            // marks the word, and a new process image with the ids of the dead owner takes it. The
            // word is then the same again. The kernel marks the locks of a thread that calls
            // `exec`, so this takes a holder of more than 2,048 locks that calls it.
            //
            // This fails if other threads have set or cleared `WAITERS`. The loop then retries at
            // once, without a sleep.
            if self
                .word
                .compare_exchange(
                    current_word,
                    current_word & WAITERS | OWNER_DIED,
                    Release,
                    Relaxed,
                )
                .is_ok()
            {
                return true;
            }
        }
    }
}
