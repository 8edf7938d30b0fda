//! A set of robust words of which a locker acquires any one: permits of a semaphore, slots of a
//! roster.
//!
//! A thread acquires the first word that has no owner. If every word has an owner, it must sleep on
//! all of them, by one call ([`WaitvSet`]). Two things can go wrong that cannot on a single word:
//!
//! - A wake is swallowed. A waiter that was woken by one word stays in the queues of the others
//!   until it runs. A wake on another word may find it too, although it acquires one word only.
//! - A wake is lost with a waiter that is woken and dies before it has acquired a word. On a single
//!   word the kernel wakes the next waiter, because that thread's `list_op_pending` names the
//!   word. There is one such field for each thread, so it cannot name several words.
//!
//! Neither happens if one thread at a time sleeps on all words. So a thread that has to wait first
//! acquires the **queue lock**, a robust lock. Its owner, the queue head, sleeps on the words. The
//! other waiters sleep on the queue lock. A head that acquires a word releases the queue lock to
//! the next waiter, which checks every word before it sleeps. If a head is killed, the kernel hands
//! the queue lock to the next waiter. That waiter checks every word too, so wakes that the killed
//! head had swallowed do no harm. No waiter depends on the liveness check.
//!
//! Other threads may sleep on the same words without the queue lock: the threads that watch them.
//! So a thread that returns from a sleep on several words wakes one more waiter on each word that
//! it leaves without an owner and with `WAITERS` set.
//!
//! A marked word becomes available when its owner's process is gone. That may take a while, and no
//! wake reports it. The queue head checks that process at intervals, and sleeps on the words in
//! between. So it acquires another word as soon as that is released.
//!
//! **Orderings.** Those of the [robust word](crate::raw::robust): nothing else is published here.

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::{Robust, TID_MASK, WAITERS};
use crate::sys::{self, CurrentThread, Deadline, GracePeriod, RecheckTimer, Wait, WaitvSet};
use core::sync::atomic::Ordering::Relaxed;

/// How often a locker checks the words before it joins the queue.
const SPINS: u32 = 100;

impl AsRef<Robust> for Robust {
    fn as_ref(&self) -> &Robust {
        self
    }
}

/// A set of words, at most [`MAX`](LockSet::MAX), and their queue lock.
#[derive(Debug)]
pub(crate) struct LockSet<'a, W> {
    pub(crate) words: &'a [W],
    pub(crate) queue_lock: &'a Robust,
}

/// The numbers of some words of a lock set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct BitSet(u128);

impl BitSet {
    fn insert(&mut self, number: usize) {
        self.0 |= 1 << number;
    }

    fn remove(&mut self, number: usize) {
        self.0 &= !(1 << number);
    }

    fn contains(self, number: usize) -> bool {
        self.0 >> number & 1 != 0
    }

    fn and(self, others: BitSet) -> Self {
        BitSet(self.0 & others.0)
    }

    fn or(self, others: BitSet) -> Self {
        BitSet(self.0 | others.0)
    }

    fn without(self, others: BitSet) -> Self {
        BitSet(self.0 & !others.0)
    }
}

/// The marked words, as the last scan found them.
#[derive(Debug, Clone, Copy, Default)]
struct OrphanScan {
    /// The owner thread ended, but its process lives, as far as one check shows.
    ended: BitSet,
    /// The owner's process may be dying.
    dying: BitSet,
}

impl OrphanScan {
    fn remove(&mut self, number: usize) {
        self.ended.remove(number);
        self.dying.remove(number);
    }

    fn record(&mut self, number: usize, error: AcquireError) {
        self.remove(number);
        match error {
            AcquireError::HolderThreadEnded => self.ended.insert(number),
            AcquireError::TimedOut | AcquireError::HolderDumpsCore => self.dying.insert(number),
            // Another thread owns the word now.
            AcquireError::WouldBlock | AcquireError::Deadlock => {}
        }
    }

    fn contains(self, number: usize) -> bool {
        self.ended.or(self.dying).contains(number)
    }
}

/// Which marked words belong to processes that live, and which are still undecided.
#[derive(Debug, Default)]
struct OrphanState {
    alive: BitSet,
    undecided: BitSet,
    grace: Option<GracePeriod>,
}

impl OrphanState {
    /// Updates the state after a scan. A result that may still change counts only after a grace
    /// period.
    fn update(&mut self, orphans: OrphanScan) {
        self.alive = self.alive.and(orphans.ended);
        let mut undecided = orphans.dying.or(orphans.ended).without(self.alive);
        if undecided.without(self.undecided) != BitSet::default() {
            self.grace = Some(GracePeriod::new());
        }
        if self.grace.as_ref().is_some_and(GracePeriod::is_over) {
            self.alive = orphans.ended;
            undecided = orphans.dying;
        }
        if undecided == BitSet::default() {
            self.grace = None;
        }
        self.undecided = undecided;
    }
}

