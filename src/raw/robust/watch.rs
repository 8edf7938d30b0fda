//! Watching a robust word without acquiring it: what a reader does who waits for a writer to end, and a writer who waits for a
//! reader to leave.
//!
//! A watcher sets `WAITERS` and sleeps as a locker does. Once the word has no owner it goes its way, and takes nothing, so a wake
//! that was for all of them is passed on: see [`propagate_wake`](Robust::propagate_wake).
//!
//! **Orderings.** The word is one side of the Dekker pattern of [`rwlock`](crate::raw::rwlock); what is `SeqCst` here is that side.
//! As a `SeqCst` load acquires too, whoever sees the word free sees what its last owner did.

use crate::raw::robust::{FREE, OWNER_DIED, Robust, TID, WAITERS, WAITERS_BIT};
use crate::sys::{self, CurrentThread, Deadline, RecheckTimer, Wait};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// What became of a word that was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raw) enum WatchOutcome {
    /// Its owner released it.
    Free,
    /// Its owner died.
    Died,
    /// The watcher waits for it no longer.
    Over,
    /// Neither came before the deadline.
    TimedOut,
}

impl Robust {
    /// Acquires the lock if it is free and its last owner left it so that nobody sleeps, whatever is in the slot.
    pub(in crate::raw) fn try_acquire_free(&self, current: CurrentThread) -> bool {
        if self.word.load(Relaxed) != FREE {
            return false;
        }
        self.begin_list_op(current);
        let acquired = self
            .word
            .compare_exchange(FREE, current.tid(), SeqCst, Relaxed)
            .is_ok();
        if acquired {
            self.record_owner(current);
        }
        self.finish_list_op(current, acquired);
        acquired
    }

    /// Whether nobody owns the lock, nor died as its owner.
    #[inline]
    pub(in crate::raw) fn is_open(&self) -> bool {
        self.word.load(SeqCst) & (TID | OWNER_DIED) == 0
    }

    /// Whether nobody owns the lock, died as its owner, or sleeps.
    #[inline]
    pub(in crate::raw) fn is_empty(&self) -> bool {
        self.word.load(SeqCst) == FREE
    }

    /// A writer's side of a Dekker pattern: writes the word of a gate that it has closed, or opened, as it is, in the one order of all
    /// `SeqCst` accesses.
    pub(in crate::raw) fn publish(&self) {
        self.word.fetch_or(0, SeqCst);
        sys::dekker_fence();
    }

    /// Waits until the lock has no owner, or `over` says that there is nothing more to wait for.
    ///
    /// `over` is asked after `WAITERS` is set, so that whoever changes what it reads, and then finds the bit, wakes.
    pub(in crate::raw) fn watch(
        &self,
        deadline: Option<Deadline>,
        over: impl Fn() -> bool,
    ) -> WatchOutcome {
        let mut timer = RecheckTimer::new();
        let mut spin = self.new_spin();
        let mut expired = deadline.is_some_and(Deadline::has_passed);
        loop {
            let word = self.word.load(SeqCst);
            if word & TID == 0 {
                return match word & OWNER_DIED {
                    0 => WatchOutcome::Free,
                    _ => WatchOutcome::Died,
                };
            }
            if over() {
                return WatchOutcome::Over;
            }
            if expired {
                if !sys::checked_recently(&self.word, word) && self.mark_if_owner_dead() {
                    continue;
                }
                return WatchOutcome::TimedOut;
            }
            if word & WAITERS == 0 && spin.spin() {
                continue;
            }
            let with_waiters = word | WAITERS;
            if word != with_waiters
                && self
                    .word
                    .compare_exchange(word, with_waiters, SeqCst, Relaxed)
                    .is_err()
            {
                continue;
            }
            sys::dekker_fence();
            if over() {
                return WatchOutcome::Over;
            }
            let answer = sys::futex_wait(&self.word, with_waiters, timer.next_deadline(deadline));
            if answer == Wait::TimedOut || timer.is_due() {
                self.mark_if_owner_dead();
            }
            expired = deadline.is_some_and(Deadline::has_passed);
        }
    }

    /// Wakes the others who watch a lock that was released: a release wakes one.
    ///
    /// Where another thread owns it by now, its waiters begin_list_op themselves anew.
    pub(in crate::raw) fn propagate_wake(&self) {
        if self.word.load(Relaxed) & !OWNER_DIED == WAITERS {
            sys::futex_wake_clearing(&self.word, WAITERS_BIT);
        }
    }

    /// Has whoever watches this lock, which the calling thread owns, ask again whether it is over.
    ///
    /// The bit that it with_waiters itself by goes with the wake: if it has not fallen asleep yet, it will not.
    pub(in crate::raw) fn notify_watchers(&self) {
        sys::dekker_fence();
        if self.word.load(SeqCst) & WAITERS != 0 {
            sys::futex_wake_clearing(&self.word, WAITERS_BIT);
        }
    }
}
