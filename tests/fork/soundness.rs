//! Programs without `unsafe` code that try to obtain two `&mut` references to one value, a lock
//! that no thread can acquire any more, or a reference to unmapped memory.
#![forbid(unsafe_code)]

use crate::support::{
    Outcome, Stage, child, create, gettid, kill, open, outcome_of, outcome_of_try_lock, passes,
    repaired, state, until,
};
use pshared::{
    Cause, LockError, MappedSharedMutexGuard, Shared, SharedMutex, SharedMutexGuard, ShmSafe, fork,
};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::Duration;

crate::tests!(
    a_leaked_guard_of_an_ended_thread_gives_no_second_reference,
    a_leaked_part_of_the_data_of_an_ended_thread_gives_no_second_reference,
    a_leaked_error_of_an_ended_thread_gives_no_second_reference,
    a_lock_whose_guard_was_leaked_before_it_was_placed_is_free,
    a_lock_whose_guard_was_leaked_can_be_moved_and_is_still_one_lock,
    in_process_locks_can_be_swapped_while_their_guards_are_leaked,
    guards_can_be_swapped_and_dropped_in_any_order,
    data_swapped_between_two_locks_stays_with_its_locks,
    guards_dropped_in_any_order_leave_the_list_intact,
    a_leaked_guard_keeps_the_memory_mapped,
    a_leaked_guard_of_an_element_keeps_the_memory_mapped,
    a_lock_that_is_held_through_one_map_does_not_keep_another_map,
    a_map_with_a_leaked_guard_is_unmapped_after_its_thread_has_ended,
    the_memory_of_an_ended_threads_lock_can_be_unmapped,
    two_maps_of_one_file_are_one_lock,
    a_leaked_guard_of_one_map_holds_the_lock_in_the_other,
    a_guard_taken_by_one_map_outlives_the_other,
    threads_that_leak_guards_and_end_break_nothing,
    a_lock_can_be_used_by_a_destructor_of_thread_local_storage,
    a_panic_anywhere_in_a_critical_section_releases_the_lock,
    a_value_dropped_in_the_child_stays_valid_in_the_parent,
    a_leaked_guard_of_the_parent_is_not_held_by_the_child,
    a_child_that_returns_with_a_leaked_guard_is_reported_as_dead,
    an_error_propagated_by_a_question_mark_releases_the_lock,
    formatting_a_lock_neither_waits_nor_consumes_the_report,
);

type Lock = SharedMutex<u64>;

fn placed() -> &'static Lock {
    Shared::anonymous(Lock::new(0)).unwrap().leak()
}

/// Calls `hold` in a thread, which leaks a guard, and waits until the thread has ended. Returns the
/// leaked reference to the data.
fn leaked_by_a_thread(
    hold: impl FnOnce() -> &'static mut u64 + Send + 'static,
) -> &'static mut u64 {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let id = gettid();
        sender.send(hold()).unwrap();
        id
    });
    let ended = thread.join().unwrap();
    until(|| state(ended).is_none());
    receiver.recv().unwrap()
}

/// Checks that no call in any process acquires the data while `first` may be used.
fn is_the_only_one(lock: &'static Lock, first: &mut u64) {
    let refuses = || {
        assert_eq!(outcome_of_try_lock(lock), Outcome::HolderThreadEnded);
        assert_eq!(outcome_of(lock.lock()), Outcome::HolderThreadEnded);
        assert_eq!(
            outcome_of(lock.lock_timeout(Duration::from_secs(60))),
            Outcome::HolderThreadEnded
        );
        let _ = format!("{lock:?}");
        lock.clear_poison();
    };
    *first = 1;
    refuses();
    thread::scope(|scope| scope.spawn(refuses).join().unwrap());
    // A child would have a copy of the reference.
    match fork::spawn(refuses) {
        Ok(child) => passes(&child),
        Err(refusal) => println!("{refusal}"),
    }
    refuses();
    *first += 1;
    assert_eq!(*first, 2);
}

fn a_leaked_guard_of_an_ended_thread_gives_no_second_reference() {
    let lock = placed();
    let first = leaked_by_a_thread(|| &mut **Box::leak(Box::new(lock.lock().unwrap())));
    is_the_only_one(lock, first);
}

fn a_leaked_part_of_the_data_of_an_ended_thread_gives_no_second_reference() {
    let lock = placed();
    let first = leaked_by_a_thread(|| {
        let mut part = None;
        let guard = SharedMutexGuard::map(lock.lock().unwrap(), |data| data);
        let guard: &'static mut MappedSharedMutexGuard<'static, u64> = Box::leak(Box::new(guard));
        part.replace(&mut **guard);
        part.unwrap()
    });
    is_the_only_one(lock, first);
}

