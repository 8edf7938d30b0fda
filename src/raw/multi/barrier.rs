//! A barrier of parties that may die: a word that counts arrivals, and the [slots](crate::raw::multi::member_slot) of the parties.
//!
//! | bits of the word | meaning |
//! |---|---|
//! | 0-15 | how often the barrier was reset, modulo 2^16 |
//! | 16-23 | the round, modulo 2^8; it ends when all have arrived |
//! | 24-30 | how many have arrived in this round |
//! | 31 | broken |
//!
//! An arrival is one compare-exchange, and so is its withdrawal, the end of a round, a break and a reset: no death leaves the word
//! half changed. Who waits sleeps on the word and on every slot. So a death wakes one of them by the kernel's hand; it sets the
//! broken bit and wakes the others. Where that one is killed first, its own slot wakes the next: nobody waits for the safety net.
//! The same goes for the last to arrive, killed between the end of the round and its wake.
//!
//! A round cannot end twice while one of its parties is still on its way out, since the next one needs that party. So the round
//! alone says whether one's own has ended, and a break that comes after does not matter to it.
//!
//! **Orderings.** Arrivals are read-modify-writes that acquire and release: who arrives last has what all did before they
//! arrived, and who sees the end of the round, by an acquire, has it from there.

use crate::raw::multi::lock_set::MultiError;
use crate::raw::multi::member_slot::{MemberSlot, MemberState, watch};
use crate::raw::outcome::AcquireError;
use crate::sys::{self, AtomicU32, AtomicU64, CurrentThread, Deadline, OwnerId};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

const RESET: u32 = 1;
const RESETS: u32 = 0xffff;
const ROUND: u32 = 1 << 16;
const ROUNDS: u32 = 0xff << 16;
const ARRIVAL: u32 = 1 << 24;
const ARRIVALS: u32 = 0x7f << 24;
const BROKEN: u32 = 1 << 31;

/// The words of a barrier, but for its slots.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Barrier {
    word: AtomicU32,
    /// Who broke it last: the id of the process, or 0, and the slot.
    breaker: AtomicU64,
}

/// Why the others were not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BarrierError {
    /// A party died: its slot, and its process, or 0.
    Broken(usize, Option<u32>),
    /// No news before the deadline, or no means to wait.
    MultiError(MultiError),
}

impl Barrier {
    sys::const_fn! {
        pub(crate) fn new() -> Self {
            Barrier {
                word: AtomicU32::new(0),
                breaker: AtomicU64::new(0),
            }
        }
    }

    /// Makes the barrier whole, with nobody waiting.
    ///
    /// # Safety
    ///
    /// Nobody uses it.
    pub(crate) unsafe fn init(&self) {
        self.word.store(0, Relaxed);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.word.load(Acquire) & BROKEN != 0
    }

    /// Arrives, and waits for the other parties. True for the one that came last.
    pub(crate) fn wait(
        &self,
        slots: &[impl AsRef<MemberSlot>],
        deadline: Option<Deadline>,
    ) -> Result<bool, BarrierError> {
        let arrived = loop {
            let word = self.look(slots)?;
            let all = (word & ARRIVALS) / ARRIVAL + 1 == slots.len() as u32;
            let next = match all {
                false => word + ARRIVAL,
                true => word & RESETS | (word & ROUNDS).wrapping_add(ROUND) & ROUNDS,
            };
            if self
                .word
                .compare_exchange(word, next, AcqRel, Relaxed)
                .is_err()
            {
                continue;
            }
            if all {
                sys::futex_wake(&self.word, u32::MAX);
                return Ok(true);
            }
            break word;
        };
        let met = watch(slots, Some(&self.word), None, deadline, || {
            self.outcome(arrived, slots)
        });
        match met {
            Ok(outcome) => outcome.map(|()| false),
            Err(missed) => self.withdraw(arrived, missed).map(|()| false),
        }
    }

    /// Breaks the barrier for a party that will not arrive.
    pub(crate) fn give_up(&self, slot: usize, owner: Option<OwnerId>) {
        loop {
            let word = self.word.load(Acquire);
            // Once: who was told of it may have reset the barrier already.
            if word & BROKEN != 0 || self.break_from(word, slot, owner) {
                return;
            }
        }
    }

