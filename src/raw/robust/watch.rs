//! Watching a robust word without acquiring it. A reader watches the word of a writer until the
//! writer ends its critical section. A writer watches the word of a reader until the reader leaves.
//!
//! A watcher sets `WAITERS` and sleeps as a locker does. When the word has no owner,
//! [`watch`](Robust::watch) returns and does not take the word. A release or a death wakes one
//! watcher only, so the caller of `watch` must propagate the wake to the others: see
//! [`propagate_wake`](Robust::propagate_wake).
//!
//! **Orderings.** The word is one side of the Dekker patterns of [`rwlock`](crate::raw::rwlock).
//! The `SeqCst` accesses here are that side. A `SeqCst` load also acquires, so a thread that sees
//! the word free sees what its last owner did. `sys::dekker_fence` is empty outside the models: the
//! `SeqCst` accesses suffice.

use crate::raw::robust::{FREE, OWNER_DIED, Robust, TID_MASK, WAITERS, WAITERS_SHIFT};
use crate::sys::{self, AtomicU32, Deadline, RecheckTimer, Wait, WaitvSet};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// How the watch of a word ended.
#[must_use = "the caller might have to propagate a wake"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raw) enum WatchOutcome {
    /// The owner released the word.
    Released,
    /// The word is marked: the owner thread ended.
    Died,
    /// The watcher has nothing more to wait for.
    Over,
    /// The deadline passed before any of these.
    TimedOut,
}

impl Robust {
    /// Returns whether the lock is released: it has no owner and is not marked.
    #[inline]
    pub(in crate::raw) fn is_released_seqcst(&self) -> bool {
        self.word.load(SeqCst) & (TID_MASK | OWNER_DIED) == 0
    }

    /// Returns whether the lock is free: it has no owner, is not marked, and no thread sleeps on
    /// it.
    #[inline]
    pub(in crate::raw) fn is_free_seqcst(&self) -> bool {
        self.word.load(SeqCst) == FREE
    }

    /// The writer's side of a Dekker pattern. After the writer has acquired the lock by an access
    /// that is not `SeqCst`, this writes the word again, unchanged, by one that is. So the write
    /// has a place in the single total order of all `SeqCst` accesses.
    pub(in crate::raw) fn publish(&self) {
        self.word.fetch_or(0, SeqCst);
        sys::dekker_fence();
    }

    /// Waits until the lock has no owner, or `is_over` returns true: there is nothing more to wait
    /// for.
    ///
    /// `is_over` is called each time the word is read, and again after `WAITERS` is set. So no
    /// change is missed if no other thread sets the bit: a thread that changes what `is_over`
    /// reads, and then finds the bit, wakes the watcher.
    ///
    /// After [`Released`](WatchOutcome::Released) and [`Died`](WatchOutcome::Died), the caller must
    /// propagate the wake: it calls [`propagate_wake`](Self::propagate_wake), or it tries to
    /// acquire the lock and unlocks it.
    pub(in crate::raw) fn watch(
        &self,
        deadline: Option<Deadline>,
        is_over: impl Fn() -> bool,
    ) -> WatchOutcome {
        self.watch_beside(None, deadline, is_over)
    }

    /// Like [`watch`](Self::watch), for a lock that other threads watch too, or wait to acquire.
    /// Such a thread can set `WAITERS` again, after the notification has cleared the bit and before
    /// this thread sleeps. So it also compares `beside`, the word that `is_over` reads, as it falls
    /// asleep. It joins the queue of the lock before it compares that word. So a notification that
    /// comes after the comparison finds it there.
    pub(in crate::raw) fn watch_beside(
        &self,
        beside: Option<&AtomicU32>,
        deadline: Option<Deadline>,
        is_over: impl Fn() -> bool,
    ) -> WatchOutcome {
        self.mark_if_death_known();
        let mut timer = RecheckTimer::new();
        let mut spin = self.new_spin();
        let mut expired = deadline.is_some_and(Deadline::has_passed);
        loop {
            let word = self.word.load(SeqCst);
            if word & TID_MASK == 0 {
                return match word & OWNER_DIED {
                    0 => WatchOutcome::Released,
                    _ => WatchOutcome::Died,
                };
            }
            if is_over() {
                return WatchOutcome::Over;
            }
            if expired {
                if !sys::checked_recently(&self.word, word) && self.mark_if_owner_dead() {
                    continue;
                }
                return WatchOutcome::TimedOut;
            }
            if word & WAITERS == 0 && spin.pause() {
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
            let expected = beside.map(|beside| (beside, beside.load(SeqCst)));
            if is_over() {
                return WatchOutcome::Over;
            }
            let until = timer.next_deadline(deadline);
            let answer = match expected {
                None => sys::futex_wait(&self.word, with_waiters, until),
                Some((beside, expected)) => {
                    let mut set = WaitvSet::new();
                    set.push(&self.word, with_waiters);
                    set.push(beside, expected);
                    set.sleep(until)
                }
            };
            if answer == Wait::TimedOut || timer.is_due() {
                self.mark_if_owner_dead();
            }
            expired = deadline.is_some_and(Deadline::has_passed);
        }
    }

    /// Wakes the other watchers of a lock that was released or marked, because a release or a death
    /// wakes only one.
    ///
    /// Does nothing if another thread owns the lock again: threads that wait for that owner set
    /// `WAITERS` themselves.
    pub(in crate::raw) fn propagate_wake(&self) {
        if self.word.load(Relaxed) & !OWNER_DIED == WAITERS {
            sys::futex_wake_clearing(&self.word, WAITERS_SHIFT);
        }
    }

    /// Makes the watchers of this lock, which the calling thread owns, call `is_over` again.
    ///
    /// The wake also clears the `WAITERS` bit that a watcher has set. So a watcher that does not
    /// sleep yet will not fall asleep, unless another thread sets the bit again: see
    /// [`watch_beside`](Self::watch_beside).
    pub(in crate::raw) fn notify_watchers(&self) {
        sys::dekker_fence();
        if self.word.load(SeqCst) & WAITERS != 0 {
            sys::futex_wake_clearing(&self.word, WAITERS_SHIFT);
        }
    }
}
