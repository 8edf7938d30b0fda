//! The kernel did not mark the lock of a dead thread: the liveness check finds the death.

use crate::lock::Lock;
use crate::model::Model;
use crate::raw::outcome::AcquireError;
use crate::raw::robust::Robust;
use crate::sys::{World, join_all};
use std::rc::Rc;

const UNMARKED: Model = Model {
    kernel_marks: false,
    ..Model::PLAIN
};

/// Thread 2 dies unmarked while it owns the lock, and threads 3 and 4 wait for the lock.
fn a_holder_dies_unmarked(world: &Rc<World>) -> Rc<Lock> {
    let lock = Lock::<Robust>::place(world);
    let dies = lock.in_thread(world, 2, |world, lock| lock.lock(world));
    let waiters = [3, 4].map(|tid| lock.in_thread(world, tid, |world, lock| lock.section(world)));
    dies.join();
    world.expire_recheck_timers();
    join_all(waiters);
    lock
}

/// Four threads, one preemption. One dies while it owns the lock, and two lock. The recheck timers
/// end after the death.
#[test]
fn a_sleeper_finds_an_unmarked_death_when_its_recheck_timer_expires() {
    let model = Model {
        preemptions: 1,
        ..UNMARKED
    };
    let seen = model.holds(|world| {
        let lock = a_holder_dies_unmarked(world);
        lock.is_at_rest(world);
        assert_eq!(lock.uses(), 4);
    });
    assert_eq!(seen.reported_deaths.get(), seen.runs.get());
    assert!(seen.sleeps.get() > 0);
}

/// Four threads, three preemptions. One dies while it owns the lock. Two try to lock after its end.
#[test]
fn a_try_finds_an_unmarked_death() {
    let model = Model {
        preemptions: 3,
        ..UNMARKED
    };
    let seen = model.holds(|world| {
        let lock = Lock::<Robust>::place(world);
        lock.in_thread(world, 2, |world, lock| lock.lock(world))
            .join();
        let tries = [3, 4].map(|tid| {
            lock.in_thread(world, tid, |world, lock| match lock.try_lock(world) {
                Ok(()) => {
                    lock.unlock();
                    true
                }
                Err(refused) => {
                    assert_eq!(refused, AcquireError::WouldBlock);
                    false
                }
            })
        });
        let acquired = tries.map(|tries| tries.join().expect("no thread is killed"));
        assert!(acquired.contains(&true));
        lock.is_at_rest(world);
    });
    assert_eq!(seen.reported_deaths.get(), seen.runs.get());
}

/// Three threads, two preemptions. The first one locks twice and the second one once, while the
/// third one tries. All of them live.
#[test]
fn a_live_holder_is_not_taken_for_dead() {
    Model::PLAIN.holds(|world| {
        let lock = Lock::<Robust>::place(world);
        lock.lock(world);
        let locks = lock.in_thread(world, 2, |world, lock| lock.section(world));
        let tries = lock.in_thread(world, 3, |world, lock| {
            if lock.try_lock(world).is_ok() {
                lock.unlock();
            }
        });
        lock.unlock();
        lock.section(world);
        locks.join();
        tries.join();
        lock.is_at_rest(world);
    });
}

/// Two threads, three preemptions. One calls `exec` while it owns the lock, which the kernel marks.
/// Its new process image has the same ids, and locks again. Meanwhile the other thread looks for
/// unmarked deaths. It must not combine the word of the new image with the record of the old one.
#[test]
fn a_holder_with_the_ids_of_a_dead_one_is_not_taken_for_dead() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let lock = Lock::<Robust>::place(world);
        let locks = lock.in_thread(world, 2, |world, lock| {
            lock.lock(world);
            world.exec();
            lock.section(world);
        });
        let tries = lock.in_thread(world, 3, |world, lock| {
            if lock.try_lock(world).is_ok() {
                lock.unlock();
            }
        });
        locks.join();
        tries.join();
        lock.is_at_rest(world);
    });
    assert!(seen.reported_deaths.get() > 0);
}
