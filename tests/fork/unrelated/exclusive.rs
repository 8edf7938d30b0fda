//! The only user of a file resets what appears to be held in it, and no other user does.

use super::{
    Lock, bytes_at, create, is_alone, leave, open, open_lock, open_or_create, place, pretend_held,
};
use crate::steps::Signal;
use crate::support::{Told, child, kill, passes, sleeps, told, until};
use pshared::{
    LockError, Shared, SharedCounter, SharedEvent, SharedMutex, SharedSemaphore, ShmSafe,
};

crate::tests!(
    a_lock_of_the_dead_of_another_time_is_told_as_died_to_the_first_opener,
    what_many_dead_held_when_all_were_killed_is_told_lock_by_lock,
    a_lock_of_a_living_user_is_not_reset_by_a_newcomer,
    the_file_stays_in_use_by_children_after_the_parent_has_dropped_it,
    a_process_leaves_the_file_by_an_exec,
    a_lock_that_a_process_forgot_stays_its_own_after_it_dropped_the_value,
    a_death_that_was_told_is_not_told_again_by_a_reset,
    a_reset_keeps_data_counts_news_and_free_permits,
    a_semaphore_whose_sleepers_were_killed_serves_the_next,
    two_openers_of_one_process_are_not_alone,
    a_slice_is_reset_to_its_last_element,
    the_poison_of_a_panic_outlives_its_process,
);

fn a_lock_of_the_dead_of_another_time_is_told_as_died_to_the_first_opener() {
    let (_directory, path) = place();
    leave(&path, SharedMutex::new(5_u64));
    pretend_held(&path, 0);
    let lock = open_lock(&path);
    assert_eq!(lock.holder(), None);
    assert_eq!(told(lock.lock()), Told::FreshDeath);
    assert_eq!(told(lock.lock()), Told::OldDeath);
    let Err(LockError::Poisoned(poisoned)) = lock.lock() else {
        panic!("not poisoned")
    };
    assert_eq!(*poisoned.into_guard(), 5);
}

fn what_many_dead_held_when_all_were_killed_is_told_lock_by_lock() {
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
    assert!(is_alone(&path));
    let locks = open::<Locks>(&path).unwrap();
    for (index, lock) in locks.iter().enumerate() {
        assert_eq!(told(lock.lock()), Told::FreshDeath, "lock {index}");
        assert_eq!(told(lock.lock()), Told::OldDeath, "lock {index}");
    }
}

fn a_lock_of_a_living_user_is_not_reset_by_a_newcomer() {
    let (_directory, path) = place();
    leave(&path, SharedMutex::new(0_u64));
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
        assert_eq!(told(lock.try_lock()), Told::WouldBlock);
    }
    over.give();
    passes(&holder);
    assert_eq!(told(open_lock(&path).lock()), Told::Whole);
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
    assert!(!is_alone(&path));
    let lock = open_lock(&path);
    assert_eq!(lock.holder().unwrap().process, holder.id());
    assert_eq!(told(lock.try_lock()), Told::WouldBlock);
    drop(lock);
    over.give();
    passes(&holder);
    assert!(is_alone(&path));
    assert_eq!(told(open_lock(&path).lock()), Told::Whole);
}

fn a_process_leaves_the_file_by_an_exec() {
    let (_directory, path) = place();
    leave(&path, SharedMutex::new(0_u64));
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
    until(|| name() == "cat\n" && is_alone(&path));
    let lock = open_lock(&path);
    assert_eq!(told(lock.lock()), Told::FreshDeath);
    assert_eq!(holder.try_wait().unwrap(), None);
    drop((input, output));
    passes(&holder);
}

fn a_lock_that_a_process_forgot_stays_its_own_after_it_dropped_the_value() {
    let (_directory, path) = place();
    leave(&path, SharedMutex::new(0_u64));
    let (dropped, over) = (Signal::new(), Signal::new());
    let forgetful = child(|| {
        let lock = open_lock(&path);
        std::mem::forget(lock.lock().unwrap());
        drop(lock);
        dropped.give();
        over.wait();
    });
    dropped.wait();
    // The process may still use the data, so the file is still in use.
    assert!(!is_alone(&path));
    assert_eq!(told(open_lock(&path).try_lock()), Told::WouldBlock);
    over.give();
    passes(&forgetful);
    assert_eq!(told(open_lock(&path).lock()), Told::FreshDeath);
}

