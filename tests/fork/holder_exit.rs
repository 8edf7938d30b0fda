//! The ways in which a holder or a waiter ends, and what the other processes receive.

use crate::harness::Kills;
use crate::support::{
    Outcome, Stage, child, gettid, kill, kill_unreaped, outcome_of, outcome_of_try_lock, passes,
    repaired, sleeps_on, state, until,
};
use nix::sys::resource::{Resource, setrlimit};
use pshared::fork::Child;
use pshared::{
    Cause, LockError, Shared, SharedEvent, SharedMutex, SharedMutexGuard, ShmData, ShmSafe,
};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

crate::tests!(
    an_exec_by_the_leader_is_reported_as_a_death,
    an_exec_by_another_thread_is_reported_as_a_death_of_every_holder,
    an_exec_that_fails_is_not_reported_as_a_death,
    an_exit_inside_a_critical_section_is_reported_as_a_death,
    an_ended_holder_thread_is_reported_while_its_process_lives,
    an_ended_holder_thread_is_reported_while_its_process_spins,
    an_ended_holder_thread_is_reported_to_every_waiter,
    an_ended_holder_thread_is_reported_to_a_waiter_without_descriptors,
    an_ended_holder_thread_is_reported_when_the_leader_has_ended_too,
    a_death_is_reported_when_a_thread_other_than_the_leader_was_inside,
    lock_recovers_2100_locks_of_a_zombie,
    try_lock_recovers_2100_locks_of_a_zombie,
    lock_recovers_2100_locks_of_a_thread_of_a_killed_process,
    an_ended_holder_thread_of_2100_locks_is_reported,
    lock_recovers_2100_locks_of_a_process_after_its_exec,
    the_death_of_a_waiter_does_not_affect_others,
    the_death_of_a_woken_waiter_strands_no_other_waiter: 300 kills of "mutex, woken waiters",
    a_panic_is_reported_until_the_poison_is_cleared,
    clearing_the_poison_of_a_panic_keeps_that_of_a_death,
    a_torn_value_is_accessible_only_as_bytes_or_by_replacing_it,
    a_torn_value_of_a_killed_writer_is_never_returned_without_an_error: 60 kills of "mutex, torn values",
);

/// Replaces the process image by a program that sleeps until it is killed.
fn exec_away() -> ! {
    panic!("no exec: {}", Command::new("sleep").arg("3600").exec());
}

/// Checks that each lock reports a death at its next acquisition.
fn each_reports_a_death(locks: &[SharedMutex<u64>]) {
    for (number, lock) in locks.iter().enumerate() {
        assert_eq!(
            outcome_of(lock.lock()),
            Outcome::FreshDeath,
            "lock {number}"
        );
    }
}

/// Checks that the process lives on after its `exec`, and kills it.
fn kill_the_new_program(holder: &Child) {
    assert!(
        holder.try_wait().unwrap().is_none(),
        "its new program lives"
    );
    kill(holder);
}

/// Blocks until the process is killed.
fn stay() -> ! {
    loop {
        thread::park();
    }
}

/// The caller sleeps on the lock when its holder calls `exec`. The caller's wait reports a death
/// although the process lives on.
fn an_exec_by_the_leader_is_reported_as_a_death() {
    let stage = Stage::anonymous();
    let waiter = gettid();
    let holder = child(|| {
        let _guard = stage.lock.lock().unwrap();
        stage.ready.set();
        until(|| sleeps_on(waiter, &stage.lock));
        exec_away();
    });
    stage.meet(&holder);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::OldDeath);
    kill_the_new_program(&holder);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::OldDeath);
}

