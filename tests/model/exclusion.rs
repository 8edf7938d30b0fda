//! The lock provides mutual exclusion, and publishes what each owner writes. No thread is stranded.

use crate::lock::{Lock, Raw};
use crate::model::Model;
use crate::raw::outcome::AcquireError;
use crate::raw::robust::Robust;
use crate::sys::{World, join_all};
use std::rc::Rc;

/// Threads 2 and up lock and unlock, each as often as `rounds` says. Every thread that is not
/// killed comes to its end.
pub fn lockers<R: Raw>(world: &Rc<World>, rounds: &[u32]) {
    take_turns(world, &Lock::<R>::place(world), rounds);
}

fn take_turns<R: Raw>(world: &Rc<World>, lock: &Rc<Lock<R>>, rounds: &[u32]) {
    let lockers = (2..).zip(rounds).map(|(tid, &rounds)| {
        lock.in_thread(world, tid, move |world, lock| {
            (0..rounds).for_each(|_| lock.section(world))
        })
    });
    let lockers: Vec<_> = lockers.collect();
    let ends = lockers.into_iter().map(|locker| locker.join());
    let none_was_killed = ends.fold(true, |all, end| all & end.is_some());
    lock.is_at_rest(world);
    if none_was_killed {
        assert_eq!(lock.uses(), rounds.iter().sum::<u32>() + 1);
    }
}

/// Four threads, two preemptions. Three of them lock.
#[test]
fn three_threads_exclude_each_other() {
    let seen = Model::PLAIN.holds(|world| lockers::<Robust>(world, &[1, 1, 1]));
    assert!(seen.wakes.get() > 0 && seen.idle_wakes.get() > 0);
}

/// Three threads, two preemptions. Two of them lock twice. After a read of an old value, every
/// interleaving is explored.
#[test]
fn two_threads_exclude_each_other_twice() {
    let model = Model {
        follows_old_values: true,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| lockers::<Robust>(world, &[2, 2]));
    assert!(seen.wakes.get() > 0 && seen.idle_wakes.get() > 0);
}

/// Three threads, three preemptions. Two of them lock, and check the word eight times before they
/// sleep.
#[test]
fn threads_that_spin_before_they_sleep_exclude_each_other() {
    for dense_critical_sections in [false, true] {
        let model = Model {
            preemptions: 3,
            spins: true,
            dense_critical_sections,
            ..Model::PLAIN
        };
        let seen = model.holds(|world| lockers::<Robust>(world, &[1, 1]));
        assert!(seen.sleeps.get() > 0);
    }
}

/// Four threads, one preemption. Three of them lock.
#[test]
fn an_in_process_lock_excludes_too() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        take_turns(world, &Lock::<Robust>::in_process(world), &[1, 1, 1]);
    });
    assert!(seen.sleeps.get() > 0);
}

/// Four threads, one preemption. Two of them lock, and one tries to lock.
#[test]
fn a_try_acquires_a_free_lock_or_is_refused_at_once() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let lock = Lock::<Robust>::place(world);
        let lockers =
            [2, 3].map(|tid| lock.in_thread(world, tid, |world, lock| lock.section(world)));
        let tries = lock.in_thread(world, 4, |world, lock| {
            let outcome = lock.try_lock(world);
            match outcome {
                Ok(()) => lock.unlock(),
                Err(refused) => assert_eq!(refused, AcquireError::WouldBlock),
            }
            outcome.is_ok()
        });
        join_all(lockers);
        let uses = 2 + u32::from(tries.join().expect("no thread is killed"));
        lock.is_at_rest(world);
        assert_eq!(lock.uses(), uses + 1);
    });
    assert!(seen.sleeps.get() > 0);
}
