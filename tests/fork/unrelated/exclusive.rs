//! The only user of a file resets what appears to be held in it, and no other user does.

use super::{
    Lock, bytes_at, create, create_and_close, is_unused, open, open_lock, open_or_create, place,
    pretend_held,
};
use crate::steps::Signal;
use crate::support::{Outcome, child, kill, outcome_of, passes, sleeps, until};
use pshared::{
    LockError, Shared, SharedCounter, SharedEvent, SharedMutex, SharedSemaphore, ShmSafe,
};

crate::tests!(
    a_lock_of_a_long_dead_process_is_reported_to_the_first_opener,
    each_of_many_locks_held_by_killed_processes_is_reported,
    a_lock_of_a_living_user_is_not_reset_by_a_new_opener,
    the_file_stays_in_use_by_children_after_the_parent_has_dropped_it,
    a_process_stops_using_the_file_by_an_exec,
    a_lock_with_a_leaked_guard_stays_held_after_its_process_dropped_the_value,
    a_reported_death_is_not_reported_again_by_a_reset,
    a_reset_keeps_data_counts_events_and_free_permits,
    a_semaphore_whose_waiters_were_killed_serves_the_next,
    a_second_handle_in_one_process_does_not_reset_the_file,
    a_slice_is_reset_to_its_last_element,
    the_poison_of_a_panic_outlives_its_process,
);

fn a_lock_of_a_long_dead_process_is_reported_to_the_first_opener() {
    let (_directory, path) = place();
    create_and_close(&path, SharedMutex::new(5_u64));
    pretend_held(&path, 0);
    let lock = open_lock(&path);
    assert_eq!(lock.holder(), None);
    assert_eq!(outcome_of(lock.lock()), Outcome::FreshDeath);
    assert_eq!(outcome_of(lock.lock()), Outcome::OldDeath);
    let Err(LockError::Poisoned(poisoned)) = lock.lock() else {
        panic!("not poisoned")
    };
    assert_eq!(*poisoned.into_guard(), 5);
}

fn each_of_many_locks_held_by_killed_processes_is_reported() {
    // More than the 2,048 locks that the kernel marks for one thread.
    const LOCKS: usize = 3_000;
    type Locks = [SharedMutex<u32>; LOCKS];
    let (_directory, path) = place();
    let held = Signal::new();
    let hold = |from: usize| {
        let locks = open_or_create(&path, || -> Locks {
            [const { SharedMutex::new(0) }; LOCKS]
        })
        .unwrap();
        for lock in locks.iter().skip(from).step_by(4) {
            let mut guard = lock.lock().unwrap();
            *guard = 1;
            std::mem::forget(guard);
        }
        // The second process holds the other three quarters of the locks, acquired in another
        // order.
        if from == 3 {
            for lock in locks.iter().rev() {
                if let Ok(guard) = lock.try_lock() {
                    std::mem::forget(guard);
                }
            }
        }
        held.give();
        loop {
            nix::unistd::pause();
        }
    };
    let holders: Vec<_> = [0, 3]
        .into_iter()
        .map(|from| {
            let holder = child(|| hold(from));
            held.wait();
            holder
        })
        .collect();
    holders.iter().for_each(|holder| holder.kill().unwrap());
    holders.iter().for_each(kill);
    assert!(is_unused(&path));
    let locks = open::<Locks>(&path).unwrap();
    for (index, lock) in locks.iter().enumerate() {
        assert_eq!(outcome_of(lock.lock()), Outcome::FreshDeath, "lock {index}");
        assert_eq!(outcome_of(lock.lock()), Outcome::OldDeath, "lock {index}");
    }
}

fn a_lock_of_a_living_user_is_not_reset_by_a_new_opener() {
    let (_directory, path) = place();
    create_and_close(&path, SharedMutex::new(0_u64));
    let (held, over) = (Signal::new(), Signal::new());
    let holder = child(|| {
        let lock = open_lock(&path);
        let _guard = lock.lock().unwrap();
        held.give();
        over.wait();
    });
    held.wait();
    for _ in 0..3 {
        let lock = open_lock(&path);
        assert_eq!(lock.holder().unwrap().process, holder.id());
        assert_eq!(outcome_of(lock.try_lock()), Outcome::WouldBlock);
    }
    over.give();
    passes(&holder);
    assert_eq!(outcome_of(open_lock(&path).lock()), Outcome::Unpoisoned);
}

