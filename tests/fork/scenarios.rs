//! New implementations of the checks in other projects' tests:
//!
//! - `tst-robust1` to `tst-robust6`, `tst-robust8`, `tst-robust10` and `tst-sem3` of glibc's
//!   `nptl`, for robust mutexes and semaphores;
//! - `testprocmutex` of APR, for process mutexes.
//!
//! In glibc's first six tests, a thread that holds two mutexes is cancelled. Here, a thread that
//! ends while its process lives on has another effect (see `holder_exit`), so the holder is a
//! process.

use crate::support::{Outcome, Stage, child, kill, kill_unreaped, outcome_of, passes, repaired};
use pshared::{
    LockError, LockResult, Shared, SharedCounter, SharedEvent, SharedMutex, SharedMutexGuard,
    SharedSemaphore, ShmSafe,
};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

crate::tests!(
    robust1_both_locks_of_a_dead_holder_are_reported_and_repaired_by_lock,
    robust2_both_locks_of_a_dead_holder_are_reported_and_repaired_by_try_lock,
    robust3_both_locks_of_a_dead_holder_are_reported_and_repaired_by_lock_timeout,
    robust4_an_unrepaired_lock_stays_poisoned_by_lock,
    robust5_an_unrepaired_lock_stays_poisoned_by_try_lock,
    robust6_an_unrepaired_lock_stays_poisoned_by_lock_timeout,
    robust8_a_hundred_locks_in_a_file_stay_usable_after_nine_threads_are_killed,
    robust10_a_wait_for_a_living_holder_times_out,
    sem3_a_semaphore_is_passed_between_parent_and_child,
    procmutex_six_children_count_to_1200_by_lock,
    procmutex_six_children_count_to_1200_by_try_lock,
    procmutex_six_children_count_to_1200_by_lock_timeout,
);

type Lock = SharedMutex<u64>;
type MutexResult<'a> = LockResult<SharedMutexGuard<'a, u64>>;

const LOCK: fn(&Lock) -> MutexResult<'_> = |lock| lock.lock();
const TRY_LOCK: fn(&Lock) -> MutexResult<'_> = |lock| lock.try_lock();
const LOCK_TIMEOUT: fn(&Lock) -> MutexResult<'_> =
    |lock| lock.lock_timeout(Duration::from_secs(3600));

#[derive(ShmSafe)]
#[repr(C)]
struct Two {
    locks: [Lock; 2],
    ready: SharedEvent,
}

/// Runs four rounds. In each round a holder of both locks is killed. It is reaped either before or
/// after the locks are tried.
fn robust(lock: fn(&Lock) -> MutexResult<'_>, repairs: bool) {
    let new = || {
        let locks = [const { SharedMutex::new(0) }; 2];
        Shared::anonymous(Two {
            locks,
            ready: SharedEvent::new(),
        })
        .unwrap()
    };
    let mut two = new();
    for round in 1..5 {
        if !repairs {
            two = new();
        }
        two.ready.reset();
        let holder = child(|| {
            let _guards = two
                .locks
                .each_ref()
                .map(|one| lock(one).expect("free and whole"));
            two.ready.set();
            loop {
                std::thread::park();
            }
        });
        two.ready.wait();
        if round % 2 == 1 {
            kill(&holder);
        } else {
            kill_unreaped(&holder);
        }
        for one in &two.locks {
            match lock(one) {
                Err(LockError::Poisoned(poisoned)) => {
                    assert!(poisoned.is_first_report());
                    if repairs {
                        drop(poisoned.replace(round));
                    }
                }
                other => panic!("round {round}: {other:?}"),
            }
        }
        holder.wait().unwrap();
        for one in &two.locks {
            if repairs {
                assert_eq!(*lock(one).unwrap(), round);
            } else {
                // A glibc mutex is not recoverable from here on. This lock can still be repaired.
                assert_eq!(outcome_of(lock(one)), Outcome::OldDeath);
                assert_eq!(outcome_of(lock(one)), Outcome::OldDeath);
                drop(repaired(lock(one), 0));
                assert_eq!(outcome_of(lock(one)), Outcome::Unpoisoned);
            }
        }
    }
}

fn robust1_both_locks_of_a_dead_holder_are_reported_and_repaired_by_lock() {
    robust(LOCK, true);
}

fn robust2_both_locks_of_a_dead_holder_are_reported_and_repaired_by_try_lock() {
    robust(TRY_LOCK, true);
}

fn robust3_both_locks_of_a_dead_holder_are_reported_and_repaired_by_lock_timeout() {
    robust(LOCK_TIMEOUT, true);
}

fn robust4_an_unrepaired_lock_stays_poisoned_by_lock() {
    robust(LOCK, false);
}

fn robust5_an_unrepaired_lock_stays_poisoned_by_try_lock() {
    robust(TRY_LOCK, false);
}

fn robust6_an_unrepaired_lock_stays_poisoned_by_lock_timeout() {
    robust(LOCK_TIMEOUT, false);
}

const LOCKS: usize = 100;
const THREADS: u32 = 9;
const ROUNDS: u64 = 5;

#[derive(ShmSafe)]
#[repr(C)]
struct Hundred {
    locks: [Lock; LOCKS],
    started: AtomicU32,
    operations: SharedCounter,
}

