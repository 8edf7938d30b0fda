//! Waiters with a deadline. A waiter that gives up consumes no wake of another waiter.

use crate::lock::{Lock, Raw};
use crate::model::Model;
use crate::raw::outcome::AcquireError;
use crate::raw::robust::Robust;
use crate::sys::{World, join_all};
use std::rc::Rc;

/// The first thread holds the lock. Thread 2 waits for it with a deadline, and thread 3 without.
/// With `passes_first`, the deadline passes before the first thread unlocks, otherwise afterwards.
pub fn one_waiter_has_a_deadline<R: Raw>(world: &Rc<World>, passes_first: bool) {
    let lock = Lock::<R>::place(world);
    lock.lock(world);
    let timed = lock.in_thread(world, 2, |world, lock| {
        let outcome = lock.lock_until(world);
        match outcome {
            Ok(()) => lock.unlock(),
            Err(refused) => assert_eq!(refused, AcquireError::TimedOut),
        }
        outcome.is_ok()
    });
    let other = lock.in_thread(world, 3, |world, lock| lock.section(world));
    if passes_first {
        world.deadline_passes();
        lock.unlock();
    } else {
        lock.unlock();
        world.deadline_passes();
    }
    other.join().expect("only thread 2 may be killed");
    let timed = timed.join();
    lock.is_at_rest(world);
    if let Some(acquired) = timed {
        assert_eq!(lock.uses(), 3 + u32::from(acquired));
    }
}

/// Three threads, two preemptions.
#[test]
fn a_waiter_that_times_out_strands_no_thread() {
    for passes_first in [true, false] {
        let seen = Model::PLAIN.holds(move |world| {
            one_waiter_has_a_deadline::<Robust>(world, passes_first);
        });
        assert!(seen.timeouts.get() > 0 && seen.timeouts.get() < seen.runs.get());
    }
}

/// Three threads, one preemption. The waiter with the deadline is killed at each of its steps.
#[test]
fn a_waiter_killed_as_it_times_out_strands_no_thread() {
    for passes_first in [true, false] {
        let model = Model {
            preemptions: 1,
            ..Model::PLAIN
        };
        let seen = model.holds_if_killed(2, move |world| {
            one_waiter_has_a_deadline::<Robust>(world, passes_first);
        });
        assert!(seen.timeouts.get() > 0 && seen.resent_wakes.get() > 0);
    }
}

/// Three threads, one preemption. Two of them lock with the deadline. One of these is killed at
/// each of its steps, also while it owns the lock.
#[test]
fn a_death_is_reported_if_every_waiter_has_a_deadline() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| {
        let lock = Lock::<Robust>::place(world);
        let lockers = [2, 3].map(|tid| {
            lock.in_thread(world, tid, |world, lock| {
                if lock.lock_until(world).is_ok() {
                    lock.unlock();
                }
            })
        });
        world.deadline_passes();
        join_all(lockers);
        lock.is_at_rest(world);
    });
    assert!(seen.timeouts.get() > 0 && seen.reported_deaths.get() > 0);
}