/// The locks of the thread that calls `exec`, of the leader, and of a third thread.
fn an_exec_by_another_thread_is_reported_as_a_death_of_every_holder() {
    let locks = Shared::anonymous([const { SharedMutex::new(0_u64) }; 3]).unwrap();
    let stage = Stage::anonymous();
    let waiter = gettid();
    let holder = child(|| {
        let inside = std::sync::Barrier::new(3);
        thread::scope(|scope| {
            let _leaders = locks[1].lock().unwrap();
            scope.spawn(|| {
                let _thirds = locks[2].lock().unwrap();
                inside.wait();
                stay();
            });
            scope.spawn(|| {
                let _own = locks[0].lock().unwrap();
                inside.wait();
                stage.ready.set();
                until(|| sleeps_on(waiter, &locks[0]));
                exec_away();
            });
            inside.wait();
            stay();
        })
    });
    stage.meet(&holder);
    each_reports_a_death(&locks[..]);
    kill_the_new_program(&holder);
}

fn an_exec_that_fails_is_not_reported_as_a_death() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        let guard = stage.lock.lock().unwrap();
        let _ = Command::new("/no such program").exec();
        stage.ready.set();
        stage.over.wait();
        drop(guard);
    });
    stage.meet(&holder);
    assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
    assert_eq!(
        outcome_of(stage.lock.lock_timeout(Duration::from_millis(300))),
        Outcome::TimedOut
    );
    stage.over.set();
    passes(&holder);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::Unpoisoned);
}

/// Starts a child with three threads in addition to the leader, one of which holds the lock.
fn crowd(stage: &Stage, leader: impl FnOnce()) -> Child {
    stage.ready.reset();
    let child = child(|| {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                });
            }
            scope.spawn(|| {
                let _guard = repaired(stage.lock.lock(), 0);
                stage.ready.set();
                stay();
            });
            stage.ready.wait();
            leader();
            stay();
        })
    });
    stage.meet(&child);
    child
}

fn an_exit_inside_a_critical_section_is_reported_as_a_death() {
    let stage = Stage::anonymous();
    for round in 0..12 {
        let ends = crowd(&stage, || match round % 4 {
            0 => std::process::exit(0),
            1 => pshared_exit(0),
            2 => pshared_exit(7),
            _ => std::process::abort(),
        });
        assert_eq!(
            outcome_of(stage.lock.lock()),
            Outcome::FreshDeath,
            "round {round}"
        );
        assert_eq!(
            outcome_of(stage.lock.lock()),
            Outcome::OldDeath,
            "round {round}"
        );
        ends.wait().unwrap();
    }
}

/// Calls `_exit(2)`, which skips the functions registered with `atexit`.
fn pshared_exit(code: i32) {
    // SAFETY: has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Runs a thread that leaks its guard and ends.
fn leak_in_a_thread(stage: &Stage) {
    let ended = thread::scope(|scope| {
        scope
            .spawn(|| {
                std::mem::forget(repaired(stage.lock.lock(), 0));
                gettid()
            })
            .join()
            .unwrap()
    });
    until(|| state(ended).is_none());
}

/// Checks what every locker receives while the process of the ended thread lives.
fn reports_ended_thread(stage: &Stage) {
    assert_eq!(outcome_of_try_lock(&stage.lock), Outcome::HolderThreadEnded);
    assert_eq!(
        outcome_of(stage.lock.lock_timeout(Duration::from_secs(60))),
        Outcome::HolderThreadEnded
    );
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::HolderThreadEnded);
}

fn an_ended_holder_thread_is_reported_while_its_process_lives() {
    let stage = Stage::anonymous();
    for ends_by_itself in [false, true] {
        stage.ready.reset();
        stage.over.reset();
        let holder = child(|| {
            leak_in_a_thread(&stage);
            reports_ended_thread(&stage);
            stage.ready.set();
            stage.over.wait();
        });
        stage.meet(&holder);
        reports_ended_thread(&stage);
        passes(&child(|| reports_ended_thread(&stage)));
        if ends_by_itself {
            stage.over.set();
            passes(&holder);
        } else {
            kill_unreaped(&holder);
        }
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::OldDeath);
        *repaired(stage.lock.lock(), 1) += 1;
        assert_eq!(*stage.lock.lock().unwrap(), 2);
    }
}

