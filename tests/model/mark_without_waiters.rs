//! The mark of a dead owner comes without the `WAITERS` bit.
//!
//! The kernel keeps the bit. musl does not: at the end of a thread it stores `OWNER_DIED` alone in
//! the mutexes of its own list, and wakes one waiter. No lock of this crate is in that list. These
//! models show what the protocol would make of such a mark, and why the list is not joined: the
//! waiters that are not woken sleep until their recheck timers end.

use crate::lock::Lock;
use crate::model::Model;
use crate::raw::robust::Robust;
use crate::sys::{Fault, Joins, World, join_all};
use std::rc::Rc;

const DROPS_WAITERS: Model = Model {
    preemptions: 1,
    fault: Some(Fault::MarkDropsWaiters),
    ..Model::PLAIN
};

/// Thread 2 dies while it owns the lock, and threads 3 and 4 wait for the lock. Returns the waiters
/// after the death.
pub fn a_holder_dies(world: &Rc<World>) -> (Rc<Lock>, [Joins<()>; 2]) {
    let lock = Lock::<Robust>::place(world);
    let dies = lock.in_thread(world, 2, |world, lock| lock.lock(world));
    let waiters = [3, 4].map(|tid| lock.in_thread(world, tid, |world, lock| lock.section(world)));
    dies.join();
    (lock, waiters)
}

/// Four threads, one preemption. The recheck timers end after the death. No waiter stays asleep,
/// and one of them receives the death.
#[test]
fn a_sleeper_finds_a_mark_without_waiters_when_its_recheck_timer_expires() {
    let seen = DROPS_WAITERS.holds(|world| {
        let (lock, waiters) = a_holder_dies(world);
        world.expire_recheck_timers();
        join_all(waiters);
        lock.is_at_rest(world);
        assert_eq!(lock.uses(), 4);
    });
    assert_eq!(seen.reported_deaths.get(), seen.runs.get());
    assert!(seen.sleeps.get() > 0);
}

/// Four threads, one preemption. With the kernel's mark, no recheck timer must end.
#[test]
fn a_mark_with_waiters_strands_no_sleeper() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let (_lock, waiters) = a_holder_dies(world);
        join_all(waiters);
    });
    assert!(seen.sleeps.get() > 0);
}
