//! Several robust words, any of which will do: permits of one kind, slots of one roster.
//!
//! A thread takes the first word that nobody owns. Where there is none it has to sleep on all of them, by one call
//! ([`WaitvSet`]), and two things can go wrong that cannot on a single word:
//!
//! - A wake is swallowed: who was woken by one word is still in the queues of the others until it runs, and wakes there may
//!   find it too, though it takes one word only.
//! - Who was woken dies before it has a word, and the wake dies with it. On a single word the kernel wakes the next one,
//!   because the word stands in the dead thread's slot for pending locks. There is one slot, and so it cannot name them all.
//!
//! Both go away where one sleeps on all words at a time. So whoever has to wait first acquires the **queue_lock**, a robust lock
//! whose holder, the head of the line, sleeps on the words; the others sleep on the queue_lock. Who gets a word leaves the queue_lock to
//! the next one, who looks at every word before it sleeps. A head that is killed leaves the queue_lock to the next one by the
//! kernel's hand, whatever wakes it had swallowed. Nobody needs to wait for the safety net.
//!
//! Others may sleep on the same words, without the queue_lock: those who watch them. So whoever leaves a sleep on several words wakes
//! one more on each that it leaves without an owner and with `WAITERS`.
//!
//! A word that is marked may be had once its owner's process is gone, which may take a while, and no wake tells of it. The head of
//! the line looks at that process now and then, and sleeps on the words in between, so that another one is had as soon as it is
//! released.
//!
//! **Orderings.** Those of the [robust word](crate::raw::robust): nothing else is published here.

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::{Robust, TID, WAITERS};
use crate::sys::{
    self, AtomicU32, CurrentThread, Deadline, FutexWaitvUnsupported, GracePeriod, RecheckTimer,
    Wait, WaitvSet,
};
use core::sync::atomic::Ordering::Relaxed;

/// Looks at the words before a contender gets in line.
const SPINS: u32 = 100;

impl AsRef<Robust> for Robust {
    fn as_ref(&self) -> &Robust {
        self
    }
}

/// Why none of the words was acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MultiError {
    /// As for one word: held, until the deadline, by the calling thread, or by threads that ended.
    AcquireError(AcquireError),
    /// The kernel has no sleep on several words.
    CannotWait,
}

/// What the head of a line does where the kernel has no sleep on several words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raw) enum NoWaitvPolicy {
    /// It gives up.
    GivesUp,
    /// It sleeps on one of them, and sees at its next look that another one is to be had: within a second.
    SleepsOnOne,
}

/// Some words, at most [`MAX`](LockSet::MAX), and their queue_lock.
#[derive(Debug)]
pub(crate) struct LockSet<'a, W> {
    pub(crate) words: &'a [W],
    pub(crate) queue_lock: &'a Robust,
}

/// Words by their numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct BitSet(u128);

impl BitSet {
    fn insert(&mut self, number: usize) {
        self.0 |= 1 << number;
    }

    fn remove(&mut self, number: usize) {
        self.0 &= !(1 << number);
    }

