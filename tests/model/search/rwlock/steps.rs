//! The steps of readers and writers, and the kernel's steps for a dead thread.

use super::state::{Id, PHASE_LOCKS, Pc, SLOTS, State, Then, Word};
use super::{Search, Variant};

impl Search {
    /// If the thread's next step is a wake: the word on which it wakes one waiter, the step that
    /// follows if it woke one, and the step that follows if it found none.
    pub(super) fn wakes(pc: Pc, slot: Option<u8>) -> Option<(Id, Pc, Pc)> {
        match pc {
            Pc::OpenWake(phase_lock, then) => {
                let (phase_lock_id, next) = (
                    usize::from(phase_lock),
                    Pc::OpenPropagateWake(phase_lock, then),
                );
                Some((phase_lock_id, next, Pc::OpenClear(phase_lock, then)))
            }
            Pc::LeaveWake(died) => {
                let slot = PHASE_LOCKS + usize::from(slot.expect("it leaves a slot"));
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
        if died {
            Pc::TakeWriterLockToRead
        } else {
            Pc::Start
        }
    }

    pub(super) fn enabled(&self, state: &State, thread: usize) -> bool {
        match state.threads[thread].pc {
            Pc::Asleep(_) | Pc::AsleepOnSlots | Pc::Done | Pc::Dead => false,
            Pc::TakeWriterLockToRead | Pc::TakeWriterLock => state.writer_lock == 0,
            // The owner of the writer lock waits until the kernel has marked a dead writer's phase
            // lock.
            Pc::OpenMarked(phase_lock) => {
                phase_lock >= 2 || state.words[usize::from(phase_lock)].owner == 0
            }
            Pc::Resolve => state.words[usize::from(1 - state.phase)].owner == 0,
            Pc::TakePhaseLock => state.words[usize::from(state.phase)].owner == 0,
            _ => true,
        }
    }

    pub(super) fn step(&self, state: &mut State, thread: usize) {
        let tid = State::tid(thread);
        let own = state.threads[thread];
        let slot = own.slot.map(|slot| PHASE_LOCKS + usize::from(slot));
        let phase_lock = usize::from(own.phase_lock);
        let next = match own.pc {
            Pc::Start if self.variant == Variant::ChecksFirst => Pc::CheckFirst(0),
            Pc::Start => Pc::TakeSlot(0),
            Pc::CheckFirst(2) => Pc::TakeSlot(0),
            Pc::CheckFirst(at) if state.words[usize::from(at)].is_open() => Pc::CheckFirst(at + 1),
            Pc::CheckFirst(_) => Pc::TakeSlot(0),
            Pc::TakeSlot(at) if usize::from(at) == SLOTS => Pc::TakeWriterLockToRead,
            Pc::TakeSlot(at) => {
                let word = &mut state.words[PHASE_LOCKS + usize::from(at)];
                if *word == Word::default() {
                    word.owner = tid;
                    state.threads[thread].slot = Some(at);
                    if self.variant == Variant::ChecksFirst {
                        Pc::Check(2)
                    } else {
                        Pc::Check(0)
                    }
                } else {
                    Pc::TakeSlot(at + 1)
                }
            }
            Pc::Check(2) => {
                state.begin_section(thread);
                Pc::Read
            }
            Pc::Check(at) if state.words[usize::from(at)].is_open() => Pc::Check(at + 1),
            Pc::Check(at) => {
                state.threads[thread].phase_lock = at;
                state.threads[thread].waits = state.words[usize::from(at)].owner != 0;
                Pc::SetState
            }
            Pc::SetState => {
                state.slot_states[usize::from(own.slot.expect("a slot"))] = 1 + own.phase_lock;
                Pc::WakeWriter
            }
            Pc::WakeWriter => {
                let slot = slot.expect("a slot");
                if state.words[slot].waiters && self.variant != Variant::DoesNotWakeWriter {
                    state.clear_and_wake_all(slot);
                }
                Pc::ReadPhaseLock
            }
            Pc::ReadPhaseLock => match state.words[phase_lock] {
                Word { owner: 0, died, .. } => Pc::ClearState(died),
                word if word.waiters => Pc::Sleep(word),
                word => Pc::SetWaiters(word),
            },
            Pc::SetWaiters(seen) if state.words[phase_lock] == seen => {
                state.words[phase_lock].waiters = true;
                Pc::Sleep(state.words[phase_lock])
            }
            Pc::SetWaiters(_) => Pc::ReadPhaseLock,
            Pc::Sleep(expected) if state.words[phase_lock] == expected => Pc::Asleep(phase_lock),
            Pc::Sleep(_) => Pc::ReadPhaseLock,
            Pc::ClearState(died) => {
                state.slot_states[usize::from(own.slot.expect("a slot"))] = 0;
                Pc::PropagateWake(died)
            }
            Pc::PropagateWake(died) => {
                if self.variant != Variant::NoPropagation {
                    state.propagate_wake(phase_lock);
                }
                if died { Pc::Leave(true) } else { Pc::Recheck }
            }
            Pc::Recheck if state.words[phase_lock].is_open() => {
                state.begin_section(thread);
                Pc::Read
            }
            Pc::Recheck => Pc::SetState,
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
            Pc::TakeWriterLockToRead => {
                state.writer_lock = tid;
                Pc::OpenMarked(0)
            }
            Pc::OpenMarked(2) => Pc::FindSlot(0),
            Pc::OpenMarked(at) => {
                let word = &mut state.words[usize::from(at)];
                if word.is_open() {
                    Pc::OpenMarked(at + 1)
                } else {
                    (word.owner, word.died) = (tid, false);
                    state.report_death();
                    Pc::Open(at, Then::FindSlot)
                }
            }
            Pc::FindSlot(at) if usize::from(at) == SLOTS => Pc::SlotSetWaiters(0),
            Pc::FindSlot(at) => {
                let word = &mut state.words[PHASE_LOCKS + usize::from(at)];
                if word.owner == 0 {
                    (word.owner, word.died) = (tid, false);
                    state.slot_states[usize::from(at)] = 0;
                    state.threads[thread].slot = Some(at);
                    Pc::SlotPropagateWake(0)
                } else {
                    Pc::FindSlot(at + 1)
                }
            }
            Pc::SlotSetWaiters(at) => {
                let id = usize::from(at);
                let word = &mut state.words[PHASE_LOCKS + id];
                if word.owner == 0 {
                    state.threads[thread].clear_sleep();
                    Pc::FindSlot(0)
                } else {
                    word.waiters |= at == 0 || self.variant != Variant::SetsWaitersInOneSlot;
                    state.threads[thread].seen[id] = *word;
                    let is_last = id + 1 == SLOTS || self.variant == Variant::SleepsOnOneSlot;
                    match is_last {
                        true => Pc::SlotJoin(0),
                        false => Pc::SlotSetWaiters(at + 1),
                    }
                }
            }
            // The kernel compares each word as the thread joins its queue.
            Pc::SlotJoin(at) => {
                let id = usize::from(at);
                let is_last = id + 1 == SLOTS || self.variant == Variant::SleepsOnOneSlot;
                if state.words[PHASE_LOCKS + id] != own.seen[id] {
                    Pc::LeaveQueues
                } else {
                    state.threads[thread].queued[id] = true;
                    state.threads[thread].seen[id] = Word::default();
                    match (is_last, own.woken) {
                        (false, _) => Pc::SlotJoin(at + 1),
                        (true, true) => Pc::LeaveQueues,
                        (true, false) => Pc::AsleepOnSlots,
                    }
                }
            }
            // A wake that reached the thread in the other queue meanwhile is lost.
            Pc::LeaveQueues => {
                state.threads[thread].clear_sleep();
                Pc::FindSlot(0)
            }
            Pc::SlotPropagateWake(at) if usize::from(at) == SLOTS => {
                state.begin_section(thread);
                state.writer_lock = 0;
                Pc::Read
            }
            Pc::SlotPropagateWake(at) => {
                if self.variant != Variant::KeepsSlotsClosed {
                    state.propagate_wake(PHASE_LOCKS + usize::from(at));
                }
                Pc::SlotPropagateWake(at + 1)
            }

            Pc::TakeWriterLock => {
                state.writer_lock = tid;
                Pc::Resolve
            }
            Pc::Resolve => {
                let other = 1 - state.phase;
                let word = &mut state.words[usize::from(other)];
                if word.is_open() {
                    Pc::TakePhaseLock
                } else {
                    (word.owner, word.died) = (tid, false);
                    state.report_death();
                    Pc::Open(other, Then::TakePhaseLock)
                }
            }
            Pc::TakePhaseLock => {
                let word = &mut state.words[usize::from(state.phase)];
                (word.owner, word.died) = (tid, false);
                state.report_death();
                state.threads[thread].waits = true;
                Pc::Drain(0)
            }
            Pc::Drain(at) if usize::from(at) == SLOTS => Pc::SetDirty,
            Pc::Drain(at) => match state.words[PHASE_LOCKS + usize::from(at)] {
                word if word == Word::default() => Pc::Drain(at + 1),
                Word {
                    owner: 0,
                    died: false,
                    ..
                } => Pc::DrainPropagateWake(at),
                Word { owner: 0, .. } => Pc::DrainFree(at),
                _ if state.slot_states[usize::from(at)] == 1 + state.phase => Pc::Drain(at + 1),
                word if word.waiters => Pc::DrainCheckState(at, word),
                word => Pc::DrainSetWaiters(at, word),
            },
            Pc::DrainSetWaiters(at, seen) => {
                let word = &mut state.words[PHASE_LOCKS + usize::from(at)];
                if *word == seen {
                    word.waiters = true;
                    Pc::DrainCheckState(at, *word)
                } else {
                    Pc::Drain(at)
                }
            }
            Pc::DrainCheckState(at, word) => {
                match state.slot_states[usize::from(at)] == 1 + state.phase {
                    true => Pc::Drain(at + 1),
                    false => Pc::DrainSleep(at, word),
                }
            }
            Pc::DrainSleep(at, expected) => {
                let word = PHASE_LOCKS + usize::from(at);
                if state.words[word] == expected {
                    Pc::Asleep(word)
                } else {
                    Pc::Drain(at)
                }
            }
            Pc::DrainPropagateWake(at) => {
                state.propagate_wake(PHASE_LOCKS + usize::from(at));
                Pc::Drain(at + 1)
            }
            Pc::DrainFree(at) => {
                state.words[PHASE_LOCKS + usize::from(at)] = Word::default();
                state.slot_states[usize::from(at)] = 0;
                Pc::Drain(at + 1)
            }
            Pc::SetDirty => {
                state.data_dirty = true;
                state.begin_section(thread);
                Pc::Write
            }
            Pc::Write => Pc::ClearDirty,
            Pc::ClearDirty => {
                state.data_dirty = false;
                let own = state.phase;
                if self.variant != Variant::OnePhaseLock {
                    state.phase = 1 - state.phase;
                }
                Pc::Open(own, Then::ReleaseWriterLock)
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
                Pc::OpenPropagateWake(at, then)
            }
            Pc::OpenPropagateWake(at, then) => {
                if self.variant != Variant::NoPropagation {
                    state.propagate_wake(usize::from(at));
                }
                Self::opened(at, then)
            }
            Pc::ReleaseWriterLock => {
                state.writer_lock = 0;
                state.end_round(thread);
                return;
            }
            Pc::Exit(0, pending) => {
                if state.writer_lock == tid {
                    state.writer_lock = 0;
                }
                Pc::Exit(1, pending)
            }
            Pc::Exit(at, pending) if usize::from(at) <= PHASE_LOCKS + SLOTS => {
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
            | Pc::AsleepOnSlots
            | Pc::Done
            | Pc::Dead => unreachable!("no step at {:?}", own.pc),
        };
        // A reader that has released its slot after its critical section has finished the round.
        if next == Pc::Start && own.pc != Pc::Start {
            state.threads[thread].slot = None;
            state.end_round(thread);
            return;
        }
        if next == Pc::TakeWriterLockToRead {
            state.threads[thread].slot = None;
            state.threads[thread].waits = false;
        }
        state.threads[thread].pc = next;
    }

    pub(super) fn opened(at: u8, then: Then) -> Pc {
        match then {
            Then::FindSlot => Pc::OpenMarked(at + 1),
            Then::TakePhaseLock => Pc::TakePhaseLock,
            Then::ReleaseWriterLock => Pc::ReleaseWriterLock,
        }
    }

    pub(super) fn after_wake(&self, state: &mut State, thread: usize, next: Pc) {
        state.threads[thread].pc = next;
        if next == Pc::Start {
            state.threads[thread].slot = None;
            state.end_round(thread);
        } else if next == Pc::TakeWriterLockToRead {
            state.threads[thread].slot = None;
            state.threads[thread].waits = false;
        }
    }
}
