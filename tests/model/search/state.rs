//! What a state of the model holds: the word, the threads, and what is left of each budget.

use std::fmt;
use std::ops::{Index, IndexMut};

use super::word::{Tid, Word};

/// The step a thread takes next. A step is atomic; a thread may be killed before any of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Pc {
    /// Lock: `list_op_pending = lock`.
    Pend,
    /// Lock: compare-exchange 0 -> own tid, the fast path.
    TakeFast,
    /// Lock: load the word, and decide.
    Look,
    /// Lock: compare-exchange this word, seen without an owner -> own tid.
    Take(Word),
    /// Lock: compare-exchange this word -> the same with `WAITERS`.
    SetWaiters(Word),
    /// Lock, where sleepers are counted: count one more, then wait for this word.
    Announce(Word),
    /// Lock: `FUTEX_WAIT` while the word is this one.
    Wait(Word),
    /// Lock: in the futex queue, with so many before it (always 0 where order does not matter).
    Asleep { ahead: u8 },
    /// Lock, where sleepers are counted: count one less.
    Retract,
    /// Lock: acquired; link the lock into the robust list.
    Link,
    /// Lock: `list_op_pending = NULL`, and in.
    Enter,
    /// Lock: the deadline has passed; `list_op_pending = NULL`, and give up.
    GiveUp,
    /// The critical section; it ends with `list_op_pending = lock`.
    Section,
    /// Unlock: take the lock off the robust list.
    Unlink,
    /// Unlock: compare-exchange own tid -> 0, the fast path.
    Release,
    /// Unlock: somebody waits; store a word without owner.
    ReleaseContended,
    /// Unlock: `FUTEX_WAKE` one.
    WakeOne,
    /// Unlock: it woke nobody; `FUTEX_WAKE_OP` takes `WAITERS` off and wakes all.
    WakeOp,
    /// Unlock, where sleepers are counted: it woke nobody; is anybody announced?
    ReadAnnounced,
    /// Unlock, in rejected protocols: it woke nobody; take `WAITERS` off without a wake.
    ClearWaiters,
    /// Unlock: `list_op_pending = NULL`, and out.
    Leave,
    /// All rounds done.
    Finished,
    /// Killed; the kernel has not walked the robust list yet.
    ExitWalk,
    /// Killed; the kernel has walked the robust list and wakes one.
    ExitWake,
    /// Killed, and cleaned up after.
    Dead,
}

impl Pc {
    /// Whether the thread lives and owns the lock: from acquire to release.
    pub fn owns_the_lock(self) -> bool {
        use Pc::{Enter, Link, Release, ReleaseContended, Section, Unlink};
        matches!(
            self,
            Link | Enter | Section | Unlink | Release | ReleaseContended
        )
    }

    pub fn is_asleep(self) -> bool {
        matches!(self, Pc::Asleep { .. })
    }

    /// Whether the thread takes no step of its own any more, unless somebody wakes it.
    pub fn is_at_rest(self) -> bool {
        matches!(self, Pc::Asleep { .. } | Pc::Finished | Pc::Dead)
    }

    /// The same step, with what it remembers of the word passed through `f`.
    pub fn map_word(self, f: impl Fn(Word) -> Word) -> Pc {
        match self {
            Pc::Take(seen) => Pc::Take(f(seen)),
            Pc::SetWaiters(seen) => Pc::SetWaiters(f(seen)),
            Pc::Announce(seen) => Pc::Announce(f(seen)),
            Pc::Wait(seen) => Pc::Wait(f(seen)),
            other => other,
        }
    }
}

impl fmt::Display for Pc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pc::Pend => "lock: set list_op_pending",
            Pc::TakeFast => "lock: CAS 0 -> own tid",
            Pc::Look => "lock: load the word",
            Pc::Take(seen) => return write!(f, "lock: CAS {seen} -> own tid"),
            Pc::SetWaiters(seen) => {
                return write!(f, "lock: CAS {seen} -> {}", seen.with_waiters());
            }
            Pc::Announce(_) => "lock: announced += 1",
            Pc::Wait(expected) => return write!(f, "lock: FUTEX_WAIT {expected}"),
            Pc::Asleep { .. } => "asleep",
            Pc::Retract => "lock: announced -= 1",
            Pc::Link => "lock: link into the robust list",
            Pc::Enter => "lock: clear list_op_pending",
            Pc::GiveUp => "lock: clear list_op_pending, time out",
            Pc::Section => "unlock: set list_op_pending",
            Pc::Unlink => "unlock: unlink from the robust list",
            Pc::Release => "unlock: CAS own tid -> 0",
            Pc::ReleaseContended => "unlock: store a word without owner",
            Pc::WakeOne => "unlock: FUTEX_WAKE 1",
            Pc::WakeOp => "unlock: FUTEX_WAKE_OP clears WAITERS, wakes all",
            Pc::ReadAnnounced => "unlock: load announced",
            Pc::ClearWaiters => "unlock: clear WAITERS, wake nobody",
            Pc::Leave => "unlock: clear list_op_pending",
            Pc::Finished => "finished",
            Pc::ExitWalk => "dead: the kernel walks the robust list",
            Pc::ExitWake => "dead: the kernel wakes one",
            Pc::Dead => "dead",
        })
    }
}

/// A thread, and what the kernel knows of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Thread {
    pub pc: Pc,
    /// `list_op_pending` names the lock.
    pub pending: bool,
    /// The lock is linked into the robust list.
    pub linked: bool,
    /// It locks with a deadline.
    pub timed: bool,
    /// This round's deadline has passed.
    pub expired: bool,
    /// Rounds to go, this one included.
    pub rounds: u8,
}

impl Thread {
    /// A thread that never starts.
    pub const NONE: Thread = Thread {
        pc: Pc::Finished,
        pending: false,
        linked: false,
        timed: false,
        expired: false,
        rounds: 0,
    };
}

/// What is still to be told of an owner's death; only the properties look at it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tidings {
    /// Nobody died inside since the last acquirer.
    None,
    /// An owner died; the next acquirer has to be told.
    Due,
    /// An acquirer was not told of a death, or was told of one that never was.
    Wrong,
}

/// A state of the model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    pub word: Word,
    /// The threads, by [`Tid`]; those a model does not use are [`Thread::NONE`].
    pub threads: [Thread; 4],
    /// The shared count of [`Variant::AnnouncedSleepers`](super::variant::Variant).
    pub announced: u8,
    /// How many more threads may be killed.
    pub deaths: u8,
    /// How many more waits may return early.
    pub interruptions: u8,
    pub tidings: Tidings,
}

impl State {
    /// Compare-exchange of the word.
    pub fn compare_exchange(&mut self, current: Word, new: Word) -> bool {
        let equal = self.word == current;
        if equal {
            self.word = new;
        }
        equal
    }

    /// How many threads are at such a step.
    pub fn count(&self, such: impl Fn(Pc) -> bool) -> usize {
        self.threads.iter().filter(|t| such(t.pc)).count()
    }

    /// Each thread with its id.
    pub fn threads(&self) -> impl Iterator<Item = (Tid, &Thread)> {
        Tid::ALL.into_iter().zip(&self.threads)
    }
}

impl Index<Tid> for State {
    type Output = Thread;

    fn index(&self, tid: Tid) -> &Thread {
        &self.threads[tid.index()]
    }
}

impl IndexMut<Tid> for State {
    fn index_mut(&mut self, tid: Tid) -> &mut Thread {
        &mut self.threads[tid.index()]
    }
}