impl<W: AsRef<Robust>> LockSet<'_, W> {
    /// The most words in a set: the kernel's limit, less one for a caller that sleeps on another
    /// word as well.
    #[allow(dead_code, reason = "asserted in `sync`")]
    pub(crate) const MAX: usize = 127;

    /// Acquires one of the words, waiting as long as `mode` allows. Prefers the word numbered
    /// `first`.
    #[cold]
    pub(crate) fn acquire(
        &self,
        current: CurrentThread,
        first: usize,
        mode: WaitMode,
    ) -> Result<(usize, Acquired), AcquireError> {
        let mut orphans = OrphanScan::default();
        if let Some(taken) = self.take(current, first, &mut orphans) {
            return Ok(taken);
        }
        if let WaitMode::Until(_) = mode {
            for _ in 0..sys::spin_limit(SPINS) {
                sys::pause();
                // Marked words are left out: a check of a process takes longer than all these
                // checks.
                if let Some(taken) = self.take_released(current, first) {
                    return Ok(taken);
                }
            }
        }
        match mode {
            WaitMode::Try | WaitMode::TryIfReleased => self.check_owners(current, first, orphans),
            WaitMode::Until(deadline) => self.wait_in_queue(current, first, deadline),
        }
    }

    /// Returns the words from number `first` on, and then those before it.
    fn from(&self, first: usize) -> impl Iterator<Item = (usize, &Robust)> {
        let (before, after) = self.words.split_at(first);
        let numbered = (first..).zip(after).chain((0..).zip(before));
        numbered.map(|(number, word)| (number, word.as_ref()))
    }

    fn try_take(&self, current: CurrentThread, first: usize) -> Option<(usize, Acquired)> {
        self.take(current, first, &mut OrphanScan::default())
    }

    fn take_released(&self, current: CurrentThread, first: usize) -> Option<(usize, Acquired)> {
        self.from(first).find_map(|(number, word)| {
            let acquired = match word.is_released() {
                true => word.acquire_unowned(current, Some(Deadline::now())).ok(),
                false => None,
            };
            Some((number, acquired?))
        })
    }

    /// Acquires a word that was released, or else one that was abandoned, if the owner's process is
    /// gone. Records the result for the other marked words in `orphans`.
    fn take(
        &self,
        current: CurrentThread,
        first: usize,
        orphans: &mut OrphanScan,
    ) -> Option<(usize, Acquired)> {
        if let Some(taken) = self.take_released(current, first) {
            return Some(taken);
        }
        for (number, word) in self.from(first) {
            if !word.is_marked() {
                orphans.remove(number);
                continue;
            }
            match word.acquire_unowned(current, Some(Deadline::now())) {
                Ok(acquired) => return Some((number, acquired)),
                Err(error) => orphans.record(number, error),
            }
        }
        None
    }

    /// Ends an attempt that does not wait. Runs the liveness check, unless it ran recently, and
    /// tries again if that marked a word. Otherwise returns why no word was acquired.
    fn check_owners(
        &self,
        current: CurrentThread,
        first: usize,
        orphans: OrphanScan,
    ) -> Result<(usize, Acquired), AcquireError> {
        let watched = &self.words[first].as_ref().word;
        if !sys::checked_recently(watched, TID_MASK)
            && self
                .from(first)
                .fold(false, |found, (_, word)| word.mark_if_owner_dead() || found)
            && let Some(taken) = self.try_take(current, first)
        {
            return Ok(taken);
        }
        Err(self.final_error(orphans, AcquireError::WouldBlock))
    }

    /// Returns the error after a last scan. It is `HolderThreadEnded` if processes that live keep
    /// all the words, as far as that scan shows, and otherwise `error`.
    fn final_error(&self, orphans: OrphanScan, error: AcquireError) -> AcquireError {
        let all_ended = (0..self.words.len()).all(|number| orphans.ended.contains(number));
        match all_ended {
            true => AcquireError::HolderThreadEnded,
            false => error,
        }
    }

    /// Acquires one of the words, as [`acquire`](Self::acquire) does, for a thread that owns the
    /// queue lock. No other locker sleeps on the words.
    pub(in crate::raw) fn acquire_as_head(
        &self,
        current: CurrentThread,
        first: usize,
        mode: WaitMode,
    ) -> Result<(usize, Acquired), AcquireError> {
        if let WaitMode::Try | WaitMode::TryIfReleased = mode {
            let mut orphans = OrphanScan::default();
            return match self.take(current, first, &mut orphans) {
                Some(taken) => Ok(taken),
                None => self.check_owners(current, first, orphans),
            };
        }
        self.wait_as_head(current, first, mode.deadline())
    }

    fn wait_in_queue(
        &self,
        current: CurrentThread,
        first: usize,
        deadline: Option<Deadline>,
    ) -> Result<(usize, Acquired), AcquireError> {
        if self
            .words
            .iter()
            .all(|word| word.as_ref().is_held_by(current))
        {
            return Err(AcquireError::Deadlock);
        }
        let mode = WaitMode::Until(deadline);
        let is_head = match self.queue_lock.acquire_slow(current, mode) {
            Ok(_) => true,
            // The queue lock guards nothing. A thread that continues without it is only one more
            // that sleeps on the words.
            Err(AcquireError::HolderThreadEnded) => false,
            Err(error) => {
                let mut orphans = OrphanScan::default();
                let taken = self.take(current, first, &mut orphans);
                return taken.ok_or_else(|| self.final_error(orphans, error));
            }
        };
        let outcome = self.wait_as_head(current, first, deadline);
        self.propagate_wakes();
        if is_head {
            // SAFETY: the calling thread acquired the queue lock above.
            unsafe { self.queue_lock.unlock(current) };
        }
        outcome
    }

    /// Waits for a word as the queue head. The caller must wake other waiters on the words that
    /// stay without an owner.
    fn wait_as_head(
        &self,
        current: CurrentThread,
        first: usize,
        deadline: Option<Deadline>,
    ) -> Result<(usize, Acquired), AcquireError> {
        self.mark_known_deaths();
        let mut timer = RecheckTimer::new();
        let (mut orphans, mut state) = (OrphanScan::default(), OrphanState::default());
        let mut expired = false;
        loop {
            if let Some(taken) = self.take(current, first, &mut orphans) {
                return Ok(taken);
            }
            if expired {
                let error = match self.words {
                    [only] => WaitMode::Until(deadline).on_timeout_of(&only.as_ref().record),
                    _ => AcquireError::TimedOut,
                };
                return Err(self.final_error(orphans, error));
            }
            state.update(orphans);
            if (0..self.words.len()).all(|number| state.alive.contains(number)) {
                return Err(AcquireError::HolderThreadEnded);
            }
            let mut set = WaitvSet::new();
            let all_joined = self.from(first).all(|(number, word)| {
                // A word that was marked after the scan may be available: do not sleep.
                let expected = word
                    .prepare_wait()
                    .filter(|_| !word.is_marked() || orphans.contains(number));
                let Some(expected) = expected else {
                    return false;
                };
                set.push(&word.word, expected);
                true
            });
            if all_joined {
                let until = match &mut state.grace {
                    Some(grace) => Some(grace.next_check(deadline)),
                    None => deadline,
                };
                let until = timer.next_deadline(until);
                let outcome = set.sleep(until);
                expired = deadline.is_some_and(Deadline::has_passed);
                // A timeout between two checks of a process is not the end of the recheck timer.
                let is_grace_pause = state.grace.is_some() && !expired;
                if timer.is_due() || outcome == Wait::TimedOut && !is_grace_pause {
                    self.check_all_owners();
                }
            } else {
                expired = deadline.is_some_and(Deadline::has_passed);
            }
        }
    }

    /// Runs the liveness check: marks each word that the kernel left unmarked at its owner's death.
    /// Returns whether it marked any.
    pub(in crate::raw) fn check_all_owners(&self) -> bool {
        let words = self.words.iter().map(AsRef::<Robust>::as_ref);
        // Checks all of them: each word that it marks is one more that can be acquired.
        words.filter(|word| word.mark_if_owner_dead()).count() > 0
    }

    /// Runs the liveness check for each word whose owner's process this thread has found dead. A
    /// waiter calls this before it sleeps.
    pub(in crate::raw) fn mark_known_deaths(&self) {
        for word in self.words {
            word.as_ref().mark_if_death_known();
        }
    }

    /// Wakes one waiter on each word that has no owner and has `WAITERS` set: these wakes may have
    /// been swallowed.
    pub(in crate::raw) fn propagate_wakes(&self) {
        for word in self.words {
            let word = &word.as_ref().word;
            let value = word.load(Relaxed);
            if value & TID_MASK == 0 && value & WAITERS != 0 {
                sys::futex_wake(word, 1);
            }
        }
    }
}
