//! A condition variable: a sequence of notifications in one futex word, and a count of who may sleep.
//!
//! | bits | meaning |
//! |---|---|
//! | 0-1 | how many may sleep, whom no notification was meant for yet: none, one, two, many |
//! | 2-31 | how often somebody was notified, modulo 2^30 |
//!
//! A waiter [reads the sequence](Condvar::sequence) while it holds its mutex, releases that, and waits until the sequence is
//! another one. Who changes the condition under the mutex and then notifies comes after the reading, so the waiter sees the
//! change, asleep or not: the sleep compares the whole word. A waiter adds itself to the count before it sleeps.
//!
//! `notify_one` raises the sequence, takes one from the count in the same step, and wakes one. So once each sleeper has been
//! notified, the next notification makes no system call, also where the sleeper has not run yet: of two who wake each other by
//! turns on one CPU. `notify_all` takes the whole count away as it raises the sequence, and wakes everybody.
//!
//! **The count is never too small.** No more are asleep than it and the notifiers between their raise and their wake come to:
//! who goes to sleep has added itself on the very sequence that it sees, and one is taken by a raise alone, which the wake of
//! one follows. It may be too large: a waiter that found news before it slept, gave up, or died has been counted, and costs a
//! notifier an idle wake.
//!
//! *Many* stays *many*, since nobody knows how many they are. Where a wake found nobody, the count goes back to none and the
//! sequence is raised once more, as by a notification of all: whoever went to sleep meanwhile returns. If the sequence
//! stayed, a waiter that was counted before and one that was counted after could sleep on the same word, whose count knows one
//! of them; the search in `tests/model` finds the other one forgotten.
//!
//! **Nobody is waited for.** The word knows no waiters, only how many there may be: one that dies leaves nothing behind but
//! its place in the count, which costs a notifier one idle wake. glibc's condition variable counts its waiters in groups, and a notifier
//! waits until those of an older group have gone; where they were killed, for ever.
//!
//! **What a death loses.** A notifier that dies after it raised the sequence has not woken, and a waiter that dies as it was
//! woken takes the wake with it. Whoever sleeps on has a sequence in its hands that is out of date, and returns when its
//! [timer](RecheckTimer) ends. For the same reason a wake that reached a later sleeper than those it was meant for is made good. A
//! notifier that dies before it raised the sequence has notified nobody, though it may have changed the condition, or broken
//! it: at the end of each timer a waiter is asked whether it has cause to look.
//!
//! **Wrap.** A waiter misses notifications if exactly 2^30 of them, or a multiple, come between two of its looks. Asleep it
//! is woken besides, and looks once a second, in which no machine makes as many; only one that is stopped for longer, by
//! SIGSTOP or a debugger, could meet the very number. It then sleeps until the next notification.
//!
//! **Orderings.** None: the mutex publishes. That the waiter's reading comes before the notifier's change follows from the
//! mutex too, whose release by the waiter synchronizes with its acquisition by whoever changes the condition.

use crate::sys::{self, AtomicU32, Deadline, RecheckTimer, Wait};
use core::sync::atomic::Ordering::Relaxed;

/// The count of who may sleep, and its last value.
const SLEEPERS: u32 = 3;
const MANY: u32 = 3;
const SLEEPER: u32 = 1;
/// One notification.
const ONE: u32 = 4;

/// The condition variable's word.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Condvar(AtomicU32);

impl Condvar {
    sys::const_fn! {
        pub(crate) fn new() -> Self {
            Condvar(AtomicU32::new(0))
        }
    }

    /// What [`wait_past`](Self::wait_past) waits for a change of. To be read before the mutex is released.
    #[inline]
    pub(crate) fn sequence(&self) -> u32 {
        self.0.load(Relaxed) / ONE
    }

    /// Waits until the sequence is another one than `seen`, or, after a timer, `has_cause` says that there is another reason
    /// to return: false where `deadline` came first.
    ///
    /// `timer` is kept from one wait to the next by who waits for a condition, since only the first ones are short.
    pub(crate) fn wait_past(
        &self,
        seen: u32,
        deadline: Option<Deadline>,
        timer: &mut RecheckTimer,
        has_cause: impl Fn() -> bool,
    ) -> bool {
        if self.spin_past(seen, deadline) {
            return true;
        }
        let mut expired = false;
        let mut napped = false;
        let mut counted = false;
        loop {
            let word = self.0.load(Relaxed);
            if word / ONE != seen {
                return true;
            }
            // After the last look: a notification may have come with the deadline, and its wake gone to this waiter.
            if expired {
                return false;
            }
            if napped && has_cause() {
                return true;
            }
            let expected = match counted || word & SLEEPERS == MANY {
                true => word,
                false => word + SLEEPER,
            };
            if word != expected
                && self
                    .0
                    .compare_exchange(word, expected, Relaxed, Relaxed)
                    .is_err()
            {
                continue;
            }
            let answer = sys::futex_wait(&self.0, expected, timer.next_deadline(deadline));
            // A wake without news was another's, whom the count has lost with it: so this one is counted once more.
            counted = answer != Wait::Woken;
            napped = answer == Wait::TimedOut || timer.is_due();
            expired = deadline.is_some_and(Deadline::has_passed);
        }
    }

    /// Wakes one waiter, if there is one.
    #[inline]
    pub(crate) fn notify_one(&self) {
        let sleepers = self.raise(|sleepers| match sleepers {
            0 | MANY => Some(sleepers),
            some => Some(some - SLEEPER),
        });
        match sleepers {
            None | Some(0) => {}
            Some(sleepers) => self.wake_one(sleepers),
        }
    }

    /// Wakes every waiter.
    #[inline]
    pub(crate) fn notify_all(&self) {
        self.wake_all_if(|_| true);
    }

    /// For a little while, as long as that has paid.
    fn spin_past(&self, seen: u32, deadline: Option<Deadline>) -> bool {
        if deadline.is_some_and(Deadline::has_passed) {
            return false;
        }
        let mut spin = sys::AdaptiveSpin::start(&self.0);
        let mut news = self.sequence() != seen;
        while !news && spin.spin() {
            news = self.sequence() != seen;
        }
        spin.end(news);
        news
    }

    /// Raises the sequence, and makes of the count what `left` says. Gives the count before; `None` where `left` gives none.
    #[inline]
    fn raise(&self, left: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        let mut word = self.0.load(Relaxed);
        loop {
            let sleepers = word & SLEEPERS;
            let news = word.wrapping_add(ONE) & !SLEEPERS | left(sleepers)?;
            match self.0.compare_exchange_weak(word, news, Relaxed, Relaxed) {
                Ok(_) => return Some(sleepers),
                Err(now) => word = now,
            }
        }
    }

    #[cold]
    fn wake_one(&self, sleepers: u32) {
        let is_idle = sys::futex_wake(&self.0, 1) == 0;
        if is_idle && sleepers == MANY {
            self.wake_all_if(|sleepers| sleepers == MANY);
        }
    }

    /// Notifies all, if so many may sleep as is asked for.
    #[inline]
    fn wake_all_if(&self, are_meant: impl Fn(u32) -> bool) {
        match self.raise(|sleepers| are_meant(sleepers).then_some(0)) {
            None | Some(0) => {}
            Some(_) => _ = sys::futex_wake(&self.0, u32::MAX),
        }
    }
}