    /// Mends a broken barrier: frees the slots of the dead. Whoever still waits there is told that it was broken.
    pub(crate) fn reset(
        &self,
        current: CurrentThread,
        slots: &[impl AsRef<MemberSlot>],
    ) -> Result<(), AcquireError> {
        loop {
            let word = self.word.load(Acquire);
            if word & BROKEN == 0 {
                return Ok(());
            }
            for slot in slots.iter().map(AsRef::<MemberSlot>::as_ref) {
                if !matches!(slot.state(), MemberState::Abandoned(_)) {
                    continue;
                }
                match slot.acquire(current, None) {
                    // SAFETY: taken just now.
                    Ok(_) => unsafe { slot.release(current) },
                    // Somebody else resets it.
                    Err(AcquireError::WouldBlock) => {}
                    Err(refused) => return Err(refused),
                }
            }
            let mended = word & ROUNDS | word.wrapping_add(RESET) & RESETS;
            if self
                .word
                .compare_exchange(word, mended, Release, Relaxed)
                .is_ok()
            {
                sys::futex_wake(&self.word, u32::MAX);
                return Ok(());
            }
        }
    }

    /// The word of a barrier that is whole, as far as can be seen; or who broke it.
    pub(crate) fn look(&self, slots: &[impl AsRef<MemberSlot>]) -> Result<u32, BarrierError> {
        loop {
            // Before the slots, so that a death of before a reset breaks nothing after it.
            let word = self.word.load(Acquire);
            if word & BROKEN != 0 {
                return Err(self.broken());
            }
            match Self::abandoned(slots) {
                None => return Ok(word),
                Some((slot, owner)) => _ = self.break_from(word, slot, owner),
            }
        }
    }

    /// How the round ended in which the caller has arrived, seeing `arrived` before; `None` where it has not.
    fn outcome(
        &self,
        arrived: u32,
        slots: &[impl AsRef<MemberSlot>],
    ) -> Option<Result<(), BarrierError>> {
        loop {
            let word = self.word.load(Acquire);
            if (word ^ arrived) & ROUNDS != 0 {
                return Some(Ok(()));
            }
            if word & BROKEN != 0 || (word ^ arrived) & RESETS != 0 {
                return Some(Err(self.broken()));
            }
            let (slot, owner) = Self::abandoned(slots)?;
            self.break_from(word, slot, owner);
        }
    }

    /// Takes an arrival back, unless the round has ended.
    fn withdraw(&self, arrived: u32, missed: MultiError) -> Result<(), BarrierError> {
        loop {
            let word = self.word.load(Acquire);
            if (word ^ arrived) & ROUNDS != 0 {
                return Ok(());
            }
            if word & BROKEN != 0 || (word ^ arrived) & RESETS != 0 {
                return Err(self.broken());
            }
            if self
                .word
                .compare_exchange(word, word - ARRIVAL, Relaxed, Relaxed)
                .is_ok()
            {
                return Err(BarrierError::MultiError(missed));
            }
        }
    }

    fn abandoned(slots: &[impl AsRef<MemberSlot>]) -> Option<(usize, Option<OwnerId>)> {
        (0..)
            .zip(slots)
            .find_map(|(number, slot)| match slot.as_ref().state() {
                MemberState::Abandoned(owner) => Some((number, owner)),
                MemberState::Free | MemberState::Occupied(_) => None,
            })
    }

    /// Breaks a barrier whose word is still this one, and wakes who waits.
    fn break_from(&self, word: u32, slot: usize, owner: Option<OwnerId>) -> bool {
        // Of two deaths at once either may be told of.
        let breaker = u64::from(owner.map_or(0, OwnerId::pid)) << 32 | slot as u64;
        self.breaker.store(breaker, Relaxed);
        let broke = self
            .word
            .compare_exchange(word, word | BROKEN, Release, Relaxed)
            .is_ok();
        if broke {
            sys::futex_wake(&self.word, u32::MAX);
        }
        broke
    }

    /// Who broke it. After an acquire of the word.
    fn broken(&self) -> BarrierError {
        let breaker = self.breaker.load(Relaxed);
        let pid = (breaker >> 32) as u32;
        BarrierError::Broken(breaker as u32 as usize, (pid != 0).then_some(pid))
    }
}
