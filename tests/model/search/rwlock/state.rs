//! A state: the words, the threads, and the variables that the properties read.

pub(super) const SEATS: usize = 2;
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

/// The index of a word that threads can sleep on: the phase locks, then the slots.
pub(super) type Id = usize;
pub(super) const GATES: usize = 2;

/// The step that follows the release of a phase lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Then {
    FindSeat,
    TakeGate,
    LeaveMain,
}

/// The next step of a thread. A `u8` is a phase lock, a slot, or the progress of a walk. A `bool`
/// of a reader's step says that the owner of its phase lock died.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Pc {
    // The steps of a reader.
    Start,
    LookFirst(u8),
    TakeSeat(u8),
    Look(u8),
    Say,
    Tell,
    Watch,
    Announce(Word),
    Sleep(Word),
    Asleep(Id),
    TakeBack(bool),
    PassOn(bool),
    LookAgain,
    Read,
    Leave(bool),
    LeaveWake(bool),
    LeaveClear(bool),
    ReadByMain,
    OpenMarked(u8),
    FindSeat(u8),
    SeatAnnounce(u8),
    SeatJoin(u8),
    AsleepOnSeats,
    LeaveQueues,
    SeatPassOn(u8),
    // The steps of a writer.
    TakeMain,
    Resolve,
    TakeGate,
    Drain(u8),
    DrainAnnounce(u8, Word),
    DrainAsk(u8, Word),
    DrainSleep(u8, Word),
    DrainPassOn(u8),
    DrainFree(u8),
    SetWriting,
    Write,
    ClearWriting,
    // The steps of both.
    Open(u8, Then),
    OpenWake(u8, Then),
    OpenClear(u8, Then),
    OpenPassOn(u8, Then),
    LeaveMain,
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
    pub(super) gate: u8,
    pub(super) slot: Option<u8>,
    /// Whether the thread waits for threads of the other kind. `overtaken` counts the critical
    /// sections of the other kind that began meanwhile.
    pub(super) waits: bool,
    pub(super) overtaken: u8,
    /// A sleep on all slots: each slot's word after the thread set `WAITERS` in it, whether the
    /// thread is in its queue, and whether a wake on any slot reached the thread.
    pub(super) seen: [Word; SEATS],
    pub(super) queued: [bool; SEATS],
    pub(super) woken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct State {
    pub(super) main: u8,
    pub(super) words: [Word; GATES + SEATS],
    pub(super) says: [u8; SEATS],
    pub(super) turn: u8,
    pub(super) writing: bool,
    pub(super) threads: [Thread; THREADS],
    pub(super) deaths: u8,
    pub(super) somebody_died: bool,
    pub(super) due: bool,
    pub(super) wrong: bool,
}

impl Thread {
    pub(super) fn forget_the_sleep(&mut self) {
        self.seen = Default::default();
        self.queued = Default::default();
        self.woken = false;
    }
}

impl State {
    pub(super) fn tid(thread: usize) -> u8 {
        thread as u8 + 1
    }

    /// The threads in the queue of a word, including those already woken on another word.
    pub(super) fn sleepers(&self, word: Id) -> impl Iterator<Item = usize> + '_ {
        (0..THREADS).filter(move |&thread| {
            let own = &self.threads[thread];
            own.pc == Pc::Asleep(word) || word >= GATES && own.queued[word - GATES]
        })
    }

    pub(super) fn wake(&mut self, thread: usize, word: Id) {
        let own = &mut self.threads[thread];
        own.pc = match own.pc {
            Pc::Asleep(_) if word < GATES => Pc::Watch,
            Pc::Asleep(_) => Pc::Drain((word - GATES) as u8),
            other => {
                own.queued[word - GATES] = false;
                own.woken = true;
                match other {
                    Pc::AsleepOnSeats => Pc::LeaveQueues,
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

    pub(super) fn propagate_wake(&mut self, word: Id) {
        if self.words[word].owner == 0 && self.words[word].waiters {
            self.clear_and_wake_all(word);
        }
    }

    /// Reports a writer's death in the data. The caller owns the writer lock and a phase lock.
    pub(super) fn tell(&mut self) {
        if self.writing {
            self.wrong |= !self.due;
            self.due = false;
            self.writing = false;
        }
    }

    pub(super) fn begins(&mut self, thread: usize) {
        self.wrong |= self.due;
        let writes = self.threads[thread].writes;
        for other in &mut self.threads {
            if other.waits && other.writes != writes {
                other.overtaken = (other.overtaken + 1).min(SEATS as u8 + 1);
            }
        }
        self.threads[thread].waits = false;
        self.threads[thread].overtaken = 0;
    }

    pub(super) fn ends_round(&mut self, thread: usize) {
        let own = &mut self.threads[thread];
        own.rounds -= 1;
        own.pc = match (own.rounds, own.writes) {
            (0, _) => Pc::Done,
            (_, true) => Pc::TakeMain,
            (_, false) => Pc::Start,
        };
    }
}
