//! A barrier of parties that may die: a word that counts arrivals, and a
//! [slot](crate::raw::multi::member_slot) for each party.
//!
//! | bits of the word | meaning |
//! |---|---|
//! | 0-15 | how often the barrier was reset, modulo 2^16 |
//! | 16-23 | the round, modulo 2^8; it ends when all parties have arrived |
//! | 24-30 | how many parties have arrived in this round |
//! | 31 | broken |
//!
//! An arrival, its withdrawal, the end of a round, a break and a reset are one compare-exchange
//! each, so no death leaves the word half changed. A waiter sleeps on the word and on every slot.
//! When a party dies, the kernel wakes one waiter, which sets the broken bit and wakes the others.
//! If that waiter is killed first, the death of its own slot wakes the next one, so no waiter
//! depends on the liveness check. The same holds if the last party to arrive is killed between the
//! end of the round and its wake.
//!
//! A round cannot end twice while one of its parties has not returned yet, because the next round
//! needs that party. So the round number alone shows whether the caller's round has ended. A break
//! after the end of the round does not change its result.
//!
//! **Orderings.** Arrivals are read-modify-writes with acquire and release. So the last party to
//! arrive sees what all parties did before they arrived. A party that sees the end of the round, by
//! an acquire load, sees the same.

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

/// The words of a barrier, except its slots.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Barrier {
    word: AtomicU32,
    /// The party that broke it last: its process id, or 0 if that is unknown, and its slot.
    breaker: AtomicU64,
}

/// Why the wait for the other parties failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BarrierError {
    /// A party died: its slot, and its process id if it is known.
    Broken(usize, Option<u32>),
    /// The deadline passed.
    Wait(AcquireError),
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

    /// Initializes the barrier: not broken, with no arrivals.
    ///
    /// # Safety
    ///
    /// No thread may use the barrier during the call.
    pub(crate) unsafe fn init(&self) {
        self.word.store(0, Relaxed);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.word.load(Acquire) & BROKEN != 0
    }

    /// Arrives, and waits for the other parties. Returns true for the party that arrived last.
    pub(crate) fn wait(
        &self,
        slots: &[impl AsRef<MemberSlot>],
        deadline: Option<Deadline>,
    ) -> Result<bool, BarrierError> {
        let arrived = loop {
            let word = self.check(slots)?;
            let is_last = (word & ARRIVALS) / ARRIVAL + 1 == slots.len() as u32;
            let next = match is_last {
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
            if is_last {
                sys::futex_wake(&self.word, u32::MAX);
                return Ok(true);
            }
            break word;
        };
        let result = watch(slots, Some(&self.word), None, deadline, || {
            self.outcome(arrived, slots)
        });
        match result {
            Ok(outcome) => outcome.map(|()| false),
            Err(error) => self.undo_arrival(arrived, error).map(|()| false),
        }
    }

    /// Breaks the barrier on behalf of a party that will not arrive.
    pub(crate) fn break_for(&self, slot: usize, owner: Option<OwnerId>) {
        loop {
            let word = self.word.load(Acquire);
            // Break it once only: a party that received the error may have reset the barrier
            // already.
            if word & BROKEN != 0 || self.break_from(word, slot, owner) {
                return;
            }
        }
    }

    /// Repairs a broken barrier and frees the slots of dead parties. Parties that still wait
    /// receive [`BarrierError::Broken`].
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
                    // SAFETY: the calling thread has just acquired the slot.
                    Ok(_) => unsafe { slot.release(current) },
                    // Another thread resets the barrier.
                    Err(AcquireError::WouldBlock) => {}
                    Err(error) => return Err(error),
                }
            }
            let reset = word & ROUNDS | word.wrapping_add(RESET) & RESETS;
            if self
                .word
                .compare_exchange(word, reset, Release, Relaxed)
                .is_ok()
            {
                sys::futex_wake(&self.word, u32::MAX);
                return Ok(());
            }
        }
    }

    /// Returns the word of a barrier that is not broken and has no party that is known to be dead.
    /// Otherwise returns which party broke it.
    pub(crate) fn check(&self, slots: &[impl AsRef<MemberSlot>]) -> Result<u32, BarrierError> {
        loop {
            // Read before the slots. If the barrier is reset in between, `break_from` fails, so a
            // death from before the reset does not break the barrier after it.
            let word = self.word.load(Acquire);
            if word & BROKEN != 0 {
                return Err(self.broken());
            }
            match Self::find_abandoned(slots) {
                None => return Ok(word),
                Some((slot, owner)) => _ = self.break_from(word, slot, owner),
            }
        }
    }

    /// Returns how the round ended in which the caller arrived, or `None` if it has not ended.
    /// `arrived` is the word from before the caller's arrival.
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
            let (slot, owner) = Self::find_abandoned(slots)?;
            self.break_from(word, slot, owner);
        }
    }

    /// Withdraws an arrival, unless the round has ended.
    fn undo_arrival(&self, arrived: u32, error: AcquireError) -> Result<(), BarrierError> {
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
                return Err(BarrierError::Wait(error));
            }
        }
    }

    fn find_abandoned(slots: &[impl AsRef<MemberSlot>]) -> Option<(usize, Option<OwnerId>)> {
        (0..)
            .zip(slots)
            .find_map(|(number, slot)| match slot.as_ref().state() {
                MemberState::Abandoned(owner) => Some((number, owner)),
                MemberState::Free | MemberState::Occupied(_) => None,
            })
    }

    /// Breaks the barrier if its word is still `word`, and then wakes all waiters. Returns whether
    /// it did.
    fn break_from(&self, word: u32, slot: usize, owner: Option<OwnerId>) -> bool {
        // Of two deaths at the same time either may be reported.
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

    /// Returns which party broke the barrier. The caller must have loaded the word by an acquire.
    fn broken(&self) -> BarrierError {
        let breaker = self.breaker.load(Relaxed);
        let pid = (breaker >> 32) as u32;
        BarrierError::Broken(breaker as u32 as usize, (pid != 0).then_some(pid))
    }
}
