//! Every run ends.
//!
//! A search of states says that nobody is stranded where everything has come to rest. It does not
//! say that everything comes to rest: a thread could go round between two looks at the word for
//! ever. Here the graph of states is shown to have no cycle, so that no schedule, however unfair,
//! is infinite.

use std::collections::{HashMap, HashSet};

use stateright::Model;

use super::lock::Lock;
use super::sound;
use super::state::State;
use super::variant::Variant;

/// Where the walk stands with a state.
#[derive(Clone, Copy)]
enum Visit {
    /// On the path that is walked now.
    Open,
    /// All that follows it has been walked.
    Closed,
}

/// Walks all states depth first, each taken for what `fold` makes of it. Returns them, or else the
/// states of a run that comes back to where it was.
pub fn walk(lock: &Lock, fold: fn(&State) -> State) -> Result<HashSet<State>, Vec<State>> {
    let followers = |state: &State| lock.next_states(state).iter().map(fold).collect();
    let mut visits = HashMap::new();
    let mut path: Vec<(State, Vec<State>)> = Vec::new();
    for first in lock.init_states().iter().map(fold) {
        visits.insert(first, Visit::Open);
        path.push((first, followers(&first)));
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
                path.push((next, followers(&next)));
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

/// The walk compares states as they are, where the checker compares 64-bit hashes. It finds as many
/// as the checker does.
#[test]
fn every_run_ends() {
    let lock = Lock {
        timed: 1,
        rounds: 2,
        deaths: 2,
        ..Lock::PLAIN
    };
    let states = walk(&lock, State::clone).expect("no run comes back to where it was");
    assert_eq!(sound::search_every_name(lock), states.len());
}

#[test]
fn a_waiter_that_does_not_set_waiters_goes_round_for_ever() {
    let lock = Lock {
        variant: Variant::WaitersNotSet,
        threads: 2,
        ..Lock::PLAIN
    };
    let round = walk(&lock, State::clone).expect_err("a run comes back to where it was");
    println!("{lock}: goes round for ever");
    for state in round {
        let [a, b, ..] = state.threads;
        let a = a.pc.to_string();
        println!("{:>10}  A  {a:<26}  B  {}", state.word, b.pc);
    }
}