fn a_leaked_error_of_an_ended_thread_gives_no_second_reference() {
    let lock = placed();
    let dies = child(|| {
        let _guard = lock.lock().unwrap();
        std::process::exit(0);
    });
    dies.wait().unwrap();
    let mut replacement = 0;
    let first = leaked_by_a_thread(move || {
        // The error reports the death and contains the guard. It is leaked while the lock is held,
        // and then the thread ends.
        mem::forget(lock.lock());
        replacement += 1;
        Box::leak(Box::new(replacement))
    });
    is_the_only_one(lock, first);
}

fn a_lock_whose_guard_was_leaked_before_it_was_placed_is_free() {
    let lock = Lock::new(3);
    mem::forget(lock.lock().unwrap());
    assert_eq!(outcome_of(lock.lock()), Outcome::Deadlock);
    let placed = Shared::anonymous(lock).unwrap();
    assert_eq!(*placed.lock().unwrap(), 3);
    passes(&child(|| *placed.lock().unwrap() += 1));
    assert_eq!(*placed.lock().unwrap(), 4);
    // The thread that leaked the guard may have ended, and other threads may have waited for the
    // lock.
    let lock = Lock::new(5);
    thread::scope(|scope| {
        scope
            .spawn(|| mem::forget(lock.lock().unwrap()))
            .join()
            .unwrap();
        scope
            .spawn(|| assert_ne!(outcome_of(lock.lock()), Outcome::Unpoisoned))
            .join()
            .unwrap();
    });
    let placed = Shared::memfd("moved", lock).unwrap();
    assert_eq!(*repaired(placed.lock(), 5), 5);
    assert_eq!(outcome_of(placed.lock()), Outcome::Unpoisoned);
}

fn a_lock_whose_guard_was_leaked_can_be_moved_and_is_still_one_lock() {
    let stage = Stage::anonymous();
    passes(&child(|| drop(stage.lock.lock().unwrap())));
    let dies = stage.holder();
    let mut locks = Vec::new();
    for number in 0..100 {
        let lock = Lock::new(number);
        mem::forget(lock.lock().unwrap());
        locks.push(lock); // moves the lock; later the vector moves all of them
    }
    for lock in &locks {
        assert_eq!(outcome_of(lock.lock()), Outcome::Deadlock);
        assert_eq!(outcome_of(lock.try_lock()), Outcome::WouldBlock);
    }
    // The locks are still held, so a child would have copies that are never released.
    assert!(matches!(fork::spawn(|| ()), Err(fork::Error::LockHeld)));
    // The moved locks are on no robust list. A child that holds another lock is killed, and that
    // lock is acquired and released.
    kill(&dies);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
    for (number, lock) in locks.into_iter().enumerate() {
        assert_eq!(lock.into_inner().unwrap(), number as u64);
    }
}

fn in_process_locks_can_be_swapped_while_their_guards_are_leaked() {
    let (mut one, mut other) = (Lock::new(1), Lock::new(2));
    mem::forget(one.lock().unwrap());
    mem::swap(&mut one, &mut other);
    assert_eq!(*one.lock().unwrap(), 2);
    assert_eq!(outcome_of(other.lock()), Outcome::Deadlock);
    let freed = mem::replace(&mut other, Lock::new(3));
    assert_eq!(outcome_of(other.lock()), Outcome::Unpoisoned);
    let (one, freed) = (
        Shared::anonymous(one).unwrap(),
        Shared::anonymous(freed).unwrap(),
    );
    assert_eq!((*one.lock().unwrap(), *freed.lock().unwrap()), (2, 1));
}

fn guards_can_be_swapped_and_dropped_in_any_order() {
    let (one, other) = (placed(), placed());
    for swapped_first in [true, false] {
        let mut first = one.lock().unwrap();
        let mut second = other.lock().unwrap();
        mem::swap(&mut first, &mut second);
        *first = 20;
        *second = 10;
        if swapped_first {
            drop(first);
            assert_eq!(outcome_of(other.try_lock()), Outcome::Unpoisoned);
            assert_eq!(outcome_of(one.try_lock()), Outcome::WouldBlock);
            drop(second);
        } else {
            drop(second);
            assert_eq!(outcome_of(one.try_lock()), Outcome::Unpoisoned);
            assert_eq!(outcome_of(other.try_lock()), Outcome::WouldBlock);
            drop(first);
        }
        assert_eq!((*one.lock().unwrap(), *other.lock().unwrap()), (10, 20));
    }
}

