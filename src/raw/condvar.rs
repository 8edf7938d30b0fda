//! A condition variable: a sequence number of notifications, and a count of threads that may sleep,
//! in one futex word.
//!
//! | bits | meaning |
//! |---|---|
//! | 0-1 | how many threads may sleep and were not notified yet: none, one, two, many |
//! | 2-31 | the sequence: the number of notifications, modulo 2^30 |
//!
//! A waiter [reads the sequence](Condvar::sequence) while it holds its mutex. It then releases the
//! mutex and waits until the sequence differs. A notifier changes the condition under the mutex and
//! then raises the sequence, so both come after the waiter's read. The waiter adds itself to the
//! count before it sleeps, and the kernel compares the whole word when it puts the thread to sleep.
//! So a notification between the release of the mutex and the sleep is not lost:
//!
//! ```text
//!  waiter                                          notifier
//!  ------                                          --------
//!  lock the mutex; the condition is false
//!  seen = sequence()                   (= n)
//!  unlock the mutex
//!                                                  lock the mutex
//!                                                  make the condition true
//!                                                  unlock the mutex
//!  load word: sequence n == seen
//!  word: (n, count 0) -> (n, count 1)  (A)
//!                                                  word: (n, count 1) -> (n + 1, count 0)  (B)
//!                                                  futex_wake(word, 1): no thread sleeps
//!  futex_wait(word, (n, count 1))      (C)
//!    the word differs: does not sleep
//!  load word: sequence n + 1 != seen
//!  lock the mutex; the condition is true
//! ```
//!
//! If (B) comes before (A), the waiter sees the new sequence: when it loads the word, or after the
//! compare-exchange at (A) failed. If (B) comes after (C), the waiter is in the kernel's queue, and
//! the wake that follows (B) finds it. The kernel compares the word and queues the thread in one
//! step, so no other case exists.
//!
//! `notify_one` raises the sequence and takes one from the count in the same step. Then it wakes
//! one thread. So once each sleeper has been notified, the next notification makes no system call,
//! even if the sleeper has not run yet. This helps two threads that wake each other in turn on one
//! CPU. `notify_all` sets the count to none as it raises the sequence, and wakes all sleepers.
//!
//! **The count is never too small.** The number of sleepers is at most the count plus the number of
//! notifiers between their raise and their wake. A thread that goes to sleep has added itself at
//! the very sequence that it sees. Only a raise takes one from the count, and the wake of one
//! thread follows that raise. The count may be too large. It still includes a waiter that saw a
//! notification before it slept, that gave up, or that died. This costs a notifier an unnecessary
//! wake call.
//!
//! *Many* stays *many*, because the exact number is unknown. If a wake found no sleeper, the count
//! is set to none and the sequence is raised once more, as by a notification of all. So the threads
//! that went to sleep meanwhile return. Without this raise, a waiter counted before the reset and
//! one counted after it could sleep on the same word, and its count would include only one of them.
//! The search in `tests/model` finds that the other one then never wakes.
//!
//! **No thread waits for a waiter.** The word does not name the waiters: it only counts them. A
//! waiter that dies leaves only its share of the count, which costs a notifier one unnecessary wake
//! call. In contrast, glibc's condition variable counts its waiters in groups. A notifier waits
//! until the waiters of an older group have left, and waits forever if they were killed.
//!
//! **What a death loses.** A notifier that dies after it raised the sequence makes no wake. A
//! waiter that dies as it is woken consumes the wake. A thread that still sleeps then holds an
//! out-of-date sequence, and returns when its [recheck timer](RecheckTimer) expires. This also
//! repairs a wake that reached a later sleeper instead of those it was meant for. A notifier that
//! dies before it raised the sequence has notified no thread, though it may have changed the
//! condition, or left it inconsistent. For this case a waiter calls `has_cause` each time its timer
//! expires.
//!
//! **Wrap.** A waiter misses notifications if exactly 2^30 of them, or a multiple, come between two
//! of its checks. A sleeper is also woken by them, and checks once a second, in which no machine
//! makes that many. Only a waiter that is stopped for longer, by SIGSTOP or a debugger, could meet
//! that exact number. It then sleeps until the next notification.
//!
//! **Orderings.** None: the mutex publishes. The mutex also orders the waiter's read of the
//! sequence before the notifier's change: the waiter's release of the mutex synchronizes with its
//! acquisition by the thread that changes the condition.

