//! The lock excludes, and publishes what its holders write. Nobody is stranded.

use crate::lock::Lock;
use crate::model::Model;
use crate::raw::robust::Robust;
use crate::sys::World;
use std::rc::Rc;

/// Threads 2 and up, each of which locks and unlocks so many times.
fn lockers(world: &Rc<World>, lock: &Rc<Lock>, rounds: &[u32]) {
    let lockers = (2..).zip(rounds).map(|(tid, &rounds)| {
        let (lock, here) = (lock.clone(), world.clone());
        world.spawn(tid, move || (0..rounds).for_each(|_| lock.section(&here)))
    });
    let lockers: Vec<_> = lockers.collect();
    for locker in lockers {
        locker.join();
    }
    assert_eq!(lock.uses(), rounds.iter().sum::<u32>());
}

/// Four threads, of which three lock; three preemptions.
#[test]
fn three_threads_lock_once() {
    let model = Model { preemptions: 2, ..Model::PLAIN };
    let seen = model.holds(|world| lockers(world, &Lock::<Robust>::place(world), &[1, 1, 1]));
    assert!(seen.sleeps.get() > 0);
}
