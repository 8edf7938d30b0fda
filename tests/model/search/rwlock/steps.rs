//! The steps of readers and writers, and the kernel's steps for a dead thread.

use super::state::{GATES, Id, Pc, SEATS, State, Then, Word};
use super::{Search, Variant};

impl Search {
    /// If the thread's next step is a wake: the word on which it wakes one waiter, the step that
    /// follows if it woke one, and the step that follows if it found none.
    pub(super) fn wakes(pc: Pc, slot: Option<u8>) -> Option<(Id, Pc, Pc)> {
        match pc {
            Pc::OpenWake(gate, then) => {
                let (gate_id, next) = (usize::from(gate), Pc::OpenPassOn(gate, then));
                Some((gate_id, next, Pc::OpenClear(gate, then)))
            }
            Pc::LeaveWake(died) => {
                let slot = GATES + usize::from(slot.expect("it leaves a slot"));
                let next = Self::left(died);
                Some((slot, next, Pc::LeaveClear(died)))
            }
            Pc::ExitWake(word, at, pending) => {
                let next = Pc::Exit(at, pending);
                Some((usize::from(word), next, next))
            }
            _ => None,
        }
    }

    pub(super) fn left(died: bool) -> Pc {
        if died { Pc::ReadByMain } else { Pc::Start }
    }

    pub(super) fn enabled(&self, state: &State, thread: usize) -> bool {
        match state.threads[thread].pc {
            Pc::Asleep(_) | Pc::AsleepOnSeats | Pc::Done | Pc::Dead => false,
            Pc::ReadByMain | Pc::TakeMain => state.main == 0,
            // The owner of the writer lock waits until the kernel has marked a dead writer's phase
            // lock.
            Pc::OpenMarked(gate) => gate >= 2 || state.words[usize::from(gate)].owner == 0,
            Pc::Resolve => state.words[usize::from(1 - state.turn)].owner == 0,
            Pc::TakeGate => state.words[usize::from(state.turn)].owner == 0,
            _ => true,
        }
    }

