//! Every run ends.
//!
//! A search of states shows that no thread is left asleep when no further step is possible. It does
//! not show that such a state is reached: a thread could loop forever between two loads of the
//! word. Here the graph of states is shown to have no cycle, so no schedule is infinite, however
//! unfair.

use std::collections::{HashMap, HashSet};

use stateright::Model;

use super::lock::Lock;
use super::sound;
use super::state::State;
use super::variant::Variant;

/// The progress of the walk at a state.
#[derive(Clone, Copy)]
enum Visit {
    /// The state is on the current path.
    Open,
    /// All successors of the state have been walked.
    Closed,
}

/// Walks all states depth first, with `fold` applied to each. Returns the states, or as an error
/// the states of a run that returns to an earlier state.
pub fn walk(lock: &Lock, fold: fn(&State) -> State) -> Result<HashSet<State>, Vec<State>> {
    let successors = |state: &State| lock.next_states(state).iter().map(fold).collect();
    let mut visits = HashMap::new();
    let mut path: Vec<(State, Vec<State>)> = Vec::new();
    for first in lock.init_states().iter().map(fold) {
        visits.insert(first, Visit::Open);
        path.push((first, successors(&first)));
    }
    while let Some((state, ahead)) = path.last_mut() {
        let Some(next) = ahead.pop() else {
            visits.insert(*state, Visit::Closed);
            path.pop();
            continue;
        };
        match visits.get(&next) {
            None => {
                visits.insert(next, Visit::Open);
                path.push((next, successors(&next)));
            }
            Some(Visit::Closed) => {}
            Some(Visit::Open) => {
                let states = path.iter().map(|(state, _)| *state);
                return Err(states.skip_while(|state| *state != next).collect());
            }
        }
    }
    Ok(visits.into_keys().collect())
}

/// The walk compares whole states, and the checker compares 64-bit hashes. Both find the same
/// number of states.
#[test]
fn every_run_ends() {
    let lock = Lock {
        timed: 1,
        rounds: 2,
        deaths: 2,
        ..Lock::PLAIN
    };
    let states = walk(&lock, State::clone).expect("no run returns to an earlier state");
    assert_eq!(sound::search_without_symmetry(lock), states.len());
}

#[test]
fn a_waiter_that_does_not_set_waiters_loops_forever() {
    let lock = Lock {
        variant: Variant::WaitersNotSet,
        threads: 2,
        ..Lock::PLAIN
    };
    let cycle = walk(&lock, State::clone).expect_err("a run returns to an earlier state");
    println!("{lock}: loops forever");
    for state in cycle {
        let [a, b, ..] = state.threads;
        let a = a.pc.to_string();
        println!("{:>10}  A  {a:<26}  B  {}", state.word, b.pc);
    }
}