fn a_death_that_was_told_is_not_told_again_by_a_reset() {
    let (_directory, path) = place();
    leave(&path, SharedMutex::new(0_u64));
    pretend_held(&path, 0);
    assert_eq!(told(open_lock(&path).lock()), Told::FreshDeath);
    // The data was not repaired, so the poison is still in the file.
    assert_eq!(told(open_lock(&path).lock()), Told::OldDeath);
    let lock = open_lock(&path);
    let Err(LockError::Poisoned(poisoned)) = lock.lock() else {
        panic!("not poisoned")
    };
    drop(poisoned.replace(3));
    drop(lock);
    assert_eq!(told(open_lock(&path).lock()), Told::Whole);
    // A mark that no process has seen yet survives any number of resets.
    pretend_held(&path, 0);
    drop(open_lock(&path));
    drop(open_lock(&path));
    assert_eq!(told(open_lock(&path).lock()), Told::FreshDeath);
}

#[derive(ShmSafe)]
#[repr(C)]
struct Board {
    lock: Lock,
    gate: SharedSemaphore,
    news: SharedEvent,
    count: SharedCounter,
    number: u32,
}

fn board() -> Board {
    Board {
        lock: SharedMutex::new(1),
        gate: SharedSemaphore::new(3),
        news: SharedEvent::new(),
        count: SharedCounter::new(4),
        number: 5,
    }
}

fn a_reset_keeps_data_counts_news_and_free_permits() {
    let (_directory, path) = place();
    let board = create(&path, board()).unwrap();
    *board.lock.lock().unwrap() += 1;
    std::mem::forget(board.gate.acquire().unwrap());
    board.news.set();
    board.count.add(6);
    drop(board);
    for _ in 0..3 {
        let board = open::<Board>(&path).unwrap();
        assert_eq!(*board.lock.lock().unwrap(), 2);
        assert_eq!(
            (board.gate.value(), board.count.get(), board.number),
            (2, 10, 5)
        );
        assert!(board.news.is_set());
        assert_eq!(board.news.sequence(), 1);
        board.gate.wait().unwrap();
        board.gate.post().unwrap();
    }
}

fn a_semaphore_whose_sleepers_were_killed_serves_the_next() {
    let (_directory, path) = place();
    leave(&path, SharedSemaphore::new(0));
    let sleepers: Vec<_> = (0..3)
        .map(|_| child(|| open::<SharedSemaphore>(&path).unwrap().wait().unwrap()))
        .collect();
    until(|| sleepers.iter().all(|sleeper| sleeps(sleeper.id())));
    sleepers.iter().for_each(kill);
    let gate = open::<SharedSemaphore>(&path).unwrap();
    assert_eq!(gate.value(), 0);
    let waiter = child(|| gate.wait().unwrap());
    gate.post().unwrap();
    passes(&waiter);
    assert_eq!(gate.value(), 0);
    // glibc counts its sleepers in the upper half of the first word. The dead sleepers are not
    // counted any more.
    drop(gate);
    drop(open::<SharedSemaphore>(&path).unwrap());
    let place = u64::from_ne_bytes(bytes_at(&path, super::VALUE_OFFSET));
    assert_eq!(bytes_at::<8>(&path, place), [0; 8]);
}

fn two_openers_of_one_process_are_not_alone() {
    let (_directory, path) = place();
    let ours = create(&path, SharedMutex::new(0_u64)).unwrap();
    let guard = ours.lock().unwrap();
    let again = open_lock(&path);
    assert!(matches!(again.lock(), Err(LockError::Deadlock)));
    drop(again);
    // The first user keeps its lock on the file, whatever the second one did with its own.
    assert!(!is_alone(&path));
    drop(guard);
    assert_eq!(told(ours.lock()), Told::Whole);
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
    assert_eq!(told(slice[98].lock()), Told::Whole);
    assert_eq!(told(slice[99].lock()), Told::FreshDeath);
}

fn the_poison_of_a_panic_outlives_its_process() {
    let (_directory, path) = place();
    leave(&path, SharedMutex::new(0_u64));
    let panics = child(|| {
        let lock = open_lock(&path);
        let _guard = lock.lock().unwrap();
        std::panic::resume_unwind(Box::new("with the lock"));
    });
    assert_eq!(panics.wait().unwrap().code(), Some(pshared::fork::PANICKED));
    let lock = open_lock(&path);
    assert_eq!(told(lock.lock()), Told::Panic);
    lock.clear_poison();
    drop(lock);
    assert_eq!(told(open_lock(&path).lock()), Told::Whole);
}
