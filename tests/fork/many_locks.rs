//! A process dies with more locks than the kernel marks: 2,048 for each of its threads. One death
//! that a locker knows of leads it to all others of the same process.

use crate::support::{Outcome, child, kill, kill_unreaped, outcome_of, passes};
use nix::sys::resource::{UsageWho, getrusage};
use pshared::{
    Cause, LockError, Shared, SharedEvent, SharedMutex, SharedPermits, SharedRwLock, ShmSafe,
};
use std::mem::forget;
use std::thread;
use std::time::Instant;

crate::tests!(
    the_mutexes_of_a_killed_process_are_acquired_without_a_sleep_for_each,
    the_mutexes_of_an_unreaped_process_are_acquired_without_a_sleep_for_each,
    the_readers_writer_locks_of_a_killed_process_are_acquired_without_a_sleep_for_each,
    the_permits_of_a_killed_process_are_acquired_without_a_sleep_for_each,
);

/// How often the calling thread has slept.
fn sleeps() -> usize {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    usage.voluntary_context_switches() as usize
}

/// `N` locks, and the event that all of them are held.
#[derive(ShmSafe)]
#[repr(C)]
struct Many<L: ShmSafe, const N: usize> {
    held: SharedEvent,
    locks: [L; N],
}

/// Creates the locks in a map. The value is too large for the stack of this thread.
fn many<L: ShmSafe + Send + Sync, const N: usize>(
    new: impl Fn() -> L + Sync,
) -> Shared<Many<L, N>> {
    const STACK: usize = 256 << 20;
    thread::scope(|scope| {
        let create = || {
            Shared::anonymous(Many {
                held: SharedEvent::new(),
                locks: std::array::from_fn(|_| new()),
            })
            .expect("no map")
        };
        let builder = thread::Builder::new().stack_size(STACK);
        let thread = builder.spawn_scoped(scope, create).expect("no thread");
        thread.join().expect("no value")
    })
}

/// Runs a child in which `THREADS` threads hold the locks, ends it by `end`, and then calls
/// `acquire` with each lock.
fn die_and_acquire<L: ShmSafe + Sync, const N: usize, const THREADS: usize>(
    many: &Many<L, N>,
    hold: impl Fn(&L) + Sync,
    end: fn(&pshared::fork::Child),
    acquire: impl Fn(&L),
) {
    let holder = child(|| {
        let all_hold = std::sync::Barrier::new(THREADS);
        thread::scope(|scope| {
            for locks in many.locks.chunks(N.div_ceil(THREADS)) {
                let (hold, all_hold) = (&hold, &all_hold);
                scope.spawn(move || {
                    locks.iter().for_each(hold);
                    if all_hold.wait().is_leader() {
                        many.held.set();
                    }
                    loop {
                        thread::park();
                    }
                });
            }
        });
    });
    many.held.wait();
    end(&holder);
    let (started, before) = (Instant::now(), sleeps());
    many.locks.iter().for_each(acquire);
    let (elapsed, slept) = (started.elapsed(), sleeps() - before);
    println!("{N} locks of {THREADS} threads: {slept} sleeps, {elapsed:?}");
    // The kernel may occasionally make the thread wait for a lock of the kernel's own.
    assert!(slept < N / 10, "{slept} sleeps for {N} locks");
}

fn mutexes(end: fn(&pshared::fork::Child)) {
    // In a child, so that an earlier death is not known.
    for threads in [1, 4] {
        passes(&child(|| {
            let many = many::<_, 10_000>(|| SharedMutex::new(0_u64));
            let hold = |lock: &SharedMutex<u64>| forget(lock.lock().unwrap());
            let acquire = |lock: &SharedMutex<u64>| {
                assert_eq!(outcome_of(lock.lock()), Outcome::FreshDeath);
            };
            match threads {
                1 => die_and_acquire::<_, _, 1>(&many, hold, end, acquire),
                _ => die_and_acquire::<_, _, 4>(&many, hold, end, acquire),
            }
        }));
    }
}

fn the_mutexes_of_a_killed_process_are_acquired_without_a_sleep_for_each() {
    mutexes(kill);
}

fn the_mutexes_of_an_unreaped_process_are_acquired_without_a_sleep_for_each() {
    mutexes(kill_unreaped);
}

fn the_readers_writer_locks_of_a_killed_process_are_acquired_without_a_sleep_for_each() {
    let readers = many::<_, 3_000>(|| SharedRwLock::new(0_u64));
    die_and_acquire::<_, _, 1>(
        &readers,
        |lock| forget(lock.read().unwrap()),
        kill,
        |lock| drop(lock.write().unwrap()),
    );
    for reads in [false, true] {
        let writers = many::<_, 2_000>(|| SharedRwLock::new(0_u64));
        die_and_acquire::<_, _, 1>(
            &writers,
            |lock| forget(lock.write().unwrap()),
            kill,
            |lock| {
                let cause = match reads {
                    true => cause_of(lock.read()),
                    false => cause_of(lock.write()),
                };
                assert_eq!(cause, Some(Cause::Died));
            },
        );
    }
}

fn cause_of<G: pshared::LockGuard>(outcome: Result<G, LockError<G>>) -> Option<Cause> {
    match outcome {
        Err(LockError::Poisoned(poisoned)) => Some(poisoned.cause()),
        _ => None,
    }
}

fn the_permits_of_a_killed_process_are_acquired_without_a_sleep_for_each() {
    let permits = many::<_, 3_000>(SharedPermits::<1>::new);
    die_and_acquire::<_, _, 1>(
        &permits,
        |permits| forget(permits.acquire().unwrap()),
        kill,
        |permits| assert!(permits.acquire().unwrap().previous_holder_died()),
    );
}
