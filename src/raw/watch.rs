//! Watching a robust word without acquiring it: what a reader does who waits for a writer to end, and a writer who waits for a
//! reader to leave.
//!
//! A watcher sets `WAITERS` and sleeps as a locker does. Once the word has no owner it goes its way, and takes nothing, so a wake
//! that was for all of them is passed on: see [`pass_on`](Robust::pass_on).
//!
//! **Orderings.** The word is one side of the Dekker pattern of [`rwlock`](super::rwlock); what is `SeqCst` here is that side.
//! As a `SeqCst` load acquires too, whoever sees the word free sees what its last owner did.

use super::robust::{FREE, OWNER_DIED, Robust, TID, WAITERS, WAITERS_BIT};
use crate::sys::{self, Deadline, Me, Nap, Wait};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// What became of a word that was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
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
    pub(super) fn acquire_if_free(&self, me: Me) -> bool {
        if self.word.load(Relaxed) != FREE {
            return false;
        }
        self.announce(me);
        let acquired = self
            .word
            .compare_exchange(FREE, me.tid(), SeqCst, Relaxed)
            .is_ok();
        if acquired {
            self.enter(me);
        }
        self.settle(me, acquired);
        acquired
    }

    /// Whether nobody owns the lock, nor died as its owner.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.word.load(SeqCst) & (TID | OWNER_DIED) == 0
    }

    /// Whether nobody owns the lock, died as its owner, or sleeps.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.word.load(SeqCst) == FREE
    }

    /// A writer's side of a Dekker pattern: writes the word of a gate that it has closed, or opened, as it is, in the one order of all
    /// `SeqCst` accesses.
    pub(super) fn proclaim(&self) {
        self.word.fetch_or(0, SeqCst);
        sys::dekker_fence();
    }

    /// Waits until the lock has no owner, or `over` says that there is nothing more to wait for.
    ///
    /// `over` is asked after `WAITERS` is set, so that whoever changes what it reads, and then finds the bit, wakes.
    pub(super) fn watch(&self, deadline: Option<Deadline>, over: impl Fn() -> bool) -> Watched {
        let mut nap = Nap::first();
        let mut spin = self.spin();
        let mut expired = deadline.is_some_and(Deadline::has_passed);
        loop {
            let word = self.word.load(SeqCst);
            if word & TID == 0 {
                return match word & OWNER_DIED {
                    0 => Watched::Free,
                    _ => Watched::Died,
                };
            }
            if over() {
                return Watched::Over;
            }
            if expired {
                if !sys::looked_lately(&self.word, word) && self.mark_if_owner_is_gone() {
                    continue;
                }
                return Watched::TimedOut;
            }
            if word & WAITERS == 0 && spin.passes_time() {
                continue;
            }
            let announced = word | WAITERS;
            if word != announced
                && self
                    .word
                    .compare_exchange(word, announced, SeqCst, Relaxed)
                    .is_err()
            {
                continue;
            }
            sys::dekker_fence();
            if over() {
                return Watched::Over;
            }
            let answer = sys::futex_wait(&self.word, announced, nap.end(deadline));
            if answer == Wait::TimedOut || nap.is_over() {
                self.mark_if_owner_is_gone();
            }
            expired = deadline.is_some_and(Deadline::has_passed);
        }
    }

    /// Wakes the others who watch a lock that was released: a release wakes one.
    ///
    /// Where another thread owns it by now, its waiters announce themselves anew.
    pub(super) fn pass_on(&self) {
        if self.word.load(Relaxed) & !OWNER_DIED == WAITERS {
            sys::futex_wake_clearing(&self.word, WAITERS_BIT);
        }
    }

    /// Has whoever watches this lock, which the calling thread owns, ask again whether it is over.
    ///
    /// The bit that it announced itself by goes with the wake: if it has not fallen asleep yet, it will not.
    pub(super) fn news(&self) {
        sys::dekker_fence();
        if self.word.load(SeqCst) & WAITERS != 0 {
            sys::futex_wake_clearing(&self.word, WAITERS_BIT);
        }
    }
}