/// The process's last thread could be exiting at any moment. A call that does not wait reports
/// `HolderThreadEnded` only when it is certain that the process lives on. A call that waits reports
/// it.
fn an_ended_holder_thread_is_reported_while_its_process_spins() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        leak_in_a_thread(&stage);
        stage.ready.set();
        while !stage.over.is_set() {
            std::hint::spin_loop();
        }
    });
    stage.meet(&holder);
    assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
    // Another thread, which has made no check before.
    thread::scope(|scope| {
        scope.spawn(|| {
            let at_once = outcome_of(stage.lock.lock_timeout(Duration::ZERO));
            assert_eq!(at_once, Outcome::TimedOut);
        });
    });
    reports_ended_thread(&stage);
    stage.over.set();
    passes(&holder);
    assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::FreshDeath);
}

fn an_ended_holder_thread_is_reported_to_every_waiter() {
    let stage = Stage::anonymous();
    let reports = Shared::anonymous([const { AtomicU32::new(0) }; 2]).unwrap();
    let holder = child(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                std::mem::forget(stage.lock.lock().unwrap());
                stage.ready.set();
                stage.over.wait();
            });
        });
        stay();
    });
    stage.meet(&holder);
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            child(|| {
                assert_eq!(outcome_of(stage.lock.lock()), Outcome::HolderThreadEnded);
                reports[0].fetch_add(1, SeqCst);
                // Retries until the process is gone. One of the waiters receives the first report
                // of its death.
                loop {
                    match outcome_of(stage.lock.lock()) {
                        Outcome::HolderThreadEnded => {}
                        Outcome::FreshDeath => {
                            reports[1].fetch_add(1, SeqCst);
                            break;
                        }
                        Outcome::OldDeath => break,
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    until(|| {
        waiters
            .iter()
            .all(|waiter| sleeps_on(waiter.id(), &stage.lock))
    });
    stage.over.set();
    until(|| reports[0].load(SeqCst) == 3);
    kill(&holder);
    waiters.iter().for_each(passes);
    assert_eq!(reports[1].load(SeqCst), 1);
}

fn an_ended_holder_thread_is_reported_to_a_waiter_without_descriptors() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        leak_in_a_thread(&stage);
        stage.ready.set();
        stage.over.wait();
    });
    stage.meet(&holder);
    passes(&child(|| {
        setrlimit(Resource::RLIMIT_NOFILE, 0, 0).unwrap();
        reports_ended_thread(&stage);
    }));
    stage.over.set();
    passes(&holder);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
}

fn an_ended_holder_thread_is_reported_when_the_leader_has_ended_too() {
    let stage = Stage::anonymous();
    for code in [0, 1] {
        stage.ready.reset();
        stage.over.reset();
        let holder = child(|| {
            let leader = gettid();
            thread::scope(|scope| {
                scope.spawn(|| {
                    leak_in_a_thread(&stage);
                    until(|| state(leader) == Some('Z'));
                    stage.ready.set();
                    stage.over.wait();
                    pshared_exit(0);
                });
                // SAFETY: ends this thread only; its stack stays mapped for the other thread.
                unsafe { libc::syscall(libc::SYS_exit, code) };
            });
        });
        stage.meet(&holder);
        reports_ended_thread(&stage);
        stage.over.set();
        passes(&holder);
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
    }
}

fn a_death_is_reported_when_a_thread_other_than_the_leader_was_inside() {
    let stage = Stage::anonymous();
    for round in 0..60 {
        let waiter = child(|| assert_eq!(outcome_of(stage.lock.lock()), Outcome::Unpoisoned));
        passes(&waiter);
        let holder = crowd(&stage, || ());
        let waiter = child(|| {
            assert_eq!(
                outcome_of(stage.lock.lock()),
                Outcome::FreshDeath,
                "round {round}"
            );
            drop(repaired(stage.lock.lock(), 0));
        });
        if round % 2 == 0 {
            until(|| sleeps_on(waiter.id(), &stage.lock));
        }
        kill(&holder);
        passes(&waiter);
    }
}

const MANY: usize = 2_100;

