//! A thread is killed at each of its steps: while it acquires, holds, waits, sleeps, releases or
//! wakes.
//!
//! No other thread is stranded, and two threads never use the data at once. The death of an owner
//! is reported to exactly one later owner.

use crate::exclusion::lockers;
use crate::lock::Lock;
use crate::model::Model;
use crate::raw::robust::Robust;
use crate::sys::{PendingRule, join_all};

/// Four threads, one preemption. Three of them lock, and one of these is killed at each of its
/// steps.
#[test]
fn one_of_three_lockers_is_killed() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| lockers::<Robust>(world, &[1, 1, 1]));
    assert!(seen.reported_deaths.get() > 0 && seen.resent_wakes.get() > 0);
}

/// The same, on a kernel that also wakes a waiter of a word with another owner.
#[test]
fn one_of_three_lockers_is_killed_on_a_kernel_of_2026() {
    let model = Model {
        preemptions: 1,
        pending_rule: PendingRule::NoOwnerOrNoWaiters,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| lockers::<Robust>(world, &[1, 1, 1]));
    assert!(seen.reported_deaths.get() > 0 && seen.resent_wakes.get() > 0);
}

/// Three threads, two preemptions. One locks twice and is killed at each of its steps, and another
/// locks once.
#[test]
fn one_of_two_lockers_is_killed_in_either_round() {
    let seen = Model::PLAIN.holds_if_killed(2, |world| lockers::<Robust>(world, &[2, 1]));
    assert!(seen.reported_deaths.get() > 0 && seen.resent_wakes.get() > 0);
}

/// The same with one preemption, and with waiters that spin with compare-exchange instead of loads.
#[test]
fn one_of_two_lockers_that_spin_with_compare_exchange_is_killed() {
    let model = Model {
        preemptions: 1,
        spins: true,
        dense_critical_sections: true,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| lockers::<Robust>(world, &[2, 1]));
    assert!(seen.reported_deaths.get() > 0);
}

/// Four threads, one preemption. One dies while it owns the lock, another is killed at each of its
/// steps, and a third comes to its end.
#[test]
fn a_thread_is_killed_after_another_has_died() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| {
        let lock = Lock::<Robust>::place(world);
        let lockers =
            [2, 3].map(|tid| lock.in_thread(world, tid, |world, lock| lock.section(world)));
        let dies = lock.in_thread(world, 4, |world, lock| lock.lock(world));
        dies.join();
        join_all(lockers);
        lock.is_at_rest(world);
    });
    assert!(seen.reported_deaths.get() > seen.runs.get());
}
