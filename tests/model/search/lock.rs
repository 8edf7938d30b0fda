//! The transition system: the actions that a state allows, and the state that each action leads to.

use stateright::{Model, Property};

use super::properties;
use super::state::{DeathReport, Pc, State, Thread};
use super::variant::Variant;
use super::word::{Tid, Word};

/// The waiter that `FUTEX_WAKE` removes from the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WakeOrder {
    /// futex(2): "No guarantee is provided about which waiters are awoken". Every run of
    /// [`Fifo`](WakeOrder::Fifo) is also a run of this order.
    Any,
    /// The waiter that slept first. Linux wakes waiters of one priority in this order, so a failure
    /// here is also possible on a real machine.
    Fifo,
}

/// A lock, and the threads that use it.
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    pub variant: Variant,
    /// The number of threads that lock it; at most four.
    pub threads: usize,
    /// How many of them lock with a deadline. The deadline may pass before the first check of the
    /// word, which makes the lock operation a `try_lock`.
    pub timed: usize,
    /// How many times each thread locks and unlocks.
    pub rounds: u8,
    /// How many threads may be killed in a run.
    pub deaths: u8,
    /// How many waits in a run may return early: because of a signal, spuriously, or because the
    /// crate's recheck timer expires.
    pub interruptions: u8,
    pub wake_order: WakeOrder,
}

impl Lock {
    /// Three threads that lock once, without deadlines or deaths. The tests override single fields.
    pub const PLAIN: Lock = Lock {
        variant: Variant::Sound,
        threads: 3,
        timed: 0,
        rounds: 1,
        deaths: 0,
        interruptions: 0,
        wake_order: WakeOrder::Any,
    };
}

/// A transition from a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The thread takes its next step. If that step is a wake, it finds no waiter.
    Step(Tid),
    /// The waker's next step is a wake, and it removes this waiter from the queue.
    Wake { waker: Tid, sleeper: Tid },
    /// The thread's deadline passes.
    Expire(Tid),
    /// The waiter's wait returns early.
    Interrupt(Tid),
    /// The thread is killed.
    Die(Tid),
}

impl Model for Lock {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut threads = [Thread::NONE; 4];
        for (index, thread) in threads.iter_mut().enumerate().take(self.threads) {
            thread.pc = Pc::Pend;
            thread.rounds = self.rounds;
            thread.timed = index >= self.threads - self.timed;
        }
        vec![State {
            word: Word::FREE,
            threads,
            sleeper_count: 0,
            deaths: self.deaths,
            interruptions: self.interruptions,
            death_report: DeathReport::None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (tid, thread) in state.threads() {
            match thread.pc {
                Pc::Finished | Pc::Dead => continue,
                Pc::Asleep { .. } => {
                    if state.interruptions > 0 {
                        actions.push(Action::Interrupt(tid));
                    }
                }
                Pc::WakeOne | Pc::ExitWake => {
                    let before = actions.len();
                    actions.extend(state.next_to_wake().map(|sleeper| Action::Wake {
                        waker: tid,
                        sleeper,
                    }));
                    if actions.len() == before {
                        actions.push(Action::Step(tid));
                    }
                }
                _ => actions.push(Action::Step(tid)),
            }
            // The kernel checks the clock while the thread sleeps; the thread checks it before each
            // load.
            let checks_clock = thread.pc.is_asleep() || thread.pc == Pc::Load;
            if thread.timed && !thread.expired && checks_clock {
                actions.push(Action::Expire(tid));
            }
            let lives = !matches!(thread.pc, Pc::ExitWalk | Pc::ExitWake);
            if lives && state.deaths > 0 {
                actions.push(Action::Die(tid));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Step(tid) => self.step(&mut next, tid),
            Action::Wake { waker, sleeper } => {
                self.end_wait(&mut next, sleeper);
                self.after_wake(&mut next, waker, 1);
            }
            Action::Expire(tid) => {
                next[tid].expired = true;
                self.end_wait(&mut next, tid);
            }
            Action::Interrupt(tid) => {
                next.interruptions -= 1;
                self.end_wait(&mut next, tid);
            }
            Action::Die(tid) => {
                next.deaths -= 1;
                self.kill(&mut next, tid);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Lock>> {
        properties::of(self)
    }
}