/// Creates `MANY` locks, and a child that acquires all of them in `run` and stays.
fn many_held(run: impl FnOnce(&dyn Fn())) -> (Shared<[SharedMutex<u64>]>, Child) {
    let locks = Shared::<[_]>::anonymous_from_fn(MANY, |_| SharedMutex::new(0_u64)).unwrap();
    let ready = Shared::anonymous(SharedEvent::new()).unwrap();
    let holder = child(|| {
        run(&|| {
            for lock in locks.iter() {
                std::mem::forget(lock.lock().unwrap());
            }
        });
        ready.set();
        stay();
    });
    ready.wait();
    (locks, holder)
}

fn lock_recovers_2100_locks_of_a_zombie() {
    let (locks, holder) = many_held(|hold| hold());
    kill_unreaped(&holder);
    each_reports_a_death(&locks[..]);
    holder.wait().unwrap();
    for (number, lock) in locks.iter().enumerate() {
        *repaired(lock.lock(), 1) += 1;
        assert_eq!(*lock.lock().unwrap(), 2, "lock {number}");
    }
}

fn try_lock_recovers_2100_locks_of_a_zombie() {
    let (locks, holder) = many_held(|hold| hold());
    kill_unreaped(&holder);
    for (number, lock) in locks.iter().enumerate().rev() {
        assert_eq!(
            outcome_of(lock.try_lock()),
            Outcome::FreshDeath,
            "lock {number}"
        );
        assert_eq!(
            outcome_of(lock.try_lock()),
            Outcome::OldDeath,
            "lock {number}"
        );
    }
    holder.wait().unwrap();
}

fn lock_recovers_2100_locks_of_a_thread_of_a_killed_process() {
    let locks = Shared::<[_]>::anonymous_from_fn(MANY, |_| SharedMutex::new(0_u64)).unwrap();
    let ready = Shared::anonymous(SharedEvent::new()).unwrap();
    let holder = child(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                let _guards: Vec<_> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
                ready.set();
                stay();
            });
        });
    });
    ready.wait();
    kill(&holder);
    each_reports_a_death(&locks[..]);
}

fn an_ended_holder_thread_of_2100_locks_is_reported() {
    let (locks, holder) = many_held(|hold| {
        let hold = hold_in_a_thread(hold);
        let thread = || {
            hold();
            gettid()
        };
        let ended = thread::scope(|scope| scope.spawn(thread).join().unwrap());
        until(|| state(ended).is_none());
    });
    // The kernel has marked the newest locks; the liveness check finds the others. Each check takes
    // time, so only some locks are tested.
    for number in [0, 1, MANY / 2, MANY - 2, MANY - 1] {
        assert_eq!(
            outcome_of_try_lock(&locks[number]),
            Outcome::HolderThreadEnded,
            "lock {number}"
        );
        assert_eq!(
            outcome_of(locks[number].lock()),
            Outcome::HolderThreadEnded,
            "lock {number}"
        );
    }
    kill(&holder);
    for (number, lock) in locks.iter().enumerate() {
        assert_eq!(
            outcome_of(lock.try_lock()),
            Outcome::FreshDeath,
            "lock {number}"
        );
    }
}

fn lock_recovers_2100_locks_of_a_process_after_its_exec() {
    let locks = Shared::<[_]>::anonymous_from_fn(MANY, |_| SharedMutex::new(0_u64)).unwrap();
    let stage = Stage::anonymous();
    let holder = child(|| {
        for lock in locks.iter() {
            std::mem::forget(lock.lock().unwrap());
        }
        let _last = stage.lock.lock().unwrap();
        stage.ready.set();
        exec_away();
    });
    stage.meet(&holder);
    // The kernel has marked the newest locks at the exec. The process and its thread live on.
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
    each_reports_a_death(&locks[..]);
    kill_the_new_program(&holder);
}

/// Makes the closure usable in a thread that ends before the caller continues.
fn hold_in_a_thread<'a>(hold: &'a dyn Fn()) -> impl FnOnce() + Send + 'a {
    struct Lent<'a>(&'a dyn Fn());
    // SAFETY: the closure borrows only a slice of mutexes, which is `Sync`.
    unsafe impl Send for Lent<'_> {}
    let lent = Lent(hold);
    move || {
        let lent = lent;
        (lent.0)();
    }
}

