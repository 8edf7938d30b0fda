//! A readers-writer lock in one word, for the threads of one process: what a lock is before it is
//! placed.
//!
//! | bits | meaning |
//! |---|---|
//! | 0-28 | the number of readers |
//! | 29 | a thread may sleep |
//! | 30 | an upgradable reader holds the lock |
//! | 31 | a writer holds the lock |
//!
//! A thread that has to wait sets bit 29 and sleeps. A release that clears the bit wakes all
//! sleepers.
//!
//! **Orderings.** The release compare-exchange that gives up a hold synchronizes with the acquire
//! compare-exchange of the thread that takes the lock after it.

use crate::raw::outcome::{AcquireError, WaitMode};
use crate::sys::{self, AtomicU32, Deadline, RecheckTimer};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const READERS: u32 = WAITERS - 1;
const WAITERS: u32 = 1 << 29;
const UPGRADABLE: u32 = 1 << 30;
const WRITER: u32 = 1 << 31;

/// How a thread holds the lock.
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

    /// The bits that must be clear for this mode.
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

    /// Whether a writer holds the lock.
    pub(crate) fn is_written(&self) -> bool {
        self.0.load(Relaxed) & WRITER != 0
    }

    /// Acquires the lock for `to`. The calling thread holds it for `from` so far, if for anything.
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
            // A reader that finds the count at its maximum waits.
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

    /// Releases the calling thread's hold `from`, and keeps the lock for `to` if that is given.
    pub(crate) fn unlock(&self, from: LockMode, to: Option<LockMode>) {
        loop {
            let word = self.0.load(Relaxed);
            let next = (word - from.bits() + to.map_or(0, LockMode::bits)) & !WAITERS;
            if self
                .0
                .compare_exchange(word, next, Release, Relaxed)
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