fn the_file_stays_in_use_by_children_after_the_parent_has_dropped_it() {
    let (_directory, path) = place();
    let lock = create(&path, SharedMutex::new(0_u64)).unwrap();
    let (held, over) = (Signal::new(), Signal::new());
    let holder = child(|| {
        let _guard = lock.lock().unwrap();
        held.give();
        over.wait();
    });
    held.wait();
    drop(lock);
    assert!(!is_unused(&path));
    let lock = open_lock(&path);
    assert_eq!(lock.holder().unwrap().process, holder.id());
    assert_eq!(outcome_of(lock.try_lock()), Outcome::WouldBlock);
    drop(lock);
    over.give();
    passes(&holder);
    assert!(is_unused(&path));
    assert_eq!(outcome_of(open_lock(&path).lock()), Outcome::Unpoisoned);
}

fn a_process_stops_using_the_file_by_an_exec() {
    let (_directory, path) = place();
    create_and_close(&path, SharedMutex::new(0_u64));
    let held = Signal::new();
    let (input, output) = std::io::pipe().unwrap();
    let holder = child(|| {
        let lock = open_lock(&path);
        let _guard = lock.lock().unwrap();
        held.give();
        // Executes another program, which waits for the end of its input.
        use std::os::unix::process::CommandExt;
        panic!(
            "{}",
            std::process::Command::new("cat")
                .stdin(input.try_clone().unwrap())
                .exec()
        );
    });
    held.wait();
    let name = || std::fs::read_to_string(format!("/proc/{}/comm", holder.id())).unwrap();
    // The new program has neither the map nor the descriptor. The kernel releases them during the
    // exec.
    until(|| name() == "cat\n" && is_unused(&path));
    let lock = open_lock(&path);
    assert_eq!(outcome_of(lock.lock()), Outcome::FreshDeath);
    assert_eq!(holder.try_wait().unwrap(), None);
    drop((input, output));
    passes(&holder);
}

fn a_lock_with_a_leaked_guard_stays_held_after_its_process_dropped_the_value() {
    let (_directory, path) = place();
    create_and_close(&path, SharedMutex::new(0_u64));
    let (dropped, over) = (Signal::new(), Signal::new());
    let holder = child(|| {
        let lock = open_lock(&path);
        std::mem::forget(lock.lock().unwrap());
        drop(lock);
        dropped.give();
        over.wait();
    });
    dropped.wait();
    // The process may still use the data, so the file is still in use.
    assert!(!is_unused(&path));
    assert_eq!(outcome_of(open_lock(&path).try_lock()), Outcome::WouldBlock);
    over.give();
    passes(&holder);
    assert_eq!(outcome_of(open_lock(&path).lock()), Outcome::FreshDeath);
}

fn a_reported_death_is_not_reported_again_by_a_reset() {
    let (_directory, path) = place();
    create_and_close(&path, SharedMutex::new(0_u64));
    pretend_held(&path, 0);
    assert_eq!(outcome_of(open_lock(&path).lock()), Outcome::FreshDeath);
    // The data was not repaired, so the poison is still in the file.
    assert_eq!(outcome_of(open_lock(&path).lock()), Outcome::OldDeath);
    let lock = open_lock(&path);
    let Err(LockError::Poisoned(poisoned)) = lock.lock() else {
        panic!("not poisoned")
    };
    drop(poisoned.replace(3));
    drop(lock);
    assert_eq!(outcome_of(open_lock(&path).lock()), Outcome::Unpoisoned);
    // A mark that no process has seen yet survives any number of resets.
    pretend_held(&path, 0);
    drop(open_lock(&path));
    drop(open_lock(&path));
    assert_eq!(outcome_of(open_lock(&path).lock()), Outcome::FreshDeath);
}

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    lock: Lock,
    semaphore: SharedSemaphore,
    event: SharedEvent,
    count: SharedCounter,
    number: u32,
}

