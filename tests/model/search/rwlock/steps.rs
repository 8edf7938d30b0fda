//! The steps of readers and writers, and the kernel's steps for a dead thread.

use super::state::{Bias, Id, PHASE_LOCKS, Pc, SLOTS, State, Then, WORDS, WRITER_LOCK, Word};
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
            Pc::ReleaseWake(reads) => {
                let next = Pc::ReleaseClear(reads);
                Some((WRITER_LOCK, Self::released(reads), next))
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
            Pc::TakeWriterLock(true)
        } else {
            Pc::Start
        }
    }

    /// The step after the release of the writer lock. A writer begins its next round by `Start`.
    pub(super) fn released(reads: bool) -> Pc {
        if reads { Pc::Read } else { Pc::Start }
    }

    pub(super) fn enabled(&self, state: &State, thread: usize) -> bool {
        match state.threads[thread].pc {
            Pc::Asleep(_) | Pc::AsleepOnSlots | Pc::Done | Pc::Dead => false,
            Pc::TakeWriterLock(_) => {
                let word = state.words[WRITER_LOCK];
                word.owner == 0 || !word.waiters
            }
            // The owner of the writer lock waits until the kernel has marked a dead writer's phase
            // lock.
            Pc::OpenMarked(phase_lock, _) => {
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
            Pc::Start if self.variant == Variant::ChecksFirst => Pc::CheckFirst,
            Pc::Start => Pc::TakeSlot(0),
            Pc::CheckFirst if state.may_read() => Pc::TakeSlot(0),
            Pc::CheckFirst => Pc::CheckFirst,
            Pc::TakeSlot(at) if usize::from(at) == SLOTS => Pc::TakeWriterLock(true),
            Pc::TakeSlot(at) => {
                let word = &mut state.words[PHASE_LOCKS + usize::from(at)];
                if *word == Word::default() {
                    word.owner = tid;
                    state.threads[thread].slot = Some(at);
                    if self.variant == Variant::ChecksFirst {
                        state.begin_section(thread);
                        Pc::Read
                    } else {
                        Pc::CheckBias
                    }
                } else {
                    Pc::TakeSlot(at + 1)
                }
            }
            Pc::CheckBias => match state.bias {
                Bias::Readers => {
                    state.begin_section(thread);
                    Pc::Read
                }
                Bias::None | Bias::Awaited => Pc::CheckOwner,
                Bias::Closed => Pc::Check(0),
                other => Pc::ChangeBias(other),
            },
            Pc::ChangeBias(seen) => {
                if state.bias == seen {
                    state.bias = match seen {
                        Bias::Leaning => Bias::Awaited,
                        _ => Bias::None,
                    };
                }
                Pc::CheckBias
            }
            Pc::CheckOwner if state.words[WRITER_LOCK].is_open() => {
                state.begin_section(thread);
                Pc::Read
            }
            Pc::CheckOwner => {
                state.threads[thread].waits = state.words[WRITER_LOCK].owner != 0;
                Pc::ReadOwner
            }
            Pc::ReadOwner => match state.words[WRITER_LOCK] {
                Word { owner: 0, died, .. } => Pc::PropagateOwnerWake(died),
                _ if self.is_over(state) => Pc::PropagateOwnerWake(false),
                word => {
                    Self::set_awaited(state);
                    match word.waiters {
                        true => Pc::RecheckBias(word),
                        false => Pc::SetOwnerWaiters(word),
                    }
                }
            },
            Pc::SetOwnerWaiters(seen) if state.words[WRITER_LOCK] == seen => {
                state.words[WRITER_LOCK].waiters = true;
                Pc::RecheckBias(state.words[WRITER_LOCK])
            }
            Pc::SetOwnerWaiters(_) => Pc::ReadOwner,
            Pc::RecheckBias(_) if self.is_over(state) => Pc::PropagateOwnerWake(false),
            Pc::RecheckBias(word) => {
                let expected = state.bias;
                Self::set_awaited(state);
                Pc::JoinOwner(word, expected)
            }
            // The kernel compares each word as the thread joins its queue.
            Pc::JoinOwner(word, expected) if state.words[WRITER_LOCK] == word => {
                match self.variant {
                    Variant::ComparesOwnerAlone => Pc::Asleep(WRITER_LOCK),
                    _ => Pc::CompareBias(expected),
                }
            }
            Pc::CompareBias(expected) if state.bias == expected => Pc::Asleep(WRITER_LOCK),
            Pc::JoinOwner(..) | Pc::CompareBias(_) => Pc::ReadOwner,
            Pc::PropagateOwnerWake(died) => {
                state.propagate_wake(WRITER_LOCK);
                if died {
                    Pc::Leave(true)
                } else {
                    state.begin_section(thread);
                    Pc::Read
                }
            }
            // The writer that set `CLOSED` has ended its write.
            Pc::Check(2) => Pc::CheckBias,
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
                Word { owner: 0, died, .. } => Pc::PropagateWake(died),
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
            Pc::PropagateWake(died) => {
                if self.variant != Variant::NoPropagation {
                    state.propagate_wake(phase_lock);
                }
                Pc::ClearState(died)
            }
            Pc::ClearState(died) => {
                state.slot_states[usize::from(own.slot.expect("a slot"))] = 0;
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
            Pc::SetReaders if state.bias == Bias::Readers => Pc::FindSlot(0),
            Pc::SetReaders => Self::swap_and_notify(state, Bias::Readers, true),
            Pc::Notify(reads) => {
                if self.variant != Variant::ClosesSilently {
                    state.notify(WRITER_LOCK);
                }
                Self::notified(reads)
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
            Pc::SlotPropagateWake(at) if usize::from(at) == SLOTS => Pc::Release(true),
            Pc::SlotPropagateWake(at) => {
                if self.variant != Variant::KeepsSlotsClosed {
                    state.propagate_wake(PHASE_LOCKS + usize::from(at));
                }
                Pc::SlotPropagateWake(at + 1)
            }

            Pc::TakeWriterLock(_) if state.words[WRITER_LOCK].owner != 0 => {
                state.words[WRITER_LOCK].waiters = true;
                own.pc
            }
            Pc::TakeWriterLock(reads) => {
                let word = &mut state.words[WRITER_LOCK];
                let died = word.died;
                (word.owner, word.died) = (tid, false);
                match died {
                    true => Pc::Report(reads),
                    false => Self::acquired(reads),
                }
            }
            Pc::Report(reads) => {
                state.report_death();
                Pc::NotifyAfterDeath(reads)
            }
            Pc::NotifyAfterDeath(reads) => {
                state.notify(WRITER_LOCK);
                Self::acquired(reads)
            }
            Pc::OpenMarked(2, true) => Pc::SetReaders,
            Pc::OpenMarked(2, false) => {
                state.bias = Bias::None;
                Pc::Look(0)
            }
            Pc::OpenMarked(at, reads) => {
                let word = &mut state.words[usize::from(at)];
                if word.is_open() {
                    Pc::OpenMarked(at + 1, reads)
                } else {
                    (word.owner, word.died) = (tid, false);
                    Pc::Open(at, Then::OpenMarked(reads))
                }
            }
            Pc::LoadBias => match state.bias {
                Bias::Writers => Pc::SetDirty,
                Bias::Closed => Pc::OpenMarked(0, false),
                Bias::None | Bias::Awaited => Pc::Look(0),
                Bias::Leaning => {
                    state.bias = Bias::Awaited;
                    Pc::Look(0)
                }
                Bias::Readers => {
                    state.bias = Bias::None;
                    Pc::Look(0)
                }
            },
            Pc::Look(at) if usize::from(at) == SLOTS => Pc::SetLeaning,
            Pc::Look(at) if state.is_slot_free(at) => Pc::Look(at + 1),
            Pc::Look(_) => Pc::Resolve,
            Pc::SetLeaning if self.variant == Variant::LooksOnce => {
                if matches!(state.bias, Bias::None | Bias::Awaited) {
                    state.bias = Bias::Writers;
                }
                Pc::SetDirty
            }
            Pc::SetLeaning => {
                let leaning = match self.variant {
                    Variant::LeansToWritersAtOnce => Bias::Writers,
                    _ => Bias::Leaning,
                };
                state.bias = leaning;
                Pc::LookAgain(0)
            }
            Pc::LookAgain(at) if usize::from(at) == SLOTS => Pc::EndLeaning(Bias::Writers),
            Pc::LookAgain(at) if state.is_slot_free(at) => Pc::LookAgain(at + 1),
            Pc::LookAgain(_) => Pc::EndLeaning(Bias::Awaited),
            Pc::EndLeaning(bias) => {
                if matches!(state.bias, Bias::Leaning | Bias::Writers) {
                    state.bias = bias;
                }
                Pc::SetDirty
            }
            Pc::Resolve => {
                let other = 1 - state.phase;
                let word = &mut state.words[usize::from(other)];
                if word.is_open() {
                    Pc::TakePhaseLock
                } else {
                    (word.owner, word.died) = (tid, false);
                    Pc::Open(other, Then::TakePhaseLock)
                }
            }
            Pc::TakePhaseLock => {
                let word = &mut state.words[usize::from(state.phase)];
                (word.owner, word.died) = (tid, false);
                Pc::SetClosed
            }
            Pc::SetClosed => {
                state.threads[thread].waits = true;
                Self::swap_and_notify(state, Bias::Closed, false)
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
                if state.bias == Bias::Closed {
                    let own = state.phase;
                    if self.variant != Variant::OnePhaseLock {
                        state.phase = 1 - state.phase;
                    }
                    Pc::Open(own, Then::ReleaseWriterLock)
                } else {
                    Pc::Release(false)
                }
            }

            Pc::Open(..) if state.bias == Bias::Closed => {
                state.bias = Bias::Readers;
                own.pc
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
            Pc::Release(reads) => {
                let word = &mut state.words[WRITER_LOCK];
                word.owner = 0;
                if word.waiters {
                    Pc::ReleaseWake(reads)
                } else {
                    Self::released(reads)
                }
            }
            Pc::ReleaseClear(reads) => {
                state.clear_and_wake_all(WRITER_LOCK);
                Self::released(reads)
            }
            Pc::Exit(at, pending) if usize::from(at) < WORDS => {
                // The writer lock first.
                let id = (WRITER_LOCK + usize::from(at)) % WORDS;
                let word = &mut state.words[id];
                let resends = pending == Some(id as u8) && word.owner == 0;
                if word.owner == tid {
                    (word.owner, word.died) = (0, true);
                    if word.waiters {
                        state.threads[thread].pc = Pc::ExitWake(id as u8, at + 1, pending);
                        return;
                    }
                }
                if resends {
                    Pc::ExitWake(id as u8, at + 1, pending)
                } else {
                    Pc::Exit(at + 1, pending)
                }
            }
            Pc::Exit(..) => Pc::Dead,
            Pc::LeaveWake(_)
            | Pc::OpenWake(..)
            | Pc::ReleaseWake(_)
            | Pc::ExitWake(..)
            | Pc::Asleep(_)
            | Pc::AsleepOnSlots
            | Pc::Done
            | Pc::Dead => unreachable!("no step at {:?}", own.pc),
        };
        self.go_on(state, thread, next);
    }

    fn set_awaited(state: &mut State) {
        if state.bias == Bias::None {
            state.bias = Bias::Awaited;
        }
    }

    /// Whether a reader need not wait for the owner of the writer lock any longer.
    fn is_over(&self, state: &State) -> bool {
        match self.variant {
            Variant::TakesLeaningForOver => !matches!(state.bias, Bias::None | Bias::Awaited),
            _ => matches!(state.bias, Bias::Readers | Bias::Closed),
        }
    }

    /// Sets a bias with which no reader need wait for the owner of the writer lock.
    fn swap_and_notify(state: &mut State, bias: Bias, reads: bool) -> Pc {
        match std::mem::replace(&mut state.bias, bias) {
            Bias::Awaited | Bias::Leaning => Pc::Notify(reads),
            _ => Self::notified(reads),
        }
    }

    fn acquired(reads: bool) -> Pc {
        match reads {
            true => Pc::OpenMarked(0, true),
            false => Pc::LoadBias,
        }
    }

    fn notified(reads: bool) -> Pc {
        if reads { Pc::FindSlot(0) } else { Pc::Drain(0) }
    }

    pub(super) fn opened(at: u8, then: Then) -> Pc {
        match then {
            Then::OpenMarked(reads) => Pc::OpenMarked(at + 1, reads),
            Then::TakePhaseLock => Pc::TakePhaseLock,
            Then::ReleaseWriterLock => Pc::Release(false),
        }
    }

    /// Sets the next step of a thread.
    pub(super) fn go_on(&self, state: &mut State, thread: usize, next: Pc) {
        let own = &mut state.threads[thread];
        let before = std::mem::replace(&mut own.pc, next);
        match next {
            // A reader that has released its slot after its critical section, or a writer that has
            // released the writer lock, has finished the round.
            Pc::Start if before != Pc::Start => {
                own.slot = None;
                state.end_round(thread);
            }
            Pc::TakeWriterLock(true) => {
                own.slot = None;
                own.waits = false;
            }
            Pc::Read
                if matches!(
                    before,
                    Pc::Release(_) | Pc::ReleaseWake(_) | Pc::ReleaseClear(_)
                ) =>
            {
                state.begin_section(thread);
            }
            _ => {}
        }
    }
}