fn the_death_of_a_waiter_does_not_affect_others() {
    let stage = Stage::anonymous();
    let holder = stage.holder();
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            child(|| {
                *stage.lock.lock().unwrap() += 1;
            })
        })
        .collect();
    until(|| {
        waiters
            .iter()
            .all(|waiter| sleeps_on(waiter.id(), &stage.lock))
    });
    let (die, live) = waiters.split_at(2);
    die.iter().for_each(kill);
    assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
    stage.over.set();
    passes(&holder);
    live.iter().for_each(passes);
    assert_eq!(*stage.lock.lock().unwrap(), 2);
}

/// Two waiters sleep. One is woken, and killed at about that time, while a third locker acquires
/// the lock without sleeping. The other sleeper must still acquire the lock in the end.
fn the_death_of_a_woken_waiter_strands_no_other_waiter(run: &Kills<'_>) {
    let stage = Stage::anonymous();
    let mut random = fastrand::Rng::with_seed(run.seed());
    while run.go_on() {
        let round = run.made();
        stage.ready.reset();
        let waiter = || {
            child(|| {
                stage.ready.wait();
                drop(repaired(stage.lock.lock(), 0));
            })
        };
        let (first, second) = (waiter(), waiter());
        let guard = repaired(stage.lock.lock(), 0);
        stage.ready.set();
        until(|| {
            [&first, &second]
                .iter()
                .all(|waiter| sleeps_on(waiter.id(), &stage.lock))
        });
        drop(guard);
        for _ in 0..random.u32(..300) {
            std::hint::spin_loop();
        }
        first.kill().unwrap();
        for _ in 0..random.u32(..10) {
            drop(repaired(stage.lock.lock(), 0));
        }
        second
            .wait()
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        first.wait().unwrap();
        run.count(1);
        run.add(2, 0);
    }
}

fn a_panic_is_reported_until_the_poison_is_cleared() {
    let stage = Stage::anonymous();
    let panics = || {
        let child = child(|| {
            let mut value = repaired(stage.lock.lock(), 0);
            *value = 5;
            std::panic::resume_unwind(Box::new("in a section"));
        });
        assert_eq!(child.wait().unwrap().code(), Some(101));
    };
    panics();
    assert!(stage.lock.is_poisoned());
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::Panic);
    assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::Panic);
    // The value is whole.
    let Err(LockError::Poisoned(poisoned)) = stage.lock.lock() else {
        panic!("not poisoned")
    };
    assert_eq!(poisoned.cause(), Cause::Panicked);
    assert!(!poisoned.is_first_report());
    assert_eq!(*poisoned.try_into_guard().unwrap(), 5);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::Panic);
    stage.lock.clear_poison();
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::Unpoisoned);
    assert!(!stage.lock.is_poisoned());
    // The guard clears the poison, and so does replacing the value.
    panics();
    let Err(LockError::Poisoned(poisoned)) = stage.lock.lock() else {
        panic!("not poisoned")
    };
    let guard = poisoned.try_into_guard().unwrap();
    SharedMutexGuard::clear_poison(&guard);
    drop(guard);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::Unpoisoned);
    panics();
    drop(repaired(stage.lock.lock(), 0));
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::Unpoisoned);
}