fn data_swapped_between_two_locks_stays_with_its_locks() {
    let (one, other) = (placed(), placed());
    *one.lock().unwrap() = 1;
    mem::swap(&mut *one.lock().unwrap(), &mut *other.lock().unwrap());
    assert_eq!((*one.lock().unwrap(), *other.lock().unwrap()), (0, 1));
    // Two placed values can be swapped as well, because only their handles change places.
    let mut left = Shared::anonymous(Lock::new(1)).unwrap();
    let mut right = Shared::anonymous(Lock::new(2)).unwrap();
    mem::forget(left.lock().unwrap());
    mem::swap(&mut left, &mut right);
    assert_eq!(*left.lock().unwrap(), 2);
    assert_eq!(outcome_of(right.lock()), Outcome::Deadlock);
}

fn guards_dropped_in_any_order_leave_the_list_intact() {
    const LOCKS: usize = 64;
    let locks = Shared::<[Lock]>::anonymous_from_fn(LOCKS, |_| Lock::new(0)).unwrap();
    let stage = Stage::anonymous();
    for seed in 0..20 {
        stage.ready.reset();
        let dies = child(|| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut guards: Vec<_> = locks.iter().map(|_| None).collect();
            for _ in 0..2_000 {
                let number = random.usize(..LOCKS);
                guards[number] = match guards[number].take() {
                    None => Some(repaired(locks[number].lock(), 0)),
                    Some(_) => None,
                };
            }
            for (number, lock) in locks.iter().enumerate() {
                let outcome = outcome_of(lock.try_lock());
                assert_eq!(
                    outcome == Outcome::WouldBlock,
                    guards[number].is_some(),
                    "lock {number}"
                );
            }
            guards.truncate(LOCKS / 2);
            // The child ends while it holds those locks of the first half that it has at this
            // point.
            guards.retain(Option::is_some);
            stage
                .thread
                .store(guards.len() as u32, std::sync::atomic::Ordering::SeqCst);
            mem::forget(guards);
        });
        passes(&dies);
        let reports = locks
            .iter()
            .filter(|lock| outcome_of(lock.try_lock()) == Outcome::FreshDeath)
            .count();
        assert_eq!(
            reports,
            stage.thread.load(std::sync::atomic::Ordering::SeqCst) as usize
        );
        locks.iter().for_each(|lock| drop(repaired(lock.lock(), 0)));
    }
}

/// Returns the number of maps of the process that have `name` in their names.
fn maps_of(name: &str) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(name)).count()
}

fn a_leaked_guard_keeps_the_memory_mapped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leaked");
    drop(create(&path, Lock::new(0)));
    let observer = open::<Lock>(&path);
    let dies = child(|| {
        // Includes the map of the parent, which was made before the fork.
        let before = maps_of("leaked");
        let own = open::<Lock>(&path);
        let other = open::<Lock>(&path);
        mem::forget(own.lock().unwrap());
        drop(own);
        assert_eq!(maps_of("leaked"), before + 2);
        drop(other);
        // No other memory is mapped at an address that the kernel reads when the process ends.
        let more: Vec<_> = (0..100)
            .map(|number| Shared::anonymous(Lock::new(number)).unwrap())
            .collect();
        for lock in &more {
            mem::forget(lock.lock().unwrap());
        }
    });
    passes(&dies);
    assert_eq!(outcome_of(observer.lock()), Outcome::FreshDeath);
    // Without a leaked guard, a drop unmaps the memory.
    let before = maps_of("leaked");
    drop(observer);
    assert_eq!(maps_of("leaked"), before - 1);
}

/// Returns how many descriptors the process has open.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Opens and drops more maps of a file, and checks that none of them stays.
fn opens_and_drops_more_maps<T: ShmSafe>(path: &Path) {
    let before = (maps_of("in use"), descriptors());
    for _ in 0..50 {
        drop(open::<T>(path));
    }
    assert_eq!((maps_of("in use"), descriptors()), before);
}

