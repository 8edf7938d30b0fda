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
    pub fn step(&self, state: &mut State, me: Tid) {
        let word = state.word;
        match state[me].pc {
            Pc::Pend => {
                state[me].pending = true;
                state[me].pc = Pc::TakeFast;
            }
            Pc::TakeFast => self.take(state, me, Word::FREE, Word::held_by(me)),
            Pc::Look => state[me].pc = self.look(state, me),
            Pc::Take(seen) => self.take(state, me, seen, self.variant.taken(seen, me)),
            Pc::SetWaiters(seen) => {
                let expected = seen.with_waiters();
                let set = self.variant == Variant::WaitersNotSet
                    || state.compare_exchange(seen, expected);
                state[me].pc = if set {
                    self.variant.before_wait(expected)
                } else {
                    Pc::Look
                };
            }
            Pc::Announce(expected) => {
                state.announced += 1;
                state[me].pc = Pc::Wait(expected);
            }
            Pc::Wait(expected) if word == expected => self.fall_asleep(state, me),
            Pc::Wait(_) => state[me].pc = self.variant.after_wait(),
            Pc::Retract => {
                state.announced -= 1;
                state[me].pc = Pc::Look;
            }
            Pc::Link => {
                state[me].linked = true;
                state[me].pc = Pc::Enter;
            }
            Pc::Enter => {
                state[me].pending = false;
                state[me].pc = Pc::Section;
            }
            Pc::GiveUp => {
                state[me].pending = self.variant == Variant::PendingForgotten;
                self.end_round(state, me);
            }

            Pc::Section => {
                state[me].pending = true;
                state[me].pc = Pc::Unlink;
            }
            Pc::Unlink => {
                state[me].linked = false;
                state[me].pc = Pc::Release;
            }
            Pc::Release => {
                let released = state.compare_exchange(Word::held_by(me), Word::FREE);
                state[me].pc = if released {
                    Pc::Leave
                } else {
                    Pc::ReleaseContended
                };
            }
            Pc::ReleaseContended => {
                state.word = self.variant.released();
                state[me].pending = self.variant != Variant::PendingClearedBeforeWake;
                state[me].pc = Pc::WakeOne;
            }
            Pc::WakeOne | Pc::ExitWake => self.after_wake(state, me, 0),
            Pc::WakeOp => {
                self.wake_op(state);
                state[me].pc = Pc::Leave;
            }
            Pc::ReadAnnounced => {
                state[me].pc = if state.announced == 0 {
                    Pc::ClearWaiters
                } else {
                    Pc::Leave
                };
            }
            Pc::ClearWaiters => {
                if self.variant == Variant::StoreClear || word == Word::FREE_WITH_WAITERS {
                    state.word = Word::FREE;
                }
                state[me].pc = Pc::Leave;
            }
            Pc::Leave => {
                state[me].pending = false;
                self.end_round(state, me);
            }

            Pc::ExitWalk => self.exit_walk(state, me),
            Pc::Asleep { .. } | Pc::Finished | Pc::Dead => {
                unreachable!("{me} takes no step at {:?}", state[me].pc)
            }
        }
    }

    /// A look at the word in the slow path. A waiter whose deadline has passed looks once more: it
    /// may have been woken, and the wake is lost if it leaves a free word alone.
    fn look(&self, state: &State, me: Tid) -> Pc {
        let word = state.word;
        let expired = state[me].expired;
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
    fn take(&self, state: &mut State, me: Tid, seen: Word, mine: Word) {
        let word = state.word;
        let stores = self.variant == Variant::TakenByStore && state[me].pc != Pc::TakeFast;
        if word != seen && !stores {
            state[me].pc = Pc::Look;
            return;
        }
        state.tidings = match (state.tidings, seen.owner_died()) {
            (Tidings::None, false) | (Tidings::Due, true) => Tidings::None,
            _ => Tidings::Wrong,
        };
        state.word = mine;
        state[me].pc = Pc::Link;
    }

    /// `waker`, an unlocker or the kernel on behalf of a dead thread, has woken `woken`.
    pub fn after_wake(&self, state: &mut State, waker: Tid, woken: usize) {
        state[waker].pc = match state[waker].pc {
            Pc::ExitWake => Pc::Dead,
            _ => self.variant.after_wake(woken),
        };
    }

    fn end_round(&self, state: &mut State, me: Tid) {
        let thread = &mut state[me];
        thread.expired = false;
        thread.rounds -= 1;
        thread.pc = match thread.rounds {
            0 => Pc::Finished,
            _ => Pc::Pend,
        };
    }
}