fn clearing_the_poison_of_a_panic_keeps_that_of_a_death() {
    let stage = Stage::anonymous();
    // A death and a panic happen, in either order.
    for death_first in [true, false] {
        let dies = || {
            let child = child(|| {
                let _guard = match stage.lock.lock() {
                    Ok(guard) => guard,
                    Err(LockError::Poisoned(poisoned)) => poisoned.into_guard(),
                    Err(other) => panic!("{other:?}"),
                };
                std::process::abort();
            });
            assert!(!child.wait().unwrap().success());
            assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
        };
        let panics = || {
            let child = child(|| {
                let _guard = match stage.lock.lock() {
                    Ok(guard) => guard,
                    Err(LockError::Poisoned(poisoned)) => poisoned.into_guard(),
                    Err(other) => panic!("{other:?}"),
                };
                std::panic::resume_unwind(Box::new("in a section"));
            });
            assert_eq!(child.wait().unwrap().code(), Some(101));
        };
        if death_first {
            dies();
            panics();
        } else {
            panics();
            dies();
        }
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::OldDeath);
        stage.lock.clear_poison();
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::OldDeath);
        let Err(LockError::Poisoned(poisoned)) = stage.lock.lock() else {
            panic!("not poisoned")
        };
        let poisoned = poisoned
            .try_into_guard()
            .expect_err("a death's value was accepted as whole");
        // The guard is released without a repair.
        drop(poisoned.into_guard());
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::OldDeath);
        drop(repaired(stage.lock.lock(), 0));
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::Unpoisoned);
    }
}

/// Not every mixture of bytes is a valid value.
#[derive(ShmData, Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Suit {
    Clubs = 3,
    Hearts = 7,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Values {
    numbers: SharedMutex<[u64; 4096]>,
    cards: SharedMutex<[Suit; 4096]>,
    ready: SharedEvent,
}

fn a_torn_value_is_accessible_only_as_bytes_or_by_replacing_it() {
    let values = Shared::anonymous(Values {
        numbers: SharedMutex::new([1; 4096]),
        cards: SharedMutex::new([Suit::Clubs; 4096]),
        ready: SharedEvent::new(),
    })
    .unwrap();
    let writer = child(|| {
        let mut numbers = values.numbers.lock().unwrap();
        let mut cards = values.cards.lock().unwrap();
        numbers[..2048].fill(2);
        cards[..2048].fill(Suit::Hearts);
        values.ready.set();
        stay();
    });
    values.ready.wait();
    kill(&writer);
    // Any mixture of bytes is a number, so the torn value can be read and repaired in place.
    let Err(LockError::Poisoned(poisoned)) = values.numbers.lock() else {
        panic!("not poisoned")
    };
    assert!(poisoned.is_first_report());
    let mut numbers = poisoned.into_guard();
    assert_eq!((numbers[2047], numbers[2048]), (2, 1));
    numbers[2048..].fill(2);
    SharedMutexGuard::clear_poison(&numbers);
    drop(numbers);
    assert_eq!(*values.numbers.lock().unwrap(), [2; 4096]);
    // A mixture of bytes may not be a card, so only a whole new value is accepted.
    let Err(LockError::Poisoned(poisoned)) = values.cards.lock() else {
        panic!("not poisoned")
    };
    let poisoned = poisoned
        .try_into_guard()
        .expect_err("a torn value was accepted as whole");
    assert_eq!(*poisoned.replace([Suit::Clubs; 4096]), [Suit::Clubs; 4096]);
    assert_eq!(*values.cards.lock().unwrap(), [Suit::Clubs; 4096]);
}

fn a_torn_value_of_a_killed_writer_is_never_returned_without_an_error(run: &Kills<'_>) {
    const LENGTH: usize = 32 << 10;
    let value = Shared::anonymous(SharedMutex::new([0_u64; LENGTH])).unwrap();
    let mut torn = 0;
    while run.go_on() {
        let kills = run.made();
        let writer = child(|| {
            for number in 1.. {
                *value.lock().unwrap() = [number; LENGTH];
            }
        });
        for _ in 0..kills * 997 % 20_000 {
            std::hint::spin_loop();
        }
        run.kill(&writer);
        run.add(1, 0);
        match value.lock() {
            Ok(whole) => assert!(whole.iter().all(|number| *number == whole[0])),
            Err(LockError::Poisoned(poisoned)) => {
                assert!(poisoned.is_first_report());
                run.add(0, 1);
                let guard = poisoned.into_guard();
                torn += u32::from(guard.iter().any(|number| *number != guard[0]));
                drop(guard);
                drop(repaired(value.lock(), [0; LENGTH]));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    println!("{torn} values were torn");
}