fn robust8_a_hundred_locks_in_a_file_stay_usable_after_nine_threads_are_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("robust8");
    let hundred = Hundred {
        locks: [const { SharedMutex::new(0) }; LOCKS],
        started: AtomicU32::new(0),
        operations: SharedCounter::new(0),
    };
    // SAFETY: no process except this test knows the file.
    let hundred = unsafe { Shared::create(&path, hundred) }.unwrap();
    for round in 1..=ROUNDS {
        hundred.operations.reset();
        let process = child(|| {
            // SAFETY: as above.
            let hundred = unsafe { Shared::<Hundred>::open(&path) }.unwrap();
            std::thread::scope(|scope| {
                for thread in 1..=THREADS {
                    let hundred = &hundred;
                    scope.spawn(move || random_operations(hundred, thread, round));
                }
            });
        });
        // Kills the process after enough operations.
        crate::support::until(|| hundred.operations.get() >= 5_000);
        kill(&process);
        let guards: Vec<_> = hundred
            .locks
            .iter()
            .map(|lock| repaired(lock.lock(), 0))
            .collect();
        drop(guards);
        for lock in &hundred.locks {
            assert_eq!(outcome_of(lock.try_lock()), Outcome::Unpoisoned);
        }
    }
}

fn random_operations(hundred: &Hundred, thread: u32, round: u64) {
    let mut random = fastrand::Rng::with_seed(round << 8 | u64::from(thread));
    let mut guards: [Option<SharedMutexGuard<'_, u64>>; LOCKS] = [const { None }; LOCKS];
    loop {
        let number = random.usize(..LOCKS);
        if guards[number].take().is_none() {
            let lock = &hundred.locks[number];
            let outcome = match thread % 3 {
                0 => lock.lock(),
                1 => lock.lock_timeout(Duration::ZERO),
                _ => lock.try_lock(),
            };
            guards[number] = match outcome {
                Ok(guard) => Some(guard),
                Err(LockError::TimedOut | LockError::HolderDumpsCore | LockError::WouldBlock) => {
                    None
                }
                Err(other) => panic!("thread {thread}, lock {number}: {other:?}"),
            };
        }
        hundred.operations.add(1);
    }
}

fn robust10_a_wait_for_a_living_holder_times_out() {
    let stage = Stage::anonymous();
    let second = Duration::from_secs(1);
    let child = child(|| {
        stage.ready.wait();
        assert_eq!(
            outcome_of(stage.lock.lock_timeout(second)),
            Outcome::TimedOut
        );
    });
    let guard = stage.lock.lock().unwrap();
    stage.ready.set();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(
                outcome_of(stage.lock.lock_timeout(second)),
                Outcome::TimedOut
            )
        });
    });
    passes(&child);
    drop(guard);
    assert_eq!(
        outcome_of(stage.lock.lock_timeout(second)),
        Outcome::Unpoisoned
    );
}

#[derive(ShmSafe)]
#[repr(C)]
struct PingPong {
    turn: SharedSemaphore,
    value: AtomicU32,
}

fn sem3_a_semaphore_is_passed_between_parent_and_child() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sem3");
    let shared = PingPong {
        turn: SharedSemaphore::new(1),
        value: AtomicU32::new(0),
    };
    // SAFETY: no process except this test knows the file.
    let shared = unsafe { Shared::create(&path, shared) }.unwrap();
    shared.turn.wait().unwrap();
    assert!(matches!(
        shared.turn.try_wait(),
        Err(pshared::Error::WouldBlock)
    ));
    let child = child(|| {
        assert_eq!(shared.value.fetch_add(1, Relaxed), 0);
        shared.turn.post().unwrap();
    });
    shared.turn.wait().unwrap();
    assert_eq!(shared.value.load(Relaxed), 1);
    passes(&child);
}

/// Adds one in a slow way, which makes a race more likely.
fn increment(count: &mut u64) {
    let before = *count;
    std::thread::yield_now();
    *count = before + 1;
}

fn procmutex(lock: fn(&Lock) -> MutexResult<'_>) {
    const CHILDREN: u64 = 6;
    const INCREMENTS: u64 = 200;
    let count = Shared::anonymous(Lock::new(0)).unwrap();
    let children: Vec<_> = (0..CHILDREN)
        .map(|_| {
            child(|| {
                for _ in 0..INCREMENTS {
                    let mut guard = loop {
                        match lock(&count) {
                            Err(LockError::WouldBlock | LockError::TimedOut) => {
                                std::thread::yield_now();
                            }
                            outcome => break outcome.expect("the lock"),
                        }
                    };
                    increment(&mut guard);
                }
            })
        })
        .collect();
    children.iter().for_each(passes);
    let guard = count.try_lock().expect("free");
    assert_eq!(*guard, CHILDREN * INCREMENTS);
    // While the lock is held, it is busy for every thread, including its holder.
    assert_eq!(outcome_of(count.try_lock()), Outcome::WouldBlock);
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(outcome_of(count.try_lock()), Outcome::WouldBlock));
    });
}

fn procmutex_six_children_count_to_1200_by_lock() {
    procmutex(LOCK);
}

fn procmutex_six_children_count_to_1200_by_try_lock() {
    procmutex(TRY_LOCK);
}

fn procmutex_six_children_count_to_1200_by_lock_timeout() {
    procmutex(|lock| lock.lock_timeout(Duration::from_micros(1)));
}
