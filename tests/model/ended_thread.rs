//! A thread ends while it owns the lock, and its process lives. The data may still be in use.

use crate::lock::Lock;
use crate::model::Model;
use crate::raw::outcome::AcquireError;
use crate::raw::robust::Robust;
use crate::sys::{World, current_thread};
use std::rc::Rc;

/// The process of the thread that leaks the lock, and of another thread that still uses the data. A
/// leaked guard allows that.
const PROCESS: u32 = 9;

// The bits of the word, as the kernel defines them.
const OWNER_DIED: u32 = 1 << 30;
const WAITERS: u32 = 1 << 31;

/// Thread 2 locks and ends. The first thread then uses the data in the role of another thread of
/// that process, and ends the process. The `lockers` lock meanwhile, each in a process of its own.
pub fn a_guard_is_leaked(world: &Rc<World>, lockers: &[u32]) {
    let lock = Lock::<Robust>::place(world);
    let (here, held) = (world.clone(), lock.clone());
    world.keep_alive(PROCESS);
    let leaks = world.spawn_in(PROCESS, 2, move || held.lock(&here));
    let lockers = lockers
        .iter()
        .map(|&tid| lock.in_thread(world, tid, section_or_refusal));
    let lockers: Vec<_> = lockers.collect();
    leaks.join();
    lock.use_data();
    world.end_process(PROCESS);
    lockers.into_iter().for_each(|locker| {
        locker.join();
    });
    lock.is_at_rest(world);
}

fn section_or_refusal(world: &World, lock: &Lock) {
    match lock.wait(world) {
        Ok(()) => lock.unlock(),
        Err(refused) => assert_eq!(refused, AcquireError::HolderThreadEnded),
    }
}

/// Four threads, one preemption. Two of them lock. A locker is refused while the process lives. A
/// sleeping waiter is woken and gets a result too. A locker that comes afterwards receives the
/// death.
#[test]
fn no_thread_acquires_the_lock_while_the_holders_process_lives() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| a_guard_is_leaked(world, &[3, 4]));
    assert!(seen.refusals.get() > 0);
    assert_eq!(seen.reported_deaths.get(), seen.runs.get());
}

/// Four threads, one preemption. A locker is killed at each of its steps, also while it checks
/// whether the process of the owner lives.
#[test]
fn the_mark_survives_the_death_of_a_locker_that_checks_it() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(3, |world| a_guard_is_leaked(world, &[3, 4]));
    assert!(seen.refusals.get() > 0 && seen.reported_deaths.get() > 0);
}

/// Three threads, three preemptions. One waits and one tries while the process lives. The wait is
/// refused because the process lives. The try is refused for the same reason, or because the lock
/// is held.
#[test]
fn lockers_are_refused_until_the_process_has_ended() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let lock = Lock::<Robust>::place(world);
        let (here, held) = (world.clone(), lock.clone());
        world.keep_alive(PROCESS);
        world.spawn_in(PROCESS, 2, move || held.lock(&here)).join();
        let tries = lock.in_thread(world, 3, |world, lock| lock.try_lock(world));
        assert_eq!(lock.wait(world), Err(AcquireError::HolderThreadEnded));
        let refused = tries
            .join()
            .expect("no thread is killed")
            .expect_err("the process lives");
        assert!(matches!(
            refused,
            AcquireError::HolderThreadEnded | AcquireError::WouldBlock
        ));
        lock.use_data();
        world.end_process(PROCESS);
        lock.is_at_rest(world);
    });
    assert!(seen.refusals.get() > seen.runs.get());
    assert_eq!(seen.reported_deaths.get(), seen.runs.get());
}

