//! The condition variable's protocol holds, and the search rejects the others.

use super::{
    A_NAP_WOULD_DO, Desk, NOBODY_SLEEPS_BESIDE_A_LETTER, THE_COUNT_IS_NEVER_TOO_SMALL, Variant,
};
use crate::model::is_thorough;
use crate::search::lock::WakeOrder;
use stateright::{Checker, HasDiscoveries, Model};

/// Searches every state of the desk, and asserts that there are at least `at_least`.
fn holds(desk: Desk, at_least: usize) {
    let checker = desk
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    let states = checker.unique_state_count();
    println!("{desk:?}: {states} states");
    checker.assert_properties();
    assert!(states >= at_least, "only {states} states");
}

/// Searches until the property is violated, with wakes in any order and in the order of sleep.
fn rejects(desk: Desk, property: &'static str) {
    for wake_order in [WakeOrder::Any, WakeOrder::Fifo] {
        rejects_in(wake_order, desk, property);
    }
}

fn rejects_in(wake_order: WakeOrder, desk: Desk, property: &'static str) {
    let desk = Desk { wake_order, ..desk };
    let finish = HasDiscoveries::AnyOf([property].into());
    let checker = desk.checker().finish_when(finish).spawn_bfs().join();
    let path = checker.discovery(property);
    let path = path.unwrap_or_else(|| panic!("{desk:?}: passes"));
    println!("{desk:?} violates \"{property}\":");
    for action in path.into_actions() {
        println!("    {action:?}");
    }
}

#[test]
fn takers_and_givers_who_notify_one() {
    for wake_order in [WakeOrder::Any, WakeOrder::Fifo] {
        let desk = Desk {
            rounds: 2,
            wake_order,
            ..Desk::PLAIN
        };
        holds(desk, 20_000);
        let desk = Desk {
            takers: 3,
            givers: 1,
            ..desk
        };
        holds(desk, 10_000);
        let desk = Desk {
            takers: 2,
            rounds: 4,
            ..desk
        };
        holds(desk, 10_000);
    }
}

/// The count goes as far as that of the crate's word.
#[test]
fn three_takers_who_are_all_counted() {
    let desk = Desk {
        takers: 3,
        givers: 1,
        rounds: 2,
        many: 3,
        ..Desk::PLAIN
    };
    holds(desk, 90_000);
}

#[test]
fn takers_and_givers_who_notify_all() {
    let desk = Desk {
        rounds: 2,
        all: true,
        ..Desk::PLAIN
    };
    holds(desk, 20_000);
}

#[test]
fn takers_with_deadlines() {
    for all in [false, true] {
        let desk = Desk {
            rounds: 2,
            timed: 1,
            all,
            ..Desk::PLAIN
        };
        holds(desk, 20_000);
    }
}

/// A signal or an expired recheck timer may make the count too large, but never too small. Each
/// thread has one round, or two in a thorough run.
#[test]
fn takers_whose_sleeps_end_without_a_wake() {
    for (takers, givers, many) in [(2, 2, 2), (3, 1, 3)] {
        let desk = Desk {
            takers,
            givers,
            many,
            rounds: 1 + u8::from(is_thorough()),
            restless: true,
            ..Desk::PLAIN
        };
        holds(desk, 5_000);
    }
}

#[test]
fn takers_and_givers_of_whom_two_may_die() {
    for all in [false, true] {
        let desk = Desk {
            rounds: 2,
            deaths: 2,
            all,
            ..Desk::PLAIN
        };
        holds(desk, 90_000);
    }
}

#[test]
fn a_taker_that_reads_the_sequence_after_unlocking_sleeps_beside_a_letter() {
    let desk = Desk {
        variant: Variant::LateLook,
        ..Desk::PLAIN
    };
    rejects(desk, NOBODY_SLEEPS_BESIDE_A_LETTER);
}

#[test]
fn a_notification_that_takes_the_announcement_away_leaves_the_other_asleep() {
    let desk = Desk {
        variant: Variant::ForgetsTheOthers,
        ..Desk::PLAIN
    };
    rejects(desk, NOBODY_SLEEPS_BESIDE_A_LETTER);
}

#[test]
fn a_clearing_that_wakes_nobody_leaves_a_sleeper() {
    let desk = Desk {
        variant: Variant::ClearsWithoutWaking,
        rounds: 3,
        takers: 1,
        givers: 1,
        ..Desk::PLAIN
    };
    rejects(desk, NOBODY_SLEEPS_BESIDE_A_LETTER);
}

#[test]
fn a_sleep_that_does_not_compare_misses_a_notification() {
    let desk = Desk {
        variant: Variant::ComparesBefore,
        ..Desk::PLAIN
    };
    rejects(desk, NOBODY_SLEEPS_BESIDE_A_LETTER);
}

/// A taker is killed after it consumed the wake, and the other taker's timer finds the same
/// sequence.
#[test]
fn a_wake_without_a_sequence_is_lost_with_whom_it_woke() {
    let desk = Desk {
        variant: Variant::NoSequence,
        deaths: 1,
        ..Desk::PLAIN
    };
    rejects(desk, A_NAP_WOULD_DO);
}

/// One waiter is counted before the count goes back to none, and another one after it. Both sleep
/// on the same word, and its count includes only one of them.
#[test]
fn a_count_that_goes_back_on_the_same_sequence_forgets_a_sleeper() {
    let desk = Desk {
        variant: Variant::ClearsInPlace,
        rounds: 2,
        ..Desk::PLAIN
    };
    rejects(desk, NOBODY_SLEEPS_BESIDE_A_LETTER);
}

/// A wake reaches a waiter that went to sleep later than the waiter for which it was meant. Then
/// both sleep, and the count includes one. This cannot happen with wakes in the order of sleep.
#[test]
fn a_waiter_that_is_counted_once_whatever_wakes_it_forgets_a_sleeper() {
    let desk = Desk {
        variant: Variant::IsCountedOnce,
        rounds: 2,
        ..Desk::PLAIN
    };
    rejects_in(WakeOrder::Any, desk, NOBODY_SLEEPS_BESIDE_A_LETTER);
    rejects_in(WakeOrder::Any, desk, THE_COUNT_IS_NEVER_TOO_SMALL);
}
