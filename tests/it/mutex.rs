//! Mutexes in one process, placed and in-process: the names and the behavior of `std::sync::Mutex`,
//! and what goes beyond them.

use pshared::{
    Cause, Error, LockError, MappedSharedMutexGuard, Shared, SharedMutex, SharedMutexGuard,
    ShmData, ShmSafe,
};
use std::error::Error as StdError;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

mod poison;

const LONG: Duration = Duration::from_secs(3600);

/// Returns an in-process mutex and one in a map.
fn both<T: ShmData + Copy + Sync>(value: T) -> [Box<dyn Deref<Target = SharedMutex<T>> + Sync>; 2] {
    let placed = Shared::anonymous(SharedMutex::new(value)).unwrap();
    [
        Box::new(Box::new(SharedMutex::new(value))),
        Box::new(placed),
    ]
}

/// Panics while it holds the lock.
fn poison<T: ShmData>(lock: &SharedMutex<T>) {
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.lock();
        std::panic::resume_unwind(Box::new("with the lock"));
    }));
    assert!(panic.is_err());
}

fn gettid() -> u32 {
    nix::unistd::gettid().as_raw().cast_unsigned()
}

#[test]
fn a_guard_gives_access_to_the_data_and_releases_the_lock() {
    for lock in both(1) {
        {
            let mut guard = lock.lock().unwrap();
            *guard += 1;
            assert_eq!(*guard, 2);
            assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
        }
        assert_eq!(*lock.try_lock().unwrap(), 2);
        assert_eq!(*lock.lock_timeout(Duration::ZERO).unwrap(), 2);
        assert_eq!(*lock.lock_until(Instant::now()).unwrap(), 2);
        drop(lock.lock().unwrap());
    }
}

#[test]
fn relocking_is_a_deadlock_error_and_does_not_block() {
    for lock in both(1) {
        let guard = lock.lock().unwrap();
        assert!(matches!(lock.lock(), Err(LockError::Deadlock)));
        assert!(matches!(lock.lock_timeout(LONG), Err(LockError::Deadlock)));
        assert!(matches!(
            lock.lock_until(Instant::now() + LONG),
            Err(LockError::Deadlock)
        ));
        assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
        drop(guard);
        drop(lock.lock().unwrap());
    }
}

#[test]
fn a_wait_for_a_held_lock_ends_at_its_timeout() {
    for lock in both(1) {
        thread::scope(|scope| {
            let _guard = lock.lock().unwrap();
            scope
                .spawn(|| {
                    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
                    for timeout in [0, 1, 999, 1_000_000] {
                        let timeout = Duration::from_nanos(timeout);
                        assert!(matches!(
                            lock.lock_timeout(timeout),
                            Err(LockError::TimedOut)
                        ));
                        let deadline = Instant::now() + timeout;
                        assert!(matches!(
                            lock.lock_until(deadline),
                            Err(LockError::TimedOut)
                        ));
                        // The wait never ends early: it loses no nanoseconds.
                        assert!(Instant::now() >= deadline);
                    }
                    let past = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
                    assert!(matches!(lock.lock_until(past), Err(LockError::TimedOut)));
                })
                .join()
                .unwrap();
        });
        drop(lock.lock_timeout(Duration::MAX).unwrap());
    }
}

#[test]
fn a_waiter_gets_the_lock_on_release_with_any_timeout() {
    for lock in both(0) {
        for _ in 0..200 {
            thread::scope(|scope| {
                let guard = lock.lock().unwrap();
                let waiters = [
                    scope.spawn(|| *lock.lock().unwrap() += 1),
                    scope.spawn(|| *lock.lock_timeout(Duration::MAX).unwrap() += 1),
                    scope.spawn(|| *lock.lock_until(Instant::now() + LONG).unwrap() += 1),
                ];
                drop(guard);
                waiters
                    .into_iter()
                    .for_each(|waiter| waiter.join().unwrap());
            });
        }
        assert_eq!(*lock.lock().unwrap(), 600);
    }
}

