//! The runs of the search for [several](super::several) words.

use stateright::{Checker, HasDiscoveries, Model};

use super::several::{Row, STRANDED, Variant};

const ROW: Row = Row {
    variant: Variant::Line,
    threads: 4,
    holders: 2,
    rounds: 1,
    deaths: 0,
    interruptions: 0,
};

fn holds(row: Row) -> usize {
    let checker = row.checker().spawn_bfs().join();
    checker.assert_properties();
    println!("{row:?}: {} states", checker.unique_state_count());
    checker.unique_state_count()
}

fn strands(row: Row) {
    let checker = row
        .checker()
        .finish_when(HasDiscoveries::AnyOf([STRANDED].into()))
        .spawn_bfs()
        .join();
    let path = checker.discovery(STRANDED);
    let path = path.unwrap_or_else(|| panic!("{row:?}: passes"));
    println!("{row:?}: strands somebody");
    for action in path.into_actions() {
        println!("  {action:?}");
    }
}

/// Two threads hold a word, two wait, and two are killed. The second search has one death and one
/// interruption.
#[test]
fn a_line_strands_nobody_whoever_dies() {
    let states = holds(Row { deaths: 2, ..ROW });
    assert!(states > 10_000);
    holds(Row {
        deaths: 1,
        interruptions: 1,
        ..ROW
    });
}

/// One thread holds a word at the start, two threads each acquire a word twice, and two of the
/// three are killed.
#[test]
fn a_line_of_three_strands_nobody() {
    holds(Row {
        holders: 1,
        rounds: 2,
        threads: 3,
        deaths: 2,
        ..ROW
    });
}

/// If every thread that sleeps on the words holds the queue lock, no thread consumes another's
/// wake.
#[test]
fn a_line_needs_no_wake_for_the_others() {
    holds(Row {
        variant: Variant::LineAlone,
        deaths: 2,
        ..ROW
    });
}

/// Two releases cause two wakes, and one waiter receives both.
#[test]
fn who_keeps_what_it_swallowed_strands_another() {
    strands(Row {
        variant: Variant::KeepsAll,
        ..ROW
    });
}

#[test]
fn passing_wakes_on_is_enough_while_nobody_dies() {
    let row = Row {
        variant: Variant::PassesOn,
        interruptions: 1,
        ..ROW
    };
    holds(row);
    strands(Row { deaths: 1, ..row });
}
