//! The runs of the search for [several](super::several) words.

use stateright::{Checker, HasDiscoveries, Model};

use super::several::{LockSet, NO_THREAD_IS_STRANDED, Variant};

const LOCK_SET: LockSet = LockSet {
    variant: Variant::QueueLock,
    threads: 4,
    holders: 2,
    rounds: 1,
    deaths: 0,
    interruptions: 0,
};

fn holds(lock_set: LockSet) -> usize {
    let checker = lock_set.checker().spawn_bfs().join();
    checker.assert_properties();
    println!("{lock_set:?}: {} states", checker.unique_state_count());
    checker.unique_state_count()
}

fn strands(lock_set: LockSet) {
    let checker = lock_set
        .checker()
        .finish_when(HasDiscoveries::AnyOf([NO_THREAD_IS_STRANDED].into()))
        .spawn_bfs()
        .join();
    let path = checker.discovery(NO_THREAD_IS_STRANDED);
    let path = path.unwrap_or_else(|| panic!("{lock_set:?}: passes"));
    println!("{lock_set:?}: strands a thread");
    for action in path.into_actions() {
        println!("  {action:?}");
    }
}

/// Two threads hold a word, two wait, and two are killed. The second search has one death and one
/// interruption.
#[test]
fn with_a_queue_lock_no_death_strands_a_thread() {
    let states = holds(LockSet {
        deaths: 2,
        ..LOCK_SET
    });
    assert!(states > 10_000);
    holds(LockSet {
        deaths: 1,
        interruptions: 1,
        ..LOCK_SET
    });
}

/// One thread holds a word at the start, two threads each acquire a word twice, and two of the
/// three are killed.
#[test]
fn with_a_queue_lock_none_of_three_threads_is_stranded() {
    holds(LockSet {
        holders: 1,
        rounds: 2,
        threads: 3,
        deaths: 2,
        ..LOCK_SET
    });
}

/// If every thread that sleeps on the words holds the queue lock, no thread consumes another's
/// wake.
#[test]
fn with_a_queue_lock_no_wake_must_be_propagated() {
    holds(LockSet {
        variant: Variant::QueueLockOnly,
        deaths: 2,
        ..LOCK_SET
    });
}

/// Two releases cause two wakes, and one waiter receives both.
#[test]
fn a_thread_that_keeps_consumed_wakes_strands_another() {
    strands(LockSet {
        variant: Variant::KeepsWakes,
        ..LOCK_SET
    });
}

#[test]
fn propagating_wakes_is_enough_if_no_thread_dies() {
    let lock_set = LockSet {
        variant: Variant::PropagatesWakes,
        interruptions: 1,
        ..LOCK_SET
    };
    holds(lock_set);
    strands(LockSet {
        deaths: 1,
        ..lock_set
    });
}
