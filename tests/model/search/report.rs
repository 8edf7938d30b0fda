//! Counterexamples in readable form.

use std::fmt::{self, Write};

use stateright::Path;

use super::lock::{Action, Lock};
use super::state::{Pc, State};
use super::word::Tid;

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: {} threads ({} timed), {} rounds, {} deaths, {} interruptions, wakes {:?}",
            self.variant,
            self.threads,
            self.timed,
            self.rounds,
            self.deaths,
            self.interruptions,
            self.wake_order
        )
    }
}

/// Formats a run as a table: the acting thread, its action and the word after it. The last lines
/// show the step of each thread at the end.
pub fn table(lock: &Lock, path: Path<State, Action>) -> String {
    let states = path.clone().into_states();
    let actions = path.into_actions();
    let mut table = String::new();
    for (number, (action, pair)) in actions.iter().zip(states.windows(2)).enumerate() {
        let (tid, does) = describe(&pair[0], *action);
        let (number, word) = (number + 1, pair[1].word);
        writeln!(table, "{number:>4}  {tid}  {does:<48}  {word}").unwrap();
    }
    let last = states.last().expect("a path has a first state");
    for (tid, thread) in last.threads().take(lock.threads) {
        writeln!(table, "      {tid}  {}", thread.pc).unwrap();
    }
    table
}

/// The acting thread and its action.
fn describe(state: &State, action: Action) -> (Tid, String) {
    match action {
        Action::Step(tid) => match state[tid].pc {
            pc @ (Pc::WakeOne | Pc::ExitWake) => (tid, format!("{pc}: no thread is asleep")),
            pc => (tid, pc.to_string()),
        },
        Action::Wake { waker, sleeper } => {
            let pc = state[waker].pc;
            (waker, format!("{pc}: {sleeper} wakes up"))
        }
        Action::Expire(tid) => (tid, "the deadline passes".to_owned()),
        Action::Interrupt(tid) => (tid, "FUTEX_WAIT returns early".to_owned()),
        Action::Die(tid) => (tid, "is killed".to_owned()),
    }
}