fn state() -> State {
    State {
        lock: SharedMutex::new(1),
        semaphore: SharedSemaphore::new(3),
        event: SharedEvent::new(),
        count: SharedCounter::new(4),
        number: 5,
    }
}

fn a_reset_keeps_data_counts_events_and_free_permits() {
    let (_directory, path) = place();
    let state = create(&path, state()).unwrap();
    *state.lock.lock().unwrap() += 1;
    std::mem::forget(state.semaphore.acquire().unwrap());
    state.event.set();
    state.count.add(6);
    drop(state);
    for _ in 0..3 {
        let state = open::<State>(&path).unwrap();
        assert_eq!(*state.lock.lock().unwrap(), 2);
        assert_eq!(
            (state.semaphore.value(), state.count.get(), state.number),
            (2, 10, 5)
        );
        assert!(state.event.is_set());
        assert_eq!(state.event.sequence(), 1);
        state.semaphore.wait().unwrap();
        state.semaphore.post().unwrap();
    }
}

fn a_semaphore_whose_waiters_were_killed_serves_the_next() {
    let (_directory, path) = place();
    create_and_close(&path, SharedSemaphore::new(0));
    let waiters: Vec<_> = (0..3)
        .map(|_| child(|| open::<SharedSemaphore>(&path).unwrap().wait().unwrap()))
        .collect();
    until(|| waiters.iter().all(|waiter| sleeps(waiter.id())));
    waiters.iter().for_each(kill);
    let semaphore = open::<SharedSemaphore>(&path).unwrap();
    assert_eq!(semaphore.value(), 0);
    let waiter = child(|| semaphore.wait().unwrap());
    semaphore.post().unwrap();
    passes(&waiter);
    assert_eq!(semaphore.value(), 0);
    // glibc counts its sleepers in the upper half of the first word. The dead sleepers are not
    // counted any more.
    drop(semaphore);
    drop(open::<SharedSemaphore>(&path).unwrap());
    let place = u64::from_ne_bytes(bytes_at(&path, super::VALUE_OFFSET));
    assert_eq!(bytes_at::<8>(&path, place), [0; 8]);
}

fn a_second_handle_in_one_process_does_not_reset_the_file() {
    let (_directory, path) = place();
    let ours = create(&path, SharedMutex::new(0_u64)).unwrap();
    let guard = ours.lock().unwrap();
    let again = open_lock(&path);
    assert!(matches!(again.lock(), Err(LockError::Deadlock)));
    drop(again);
    // The first user keeps its lock on the file, whatever the second one did with its own.
    assert!(!is_unused(&path));
    drop(guard);
    assert_eq!(outcome_of(ours.lock()), Outcome::Unpoisoned);
}

fn a_slice_is_reset_to_its_last_element() {
    let (_directory, path) = place();
    // SAFETY: no other process knows the directory.
    let slice: Shared<[Lock]> =
        unsafe { Shared::create_from_fn(&path, 100, |index| SharedMutex::new(index as u64)) }
            .unwrap();
    drop(slice);
    pretend_held(&path, 99 * size_of::<Lock>() as u64);
    let slice = open::<[Lock]>(&path).unwrap();
    assert_eq!(outcome_of(slice[98].lock()), Outcome::Unpoisoned);
    assert_eq!(outcome_of(slice[99].lock()), Outcome::FreshDeath);
}

fn the_poison_of_a_panic_outlives_its_process() {
    let (_directory, path) = place();
    create_and_close(&path, SharedMutex::new(0_u64));
    let panics = child(|| {
        let lock = open_lock(&path);
        let _guard = lock.lock().unwrap();
        std::panic::resume_unwind(Box::new("with the lock"));
    });
    assert_eq!(panics.wait().unwrap().code(), Some(pshared::fork::PANICKED));
    let lock = open_lock(&path);
    assert_eq!(outcome_of(lock.lock()), Outcome::Panic);
    lock.clear_poison();
    drop(lock);
    assert_eq!(outcome_of(open_lock(&path).lock()), Outcome::Unpoisoned);
}
