//! A condition variable: a sequence of notifications in one futex word.
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | somebody may sleep |
//! | 1-31 | how often somebody was notified, modulo 2^31 |
//!
//! A waiter [reads the sequence](Condvar::sequence) while it holds its mutex, releases that, and waits until the sequence is
//! another one. Who changes the condition under the mutex and then notifies comes after the reading, so the waiter sees the
//! change, asleep or not: the sleep compares the whole word. A waiter announces itself in bit 0 before it sleeps on the very
//! word that it saw.
//!
//! `notify_one` raises the sequence and wakes one, and leaves the bit to the others. Where its wake found nobody, the bit is
//! taken away and whoever went to sleep meanwhile woken, in one step, as the [robust lock](super::robust) does. `notify_all`
//! takes the bit away as it raises the sequence, and wakes everybody. Without the bit neither makes a system call.
//!
//! That `notify_one` leaves the bit costs an idle wake when nobody is left. To take it away where one alone was announced,
//! told by a second bit, was tried and is wrong: the search in `tests/model` finds the sleeper whom it forgets.
//!
//! **Nobody is waited for.** The word knows no waiters, only that there may be some: one that dies leaves nothing behind but
//! the bit, which costs a notifier one idle wake. glibc's condition variable counts its waiters in groups, and a notifier
//! waits until those of an older group have gone; where they were killed, for ever.
//!
//! **What a death loses.** A notifier that dies after it raised the sequence has not woken, and a waiter that dies as it was
//! woken takes the wake with it. Whoever sleeps on has a sequence in its hands that is out of date, and returns when its
//! [nap](Nap) ends. For the same reason a wake that reached a later sleeper than those it was meant for is made good. A
//! notifier that dies before it raised the sequence has notified nobody, though it may have changed the condition, or broken
//! it: at the end of each nap a waiter is asked whether it has cause to look.
//!
//! **Wrap.** A waiter misses notifications if exactly 2^31 of them, or a multiple, come between two of its looks. Asleep it
//! is woken besides, and looks once a second, in which no machine makes as many; only one that is stopped for longer, by
//! SIGSTOP or a debugger, could meet the very number. It then sleeps until the next notification.
//!
//! **Orderings.** None: the mutex publishes. That the waiter's reading comes before the notifier's change follows from the
//! mutex too, whose release by the waiter synchronizes with its acquisition by whoever changes the condition.

use crate::sys::{self, AtomicU32, Deadline, Nap, Wait};
use core::sync::atomic::Ordering::Relaxed;

const WAITERS_BIT: u32 = 0;
const WAITERS: u32 = 1 << WAITERS_BIT;
const ONE: u32 = 2;

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

    /// Waits until the sequence is another one than `seen`, or, after a nap, `has_cause` says that there is another reason
    /// to return: false where `deadline` came first.
    ///
    /// `nap` is kept from one wait to the next by who waits for a condition, since only the first ones are short.
    pub(crate) fn wait_past(
        &self,
        seen: u32,
        deadline: Option<Deadline>,
        nap: &mut Nap,
        has_cause: impl Fn() -> bool,
    ) -> bool {
        if self.spin_past(seen, deadline) {
            return true;
        }
        let mut expired = false;
        let mut napped = false;
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
            let announced = word | WAITERS;
            if word != announced
                && self
                    .0
                    .compare_exchange(word, announced, Relaxed, Relaxed)
                    .is_err()
            {
                continue;
            }
            let answer = sys::futex_wait(&self.0, announced, nap.end(deadline));
            napped = answer == Wait::TimedOut || nap.is_over();
            expired = deadline.is_some_and(Deadline::has_passed);
        }
    }

    /// Wakes one waiter, if there is one.
    #[inline]
    pub(crate) fn notify_one(&self) {
        if self.0.fetch_add(ONE, Relaxed) & WAITERS != 0 {
            self.wake_one();
        }
    }

    /// Wakes every waiter.
    #[inline]
    pub(crate) fn notify_all(&self) {
        let mut word = self.0.load(Relaxed);
        loop {
            let news = word.wrapping_add(ONE) & !WAITERS;
            match self.0.compare_exchange_weak(word, news, Relaxed, Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if word & WAITERS != 0 {
            sys::futex_wake(&self.0, u32::MAX);
        }
    }

    /// For a little while, as long as that has paid.
    fn spin_past(&self, seen: u32, deadline: Option<Deadline>) -> bool {
        if deadline.is_some_and(Deadline::has_passed) {
            return false;
        }
        let mut spin = sys::NewsSpin::start(&self.0);
        let mut news = self.sequence() != seen;
        while !news && spin.passes_time() {
            news = self.sequence() != seen;
        }
        spin.end(news);
        news
    }

    #[cold]
    fn wake_one(&self) {
        if sys::futex_wake(&self.0, 1) == 0 {
            sys::futex_wake_clearing(&self.0, WAITERS_BIT);
        }
    }
}