use crate::sys::{self, AtomicU32, Deadline, RecheckTimer, Wait};
use core::sync::atomic::Ordering::Relaxed;

/// The mask of the count of threads that may sleep, and its greatest value.
const SLEEPERS: u32 = 3;
const MANY: u32 = 3;
const SLEEPER: u32 = 1;
/// One notification.
const ONE_NOTIFICATION: u32 = 4;

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

    /// Returns the sequence, for [`wait_past`](Self::wait_past). The caller must read it before it
    /// releases the mutex.
    #[inline]
    pub(crate) fn sequence(&self) -> u32 {
        self.0.load(Relaxed) / ONE_NOTIFICATION
    }

    /// Waits until the sequence differs from `seen`, or until `has_cause` reports another reason
    /// to return after the timer expired. Returns false if `deadline` passed first.
    ///
    /// A caller that waits for a condition keeps `timer` from one wait to the next, because only
    /// the timer's first intervals are short.
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
        let mut is_recheck_due = false;
        let mut counted = false;
        loop {
            let word = self.0.load(Relaxed);
            if word / ONE_NOTIFICATION != seen {
                return true;
            }
            // Only after a last check: a notification may have come at the deadline, and its wake
            // to this waiter.
            if expired {
                return false;
            }
            if is_recheck_due && has_cause() {
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
            let outcome = sys::futex_wait(&self.0, expected, timer.next_deadline(deadline));
            // A wake without a new sequence was meant for another waiter. That waiter still sleeps
            // but is no longer counted, so this one adds itself once more.
            counted = outcome != Wait::Woken;
            is_recheck_due = outcome == Wait::TimedOut || timer.is_due();
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

    /// Wakes all waiters.
    #[inline]
    pub(crate) fn notify_all(&self) {
        self.wake_all_if(|_| true);
    }

    /// Spins for a short time, as long as that has paid off on this word.
    fn spin_past(&self, seen: u32, deadline: Option<Deadline>) -> bool {
        if deadline.is_some_and(Deadline::has_passed) {
            return false;
        }
        let mut spin = sys::AdaptiveSpin::start(&self.0);
        let mut notified = self.sequence() != seen;
        while !notified && spin.spin() {
            notified = self.sequence() != seen;
        }
        spin.end(notified);
        notified
    }

    /// Raises the sequence, and sets the count to the result of `new_count`. Returns the count from
    /// before, or `None` if `new_count` returned `None`.
    #[inline]
    fn raise(&self, new_count: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        let mut word = self.0.load(Relaxed);
        loop {
            let sleepers = word & SLEEPERS;
            let raised = word.wrapping_add(ONE_NOTIFICATION) & !SLEEPERS | new_count(sleepers)?;
            match self.0.compare_exchange_weak(word, raised, Relaxed, Relaxed) {
                Ok(_) => return Some(sleepers),
                Err(current) => word = current,
            }
        }
    }

    #[cold]
    fn wake_one(&self, sleepers: u32) {
        let woke_none = sys::futex_wake(&self.0, 1) == 0;
        if woke_none && sleepers == MANY {
            self.wake_all_if(|sleepers| sleepers == MANY);
        }
    }

    /// Notifies all waiters, if `condition` returns true for the count.
    #[inline]
    fn wake_all_if(&self, condition: impl Fn(u32) -> bool) {
        match self.raise(|sleepers| condition(sleepers).then_some(0)) {
            None | Some(0) => {}
            Some(_) => _ = sys::futex_wake(&self.0, u32::MAX),
        }
    }
}