#[test]
fn threads_exclude_each_other() {
    for lock in both([0_u64; 2]) {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for turn in 0..5_000 {
                        let mut guard = if turn % 3 == 0 {
                            lock.lock_timeout(LONG).unwrap()
                        } else {
                            lock.lock().unwrap()
                        };
                        // Another thread inside would leave these plain numbers unequal.
                        let [one, two] = *guard;
                        assert_eq!(one, two);
                        guard[0] = one + 1;
                        guard[1] = two + 1;
                    }
                });
            }
        });
        assert_eq!(*lock.lock().unwrap(), [40_000; 2]);
    }
}

#[test]
fn try_lock_excludes_too() {
    for lock in both(0_u64) {
        let counts: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..20_000).fold(0, |count, _| match lock.try_lock() {
                            Ok(mut guard) => {
                                *guard += 1;
                                count + 1
                            }
                            Err(LockError::WouldBlock) => count,
                            Err(other) => panic!("{other:?}"),
                        })
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(*lock.lock().unwrap(), counts);
    }
}

#[test]
fn a_lock_on_the_stack_can_be_moved_and_its_guard_leaked() {
    let lock = SharedMutex::new(String::from("not shared yet").len());
    *lock.lock().unwrap() += 1;
    let moved = lock;
    std::mem::forget(moved.lock().unwrap());
    let moved = Box::new(moved);
    assert!(matches!(moved.lock(), Err(LockError::Deadlock)));
    assert_eq!(moved.into_inner().unwrap(), 15);
}

#[test]
fn the_holder_is_reported_while_the_lock_is_held() {
    for lock in both(()) {
        assert_eq!(lock.holder(), None);
        let guard = lock.lock().unwrap();
        let holder = lock.holder().unwrap();
        assert_eq!(
            (holder.process, holder.thread),
            (std::process::id(), gettid())
        );
        drop(guard);
        assert_eq!(lock.holder(), None);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _guard = lock.lock().unwrap();
                assert_eq!(lock.holder().unwrap().thread, gettid());
            });
        });
    }
}

#[test]
fn an_in_process_lock_gives_its_data_to_its_exclusive_owner() {
    let mut lock = SharedMutex::new(1);
    *lock.get_mut().unwrap() += 1;
    assert_eq!(*lock.lock().unwrap(), 2);
    poison(&lock);
    assert_eq!(**lock.get_mut().unwrap_err().get_ref(), 2);
    assert_eq!(lock.into_inner().unwrap_err().into_inner(), 2);
    assert_eq!(SharedMutex::new(5).into_inner().unwrap(), 5);
}

#[test]
fn a_mapped_guard_gives_a_part_and_keeps_the_whole_lock() {
    for lock in both([1, 2, 3]) {
        let mut part: MappedSharedMutexGuard<'_, [i32]> =
            SharedMutexGuard::map(lock.lock().unwrap(), |data| &mut data[1..]);
        part[0] = 20;
        assert_eq!(*part, [20, 3]);
        assert_eq!(format!("{part:?}"), "[20, 3]");
        assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
        drop(part);
        assert_eq!(*lock.lock().unwrap(), [1, 20, 3]);
    }
}

#[test]
fn locks_are_created_from_defaults_and_from_values() {
    assert_eq!(SharedMutex::<u64>::default().into_inner().unwrap(), 0);
    assert_eq!(SharedMutex::from(7).into_inner().unwrap(), 7);
    static IN_A_STATIC: SharedMutex<u8> = SharedMutex::new(9);
    assert_eq!(*IN_A_STATIC.lock().unwrap(), 9);
}

#[test]
fn locks_and_guards_are_formatted_without_waiting() {
    let lock = SharedMutex::new(7);
    assert_eq!(format!("{lock:?}"), "SharedMutex { data: 7, .. }");
    let guard = lock.lock().unwrap();
    assert_eq!(
        (format!("{guard:?}"), format!("{guard}")),
        ("7".into(), "7".into())
    );
    let shown = format!("{lock:?}");
    assert!(
        shown.contains(&format!("process: {}", std::process::id())),
        "{shown}"
    );
    drop(guard);
    poison(&lock);
    assert_eq!(
        format!("{lock:?}"),
        "SharedMutex { poisoned: Panicked, .. }"
    );
    assert!(lock.is_poisoned());
    assert_eq!(
        format!("{:?}", lock.lock().unwrap_err()),
        "Poisoned(Poisoned { cause: Panicked, is_first_report: false, .. })"
    );
}

