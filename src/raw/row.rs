//! Several robust words, any of which will do: permits of one kind, seats of one roster.
//!
//! A thread takes the first word that nobody owns. Where there is none it has to sleep on all of them, by one call
//! ([`WaitSet`]), and two things can go wrong that cannot on a single word:
//!
//! - A wake is swallowed: who was woken by one word is still in the queues of the others until it runs, and wakes there may
//!   find it too, though it takes one word only.
//! - Who was woken dies before it has a word, and the wake dies with it. On a single word the kernel wakes the next one,
//!   because the word stands in the dead thread's slot for pending locks. There is one slot, and so it cannot name them all.
//!
//! Both go away where one sleeps on all words at a time. So whoever has to wait first acquires the **room**, a robust lock
//! whose holder, the head of the line, sleeps on the words; the others sleep on the room. Who gets a word leaves the room to
//! the next one, who looks at every word before it sleeps. A head that is killed leaves the room to the next one by the
//! kernel's hand, whatever wakes it had swallowed. Nobody needs to wait for the safety net.
//!
//! Others may sleep on the same words, without the room: those who watch them. So whoever leaves a sleep on several words wakes
//! one more on each that it leaves without an owner and with `WAITERS`.
//!
//! A word that is marked may be had once its owner's process is gone, which may take a while, and no wake tells of it. The head of
//! the line looks at that process now and then, and sleeps on the words in between, so that another one is had as soon as it is
//! released.
//!
//! **Orderings.** Those of the [robust word](super::robust): nothing else is published here.

use super::outcome::{Acquired, Patience, Refused};
use super::robust::{Robust, TID, WAITERS};
use crate::sys::{self, AtomicU32, Deadline, Doubt, Me, Nap, NoWaitOnSeveral, Wait, WaitSet};
use core::sync::atomic::Ordering::Relaxed;

/// Looks at the words before a contender gets in line.
const LOOKS: u32 = 100;

/// What has a robust word.
pub(crate) trait HasWord {
    /// The word.
    fn word(&self) -> &Robust;
}

impl HasWord for Robust {
    fn word(&self) -> &Robust {
        self
    }
}

/// Why none of the words was acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missed {
    /// As for one word: held, until the deadline, by the calling thread, or by threads that ended.
    Refused(Refused),
    /// The kernel has no sleep on several words.
    CannotWait,
}

/// What the head of a line does where the kernel has no sleep on several words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// It gives up.
    GivesUp,
    /// It sleeps on one of them, and sees at its next look that another one is to be had: within a second.
    SleepsOnOne,
}

/// Some words, at most [`MAX`](Row::MAX), and their room.
#[derive(Debug)]
pub(crate) struct Row<'a, W> {
    pub(crate) words: &'a [W],
    pub(crate) room: &'a Robust,
}

/// Words by their numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Numbers(u128);

impl Numbers {
    fn insert(&mut self, number: usize) {
        self.0 |= 1 << number;
    }

    fn remove(&mut self, number: usize) {
        self.0 &= !(1 << number);
    }

    fn has(self, number: usize) -> bool {
        self.0 >> number & 1 != 0
    }

    fn and(self, others: Numbers) -> Self {
        Numbers(self.0 & others.0)
    }

    fn or(self, others: Numbers) -> Self {
        Numbers(self.0 | others.0)
    }

    fn without(self, others: Numbers) -> Self {
        Numbers(self.0 & !others.0)
    }
}

/// The marked words, by what the last look at them has shown.
#[derive(Debug, Clone, Copy, Default)]
struct Marked {
    /// Those of processes that live, as far as one look can tell: their owners' threads have ended.
    ended: Numbers,
    /// Those of processes that may be on their way out.
    dying: Numbers,
}

impl Marked {
    fn forget(&mut self, number: usize) {
        self.ended.remove(number);
        self.dying.remove(number);
    }

    fn note(&mut self, number: usize, refused: Refused) {
        self.forget(number);
        match refused {
            Refused::HolderThreadEnded => self.ended.insert(number),
            Refused::TimedOut => self.dying.insert(number),
            // It is another's by now.
            Refused::WouldBlock | Refused::Deadlock => {}
        }
    }

    fn has(self, number: usize) -> bool {
        self.ended.or(self.dying).has(number)
    }
}

/// Which of the marked words are kept by processes that live, and which are still doubtful.
#[derive(Debug, Default)]
struct Verdict {
    kept: Numbers,
    doubtful: Numbers,
    doubt: Option<Doubt>,
}

