//! The threads are interchangeable: states that differ only in the threads' names are searched
//! once.

use std::collections::HashSet;

use stateright::Representative;

use super::lock::Lock;
use super::runs::walk;
use super::state::State;
use super::word::{Tid, Word};

impl State {
    /// The same state with each thread renamed: thread `tid` becomes `names[tid]`.
    fn renamed(&self, names: [Tid; 4]) -> State {
        let rename = |tid: Tid| names[tid.index()];
        let mut renamed = *self;
        renamed.word = self.word.rename_owner(rename);
        for (tid, thread) in self.threads() {
            renamed[rename(tid)] = *thread;
            renamed[rename(tid)].pc = thread.pc.map_word(|seen| seen.rename_owner(rename));
        }
        renamed
    }
}

impl Representative for State {
    /// The same state with the threads sorted by everything except the names in it.
    ///
    /// Threads that are then equal are sorted by name. If only the word that a third thread
    /// remembers distinguishes them, two equivalent states are both searched. No state is missed.
    fn representative(&self) -> State {
        let mut order = Tid::ALL.map(|tid| {
            let mut unnamed = self[tid];
            unnamed.pc = unnamed.pc.map_word(Word::without_owner);
            (unnamed, self.word.owner() == Some(tid), tid)
        });
        order.sort_unstable();
        let mut names = Tid::ALL;
        for (new, (.., old)) in Tid::ALL.into_iter().zip(order) {
            names[old.index()] = new;
        }
        self.renamed(names)
    }
}

/// The smallest of all states that differ from this one only in names.
fn smallest_renaming(state: &State) -> State {
    let all = Tid::ALL;
    let orders = all
        .into_iter()
        .flat_map(|a| all.map(|b| (a, b)))
        .flat_map(|(a, b)| all.map(|c| (a, b, c)))
        .flat_map(|(a, b, c)| all.map(|d| [a, b, c, d]))
        .filter(|names| all.iter().all(|tid| names.contains(tid)));
    let renamed = orders.map(|names| state.renamed(names));
    renamed.min().expect("there are 24 orders")
}

#[test]
fn a_search_by_representatives_misses_no_state() {
    let lock = Lock {
        deaths: 1,
        interruptions: 1,
        ..Lock::PLAIN
    };
    let all = walk(&lock, State::clone).expect("every run ends");
    let folded = walk(&lock, State::representative).expect("every run ends");
    println!("{lock}: {} states, folded {}", all.len(), folded.len());
    assert!(folded.len() < all.len() / 4);
    let classes = |states: &HashSet<State>| -> HashSet<State> {
        states.iter().map(smallest_renaming).collect()
    };
    assert!(classes(&folded) == classes(&all), "some states are missed");
}