#[test]
fn a_question_mark_turns_a_lock_error_into_an_error_that_borrows_nothing() {
    fn ours(lock: &SharedMutex<u32>) -> Result<u32, Error> {
        Ok(*lock.try_lock()?)
    }
    fn boxed(lock: &SharedMutex<u32>) -> Result<u32, Box<dyn StdError>> {
        Ok(*lock.lock()?)
    }
    fn sent(lock: &SharedMutex<u32>) -> Result<u32, Box<dyn StdError + Send + Sync>> {
        Ok(*lock.lock()?)
    }
    let lock = SharedMutex::new(5);
    assert_eq!(
        (
            ours(&lock).unwrap(),
            boxed(&lock).unwrap(),
            sent(&lock).unwrap()
        ),
        (5, 5, 5)
    );
    let guard = lock.lock().unwrap();
    assert!(matches!(ours(&lock), Err(Error::WouldBlock)));
    assert!(
        boxed(&lock)
            .unwrap_err()
            .to_string()
            .starts_with("deadlock: the calling thread")
    );
    drop(guard);
    poison(&lock);
    assert!(matches!(
        ours(&lock),
        Err(Error::Poisoned {
            cause: Cause::Panicked
        })
    ));
    let error = sent(&lock).unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(Error::Poisoned {
            cause: Cause::Panicked
        })
    ));
    assert!(
        error
            .to_string()
            .contains("a holder panicked inside its section"),
        "{error}"
    );
    // Each of the calls released the lock.
    lock.clear_poison();
    assert_eq!(ours(&lock).unwrap(), 5);
}

#[test]
fn every_lock_error_has_the_same_message_after_conversion() {
    let errors: [LockError<SharedMutexGuard<'_, u32>>; 4] = [
        LockError::Deadlock,
        LockError::HolderThreadEnded,
        LockError::WouldBlock,
        LockError::TimedOut,
    ];
    for error in errors {
        let message = error.to_string();
        assert!(message.len() > 20, "{message}");
        assert_eq!(Error::from(error).to_string(), message);
    }
}

#[test]
fn an_ended_thread_that_leaked_its_guard_keeps_the_lock_for_its_process() {
    let lock = Shared::anonymous(SharedMutex::new(1)).unwrap();
    thread::scope(|scope| {
        scope
            .spawn(|| std::mem::forget(lock.lock().unwrap()))
            .join()
            .unwrap();
    });
    for _ in 0..2 {
        assert!(matches!(lock.lock(), Err(LockError::HolderThreadEnded)));
        assert!(matches!(lock.try_lock(), Err(LockError::HolderThreadEnded)));
        assert!(matches!(
            lock.lock_timeout(LONG),
            Err(LockError::HolderThreadEnded)
        ));
    }
}

#[test]
fn many_locks_are_held_at_once_and_released_in_any_order() {
    let locks =
        Shared::<[SharedMutex<u32>]>::anonymous_from_fn(64, |_| SharedMutex::new(0)).unwrap();
    for step in [1, 3, 5, 63] {
        let mut guards: Vec<_> = locks
            .iter()
            .map(|lock| Some(lock.lock().unwrap()))
            .collect();
        for index in 0..64 {
            let mut guard = guards[index * step % 64].take().unwrap();
            *guard += 1;
        }
    }
    assert!(locks.iter().all(|lock| *lock.lock().unwrap() == 4));
}

#[test]
fn locks_are_held_across_each_other_without_an_order() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Pair {
        one: SharedMutex<u32>,
        two: SharedMutex<u32>,
    }
    let pair = Shared::anonymous(Pair {
        one: SharedMutex::new(0),
        two: SharedMutex::new(0),
    })
    .unwrap();
    let mut one = pair.one.lock().unwrap();
    for turn in 1..100 {
        let mut two = pair.two.lock().unwrap();
        *one += 1;
        drop(one);
        *two += 1;
        one = pair.one.lock().unwrap();
        drop(two);
        assert_eq!(*one, turn);
    }
    drop(one);
    assert_eq!(*pair.two.lock().unwrap(), 99);
}
