//! A thread is killed, at each of its steps: as it acquires, holds, waits, sleeps, releases or wakes.
//!
//! Nobody else is stranded, the death of a holder is told to exactly one, and the data are never used by two.

use crate::exclusion::lockers;
use crate::lock::Lock;
use crate::model::Model;
use crate::raw::robust::Robust;
use crate::sys::join_all;

/// Four threads, three of which lock; one killed; one preemption.
#[test]
fn one_of_three_lockers_is_killed() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| lockers::<Robust>(world, &[1, 1, 1]));
    assert!(seen.deaths_told.get() > 0 && seen.resent_wakes.get() > 0);
}

/// Three threads: one locks twice and is killed, another locks; two preemptions.
#[test]
fn one_of_two_lockers_is_killed_in_either_of_its_rounds() {
    let seen = Model::PLAIN.holds_if_killed(2, |world| lockers::<Robust>(world, &[2, 1]));
    assert!(seen.deaths_told.get() > 0 && seen.resent_wakes.get() > 0);
}

/// The same, of waiters who grab for the lock without a look before.
#[test]
fn one_of_two_lockers_that_grab_is_killed() {
    let model = Model {
        preemptions: 1,
        spins: true,
        rapid: true,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| lockers::<Robust>(world, &[2, 1]));
    assert!(seen.deaths_told.get() > 0);
}

/// Four threads: one dies with the lock, another is killed, a third comes to its end; one preemption.
#[test]
fn a_second_thread_is_killed_when_a_first_one_has_died() {
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
    assert!(seen.deaths_told.get() > seen.runs.get());
}
