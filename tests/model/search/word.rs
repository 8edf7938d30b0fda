//! The lock word, as the kernel's robust-futex ABI lays it out.

use std::fmt;

/// A thread's id: 1 to 4, printed as A to D.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tid(u32);

impl Tid {
    /// All thread ids.
    pub const ALL: [Tid; 4] = [Tid(1), Tid(2), Tid(3), Tid(4)];

    /// The thread's index in [`Tid::ALL`].
    pub fn index(self) -> usize {
        self.0 as usize - 1
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["A", "B", "C", "D"][self.index()])
    }
}

/// Bits 0-29: the owner's thread id, or 0 if the lock has no owner.
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
/// Bit 30: the owner died, and no thread has acquired the lock since.
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
/// Bit 31: a waiter may be asleep on the word, so the thread that releases it must wake.
const FUTEX_WAITERS: u32 = 0x8000_0000;

/// The value of the lock word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Word(u32);

impl Word {
    /// The lock has no owner and no waiters, and its last owner did not die.
    pub const FREE: Word = Word(0);
    /// The lock has no owner, and a waiter may be asleep on it.
    pub const FREE_WITH_WAITERS: Word = Word(FUTEX_WAITERS);

    /// `owner` holds the lock, and there are no waiters.
    pub fn held_by(owner: Tid) -> Word {
        Word(owner.0)
    }

    pub fn owner(self) -> Option<Tid> {
        match self.0 & FUTEX_TID_MASK {
            0 => None,
            tid => Some(Tid(tid)),
        }
    }

    pub fn has_waiters(self) -> bool {
        self.0 & FUTEX_WAITERS != 0
    }

    pub fn owner_died(self) -> bool {
        self.0 & FUTEX_OWNER_DIED != 0
    }

    pub fn with_waiters(self) -> Word {
        Word(self.0 | FUTEX_WAITERS)
    }

    pub fn without_waiters(self) -> Word {
        Word(self.0 & !FUTEX_WAITERS)
    }

    /// The word after `owner` acquires it from this free word: `WAITERS` stays, and `OWNER_DIED` is
    /// cleared because the acquisition reports it.
    pub fn taken_by(self, owner: Tid) -> Word {
        Word((self.0 & FUTEX_WAITERS) | owner.0)
    }

    /// The word after the kernel marks it for its dead owner.
    pub fn marked_died(self) -> Word {
        Word((self.0 & FUTEX_WAITERS) | FUTEX_OWNER_DIED)
    }

    /// The same word with its owner renamed.
    pub fn rename_owner(self, rename: impl Fn(Tid) -> Tid) -> Word {
        let owner = self.owner().map_or(0, |tid| rename(tid).0);
        Word((self.0 & !FUTEX_TID_MASK) | owner)
    }

    /// The same word without its owner.
    pub fn without_owner(self) -> Word {
        Word(self.0 & !FUTEX_TID_MASK)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner().map(|tid| tid.to_string());
        let died = self.owner_died().then(|| "OWNER_DIED".to_owned());
        let waiters = self.has_waiters().then(|| "WAITERS".to_owned());
        let parts: Vec<_> = [owner, died, waiters].into_iter().flatten().collect();
        if parts.is_empty() {
            return f.pad("0");
        }
        f.pad(&parts.join("|"))
    }
}
