//! A thread holds two locks. The first one moves from `list_op_pending` into the robust list.

use crate::lock::Lock;
use crate::model::Model;
use crate::raw::robust::Robust;
use crate::sys::World;
use std::rc::Rc;

/// Thread 2 holds both locks for a while. Threads 3 and 4 lock one each.
fn two_locks(world: &Rc<World>, unlock: fn(outer: &Lock, inner: &Lock)) {
    let [outer, inner] = [(); 2].map(|()| Lock::<Robust>::place(world));
    let inner_too = inner.clone();
    let both = outer.in_thread(world, 2, move |world, outer| {
        outer.lock(world);
        inner_too.lock(world);
        unlock(outer, &inner_too);
    });
    let one = outer.in_thread(world, 3, |world, outer| outer.section(world));
    let other = inner.in_thread(world, 4, |world, inner| inner.section(world));
    both.join();
    one.join().expect("only thread 2 may be killed");
    other.join().expect("only thread 2 may be killed");
    outer.is_at_rest(world);
    inner.is_at_rest(world);
}

/// Four threads, one preemption. The thread with both locks is killed at each of its steps.
#[test]
fn a_thread_that_releases_the_inner_lock_first_is_killed() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| {
        two_locks(world, |outer, inner| {
            inner.unlock();
            outer.unlock();
        });
    });
    assert!(seen.reported_deaths.get() > 0);
}

/// The same, for a thread that releases the outer lock first. At that time `list_op_pending` names
/// the inner lock.
#[test]
fn a_thread_that_releases_the_outer_lock_first_is_killed() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| {
        two_locks(world, |outer, inner| {
            outer.unlock();
            inner.unlock();
        });
    });
    assert!(seen.reported_deaths.get() > 0);
}

/// Two threads, two preemptions. The first thread has released a lock that was in its robust list,
/// and one that was in its `list_op_pending`, and lives. The other thread acquires one of them, and
/// is killed at each of its steps. The reported death is that of the other thread, even if it died
/// before it had recorded itself.
#[test]
fn a_lock_released_from_the_list_records_no_holder() {
    for number in [0, 1] {
        let seen = Model::PLAIN.holds_if_killed(2, move |world| {
            let locks = [(); 2].map(|()| Lock::<Robust>::place(world));
            locks.iter().for_each(|lock| lock.lock(world));
            locks.iter().for_each(|lock| lock.unlock());
            assert_eq!(locks.each_ref().map(|lock| lock.raw.owner()), [None; 2]);
            let lock = &locks[number];
            lock.in_thread(world, 2, |world, lock| lock.section(world))
                .join();
            lock.is_at_rest(world);
        });
        assert!(seen.reported_deaths.get() > 0);
    }
}

/// Three threads, one preemption. Thread 2 holds a lock and tries to acquire another one. If the
/// other lock is held, thread 2 waits for it. Thread 2 is killed at each of its steps.
#[test]
fn a_thread_that_holds_one_lock_and_waits_for_another_is_killed() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| {
        let [held, wanted] = [(); 2].map(|()| Lock::<Robust>::place(world));
        let wanted_too = wanted.clone();
        let waits = held.in_thread(world, 2, move |world, held| {
            held.lock(world);
            if wanted_too.try_lock(world).is_err() {
                wanted_too.lock(world);
            }
            wanted_too.unlock();
            held.unlock();
        });
        let holds = wanted.in_thread(world, 3, |world, wanted| wanted.section(world));
        waits.join();
        holds.join().expect("only thread 2 may be killed");
        held.is_at_rest(world);
        wanted.is_at_rest(world);
    });
    assert!(seen.reported_deaths.get() > 0);
}

/// Three threads, two preemptions. Other code clears `list_op_pending` while thread 2 holds a lock.
/// Thread 2 then unlocks, locks again, and is killed at each of its steps. If the kernel cannot
/// find the lock, a waiter finds the death when its recheck timer ends.
#[test]
fn a_thread_is_killed_after_other_code_cleared_its_pending_field() {
    let model = Model {
        pending_is_shared: true,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| {
        let lock = Lock::<Robust>::place(world);
        let shares = lock.in_thread(world, 2, |world, lock| {
            lock.lock(world);
            world.clear_list_op_pending();
            lock.unlock();
            lock.section(world);
        });
        let waits = lock.in_thread(world, 3, |world, lock| lock.section(world));
        shares.join();
        world.expire_recheck_timers();
        waits.join().expect("only thread 2 may be killed");
        lock.is_at_rest(world);
    });
    assert!(seen.reported_deaths.get() > 0);
}
