//! A thread's own steps: lock, the critical section, unlock.
//!
//! The order of the steps around the word is the kernel's, "The robust futex ABI": "1) set the
//! 'list_op_pending' word to the address of the 'lock entry' to be inserted, 2) acquire the futex
//! lock, 3) add the lock entry [...] to the linked list starting at 'head', and 4) clear the
//! 'list_op_pending' word", and its mirror image on removal.

use super::lock::Lock;
use super::state::{Pc, State, Tidings};
use super::variant::Variant;
use super::word::{Tid, Word};

impl Lock {
    /// The next step of `me`.
    pub fn step(&self, state: &mut State, current: Tid) {
        let word = state.word;
        match state[current].pc {
            Pc::Pend => {
                state[current].pending = true;
                state[current].pc = Pc::TakeFast;
            }
            Pc::TakeFast => self.take(state, current, Word::FREE, Word::held_by(current)),
            Pc::Look => state[current].pc = self.look(state, current),
            Pc::Take(seen) => self.take(state, current, seen, self.variant.taken(seen, current)),
            Pc::SetWaiters(seen) => {
                let expected = seen.with_waiters();
                let set = self.variant == Variant::WaitersNotSet
                    || state.compare_exchange(seen, expected);
                state[current].pc = if set {
                    self.variant.before_wait(expected)
                } else {
                    Pc::Look
                };
            }
            Pc::Announce(expected) => {
                state.announced += 1;
                state[current].pc = Pc::Wait(expected);
            }
            Pc::Wait(expected) if word == expected => self.fall_asleep(state, current),
            Pc::Wait(_) => state[current].pc = self.variant.after_wait(),
            Pc::Retract => {
                state.announced -= 1;
                state[current].pc = Pc::Look;
            }
            Pc::Link => {
                state[current].linked = true;
                state[current].pc = Pc::Enter;
            }
            Pc::Enter => {
                state[current].pending = false;
                state[current].pc = Pc::Section;
            }
            Pc::GiveUp => {
                state[current].pending = self.variant == Variant::PendingForgotten;
                self.end_round(state, current);
            }

            Pc::Section => {
                state[current].pending = true;
                state[current].pc = Pc::Unlink;
            }
            Pc::Unlink => {
                state[current].linked = false;
                state[current].pc = Pc::Release;
            }
            Pc::Release => {
                let released = state.compare_exchange(Word::held_by(current), Word::FREE);
                state[current].pc = if released {
                    Pc::Leave
                } else {
                    Pc::ReleaseContended
                };
            }
            Pc::ReleaseContended => {
                state.word = self.variant.released();
                state[current].pending = self.variant != Variant::PendingClearedBeforeWake;
                state[current].pc = Pc::WakeOne;
            }
            Pc::WakeOne | Pc::ExitWake => self.after_wake(state, current, 0),
            Pc::WakeOp => {
                self.wake_op(state);
                state[current].pc = Pc::Leave;
            }
            Pc::ReadAnnounced => {
                state[current].pc = if state.announced == 0 {
                    Pc::ClearWaiters
                } else {
                    Pc::Leave
                };
            }
            Pc::ClearWaiters => {
                if self.variant == Variant::StoreClear || word == Word::FREE_WITH_WAITERS {
                    state.word = Word::FREE;
                }
                state[current].pc = Pc::Leave;
            }
            Pc::Leave => {
                state[current].pending = false;
                self.end_round(state, current);
            }

            Pc::ExitWalk => self.exit_walk(state, current),
            Pc::Asleep { .. } | Pc::Finished | Pc::Dead => {
                unreachable!("{current} takes no step at {:?}", state[current].pc)
            }
        }
    }

    /// A look at the word in the slow path. A waiter whose deadline has passed looks once more: it
    /// may have been woken, and the wake is lost if it leaves a free word alone.
    fn look(&self, state: &State, current: Tid) -> Pc {
        let word = state.word;
        let expired = state[current].expired;
        if expired && self.variant == Variant::ExpiredWithoutRetry {
            Pc::GiveUp
        } else if word.owner().is_none() {
            Pc::Take(word)
        } else if expired {
            Pc::GiveUp
        } else if word.has_waiters() {
            self.variant.before_wait(word)
        } else {
            Pc::SetWaiters(word)
        }
    }

    /// Compare-exchange that acquires. Who fails looks again.
    fn take(&self, state: &mut State, current: Tid, seen: Word, mine: Word) {
        let word = state.word;
        let stores = self.variant == Variant::TakenByStore && state[current].pc != Pc::TakeFast;
        if word != seen && !stores {
            state[current].pc = Pc::Look;
            return;
        }
        state.tidings = match (state.tidings, seen.owner_died()) {
            (Tidings::None, false) | (Tidings::Due, true) => Tidings::None,
            _ => Tidings::Wrong,
        };
        state.word = mine;
        state[current].pc = Pc::Link;
    }

    /// `waker`, an unlocker or the kernel on behalf of a dead thread, has woken `woken`.
    pub fn after_wake(&self, state: &mut State, waker: Tid, woken: usize) {
        state[waker].pc = match state[waker].pc {
            Pc::ExitWake => Pc::Dead,
            _ => self.variant.after_wake(woken),
        };
    }

    fn end_round(&self, state: &mut State, current: Tid) {
        let thread = &mut state[current];
        thread.expired = false;
        thread.rounds -= 1;
        thread.pc = match thread.rounds {
            0 => Pc::Finished,
            _ => Pc::Pend,
        };
    }
}
