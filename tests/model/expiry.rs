//! Waiters with a deadline. One that gives up takes nobody's wake with it.

use crate::lock::{Lock, Raw};
use crate::model::Model;
use crate::raw::robust::{Refused, Robust};
use crate::sys::World;
use std::rc::Rc;

/// Thread 2 locks with a deadline and 3 and 4 without, and the deadline passes at any moment.
pub fn one_of_three_has_a_deadline<R: Raw>(world: &Rc<World>) {
    let lock = Lock::<R>::place(world);
    let timed = lock.in_thread(world, 2, |world, lock| {
        let outcome = lock.lock_until(world);
        match outcome {
            Ok(()) => lock.unlock(),
            Err(refused) => assert_eq!(refused, Refused::TimedOut),
        }
        outcome.is_ok()
    });
    let others = [3, 4].map(|tid| lock.in_thread(world, tid, |world, lock| lock.section(world)));
    world.deadline_passes();
    others.map(|other| other.join().expect("only thread 2 may be killed"));
    let timed = timed.join();
    lock.is_at_rest(world);
    if let Some(acquired) = timed {
        assert_eq!(lock.uses(), 3 + u32::from(acquired));
    }
}

/// Four threads, two preemptions.
#[test]
fn a_waiter_that_gives_up_strands_nobody() {
    let seen = Model::PLAIN.holds(one_of_three_has_a_deadline::<Robust>);
    assert!(seen.timeouts.get() > 0 && seen.timeouts.get() < seen.runs.get());
}

/// Four threads, one preemption; the waiter with the deadline is killed at each of its steps.
#[test]
fn a_waiter_that_is_killed_as_it_gives_up_strands_nobody() {
    let model = Model { preemptions: 1, ..Model::PLAIN };
    let seen = model.holds_if_killed(2, one_of_three_has_a_deadline::<Robust>);
    assert!(seen.timeouts.get() > 0 && seen.resent_wakes.get() > 0);
}

/// Three threads, two of which lock with the deadline; the holder is killed at each of its steps; two preemptions.
#[test]
fn a_death_is_told_also_where_every_waiter_has_a_deadline() {
    let seen = Model::PLAIN.holds_if_killed(2, |world| {
        let lock = Lock::<Robust>::place(world);
        let lockers = [2, 3].map(|tid| {
            lock.in_thread(world, tid, |world, lock| {
                if lock.lock_until(world).is_ok() {
                    lock.unlock();
                }
            })
        });
        world.deadline_passes();
        lockers.map(|locker| locker.join());
        lock.is_at_rest(world);
    });
    assert!(seen.timeouts.get() > 0 && seen.deaths_told.get() > 0);
}
