//! A state: the words, the threads, and the variables that the properties read.

pub(super) const SLOTS: usize = 2;
pub(super) const THREADS: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Word {
    pub(super) owner: u8,
    pub(super) waiters: bool,
    pub(super) died: bool,
}

impl Word {
    pub(super) fn is_open(self) -> bool {
        self.owner == 0 && !self.died
    }
}

/// The index of a word that threads can sleep on: the phase locks, then the slots, then the writer
/// lock.
pub(super) type Id = usize;
pub(super) const PHASE_LOCKS: usize = 2;
pub(super) const WRITER_LOCK: Id = PHASE_LOCKS + SLOTS;
pub(super) const WORDS: usize = WRITER_LOCK + 1;

/// Who must look for whom.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Bias {
    None,
    Awaited,
    Readers,
    Writers,
    Leaning,
    Closed,
}

/// The step that follows the release of a phase lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Then {
    /// Look for the next phase lock of a dead writer, as a reader or as a writer.
    OpenMarked(bool),
    TakePhaseLock,
    ReleaseWriterLock,
}

/// The next step of a thread. A `u8` is a phase lock, a slot, or the progress of a walk. A `bool`
/// of a reader's step says that the writer that it waited for died. A `bool` of the steps of both
/// says that a reader takes them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Pc {
    // The steps of a reader.
    Start,
    CheckFirst,
    TakeSlot(u8),
    CheckBias,
    ChangeBias(Bias),
    CheckOwner,
    ReadOwner,
    SetOwnerWaiters(Word),
    RecheckBias(Word),
    JoinOwner(Word, Bias),
    CompareBias(Bias),
    PropagateOwnerWake(bool),
    Check(u8),
    SetState,
    WakeWriter,
    ReadPhaseLock,
    SetWaiters(Word),
    Sleep(Word),
    Asleep(Id),
    PropagateWake(bool),
    ClearState(bool),
    Recheck,
    Read,
    Leave(bool),
    LeaveWake(bool),
    LeaveClear(bool),
    SetReaders,
    FindSlot(u8),
    SlotSetWaiters(u8),
    SlotJoin(u8),
    AsleepOnSlots,
    LeaveQueues,
    SlotPropagateWake(u8),
    // The steps of a writer.
    LoadBias,
    Look(u8),
    SetLeaning,
    LookAgain(u8),
    EndLeaning(Bias),
    Resolve,
    TakePhaseLock,
    SetClosed,
    Drain(u8),
    DrainSetWaiters(u8, Word),
    DrainCheckState(u8, Word),
    DrainSleep(u8, Word),
    DrainPropagateWake(u8),
    DrainFree(u8),
    SetDirty,
    Write,
    ClearDirty,
    // The steps of both.
    TakeWriterLock(bool),
    Report(bool),
    NotifyAfterDeath(bool),
    Notify(bool),
    OpenMarked(u8, bool),
    Open(u8, Then),
    OpenWake(u8, Then),
    OpenClear(u8, Then),
    OpenPropagateWake(u8, Then),
    Release(bool),
    ReleaseWake(bool),
    ReleaseClear(bool),
    Done,
    // The kernel's steps for a dead thread.
    Exit(u8, Option<u8>),
    ExitWake(u8, u8, Option<u8>),
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Thread {
    pub(super) pc: Pc,
    pub(super) writes: bool,
    pub(super) rounds: u8,
    /// The phase lock that a reader waits for.
    pub(super) phase_lock: u8,
    pub(super) slot: Option<u8>,
    /// Whether the thread waits for threads of the other kind. `overtaken` counts the critical
    /// sections of the other kind that began meanwhile.
    pub(super) waits: bool,
    pub(super) overtaken: u8,
    /// A sleep on all slots: each slot's word after the thread set `WAITERS` in it, whether the
    /// thread is in its queue, and whether a wake on any slot reached the thread.
    pub(super) seen: [Word; SLOTS],
    pub(super) queued: [bool; SLOTS],
    pub(super) woken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct State {
    pub(super) words: [Word; WORDS],
    pub(super) bias: Bias,
    pub(super) slot_states: [u8; SLOTS],
    pub(super) phase: u8,
    pub(super) data_dirty: bool,
    pub(super) threads: [Thread; THREADS],
    pub(super) deaths: u8,
    pub(super) any_died: bool,
    pub(super) due: bool,
    pub(super) wrong: bool,
}

impl Thread {
    pub(super) fn clear_sleep(&mut self) {
        self.seen = Default::default();
        self.queued = Default::default();
        self.woken = false;
    }
}

impl State {
    pub(super) fn tid(thread: usize) -> u8 {
        thread as u8 + 1
    }

    /// The threads in the queue of a word, including those already woken on another word. A thread
    /// that waits to acquire the writer lock is in its queue too.
    pub(super) fn sleepers(&self, word: Id) -> impl Iterator<Item = usize> + '_ {
        (0..THREADS).filter(move |&thread| {
            let own = &self.threads[thread];
            let is_slot = (PHASE_LOCKS..WRITER_LOCK).contains(&word);
            own.pc == Pc::Asleep(word)
                || word == WRITER_LOCK
                    && matches!(own.pc, Pc::TakeWriterLock(_) | Pc::CompareBias(_))
                || is_slot && own.queued[word - PHASE_LOCKS]
        })
    }

    pub(super) fn wake(&mut self, thread: usize, word: Id) {
        let own = &mut self.threads[thread];
        own.pc = match own.pc {
            Pc::TakeWriterLock(_) => own.pc,
            Pc::CompareBias(_) => Pc::ReadOwner,
            Pc::Asleep(_) if word == WRITER_LOCK => Pc::ReadOwner,
            Pc::Asleep(_) if word < PHASE_LOCKS => Pc::ReadPhaseLock,
            Pc::Asleep(_) => Pc::Drain((word - PHASE_LOCKS) as u8),
            other => {
                own.queued[word - PHASE_LOCKS] = false;
                own.woken = true;
                match other {
                    Pc::AsleepOnSlots => Pc::LeaveQueues,
                    other => other,
                }
            }
        };
    }

    pub(super) fn clear_and_wake_all(&mut self, word: Id) {
        self.words[word].waiters = false;
        let all: Vec<_> = self.sleepers(word).collect();
        all.into_iter().for_each(|thread| self.wake(thread, word));
    }

    pub(super) fn notify(&mut self, word: Id) {
        if self.words[word].waiters {
            self.clear_and_wake_all(word);
        }
    }

    pub(super) fn is_slot_free(&self, at: u8) -> bool {
        self.words[PHASE_LOCKS + usize::from(at)] == Word::default()
    }

    /// Whether a reader with a slot may read at once.
    pub(super) fn may_read(&self) -> bool {
        match self.bias {
            Bias::Readers => true,
            Bias::None | Bias::Awaited => self.words[WRITER_LOCK].is_open(),
            _ => false,
        }
    }

    pub(super) fn propagate_wake(&mut self, word: Id) {
        if self.words[word].owner == 0 && self.words[word].waiters {
            self.clear_and_wake_all(word);
        }
    }

    /// Reports a writer's death in the data. The caller owns the writer lock.
    pub(super) fn report_death(&mut self) {
        if self.data_dirty {
            self.wrong |= !self.due;
            self.due = false;
            self.data_dirty = false;
        }
    }

    pub(super) fn begin_section(&mut self, thread: usize) {
        self.wrong |= self.due;
        let writes = self.threads[thread].writes;
        for other in &mut self.threads {
            if other.waits && other.writes != writes {
                other.overtaken = (other.overtaken + 1).min(SLOTS as u8 + 1);
            }
        }
        self.threads[thread].waits = false;
        self.threads[thread].overtaken = 0;
    }

    pub(super) fn end_round(&mut self, thread: usize) {
        let own = &mut self.threads[thread];
        own.rounds -= 1;
        own.pc = match (own.rounds, own.writes) {
            (0, _) => Pc::Done,
            (_, true) => Pc::TakeWriterLock(false),
            (_, false) => Pc::Start,
        };
    }
}