impl Verdict {
    /// After a look. One that may be about to show another thing is looked at for a while before it counts.
    fn weigh(&mut self, marked: Marked) {
        self.kept = self.kept.and(marked.ended);
        let mut doubtful = marked.dying.or(marked.ended).without(self.kept);
        if doubtful.without(self.doubtful) != Numbers::default() {
            self.doubt = Some(Doubt::new());
        }
        if self.doubt.as_ref().is_some_and(Doubt::is_over) {
            self.kept = marked.ended;
            doubtful = marked.dying;
        }
        if doubtful == Numbers::default() {
            self.doubt = None;
        }
        self.doubtful = doubtful;
    }
}

impl<W: HasWord> Row<'_, W> {
    /// The kernel's number, and one word less for whoever sleeps on something else as well.
    #[allow(dead_code, reason = "asserted in `sync`")]
    pub(crate) const MAX: usize = 127;

    /// Acquires one of the words, the one numbered `first` if it can be had, waiting as long as `patience` says.
    #[cold]
    pub(crate) fn acquire(
        &self,
        me: Me,
        first: usize,
        patience: Patience,
    ) -> Result<(usize, Acquired), Missed> {
        let mut marked = Marked::default();
        if let Some(taken) = self.take(me, first, &mut marked) {
            return Ok(taken);
        }
        if let Patience::Until(_) | Patience::Endless = patience {
            for _ in 0..sys::affordable_looks(LOOKS) {
                sys::pause();
                // The marked ones are left out: a look at a process takes longer than all of these together.
                if let Some(taken) = self.take_released(me, first) {
                    return Ok(taken);
                }
            }
        }
        match patience {
            Patience::None | Patience::IfReleased => self.look_at_the_owners(me, first, marked),
            Patience::Until(deadline) => self.get_in_line(me, first, Some(deadline)),
            Patience::Endless => self.get_in_line(me, first, None),
        }
    }

    /// The words from number `first` on, and then those before it.
    fn from(&self, first: usize) -> impl Iterator<Item = (usize, &Robust)> {
        let (before, after) = self.words.split_at(first);
        let numbered = (first..).zip(after).chain((0..).zip(before));
        numbered.map(|(number, word)| (number, word.word()))
    }

    fn take_at_once(&self, me: Me, first: usize) -> Option<(usize, Acquired)> {
        self.take(me, first, &mut Marked::default())
    }

    fn take_released(&self, me: Me, first: usize) -> Option<(usize, Acquired)> {
        self.from(first).find_map(|(number, word)| {
            let acquired = match word.is_released() {
                true => word.acquire_if_unowned(me, Some(Deadline::now())).ok(),
                false => None,
            };
            Some((number, acquired?))
        })
    }

    /// Takes a word that was released, or else one whose owner died, if its process is gone by now. What became of the other
    /// marked ones goes to `marked`.
    fn take(&self, me: Me, first: usize, marked: &mut Marked) -> Option<(usize, Acquired)> {
        if let Some(taken) = self.take_released(me, first) {
            return Some(taken);
        }
        for (number, word) in self.from(first) {
            if !word.owner_died() {
                marked.forget(number);
                continue;
            }
            match word.acquire_if_unowned(me, Some(Deadline::now())) {
                Ok(acquired) => return Some((number, acquired)),
                Err(refused) => marked.note(number, refused),
            }
        }
        None
    }

    /// The end of an attempt without patience: the safety net's look, now and then, and what stands in the way.
    fn look_at_the_owners(
        &self,
        me: Me,
        first: usize,
        marked: Marked,
    ) -> Result<(usize, Acquired), Missed> {
        let watched = &self.words[first].word().word;
        if !sys::looked_lately(watched, TID)
            && self.from(first).fold(false, |found, (_, word)| {
                word.mark_if_owner_is_gone() || found
            })
            && let Some(taken) = self.take_at_once(me, first)
        {
            return Ok(taken);
        }
        Err(self.missed(marked, Refused::WouldBlock))
    }

    /// What is told after a last look: that processes which live keep all the words, as far as that look can tell, or else
    /// `refused`.
    fn missed(&self, marked: Marked, refused: Refused) -> Missed {
        let all_ended = (0..self.words.len()).all(|number| marked.ended.has(number));
        Missed::Refused(match all_ended {
            true => Refused::HolderThreadEnded,
            false => refused,
        })
    }

    /// Acquires one of the words, as [`acquire`](Self::acquire) does, for a thread that owns the room. Nobody else sleeps on the
    /// words.
    pub(super) fn acquire_as_head(
        &self,
        me: Me,
        first: usize,
        patience: Patience,
        otherwise: Otherwise,
    ) -> Result<(usize, Acquired), Missed> {
        if let Patience::None | Patience::IfReleased = patience {
            let mut marked = Marked::default();
            return match self.take(me, first, &mut marked) {
                Some(taken) => Ok(taken),
                None => self.look_at_the_owners(me, first, marked),
            };
        }
        self.sleep_and_take(me, first, patience.deadline(), otherwise)
    }

    fn get_in_line(
        &self,
        me: Me,
        first: usize,
        deadline: Option<Deadline>,
    ) -> Result<(usize, Acquired), Missed> {
        if self.words.iter().all(|word| word.word().is_held_by(me)) {
            return Err(Missed::Refused(Refused::Deadlock));
        }
        let patience = deadline.map_or(Patience::Endless, Patience::Until);
        let otherwise = Otherwise::GivesUp;
        let is_head = match self.room.acquire(me, patience) {
            Ok(_) => true,
            // The room guards nothing. Whoever goes on without it is one more that sleeps on the words.
            Err(Refused::HolderThreadEnded) => false,
            Err(refused) => {
                let mut marked = Marked::default();
                let taken = self.take(me, first, &mut marked);
                return taken.ok_or_else(|| self.missed(marked, refused));
            }
        };
        let outcome = self.sleep_and_take(me, first, deadline, otherwise);
        self.wake_for_the_rest();
        if is_head {
            // SAFETY: acquired above.
            unsafe { self.room.unlock(me) };
        }
        outcome
    }

    /// What the head of the line does. Whoever calls it wakes others for what it leaves.
    fn sleep_and_take(
        &self,
        me: Me,
        first: usize,
        deadline: Option<Deadline>,
        otherwise: Otherwise,
    ) -> Result<(usize, Acquired), Missed> {
        let mut nap = Nap::first();
        let (mut marked, mut verdict) = (Marked::default(), Verdict::default());
        let mut expired = false;
        loop {
            if let Some(taken) = self.take(me, first, &mut marked) {
                return Ok(taken);
            }
            if expired {
                return Err(self.missed(marked, Refused::TimedOut));
            }
            verdict.weigh(marked);
            if (0..self.words.len()).all(|number| verdict.kept.has(number)) {
                return Err(Missed::Refused(Refused::HolderThreadEnded));
            }
            let mut set = WaitSet::new();
            let mut one: Option<(usize, &AtomicU32, u32)> = None;
            let is_whole = self.from(first).all(|(number, word)| {
                // One that was marked since the look may be had.
                let expected = word
                    .expect_change()
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
                let until = match &mut verdict.doubt {
                    Some(doubt) => Some(doubt.next_look(deadline)),
                    None => deadline,
                };
                let until = nap.end(until);
                let answer = match (set.sleep(until), otherwise, one) {
                    (Ok(answer), ..) => answer,
                    (Err(NoWaitOnSeveral), Otherwise::SleepsOnOne, Some((_, word, expected))) => {
                        sys::futex_wait(word, expected, until)
                    }
                    (Err(NoWaitOnSeveral), ..) => return Err(Missed::CannotWait),
                };
                expired = deadline.is_some_and(Deadline::has_passed);
                // The end of a pause between two looks at a process is not that of the nap.
                let is_pause = verdict.doubt.is_some() && !expired;
                if nap.is_over() || answer == Wait::TimedOut && !is_pause {
                    self.look_for_the_dead();
                }
            } else {
                expired = deadline.is_some_and(Deadline::has_passed);
            }
        }
    }

    /// The safety net's look: whether an owner died without being marked.
    pub(super) fn look_for_the_dead(&self) -> bool {
        let words = self.words.iter().map(HasWord::word);
        // All of them: each that is found is one more to be had.
        words.filter(|word| word.mark_if_owner_is_gone()).count() > 0
    }

    /// Wakes one more on each word that nobody owns and somebody may sleep on: the wakes that were swallowed.
    pub(super) fn wake_for_the_rest(&self) {
        for word in self.words {
            let word = &word.word().word;
            let value = word.load(Relaxed);
            if value & TID == 0 && value & WAITERS != 0 {
                sys::futex_wake(word, 1);
            }
        }
    }
}
