//! The steps of a thread: lock, the critical section, unlock.
//!
//! The kernel's document "The robust futex ABI" defines the order of the steps around the word: "1)
//! set the 'list_op_pending' word to the address of the 'lock entry' to be inserted, 2) acquire the
//! futex lock, 3) add the lock entry [...] to the linked list starting at 'head', and 4) clear the
//! 'list_op_pending' word". Removal mirrors it.

use super::lock::Lock;
use super::state::{DeathReport, Pc, State};
use super::variant::Variant;
use super::word::{Tid, Word};

impl Lock {
    /// Performs the next step of `current`.
    pub fn step(&self, state: &mut State, current: Tid) {
        let word = state.word;
        match state[current].pc {
            Pc::Pend => {
                state[current].pending = true;
                state[current].pc = Pc::TakeFast;
            }
            Pc::TakeFast => self.take(state, current, Word::FREE, Word::held_by(current)),
            Pc::Load => state[current].pc = self.next_after_load(state, current),
            Pc::Take(seen) => self.take(state, current, seen, self.variant.taken(seen, current)),
            Pc::SetWaiters(seen) => {
                let expected = seen.with_waiters();
                let set = self.variant == Variant::WaitersNotSet
                    || state.compare_exchange(seen, expected);
                state[current].pc = if set {
                    self.variant.before_wait(expected)
                } else {
                    Pc::Load
                };
            }
            Pc::CountSleeper(expected) => {
                state.sleeper_count += 1;
                state[current].pc = Pc::Wait(expected);
            }
            Pc::Wait(expected) if word == expected => self.fall_asleep(state, current),
            Pc::Wait(_) => state[current].pc = self.variant.after_wait(),
            Pc::UncountSleeper => {
                state.sleeper_count -= 1;
                state[current].pc = Pc::Load;
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
                state[current].pending = self.variant == Variant::PendingNotCleared;
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
            Pc::ReadSleeperCount => {
                state[current].pc = if state.sleeper_count == 0 {
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

    /// Returns the step that follows a load of the word on the slow path. After its deadline a
    /// waiter checks the word once more. It may have been woken, and if it then ignored a free
    /// word, the wake would be lost.
    fn next_after_load(&self, state: &State, current: Tid) -> Pc {
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

    /// Acquires the lock by compare-exchange. If that fails, the thread loads the word again.
    fn take(&self, state: &mut State, current: Tid, seen: Word, mine: Word) {
        let word = state.word;
        let stores = self.variant == Variant::TakenByStore && state[current].pc != Pc::TakeFast;
        if word != seen && !stores {
            state[current].pc = Pc::Load;
            return;
        }
        state.death_report = match (state.death_report, seen.owner_died()) {
            (DeathReport::None, false) | (DeathReport::Due, true) => DeathReport::None,
            _ => DeathReport::Wrong,
        };
        state.word = mine;
        state[current].pc = Pc::Link;
    }

    /// Advances `waker` after a wake that woke `woken` waiters. `waker` is an unlocking thread, or
    /// a dead thread for which the kernel wakes.
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