fn a_lock_that_is_held_through_one_map_does_not_keep_another_map() {
    type Both = [Lock; 2];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("in use");
    let first = create::<Both>(&path, [Lock::new(0), Lock::new(0)]);
    {
        // In `list_op_pending`, and in the list.
        let _guard = first[0].lock().unwrap();
        opens_and_drops_more_maps::<Both>(&path);
        let _second = first[1].lock().unwrap();
        opens_and_drops_more_maps::<Both>(&path);
    }
    // The lock of another thread, which also acquires and releases other locks meanwhile.
    let over = AtomicBool::new(false);
    let held = Barrier::new(2);
    let busy = Shared::anonymous([const { Lock::new(0) }; 30]).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _guard = first[0].lock().unwrap();
            held.wait();
            while !over.load(Relaxed) {
                let mut guards = busy.each_ref().map(|lock| Some(lock.lock().unwrap()));
                guards.iter_mut().step_by(3).for_each(|guard| *guard = None);
            }
        });
        held.wait();
        let checked = catch_unwind(AssertUnwindSafe(|| {
            opens_and_drops_more_maps::<Both>(&path);
        }));
        over.store(true, Relaxed);
        checked.unwrap();
    });
}

fn a_map_with_a_leaked_guard_is_unmapped_after_its_thread_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("in use");
    let first = create(&path, Lock::new(0));
    let before = (maps_of("in use"), descriptors());
    let step = Barrier::new(2);
    thread::scope(|scope| {
        let leaks = scope.spawn(|| {
            let own = open::<Lock>(&path);
            mem::forget(own.lock().unwrap());
            step.wait();
            step.wait();
            drop(own);
            // The kernel still has to mark the lock at this address.
            assert_eq!(maps_of("in use"), before.0 + 1);
            gettid()
        });
        step.wait();
        // The guard was leaked through the other map.
        let third = open::<Lock>(&path);
        drop(third);
        assert_eq!(maps_of("in use"), before.0 + 1);
        step.wait();
        let ended = leaks.join().unwrap();
        until(|| state(ended).is_none());
    });
    drop(open::<Lock>(&path));
    assert_eq!((maps_of("in use"), descriptors()), before);
    assert_eq!(outcome_of(first.try_lock()), Outcome::HolderThreadEnded);
}

fn a_leaked_guard_of_an_element_keeps_the_memory_mapped() {
    let dies = child(|| {
        let locks = Shared::<[Lock]>::anonymous_from_fn(1_000, |_| Lock::new(0)).unwrap();
        let address: *const Lock = &raw const locks[777];
        mem::forget(locks[777].lock().unwrap());
        drop(locks);
        let mapped = std::fs::read_to_string("/proc/self/maps").unwrap();
        let holds = mapped.lines().any(|line| {
            let (start, end) = line
                .split_whitespace()
                .next()
                .unwrap()
                .split_once('-')
                .unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            (number(start)..number(end)).contains(&address.addr())
        });
        assert!(holds);
    });
    passes(&dies);
}

fn the_memory_of_an_ended_threads_lock_can_be_unmapped() {
    let memory = Shared::memfd("ended thread", Lock::new(0)).unwrap();
    thread::scope(|scope| {
        scope
            .spawn(|| mem::forget(memory.lock().unwrap()))
            .join()
            .unwrap()
    });
    assert_eq!(outcome_of(memory.lock()), Outcome::HolderThreadEnded);
    drop(memory);
    // Whether the memory was unmapped or not, no memory that is gone is accessed.
    let locks: Vec<_> = (0..50)
        .map(|_| Shared::anonymous(Lock::new(0)).unwrap())
        .collect();
    for lock in &locks {
        thread::scope(|scope| {
            scope
                .spawn(|| assert_eq!(outcome_of(lock.lock()), Outcome::Unpoisoned))
                .join()
                .unwrap()
        });
    }
}

fn two_maps_of_one_file_are_one_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("two maps");
    let (one, other) = (create(&path, Lock::new(0)), open::<Lock>(&path));
    for (held, tried) in [(&one, &other), (&other, &one)] {
        let mut guard = held.lock().unwrap();
        assert_eq!(outcome_of(tried.try_lock()), Outcome::WouldBlock);
        assert_eq!(outcome_of(tried.lock()), Outcome::Deadlock);
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(outcome_of(tried.try_lock()), Outcome::WouldBlock));
        });
        *guard += 1;
        drop(guard);
        assert_eq!(outcome_of(tried.lock()), Outcome::Unpoisoned);
    }
    thread::scope(|scope| {
        for map in [&one, &other, &one, &other] {
            scope.spawn(|| (0..10_000).for_each(|_| *map.lock().unwrap() += 1));
        }
    });
    assert_eq!(*one.lock().unwrap(), 40_002);
    passes(&child(|| {
        assert_eq!(*open::<Lock>(&path).lock().unwrap(), 40_002)
    }));
}

