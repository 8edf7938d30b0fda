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

use crate::raw::outcome::{AcquireError, WaitMode};
use crate::sys::{self, AtomicU32, Deadline, RecheckTimer};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const READERS: u32 = WAITERS - 1;
const WAITERS: u32 = 1 << 29;
const UPGRADABLE: u32 = 1 << 30;
const WRITER: u32 = 1 << 31;

/// What a thread does with the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockMode {
    Read,
    UpgradableRead,
    Write,
}

impl LockMode {
    fn bits(self) -> u32 {
        match self {
            LockMode::Read => 1,
            LockMode::UpgradableRead => UPGRADABLE,
            LockMode::Write => WRITER,
        }
    }

    /// What must not be there for this.
    fn excludes(self) -> u32 {
        match self {
            LockMode::Read => WRITER,
            LockMode::UpgradableRead => WRITER | UPGRADABLE,
            LockMode::Write => WRITER | UPGRADABLE | READERS,
        }
    }
}

/// The lock's word.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct InProcessRwLock(AtomicU32);

impl InProcessRwLock {
    sys::const_fn! {
        pub(crate) fn new() -> Self {
            InProcessRwLock(AtomicU32::new(0))
        }
    }

    /// Whether somebody writes.
    pub(crate) fn is_written(&self) -> bool {
        self.0.load(Relaxed) & WRITER != 0
    }

    /// Takes the lock for `to`, where the calling thread has it for `from` so far.
    pub(crate) fn take(
        &self,
        from: Option<LockMode>,
        to: LockMode,
        mode: WaitMode,
        holder_is_gone: impl Fn() -> bool,
    ) -> Result<(), AcquireError> {
        let own = from.map_or(0, LockMode::bits);
        let deadline = mode.deadline();
        let mut timer = RecheckTimer::new();
        loop {
            let word = self.0.load(Relaxed);
            let others = word - own;
            // Who finds the count full waits.
            let has_room = to != LockMode::Read || others & READERS != READERS;
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
                return Err(AcquireError::HolderThreadEnded);
            }
            if deadline.is_some_and(Deadline::has_passed) {
                return Err(mode.on_timeout());
            }
            let with_waiters = word | WAITERS;
            if word != with_waiters
                && self
                    .0
                    .compare_exchange(word, with_waiters, Relaxed, Relaxed)
                    .is_err()
            {
                continue;
            }
            sys::futex_wait(&self.0, with_waiters, timer.next_deadline(deadline));
        }
    }

    /// Gives back what the calling thread has the lock for, and keeps it for `to`, if for anything.
    pub(crate) fn unlock(&self, from: LockMode, to: Option<LockMode>) {
        loop {
            let word = self.0.load(Relaxed);
            let kept = (word - from.bits() + to.map_or(0, LockMode::bits)) & !WAITERS;
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