    pub(super) fn step(&self, state: &mut State, thread: usize) {
        let tid = State::tid(thread);
        let own = state.threads[thread];
        let slot = own.slot.map(|slot| GATES + usize::from(slot));
        let gate = usize::from(own.gate);
        let next = match own.pc {
            Pc::Start if self.variant == Variant::LooksFirst => Pc::LookFirst(0),
            Pc::Start => Pc::TakeSeat(0),
            Pc::LookFirst(2) => Pc::TakeSeat(0),
            Pc::LookFirst(at) if state.words[usize::from(at)].is_open() => Pc::LookFirst(at + 1),
            Pc::LookFirst(_) => Pc::TakeSeat(0),
            Pc::TakeSeat(at) if usize::from(at) == SEATS => Pc::ReadByMain,
            Pc::TakeSeat(at) => {
                let word = &mut state.words[GATES + usize::from(at)];
                if *word == Word::default() {
                    word.owner = tid;
                    state.threads[thread].slot = Some(at);
                    if self.variant == Variant::LooksFirst {
                        Pc::Look(2)
                    } else {
                        Pc::Look(0)
                    }
                } else {
                    Pc::TakeSeat(at + 1)
                }
            }
            Pc::Look(2) => {
                state.begins(thread);
                Pc::Read
            }
            Pc::Look(at) if state.words[usize::from(at)].is_open() => Pc::Look(at + 1),
            Pc::Look(at) => {
                state.threads[thread].gate = at;
                state.threads[thread].waits = state.words[usize::from(at)].owner != 0;
                Pc::Say
            }
            Pc::Say => {
                state.says[usize::from(own.slot.expect("a slot"))] = 1 + own.gate;
                Pc::Tell
            }
            Pc::Tell => {
                let slot = slot.expect("a slot");
                if state.words[slot].waiters && self.variant != Variant::SaysNothing {
                    state.clear_and_wake_all(slot);
                }
                Pc::Watch
            }
            Pc::Watch => match state.words[gate] {
                Word { owner: 0, died, .. } => Pc::TakeBack(died),
                word if word.waiters => Pc::Sleep(word),
                word => Pc::Announce(word),
            },
            Pc::Announce(seen) if state.words[gate] == seen => {
                state.words[gate].waiters = true;
                Pc::Sleep(state.words[gate])
            }
            Pc::Announce(_) => Pc::Watch,
            Pc::Sleep(expected) if state.words[gate] == expected => Pc::Asleep(gate),
            Pc::Sleep(_) => Pc::Watch,
            Pc::TakeBack(died) => {
                state.says[usize::from(own.slot.expect("a slot"))] = 0;
                Pc::PassOn(died)
            }
            Pc::PassOn(died) => {
                if self.variant != Variant::NobodyPassesOn {
                    state.propagate_wake(gate);
                }
                if died { Pc::Leave(true) } else { Pc::LookAgain }
            }
            Pc::LookAgain if state.words[gate].is_open() => {
                state.begins(thread);
                Pc::Read
            }
            Pc::LookAgain => Pc::Say,
            Pc::Read => Pc::Leave(false),
            Pc::Leave(died) => {
                let word = &mut state.words[slot.expect("a slot")];
                word.owner = 0;
                if word.waiters {
                    Pc::LeaveWake(died)
                } else {
                    Self::left(died)
                }
            }
            Pc::LeaveClear(died) => {
                state.clear_and_wake_all(slot.expect("a slot"));
                Self::left(died)
            }
            Pc::ReadByMain => {
                state.main = tid;
                Pc::OpenMarked(0)
            }
            Pc::OpenMarked(2) => Pc::FindSeat(0),
            Pc::OpenMarked(at) => {
                let word = &mut state.words[usize::from(at)];
                if word.is_open() {
                    Pc::OpenMarked(at + 1)
                } else {
                    (word.owner, word.died) = (tid, false);
                    state.tell();
                    Pc::Open(at, Then::FindSeat)
                }
            }
            Pc::FindSeat(at) if usize::from(at) == SEATS => Pc::SeatAnnounce(0),
            Pc::FindSeat(at) => {
                let word = &mut state.words[GATES + usize::from(at)];
                if word.owner == 0 {
                    (word.owner, word.died) = (tid, false);
                    state.says[usize::from(at)] = 0;
                    state.threads[thread].slot = Some(at);
                    Pc::SeatPassOn(0)
                } else {
                    Pc::FindSeat(at + 1)
                }
            }
            Pc::SeatAnnounce(at) => {
                let id = usize::from(at);
                let word = &mut state.words[GATES + id];
                if word.owner == 0 {
                    state.threads[thread].forget_the_sleep();
                    Pc::FindSeat(0)
                } else {
                    word.waiters |= at == 0 || self.variant != Variant::AnnouncesOneSeat;
                    state.threads[thread].seen[id] = *word;
                    let is_last = id + 1 == SEATS || self.variant == Variant::SleepsOnOneSeat;
                    match is_last {
                        true => Pc::SeatJoin(0),
                        false => Pc::SeatAnnounce(at + 1),
                    }
                }
            }
            // The kernel compares each word as the thread joins its queue.
            Pc::SeatJoin(at) => {
                let id = usize::from(at);
                let is_last = id + 1 == SEATS || self.variant == Variant::SleepsOnOneSeat;
                if state.words[GATES + id] != own.seen[id] {
                    Pc::LeaveQueues
                } else {
                    state.threads[thread].queued[id] = true;
                    state.threads[thread].seen[id] = Word::default();
                    match (is_last, own.woken) {
                        (false, _) => Pc::SeatJoin(at + 1),
                        (true, true) => Pc::LeaveQueues,
                        (true, false) => Pc::AsleepOnSeats,
                    }
                }
            }
            // A wake that reached the thread in the other queue meanwhile is lost.
            Pc::LeaveQueues => {
                state.threads[thread].forget_the_sleep();
                Pc::FindSeat(0)
            }
            Pc::SeatPassOn(at) if usize::from(at) == SEATS => {
                state.begins(thread);
                state.main = 0;
                Pc::Read
            }
            Pc::SeatPassOn(at) => {
                if self.variant != Variant::KeepsSeatsClosed {
                    state.propagate_wake(GATES + usize::from(at));
                }
                Pc::SeatPassOn(at + 1)
            }

            Pc::TakeMain => {
                state.main = tid;
                Pc::Resolve
            }
            Pc::Resolve => {
                let other = 1 - state.turn;
                let word = &mut state.words[usize::from(other)];
                if word.is_open() {
                    Pc::TakeGate
                } else {
                    (word.owner, word.died) = (tid, false);
                    state.tell();
                    Pc::Open(other, Then::TakeGate)
                }
            }
            Pc::TakeGate => {
                let word = &mut state.words[usize::from(state.turn)];
                (word.owner, word.died) = (tid, false);
                state.tell();
                state.threads[thread].waits = true;
                Pc::Drain(0)
            }
            Pc::Drain(at) if usize::from(at) == SEATS => Pc::SetWriting,
            Pc::Drain(at) => match state.words[GATES + usize::from(at)] {
                word if word == Word::default() => Pc::Drain(at + 1),
                Word {
                    owner: 0,
                    died: false,
                    ..
                } => Pc::DrainPassOn(at),
                Word { owner: 0, .. } => Pc::DrainFree(at),
                _ if state.says[usize::from(at)] == 1 + state.turn => Pc::Drain(at + 1),
                word if word.waiters => Pc::DrainAsk(at, word),
                word => Pc::DrainAnnounce(at, word),
            },
            Pc::DrainAnnounce(at, seen) => {
                let word = &mut state.words[GATES + usize::from(at)];
                if *word == seen {
                    word.waiters = true;
                    Pc::DrainAsk(at, *word)
                } else {
                    Pc::Drain(at)
                }
            }
            Pc::DrainAsk(at, word) => match state.says[usize::from(at)] == 1 + state.turn {
                true => Pc::Drain(at + 1),
                false => Pc::DrainSleep(at, word),
            },
            Pc::DrainSleep(at, expected) => {
                let word = GATES + usize::from(at);
                if state.words[word] == expected {
                    Pc::Asleep(word)
                } else {
                    Pc::Drain(at)
                }
            }
            Pc::DrainPassOn(at) => {
                state.propagate_wake(GATES + usize::from(at));
                Pc::Drain(at + 1)
            }
            Pc::DrainFree(at) => {
                state.words[GATES + usize::from(at)] = Word::default();
                state.says[usize::from(at)] = 0;
                Pc::Drain(at + 1)
            }
            Pc::SetWriting => {
                state.writing = true;
                state.begins(thread);
                Pc::Write
            }
            Pc::Write => Pc::ClearWriting,
            Pc::ClearWriting => {
                state.writing = false;
                let own = state.turn;
                if self.variant != Variant::OneGate {
                    state.turn = 1 - state.turn;
                }
                Pc::Open(own, Then::LeaveMain)
            }

            Pc::Open(at, then) => {
                let word = &mut state.words[usize::from(at)];
                word.owner = 0;
                if word.waiters {
                    Pc::OpenWake(at, then)
                } else {
                    Self::opened(at, then)
                }
            }
            Pc::OpenClear(at, then) => {
                state.clear_and_wake_all(usize::from(at));
                Pc::OpenPassOn(at, then)
            }
            Pc::OpenPassOn(at, then) => {
                if self.variant != Variant::NobodyPassesOn {
                    state.propagate_wake(usize::from(at));
                }
                Self::opened(at, then)
            }
            Pc::LeaveMain => {
                state.main = 0;
                state.ends_round(thread);
                return;
            }
            Pc::Exit(0, pending) => {
                if state.main == tid {
                    state.main = 0;
                }
                Pc::Exit(1, pending)
            }
            Pc::Exit(at, pending) if usize::from(at) <= GATES + SEATS => {
                let id = usize::from(at) - 1;
                let word = &mut state.words[id];
                let resends = pending == Some(at - 1) && word.owner == 0;
                if word.owner == tid {
                    (word.owner, word.died) = (0, true);
                    if word.waiters {
                        state.threads[thread].pc = Pc::ExitWake(at - 1, at + 1, pending);
                        return;
                    }
                }
                if resends {
                    Pc::ExitWake(at - 1, at + 1, pending)
                } else {
                    Pc::Exit(at + 1, pending)
                }
            }
            Pc::Exit(..) => Pc::Dead,
            Pc::LeaveWake(_)
            | Pc::OpenWake(..)
            | Pc::ExitWake(..)
            | Pc::Asleep(_)
            | Pc::AsleepOnSeats
            | Pc::Done
            | Pc::Dead => unreachable!("no step at {:?}", own.pc),
        };
        // A reader that has released its slot after its critical section has finished the round.
        if next == Pc::Start && own.pc != Pc::Start {
            state.threads[thread].slot = None;
            state.ends_round(thread);
            return;
        }
        if next == Pc::ReadByMain {
            state.threads[thread].slot = None;
            state.threads[thread].waits = false;
        }
        state.threads[thread].pc = next;
    }

    pub(super) fn opened(at: u8, then: Then) -> Pc {
        match then {
            Then::FindSeat => Pc::OpenMarked(at + 1),
            Then::TakeGate => Pc::TakeGate,
            Then::LeaveMain => Pc::LeaveMain,
        }
    }

    pub(super) fn after_wake(&self, state: &mut State, thread: usize, next: Pc) {
        state.threads[thread].pc = next;
        if next == Pc::Start {
            state.threads[thread].slot = None;
            state.ends_round(thread);
        } else if next == Pc::ReadByMain {
            state.threads[thread].slot = None;
            state.threads[thread].waits = false;
        }
    }
}