fn a_leaked_guard_of_one_map_holds_the_lock_in_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("two maps");
    let observer = create(&path, Lock::new(0));
    let stage = Stage::anonymous();
    let dies = child(|| {
        let (one, other) = (open::<Lock>(&path), open::<Lock>(&path));
        mem::forget(one.lock().unwrap());
        drop(one);
        assert_eq!(outcome_of(other.lock()), Outcome::Deadlock);
        drop(other);
        assert_eq!(outcome_of(open::<Lock>(&path).lock()), Outcome::Deadlock);
        // Another thread tries the lock too, and then ends.
        let again = open::<Lock>(&path);
        thread::scope(|scope| {
            scope
                .spawn(|| assert_eq!(outcome_of(again.try_lock()), Outcome::WouldBlock))
                .join()
                .unwrap();
        });
        stage.ready.set();
        stage.over.wait();
    });
    stage.meet(&dies);
    assert_eq!(outcome_of(observer.try_lock()), Outcome::WouldBlock);
    kill(&dies);
    assert_eq!(outcome_of(observer.lock()), Outcome::FreshDeath);
}

fn a_guard_taken_by_one_map_outlives_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("two maps");
    let (one, other) = (
        create(&path, [const { Lock::new(0) }; 2]),
        open::<[Lock; 2]>(&path),
    );
    // The locks of both maps are on one robust list as neighbours. Then one map is dropped.
    let first = one[0].lock().unwrap();
    let second = other[1].lock().unwrap();
    drop(first);
    drop(one);
    let first = other[0].lock().unwrap();
    drop(second);
    drop(first);
    assert_eq!(outcome_of(other[0].lock()), Outcome::Unpoisoned);
    assert_eq!(outcome_of(other[1].lock()), Outcome::Unpoisoned);
}

