//! The condition variable's protocol holds, and the search rejects the others.

use super::{
    A_RECHECK_TIMER_SUFFICES, Mailbox, NO_LOST_NOTIFICATION, THE_COUNT_IS_NEVER_TOO_SMALL, Variant,
};
use crate::model::is_thorough;
use crate::search::lock::WakeOrder;
use stateright::{Checker, HasDiscoveries, Model};

/// Searches every state of the mailbox, and asserts that there are at least `at_least`.
fn holds(mailbox: Mailbox, at_least: usize) {
    let checker = mailbox
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    let states = checker.unique_state_count();
    println!("{mailbox:?}: {states} states");
    checker.assert_properties();
    assert!(states >= at_least, "only {states} states");
}

/// Searches until the property is violated, with wakes in any order and in the order of sleep.
fn rejects(mailbox: Mailbox, property: &'static str) {
    for wake_order in [WakeOrder::Any, WakeOrder::Fifo] {
        rejects_in(wake_order, mailbox, property);
    }
}

fn rejects_in(wake_order: WakeOrder, mailbox: Mailbox, property: &'static str) {
    let mailbox = Mailbox {
        wake_order,
        ..mailbox
    };
    let finish = HasDiscoveries::AnyOf([property].into());
    let checker = mailbox.checker().finish_when(finish).spawn_bfs().join();
    let path = checker.discovery(property);
    let path = path.unwrap_or_else(|| panic!("{mailbox:?}: passes"));
    println!("{mailbox:?} violates \"{property}\":");
    for action in path.into_actions() {
        println!("    {action:?}");
    }
}

#[test]
fn takers_and_givers_that_notify_one() {
    for wake_order in [WakeOrder::Any, WakeOrder::Fifo] {
        let mailbox = Mailbox {
            rounds: 2,
            wake_order,
            ..Mailbox::PLAIN
        };
        holds(mailbox, 20_000);
        let mailbox = Mailbox {
            takers: 3,
            givers: 1,
            ..mailbox
        };
        holds(mailbox, 10_000);
        let mailbox = Mailbox {
            takers: 2,
            rounds: 4,
            ..mailbox
        };
        holds(mailbox, 10_000);
    }
}

/// The count goes as far as that of the crate's word.
#[test]
fn three_takers_that_are_all_counted() {
    let mailbox = Mailbox {
        takers: 3,
        givers: 1,
        rounds: 2,
        many: 3,
        ..Mailbox::PLAIN
    };
    holds(mailbox, 90_000);
}

#[test]
fn takers_and_givers_that_notify_all() {
    let mailbox = Mailbox {
        rounds: 2,
        all: true,
        ..Mailbox::PLAIN
    };
    holds(mailbox, 20_000);
}

#[test]
fn takers_with_deadlines() {
    for all in [false, true] {
        let mailbox = Mailbox {
            rounds: 2,
            timed: 1,
            all,
            ..Mailbox::PLAIN
        };
        holds(mailbox, 20_000);
    }
}

/// A signal or an expired recheck timer may make the count too large, but never too small. Each
/// thread has one round, or two in a thorough run.
#[test]
fn takers_whose_sleeps_end_without_a_wake() {
    for (takers, givers, many) in [(2, 2, 2), (3, 1, 3)] {
        let mailbox = Mailbox {
            takers,
            givers,
            many,
            rounds: 1 + u8::from(is_thorough()),
            early_returns: true,
            ..Mailbox::PLAIN
        };
        holds(mailbox, 5_000);
    }
}

#[test]
fn takers_and_givers_with_up_to_two_deaths() {
    for all in [false, true] {
        let mailbox = Mailbox {
            rounds: 2,
            deaths: 2,
            all,
            ..Mailbox::PLAIN
        };
        holds(mailbox, 90_000);
    }
}

#[test]
fn a_taker_that_reads_the_sequence_after_unlocking_misses_a_letter() {
    let mailbox = Mailbox {
        variant: Variant::LateRead,
        ..Mailbox::PLAIN
    };
    rejects(mailbox, NO_LOST_NOTIFICATION);
}

#[test]
fn a_notification_that_resets_the_count_leaves_the_other_asleep() {
    let mailbox = Mailbox {
        variant: Variant::ResetsCount,
        ..Mailbox::PLAIN
    };
    rejects(mailbox, NO_LOST_NOTIFICATION);
}

#[test]
fn a_clearing_without_a_wake_leaves_a_sleeper() {
    let mailbox = Mailbox {
        variant: Variant::ClearsWithoutWaking,
        rounds: 3,
        takers: 1,
        givers: 1,
        ..Mailbox::PLAIN
    };
    rejects(mailbox, NO_LOST_NOTIFICATION);
}

#[test]
fn a_sleep_that_does_not_compare_misses_a_notification() {
    let mailbox = Mailbox {
        variant: Variant::ComparesBefore,
        ..Mailbox::PLAIN
    };
    rejects(mailbox, NO_LOST_NOTIFICATION);
}

/// A taker is killed after it consumed the wake, and the other taker's timer finds the same
/// sequence.
#[test]
fn a_wake_without_a_sequence_is_lost_with_the_killed_taker() {
    let mailbox = Mailbox {
        variant: Variant::NoSequence,
        deaths: 1,
        ..Mailbox::PLAIN
    };
    rejects(mailbox, A_RECHECK_TIMER_SUFFICES);
}

/// One waiter is counted before the count goes back to none, and another one after it. Both sleep
/// on the same word, and its count includes only one of them.
#[test]
fn a_count_that_is_cleared_on_the_same_sequence_misses_a_sleeper() {
    let mailbox = Mailbox {
        variant: Variant::ClearsInPlace,
        rounds: 2,
        ..Mailbox::PLAIN
    };
    rejects(mailbox, NO_LOST_NOTIFICATION);
}

/// A wake reaches a waiter that went to sleep later than the waiter for which it was meant. Then
/// both sleep, and the count includes one. This cannot happen with wakes in the order of sleep.
#[test]
fn a_waiter_that_is_not_counted_again_makes_the_count_too_small() {
    let mailbox = Mailbox {
        variant: Variant::IsCountedOnce,
        rounds: 2,
        ..Mailbox::PLAIN
    };
    rejects_in(WakeOrder::Any, mailbox, NO_LOST_NOTIFICATION);
    rejects_in(WakeOrder::Any, mailbox, THE_COUNT_IS_NEVER_TOO_SMALL);
}
