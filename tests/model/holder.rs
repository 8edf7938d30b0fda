//! What the lock records about its owner, and what depends on that record.

use crate::lock::Lock;
use crate::model::Model;
use crate::raw::outcome::AcquireError;
use crate::raw::robust::Robust;
use crate::sys::{World, current_thread, join_all};

/// Two threads, two preemptions. Each of them locks. While the first thread owns the lock, its
/// further attempts are refused, and it keeps the lock.
#[test]
fn further_attempts_of_the_holder_are_refused_and_it_keeps_the_lock() {
    let seen = Model::PLAIN.holds(|world| {
        let lock = Lock::<Robust>::place(world);
        let other = lock.in_thread(world, 2, |world, lock| lock.section(world));
        lock.lock(world);
        assert_eq!(lock.wait(world), Err(AcquireError::Deadlock));
        assert_eq!(lock.lock_until(world), Err(AcquireError::Deadlock));
        assert_eq!(lock.try_lock(world), Err(AcquireError::WouldBlock));
        assert_eq!(lock.raw.owner(), Some(current_thread().owner()));
        assert!(lock.raw.is_held_by_this_process());
        lock.use_data();
        lock.unlock();
        other.join();
        assert_eq!(lock.raw.owner(), None);
        lock.is_at_rest(world);
        assert_eq!(lock.uses(), 4);
    });
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, two preemptions. Two of them lock, and the first thread asks meanwhile which
/// thread holds the lock.
#[test]
fn the_reported_holder_is_a_thread_that_locked() {
    Model::PLAIN.holds(|world| {
        let lock = Lock::<Robust>::place(world);
        let lockers = [2, 3].map(|tid| {
            lock.in_thread(world, tid, |world, lock| {
                lock.section(world);
                current_thread().id()
            })
        });
        let holder = lock.raw.owner();
        assert!(!lock.raw.is_held_by_this_process());
        let lockers = lockers.map(|locker| locker.join().expect("no thread is killed"));
        assert!(holder.is_none_or(|holder| lockers.contains(&holder.id)));
    });
}

/// Two threads, two preemptions. One thread dies unmarked while it owns the lock, or releases the
/// lock before. The other thread then resets the lock, which no thread uses any more.
#[test]
fn a_reset_lock_is_free_and_a_death_is_reported() {
    for held in [false, true] {
        let model = Model {
            kernel_marks: false,
            ..Model::PLAIN
        };
        let seen = model.holds(move |world| {
            let lock = Lock::<Robust>::place(world);
            let ends = lock.in_thread(world, 2, move |world, lock| {
                lock.lock(world);
                if !held {
                    lock.unlock();
                }
            });
            ends.join();
            // SAFETY: the only other thread has ended.
            unsafe { lock.raw.reset() };
            lock.is_at_rest(world);
        });
        assert_eq!(
            seen.reported_deaths.get(),
            if held { seen.runs.get() } else { 0 }
        );
    }
}

/// Two threads, two preemptions. One thread calls `exec` while it owns the lock, which the kernel
/// marks or not. The thread then locks again. It receives the death of the old owner, and does not
/// take the lock for its own.
#[test]
fn a_process_image_does_not_own_the_locks_of_the_previous_one() {
    for kernel_marks in [true, false] {
        let model = Model {
            kernel_marks,
            ..Model::PLAIN
        };
        let seen = model.holds(|world| {
            let lock = Lock::<Robust>::place(world);
            let changes = lock.in_thread(world, 2, |world, lock| {
                lock.lock(world);
                world.exec();
                world.expire_recheck_timers();
                lock.section(world);
            });
            changes.join();
            lock.is_at_rest(world);
            assert_eq!(lock.uses(), 3);
        });
        assert_eq!(seen.reported_deaths.get(), seen.runs.get());
    }
}

/// Reads the data as `Debug` does.
fn read_if_released(world: &World, lock: &Lock) {
    if lock.raw.is_marked() || lock.raw.owner().is_some() {
        return;
    }
    match lock.lock_released(world) {
        Ok(()) => lock.unlock(),
        Err(refused) => assert_eq!(refused, AcquireError::WouldBlock),
    }
}

/// Three threads, one preemption. Two of them lock, and one of these is killed at each of its
/// steps. The first thread reads the data meanwhile, and leaves the report of the death to the
/// other locker.
#[test]
fn a_read_leaves_the_report_of_a_death_to_the_next_locker() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| {
        let lock = Lock::<Robust>::place(world);
        let lockers =
            [2, 3].map(|tid| lock.in_thread(world, tid, |world, lock| lock.section(world)));
        read_if_released(world, &lock);
        join_all(lockers);
        lock.is_at_rest(world);
    });
    assert!(seen.reported_deaths.get() > 0 && seen.sleeps.get() > 0);
}

/// Two threads, three preemptions. One ends unmarked while it owns the lock. The first thread reads
/// the data before, during and after that. The death is reported to the next locker.
#[test]
fn a_read_leaves_the_report_of_an_unmarked_death_to_the_next_locker() {
    let model = Model {
        preemptions: 3,
        kernel_marks: false,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let lock = Lock::<Robust>::place(world);
        let dies = lock.in_thread(world, 2, |world, lock| lock.lock(world));
        read_if_released(world, &lock);
        dies.join();
        read_if_released(world, &lock);
        lock.is_at_rest(world);
    });
    assert_eq!(seen.reported_deaths.get(), seen.runs.get());
}