fn threads_that_leak_guards_and_end_break_nothing() {
    const LOCKS: usize = 32;
    let stage = Stage::anonymous();
    let locks = Shared::<[Lock]>::anonymous_from_fn(LOCKS, |_| Lock::new(0)).unwrap();
    let dies = child(|| {
        let leaked: Vec<bool> = thread::scope(|scope| {
            let threads: Vec<_> = locks
                .iter()
                .enumerate()
                .map(|(number, lock)| {
                    scope.spawn(move || {
                        for _ in 0..100 {
                            *lock.lock().unwrap() += 1;
                        }
                        let leaks = number % 3 == 0;
                        if leaks {
                            mem::forget(lock.lock().unwrap());
                        }
                        leaks
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        for (number, lock) in locks
            .iter()
            .enumerate()
            .filter(|(number, _)| !leaked[*number])
        {
            assert_eq!(*lock.lock().unwrap(), 100, "lock {number}");
        }
        stage.ready.set();
        stage.over.wait();
    });
    stage.meet(&dies);
    assert_eq!(outcome_of(locks[0].lock()), Outcome::HolderThreadEnded);
    kill(&dies);
    for (number, lock) in locks.iter().enumerate() {
        let expected = if number % 3 == 0 {
            Outcome::FreshDeath
        } else {
            Outcome::Unpoisoned
        };
        assert_eq!(outcome_of(lock.lock()), expected, "lock {number}");
    }
}

fn a_lock_can_be_used_by_a_destructor_of_thread_local_storage() {
    struct Counts(&'static Lock);
    impl Drop for Counts {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    thread_local! {
        static LATE: std::cell::Cell<Option<Counts>> = const { std::cell::Cell::new(None) };
        static HELD: std::cell::Cell<Option<SharedMutexGuard<'static, u64>>> = const { std::cell::Cell::new(None) };
    }
    let (counted, held) = (placed(), placed());
    for round in 1..=20 {
        thread::spawn(|| {
            LATE.set(Some(Counts(counted)));
            // This guard is dropped when the thread's local storage is destroyed.
            HELD.set(Some(held.lock().unwrap()));
        })
        .join()
        .unwrap();
        assert_eq!(*counted.lock().unwrap(), round);
        assert_eq!(outcome_of(held.lock()), Outcome::Unpoisoned);
    }
}

fn a_panic_anywhere_in_a_critical_section_releases_the_lock() {
    let (lock, inner) = (placed(), placed());
    let panics = |section: &dyn Fn()| {
        assert!(catch_unwind(AssertUnwindSafe(section)).is_err());
        assert!(matches!(
            lock.lock(),
            Err(LockError::Poisoned(poisoned)) if poisoned.cause() == Cause::Panicked
        ));
        lock.clear_poison();
        assert_eq!(outcome_of(lock.lock()), Outcome::Unpoisoned);
    };
    let panic = || std::panic::resume_unwind(Box::new("in a section"));
    panics(&|| {
        let _guard = lock.lock().unwrap();
        panic();
    });
    // A panic in the closure that selects a part of the data.
    panics(&|| {
        let _part = SharedMutexGuard::map(lock.lock().unwrap(), |data| {
            if *data < u64::MAX {
                panic();
            }
            data
        });
    });
    // A panic while a mapped guard is held.
    panics(&|| {
        let _part = SharedMutexGuard::map(lock.lock().unwrap(), |data| data);
        panic();
    });
    // A panic while two locks are held poisons both.
    panics(&|| {
        let _guards = (inner.lock().unwrap(), lock.lock().unwrap());
        panic();
    });
    assert_eq!(outcome_of(inner.lock()), Outcome::Panic);
    inner.clear_poison();
    // A critical section that begins and ends while the thread unwinds does not poison the lock.
    struct Locks(&'static Lock);
    impl Drop for Locks {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    panics(&|| {
        let _locks = Locks(inner);
        let _guard = lock.lock().unwrap();
        panic();
    });
    assert_eq!(outcome_of(inner.lock()), Outcome::Unpoisoned);
}

fn a_value_dropped_in_the_child_stays_valid_in_the_parent() {
    let mut value = Some(Shared::anonymous([const { Lock::new(1) }; 2]).unwrap());
    let guarded = Shared::anonymous(Lock::new(1)).unwrap();
    passes(&child(|| {
        mem::forget(value.as_ref().unwrap()[1].lock().unwrap());
        drop(value.take());
        drop(guarded.lock().unwrap());
    }));
    let value = value.unwrap();
    assert_eq!(*value[0].lock().unwrap(), 1);
    assert_eq!(outcome_of(value[1].lock()), Outcome::FreshDeath);
    assert_eq!(outcome_of(guarded.lock()), Outcome::Unpoisoned);
}

fn a_leaked_guard_of_the_parent_is_not_held_by_the_child() {
    let stage = Stage::anonymous();
    let parent = child(|| {
        // The lock is leaked by another thread, which has ended.
        thread::scope(|scope| {
            scope
                .spawn(|| mem::forget(stage.lock.lock().unwrap()))
                .join()
                .unwrap();
        });
        match fork::spawn(|| assert_eq!(outcome_of(stage.lock.lock()), Outcome::HolderThreadEnded))
        {
            Ok(child) => passes(&child),
            Err(refusal) => println!("{refusal}"),
        }
        stage.ready.set();
        stage.over.wait();
    });
    stage.meet(&parent);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::HolderThreadEnded);
    kill(&parent);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
}

fn a_child_that_returns_with_a_leaked_guard_is_reported_as_dead() {
    let stage = Stage::anonymous();
    passes(&child(|| mem::forget(stage.lock.lock().unwrap())));
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
    // The same holds for a child in which another thread leaked the guard.
    drop(repaired(stage.lock.lock(), 0));
    passes(&child(|| {
        thread::scope(|scope| {
            scope
                .spawn(|| mem::forget(stage.lock.lock().unwrap()))
                .join()
                .unwrap();
        });
    }));
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
}

fn an_error_propagated_by_a_question_mark_releases_the_lock() {
    let stage = Stage::anonymous();
    kill(&stage.holder());
    let passed_on = || -> Result<(), pshared::Error> {
        let _guard = stage.lock.lock()?;
        Ok(())
    };
    assert!(matches!(
        passed_on(),
        Err(pshared::Error::Poisoned { cause: Cause::Died })
    ));
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::OldDeath);
    let boxed = || -> Result<(), Box<dyn std::error::Error>> {
        let _guard = stage.lock.lock()?;
        Ok(())
    };
    assert!(boxed().is_err());
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::OldDeath);
}

fn formatting_a_lock_neither_waits_nor_consumes_the_report() {
    let stage = Stage::anonymous();
    let guard = stage.lock.lock().unwrap();
    assert!(!format!("{:?}", stage.lock).is_empty());
    thread::scope(|scope| {
        scope
            .spawn(|| assert!(!format!("{:?}", stage.lock).is_empty()))
            .join()
            .unwrap();
    });
    drop(guard);
    kill(&stage.holder());
    assert!(!format!("{:?}", stage.lock).is_empty());
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
}
