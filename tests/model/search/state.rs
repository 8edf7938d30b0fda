//! A state of the model: the word, the threads, and what remains of each budget.

use std::fmt;
use std::ops::{Index, IndexMut};

use super::word::{Tid, Word};

/// The step that a thread takes next. A step is atomic; a thread may be killed before any of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Pc {
    /// Lock: `list_op_pending = lock`.
    Pend,
    /// Lock: compare-exchange 0 -> own tid, on the fast path.
    TakeFast,
    /// Lock: load the word, and choose the next step.
    Load,
    /// Lock: compare-exchange this word -> own tid. It had no owner when it was loaded.
    Take(Word),
    /// Lock: compare-exchange this word -> the same word with `WAITERS`.
    SetWaiters(Word),
    /// Lock, in `CountedSleepers`: increment the count of sleeping threads, then wait on this
    /// word.
    CountSleeper(Word),
    /// Lock: `FUTEX_WAIT` while the word is this one.
    Wait(Word),
    /// Lock: asleep in the futex queue, behind this many threads (always 0 if wakes take any
    /// order).
    Asleep { ahead: u8 },
    /// Lock, in `CountedSleepers`: decrement the count of sleeping threads.
    UncountSleeper,
    /// Lock: the word is acquired; link the lock into the robust list.
    Link,
    /// Lock: `list_op_pending = NULL`, and enter the critical section.
    Enter,
    /// Lock: the deadline has passed; `list_op_pending = NULL`, and return without the lock.
    GiveUp,
    /// The critical section; it ends with `list_op_pending = lock`.
    Section,
    /// Unlock: remove the lock from the robust list.
    Unlink,
    /// Unlock: compare-exchange own tid -> 0, on the fast path.
    Release,
    /// Unlock: there may be waiters; store a word without owner.
    ReleaseContended,
    /// Unlock: `FUTEX_WAKE` one.
    WakeOne,
    /// Unlock: the wake found no waiter; `FUTEX_WAKE_OP` clears `WAITERS` and wakes all.
    WakeOp,
    /// Unlock, in `CountedSleepers`: the wake found no waiter; read the count of sleeping
    /// threads.
    ReadSleeperCount,
    /// Unlock, in rejected protocols: the wake found no waiter; clear `WAITERS` without a wake.
    ClearWaiters,
    /// Unlock: `list_op_pending = NULL`, and return.
    Leave,
    /// All rounds are done.
    Finished,
    /// Killed; the kernel has not walked the robust list yet.
    ExitWalk,
    /// Killed; the kernel has walked the robust list and wakes one waiter.
    ExitWake,
    /// Killed, and the kernel has finished with the thread.
    Dead,
}

impl Pc {
    /// Whether the thread is alive and owns the lock: from acquire to release.
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

    /// Whether the thread takes no further step unless another thread wakes it.
    pub fn is_at_rest(self) -> bool {
        matches!(self, Pc::Asleep { .. } | Pc::Finished | Pc::Dead)
    }

    /// The same step, with `f` applied to the word that the step holds.
    pub fn map_word(self, f: impl Fn(Word) -> Word) -> Pc {
        match self {
            Pc::Take(seen) => Pc::Take(f(seen)),
            Pc::SetWaiters(seen) => Pc::SetWaiters(f(seen)),
            Pc::CountSleeper(seen) => Pc::CountSleeper(f(seen)),
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
            Pc::Load => "lock: load the word",
            Pc::Take(seen) => return write!(f, "lock: CAS {seen} -> own tid"),
            Pc::SetWaiters(seen) => {
                return write!(f, "lock: CAS {seen} -> {}", seen.with_waiters());
            }
            Pc::CountSleeper(_) => "lock: sleeper_count += 1",
            Pc::Wait(expected) => return write!(f, "lock: FUTEX_WAIT {expected}"),
            Pc::Asleep { .. } => "asleep",
            Pc::UncountSleeper => "lock: sleeper_count -= 1",
            Pc::Link => "lock: link into the robust list",
            Pc::Enter => "lock: clear list_op_pending",
            Pc::GiveUp => "lock: clear list_op_pending, time out",
            Pc::Section => "unlock: set list_op_pending",
            Pc::Unlink => "unlock: unlink from the robust list",
            Pc::Release => "unlock: CAS own tid -> 0",
            Pc::ReleaseContended => "unlock: store a word without owner",
            Pc::WakeOne => "unlock: FUTEX_WAKE 1",
            Pc::WakeOp => "unlock: FUTEX_WAKE_OP clears WAITERS, wakes all",
            Pc::ReadSleeperCount => "unlock: load sleeper_count",
            Pc::ClearWaiters => "unlock: clear WAITERS without a wake",
            Pc::Leave => "unlock: clear list_op_pending",
            Pc::Finished => "finished",
            Pc::ExitWalk => "dead: the kernel walks the robust list",
            Pc::ExitWake => "dead: the kernel wakes one",
            Pc::Dead => "dead",
        })
    }
}

/// A thread, and the kernel's state for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Thread {
    pub pc: Pc,
    /// `list_op_pending` names the lock.
    pub pending: bool,
    /// The lock is linked into the robust list.
    pub linked: bool,
    /// The thread locks with a deadline.
    pub timed: bool,
    /// The deadline of this round has passed.
    pub expired: bool,
    /// The remaining rounds, including this one.
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

/// Whether an owner's death is still unreported. Only the properties read it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DeathReport {
    /// No owner has died since the last acquisition.
    None,
    /// An owner died; the next acquisition must report it.
    Due,
    /// An acquisition did not report a death, or reported one that did not happen.
    Wrong,
}

/// A state of the model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    pub word: Word,
    /// The threads, indexed by [`Tid`]. Those that a model does not use are [`Thread::NONE`].
    pub threads: [Thread; 4],
    /// The shared count of sleeping threads in
    /// [`Variant::CountedSleepers`](super::variant::Variant).
    pub sleeper_count: u8,
    /// How many more threads may be killed.
    pub deaths: u8,
    /// How many more waits may return early.
    pub interruptions: u8,
    pub death_report: DeathReport,
}

impl State {
    /// Compare-exchanges the word. Returns whether it was equal to `current`.
    pub fn compare_exchange(&mut self, current: Word, new: Word) -> bool {
        let equal = self.word == current;
        if equal {
            self.word = new;
        }
        equal
    }

    /// The number of threads at a step that satisfies `predicate`.
    pub fn count(&self, predicate: impl Fn(Pc) -> bool) -> usize {
        self.threads.iter().filter(|t| predicate(t.pc)).count()
    }

    /// The threads with their ids.
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
