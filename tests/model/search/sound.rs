//! The protocol holds.

use stateright::{Checker, CheckerBuilder, Expectation, HasDiscoveries, Model};

use super::lock::{Lock, WakeOrder};
use super::report;
use super::variant::Variant;
use crate::model::is_thorough;

/// Searches every state of `lock` up to a renaming of the threads, and asserts that there are at
/// least `at_least` states.
fn holds(lock: Lock, at_least: usize) {
    let states = search(lock, lock.checker().symmetry());
    assert!(states >= at_least, "only {states} states");
}

/// Searches every state of `lock`, including states that differ only in the threads' names.
pub fn search_without_symmetry(lock: Lock) -> usize {
    search(lock, lock.checker())
}

/// Asserts the properties of `lock`, and returns the number of its states.
fn search(lock: Lock, checker: CheckerBuilder<Lock>) -> usize {
    let checker = checker
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    let states = checker.unique_state_count();
    println!("{lock}: {states} states, {} steps", checker.state_count());
    let mut discoveries = checker.discoveries();
    for property in lock.properties() {
        match (property.expectation, discoveries.remove(property.name)) {
            (Expectation::Sometimes, example) => {
                assert!(example.is_some(), "never reached: {}", property.name);
            }
            (_, Some(path)) => panic!("{}:\n{}", property.name, report::table(&lock, path)),
            (_, None) => {}
        }
    }
    states
}

#[test]
fn three_threads_with_up_to_three_deaths() {
    let lock = Lock {
        rounds: 2,
        deaths: 3,
        ..Lock::PLAIN
    };
    holds(lock, 20_000);
}

/// The kernel's wakes for a word of another owner do no harm.
#[test]
fn three_threads_on_a_kernel_of_2026() {
    let lock = Lock {
        variant: Variant::KernelOf2026,
        timed: 1,
        rounds: 2,
        deaths: 3,
        ..Lock::PLAIN
    };
    holds(lock, 90_000);
}

#[test]
fn three_threads_with_deadlines() {
    for (timed, at_least) in [(1, 90_000), (2, 130_000), (3, 60_000)] {
        let lock = Lock {
            timed,
            rounds: 2,
            deaths: 3,
            ..Lock::PLAIN
        };
        holds(lock, at_least);
    }
}

#[test]
fn three_threads_woken_in_the_order_of_sleep() {
    let lock = Lock {
        timed: 1,
        rounds: 2,
        deaths: 3,
        wake_order: WakeOrder::Fifo,
        ..Lock::PLAIN
    };
    holds(lock, 90_000);
}

#[test]
fn three_threads_whose_waits_return_early() {
    let lock = Lock {
        timed: 1,
        rounds: 2,
        deaths: 2,
        interruptions: 2,
        ..Lock::PLAIN
    };
    holds(lock, 250_000);
}

#[test]
fn four_threads_with_up_to_three_deaths() {
    let lock = Lock {
        threads: 4,
        rounds: 2,
        deaths: 3,
        ..Lock::PLAIN
    };
    holds(lock, 300_000);
}

/// Each thread locks once, or twice in a thorough run, which takes a minute in a debug build.
#[test]
fn four_threads_with_deadlines() {
    let (rounds, at_least) = match is_thorough() {
        true => (2, 3_500_000),
        false => (1, 200_000),
    };
    let lock = Lock {
        threads: 4,
        timed: 2,
        rounds,
        deaths: 3,
        ..Lock::PLAIN
    };
    holds(lock, at_least);
}