    fn has(self, number: usize) -> bool {
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

/// The marked words, by what the last look at them has shown.
#[derive(Debug, Clone, Copy, Default)]
struct OrphanScan {
    /// Those of processes that live, as far as one look can tell: their owners' threads have ended.
    ended: BitSet,
    /// Those of processes that may be on their way out.
    dying: BitSet,
}

impl OrphanScan {
    fn forget(&mut self, number: usize) {
        self.ended.remove(number);
        self.dying.remove(number);
    }

    fn note(&mut self, number: usize, refused: AcquireError) {
        self.forget(number);
        match refused {
            AcquireError::HolderThreadEnded => self.ended.insert(number),
            AcquireError::TimedOut => self.dying.insert(number),
            // It is another's by now.
            AcquireError::WouldBlock | AcquireError::Deadlock => {}
        }
    }

    fn has(self, number: usize) -> bool {
        self.ended.or(self.dying).has(number)
    }
}

/// Which of the marked words are kept by processes that live, and which are still doubtful.
#[derive(Debug, Default)]
struct OrphanState {
    kept: BitSet,
    doubtful: BitSet,
    grace: Option<GracePeriod>,
}

impl OrphanState {
    /// After a look. One that may be about to show another thing is looked at for a while before it counts.
    fn update(&mut self, marked: OrphanScan) {
        self.kept = self.kept.and(marked.ended);
        let mut doubtful = marked.dying.or(marked.ended).without(self.kept);
        if doubtful.without(self.doubtful) != BitSet::default() {
            self.grace = Some(GracePeriod::new());
        }
        if self.grace.as_ref().is_some_and(GracePeriod::is_over) {
            self.kept = marked.ended;
            doubtful = marked.dying;
        }
        if doubtful == BitSet::default() {
            self.grace = None;
        }
        self.doubtful = doubtful;
    }
}

impl<W: AsRef<Robust>> LockSet<'_, W> {
    /// The kernel's number, and one word less for whoever sleeps on something else as well.
    #[allow(dead_code, reason = "asserted in `sync`")]
    pub(crate) const MAX: usize = 127;

    /// Acquires one of the words, the one numbered `first` if it can be had, waiting as long as `mode` says.
    #[cold]
    pub(crate) fn acquire(
        &self,
        current: CurrentThread,
        first: usize,
        mode: WaitMode,
    ) -> Result<(usize, Acquired), MultiError> {
        let mut marked = OrphanScan::default();
        if let Some(taken) = self.take(current, first, &mut marked) {
            return Ok(taken);
        }
        if let WaitMode::Until(_) = mode {
            for _ in 0..sys::spin_limit(SPINS) {
                sys::pause();
                // The marked ones are left out: a look at a process takes longer than all of these together.
                if let Some(taken) = self.take_released(current, first) {
                    return Ok(taken);
                }
            }
        }
        match mode {
            WaitMode::Try | WaitMode::TryIfReleased => self.check_owners(current, first, marked),
            WaitMode::Until(deadline) => self.wait_in_queue(current, first, deadline),
        }
    }

    /// The words from number `first` on, and then those before it.
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
                true => word
                    .try_acquire_unowned(current, Some(Deadline::now()))
                    .ok(),
                false => None,
            };
            Some((number, acquired?))
        })
    }

    /// Takes a word that was released, or else one whose owner died, if its process is gone by now. What became of the other
    /// marked ones goes to `marked`.
    fn take(
        &self,
        current: CurrentThread,
        first: usize,
        marked: &mut OrphanScan,
    ) -> Option<(usize, Acquired)> {
        if let Some(taken) = self.take_released(current, first) {
            return Some(taken);
        }
        for (number, word) in self.from(first) {
            if !word.owner_died() {
                marked.forget(number);
                continue;
            }
            match word.try_acquire_unowned(current, Some(Deadline::now())) {
                Ok(acquired) => return Some((number, acquired)),
                Err(refused) => marked.note(number, refused),
            }
        }
        None
    }

    /// The end of an attempt without mode: the safety net's look, now and then, and what stands in the way.
    fn check_owners(
        &self,
        current: CurrentThread,
        first: usize,
        marked: OrphanScan,
    ) -> Result<(usize, Acquired), MultiError> {
        let watched = &self.words[first].as_ref().word;
        if !sys::checked_recently(watched, TID)
            && self
                .from(first)
                .fold(false, |found, (_, word)| word.mark_if_owner_dead() || found)
            && let Some(taken) = self.try_take(current, first)
        {
            return Ok(taken);
        }
        Err(self.missed(marked, AcquireError::WouldBlock))
    }

    /// What is told after a last look: that processes which live keep all the words, as far as that look can tell, or else
    /// `refused`.
    fn missed(&self, marked: OrphanScan, refused: AcquireError) -> MultiError {
        let all_ended = (0..self.words.len()).all(|number| marked.ended.has(number));
        MultiError::AcquireError(match all_ended {
            true => AcquireError::HolderThreadEnded,
            false => refused,
        })
    }

    /// Acquires one of the words, as [`acquire`](Self::acquire) does, for a thread that owns the queue_lock. Nobody else sleeps on the
    /// words.
    pub(in crate::raw) fn acquire_as_head(
        &self,
        current: CurrentThread,
        first: usize,
        mode: WaitMode,
        otherwise: NoWaitvPolicy,
    ) -> Result<(usize, Acquired), MultiError> {
        if let WaitMode::Try | WaitMode::TryIfReleased = mode {
            let mut marked = OrphanScan::default();
            return match self.take(current, first, &mut marked) {
                Some(taken) => Ok(taken),
                None => self.check_owners(current, first, marked),
            };
        }
        self.wait_as_head(current, first, mode.deadline(), otherwise)
    }

    fn wait_in_queue(
        &self,
        current: CurrentThread,
        first: usize,
        deadline: Option<Deadline>,
    ) -> Result<(usize, Acquired), MultiError> {
        if self
            .words
            .iter()
            .all(|word| word.as_ref().is_held_by(current))
        {
            return Err(MultiError::AcquireError(AcquireError::Deadlock));
        }
        let mode = WaitMode::Until(deadline);
        let otherwise = NoWaitvPolicy::GivesUp;
        let is_head = match self.queue_lock.acquire_slow(current, mode) {
            Ok(_) => true,
            // The queue_lock guards nothing. Whoever goes on without it is one more that sleeps on the words.
            Err(AcquireError::HolderThreadEnded) => false,
            Err(refused) => {
                let mut marked = OrphanScan::default();
                let taken = self.take(current, first, &mut marked);
                return taken.ok_or_else(|| self.missed(marked, refused));
            }
        };
        let outcome = self.wait_as_head(current, first, deadline, otherwise);
        self.propagate_wakes();
        if is_head {
            // SAFETY: acquired above.
            unsafe { self.queue_lock.unlock(current) };
        }
        outcome
    }

    /// What the head of the line does. Whoever calls it wakes others for what it leaves.
    fn wait_as_head(
        &self,
        current: CurrentThread,
        first: usize,
        deadline: Option<Deadline>,
        otherwise: NoWaitvPolicy,
    ) -> Result<(usize, Acquired), MultiError> {
        let mut timer = RecheckTimer::new();
        let (mut marked, mut verdict) = (OrphanScan::default(), OrphanState::default());
        let mut expired = false;
        loop {
            if let Some(taken) = self.take(current, first, &mut marked) {
                return Ok(taken);
            }
            if expired {
                return Err(self.missed(marked, AcquireError::TimedOut));
            }
            verdict.update(marked);
            if (0..self.words.len()).all(|number| verdict.kept.has(number)) {
                return Err(MultiError::AcquireError(AcquireError::HolderThreadEnded));
            }
            let mut set = WaitvSet::new();
            let mut one: Option<(usize, &AtomicU32, u32)> = None;
            let is_whole = self.from(first).all(|(number, word)| {
                // One that was marked since the look may be had.
                let expected = word
                    .prepare_wait()
                    .filter(|_| !word.owner_died() || marked.has(number));
                let Some(expected) = expected else {
                    return false;
                };
                set.push(&word.word, expected);
                // Of a marked one no wake tells.
                if one.is_none_or(|(another, ..)| marked.has(another)) {
                    one = Some((number, &word.word, expected));
                }
                true
            });
            if is_whole {
                let until = match &mut verdict.grace {
                    Some(grace) => Some(grace.next_check(deadline)),
                    None => deadline,
                };
                let until = timer.next_deadline(until);
                let answer = match (set.sleep(until), otherwise, one) {
                    (Ok(answer), ..) => answer,
                    (
                        Err(FutexWaitvUnsupported),
                        NoWaitvPolicy::SleepsOnOne,
                        Some((_, word, expected)),
                    ) => sys::futex_wait(word, expected, until),
                    (Err(FutexWaitvUnsupported), ..) => return Err(MultiError::CannotWait),
                };
                expired = deadline.is_some_and(Deadline::has_passed);
                // The end of a pause between two looks at a process is not that of the timer.
                let is_grace_pause = verdict.grace.is_some() && !expired;
                if timer.is_due() || answer == Wait::TimedOut && !is_grace_pause {
                    self.check_all_owners();
                }
            } else {
                expired = deadline.is_some_and(Deadline::has_passed);
            }
        }
    }

    /// The safety net's look: whether an owner died without being marked.
    pub(in crate::raw) fn check_all_owners(&self) -> bool {
        let words = self.words.iter().map(AsRef::<Robust>::as_ref);
        // All of them: each that is found is one more to be had.
        words.filter(|word| word.mark_if_owner_dead()).count() > 0
    }

    /// Wakes one more on each word that nobody owns and somebody may sleep on: the wakes that were swallowed.
    pub(in crate::raw) fn propagate_wakes(&self) {
        for word in self.words {
            let word = &word.as_ref().word;
            let value = word.load(Relaxed);
            if value & TID == 0 && value & WAITERS != 0 {
                sys::futex_wake(word, 1);
            }
        }
    }
}
