//! Watching a robust word without acquiring it. A reader watches the word of a writer until the
//! writer ends its critical section. A writer watches the word of a reader until the reader leaves.
//!
//! A watcher sets `WAITERS` and sleeps as a locker does. When the word has no owner, the watcher
//! returns and does not take the word. So it must propagate a wake that was for all watchers: see
//! [`propagate_wake`](Robust::propagate_wake).
//!
//! **Orderings.** The word is one side of the Dekker pattern of [`rwlock`](crate::raw::rwlock). The
//! `SeqCst` accesses here are that side. A `SeqCst` load also acquires, so a thread that sees the
//! word free sees what its last owner did.

use crate::raw::robust::{FREE, OWNER_DIED, Robust, TID, WAITERS, WAITERS_BIT};
use crate::sys::{self, CurrentThread, Deadline, RecheckTimer, Wait};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// How the watch of a word ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raw) enum WatchOutcome {
    /// The owner released the word.
    Free,
    /// The owner died.
    Died,
    /// The watcher has nothing more to wait for.
    Over,
    /// The deadline passed before any of these.
    TimedOut,
}

impl Robust {
    /// Acquires the lock if it is free and no thread sleeps on it: the word is 0. `list_op_pending`
    /// need not be empty.
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

    /// Returns whether the lock has no owner and its last owner did not die.
    #[inline]
    pub(in crate::raw) fn is_open(&self) -> bool {
        self.word.load(SeqCst) & (TID | OWNER_DIED) == 0
    }

    /// Returns whether the lock has no owner, its last owner did not die, and no thread sleeps on
    /// it.
    #[inline]
    pub(in crate::raw) fn is_empty(&self) -> bool {
        self.word.load(SeqCst) == FREE
    }

    /// The writer's side of a Dekker pattern. After the writer has acquired or released a phase
    /// lock, this writes the word again, unchanged, by a `SeqCst` access. So the write has a place
    /// in the single total order of all `SeqCst` accesses.
    pub(in crate::raw) fn publish(&self) {
        self.word.fetch_or(0, SeqCst);
        sys::dekker_fence();
    }

    /// Waits until the lock has no owner, or `over` returns true: there is nothing more to wait
    /// for.
    ///
    /// `over` is called after `WAITERS` is set. So a thread that changes what `over` reads, and
    /// then finds the bit, wakes the watcher.
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

    /// Wakes the other watchers of a lock that was released, because a release wakes only one.
    ///
    /// Does nothing if another thread owns the lock again: the waiters of that thread set `WAITERS`
    /// themselves.
    pub(in crate::raw) fn propagate_wake(&self) {
        if self.word.load(Relaxed) & !OWNER_DIED == WAITERS {
            sys::futex_wake_clearing(&self.word, WAITERS_BIT);
        }
    }

    /// Makes the watchers of this lock, which the calling thread owns, call `over` again.
    ///
    /// The wake also clears the `WAITERS` bit that a watcher has set. So a watcher that does not
    /// sleep yet will not fall asleep.
    pub(in crate::raw) fn notify_watchers(&self) {
        sys::dekker_fence();
        if self.word.load(SeqCst) & WAITERS != 0 {
            sys::futex_wake_clearing(&self.word, WAITERS_BIT);
        }
    }
}