/// Four threads, one preemption. The process is dying. A try returns `WouldBlock`. A waiter returns
/// `TimedOut` if its deadline passes first. A waiter without a deadline gets the lock once the
/// process is gone.
#[test]
fn no_locker_is_refused_while_the_process_is_dying() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let lock = Lock::<Robust>::place(world);
        let (here, held) = (world.clone(), lock.clone());
        world.keep_alive(PROCESS);
        world.spawn_in(PROCESS, 2, move || held.lock(&here)).join();
        world.kill(PROCESS);
        assert_eq!(lock.try_lock(world), Err(AcquireError::WouldBlock));
        let timed = lock.in_thread(world, 3, |world, lock| match lock.lock_until(world) {
            Ok(()) => lock.unlock(),
            Err(refused) => assert_eq!(refused, AcquireError::TimedOut),
        });
        let waits = lock.in_thread(world, 4, |world, lock| lock.section(world));
        world.deadline_passes();
        lock.use_data();
        world.end_process(PROCESS);
        timed.join();
        waits.join();
        lock.is_at_rest(world);
    });
    assert!(seen.timeouts.get() > 0);
    assert_eq!(seen.reported_deaths.get(), seen.runs.get());
}

/// Two threads, three preemptions. One thread locks and unlocks an in-process lock, and ends.
/// Another thread tries to lock it. The try acquires the lock, or returns `WouldBlock` while the
/// lock is held. It is not refused for the end of the owner, which had released the lock before.
#[test]
fn a_lock_released_before_its_holder_ended_is_not_refused() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    model.holds(|world| {
        let lock = Lock::<Robust>::in_process(world);
        let ends = lock.in_thread(world, 2, |world, lock| lock.section(world));
        match lock.try_lock(world) {
            Ok(()) => lock.unlock(),
            Err(refused) => assert_eq!(refused, AcquireError::WouldBlock),
        }
        ends.join();
    });
}

/// Thread 2 locks, leaks the lock and ends. Its process is that of the first thread, which asks
/// whether it still uses the data. Meanwhile a locker of another process takes the marked word, and
/// gives it back when it reads the record. A locker does so if it read the word and checked its
/// owner before an earlier death was reported.
fn a_locker_takes_the_word_for_a_moment(world: &Rc<World>, is_in_use: fn(&Robust) -> bool) -> bool {
    const FIRST: u32 = 1;
    let lock = Lock::<Robust>::place(world);
    let (here, held) = (world.clone(), lock.clone());
    world.spawn_in(FIRST, 2, move || held.lock(&here)).join();
    let takes = lock.in_thread(world, 3, |world, lock| {
        let replace = |old, new| {
            let replaced = world.replace_word(&lock.raw, old, new);
            assert!(replaced, "no other thread changes a marked word");
        };
        replace(OWNER_DIED, current_thread().tid());
        assert!(lock.raw.record().id_acquire().is_some());
        replace(current_thread().tid(), OWNER_DIED | WAITERS);
    });
    let is_in_use = is_in_use(&lock.raw);
    lock.use_data();
    takes.join();
    is_in_use
}

const LEAK: Model = Model {
    preemptions: 2,
    ..Model::PLAIN
};

/// Three threads, two preemptions. A fork asks this question: whether the process still uses the
/// data.
#[test]
fn a_process_that_uses_the_data_knows_it_while_a_locker_takes_the_word() {
    LEAK.holds(|world| {
        let is_in_use = |lock: &Robust| lock.owner_in_this_process().is_some();
        assert!(a_locker_takes_the_word_for_a_moment(world, is_in_use));
    });
}

/// The same, but the question is answered by the word and the record.
#[test]
fn the_word_does_not_show_whether_a_process_uses_the_data() {
    let message = LEAK.fails(|world| {
        let by_word = |lock: &Robust| {
            let has_owner = lock.owner_in_this_process().is_some();
            lock.is_held_by_this_process() || lock.is_marked() && has_owner
        };
        assert!(
            a_locker_takes_the_word_for_a_moment(world, by_word),
            "the process does not know that it uses the data"
        );
    });
    assert!(message.contains("does not know"), "{message}");
}
