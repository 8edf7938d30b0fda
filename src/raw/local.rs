//! A readers-writer lock in one word, for the threads of one process: what a lock is before it is placed.
//!
//! | bits | meaning |
//! |---|---|
//! | 0-28 | how many read |
//! | 29 | somebody may sleep |
//! | 30 | somebody reads who may write later |
//! | 31 | somebody writes |
//!
//! Who has to wait sets bit 29 and sleeps; a release that takes the bit away wakes everybody.
//!
//! **Orderings.** The release of a compare-exchange that gives something back synchronizes with the acquire of the one that
//! takes it.

use super::outcome::{Patience, Refused};
use crate::sys::{self, AtomicU32, Deadline, Nap};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const READERS: u32 = WAITERS - 1;
const WAITERS: u32 = 1 << 29;
const UPGRADABLE: u32 = 1 << 30;
const WRITER: u32 = 1 << 31;

/// What a thread does with the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    UpgradableRead,
    Write,
}

impl Use {
    fn bits(self) -> u32 {
        match self {
            Use::Read => 1,
            Use::UpgradableRead => UPGRADABLE,
            Use::Write => WRITER,
        }
    }

    /// What must not be there for this.
    fn excludes(self) -> u32 {
        match self {
            Use::Read => WRITER,
            Use::UpgradableRead => WRITER | UPGRADABLE,
            Use::Write => WRITER | UPGRADABLE | READERS,
        }
    }
}

/// The lock's word.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Local(AtomicU32);

impl Local {
    sys::const_fn! {
        pub(crate) fn new() -> Self {
            Local(AtomicU32::new(0))
        }
    }

    /// Whether somebody writes.
    pub(crate) fn is_written(&self) -> bool {
        self.0.load(Relaxed) & WRITER != 0
    }

    /// Takes the lock for `to`, where the calling thread has it for `from` so far.
    pub(crate) fn take(
        &self,
        from: Option<Use>,
        to: Use,
        patience: Patience,
        holder_is_gone: impl Fn() -> bool,
    ) -> Result<(), Refused> {
        let own = from.map_or(0, Use::bits);
        let deadline = patience.deadline();
        let mut nap = Nap::first();
        loop {
            let word = self.0.load(Relaxed);
            let others = word - own;
            // Who finds the count full waits.
            let has_room = to != Use::Read || others & READERS != READERS;
            if others & to.excludes() == 0 && has_room {
                let taken = others + to.bits();
                if self
                    .0
                    .compare_exchange(word, taken, Acquire, Relaxed)
                    .is_ok()
                {
                    return Ok(());
                }
                continue;
            }
            if holder_is_gone() {
                return Err(Refused::HolderThreadEnded);
            }
            if deadline.is_some_and(Deadline::has_passed) {
                return Err(patience.refusal());
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
            sys::futex_wait(&self.0, announced, nap.end(deadline));
        }
    }

    /// Gives back what the calling thread has the lock for, and keeps it for `to`, if for anything.
    pub(crate) fn give_back(&self, from: Use, to: Option<Use>) {
        loop {
            let word = self.0.load(Relaxed);
            let kept = (word - from.bits() + to.map_or(0, Use::bits)) & !WAITERS;
            if self
                .0
                .compare_exchange(word, kept, Release, Relaxed)
                .is_ok()
            {
                if word & WAITERS != 0 {
                    sys::futex_wake(&self.0, u32::MAX);
                }
                return;
            }
        }
    }
}
