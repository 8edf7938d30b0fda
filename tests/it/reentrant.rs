//! Reentrant mutexes in one process, placed and in-process.

use pshared::{Shared, SharedReentrantLock};
use std::cell::Cell;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

type Counted = SharedReentrantLock<Cell<u64>>;

/// Returns an in-process mutex and one in a map.
fn both() -> [Box<dyn Deref<Target = Counted> + Sync>; 2] {
    let placed = Shared::anonymous(Counted::default()).unwrap();
    [Box::new(Box::new(Counted::default())), Box::new(placed)]
}

#[test]
fn the_holder_can_relock_and_others_wait_for_the_last_guard() {
    for lock in both() {
        let lock: &Counted = &lock;
        let first = lock.lock().unwrap();
        let second = lock.try_lock().unwrap();
        let third = lock.lock_timeout(Duration::ZERO).unwrap();
        let fourth = lock.lock_until(Instant::now()).unwrap();
        first.set(4);
        assert_eq!(fourth.get(), 4);
        let is_held = || {
            let tried = thread::scope(|scope| scope.spawn(|| lock.try_lock().is_err()).join());
            tried.unwrap()
        };
        for guard in [second, first, fourth] {
            drop(guard);
            assert!(is_held());
        }
        assert_eq!(
            lock.holder().unwrap().thread,
            nix::unistd::gettid().as_raw().cast_unsigned()
        );
        drop(third);
        assert!(!is_held() && lock.holder().is_none());
    }
}

#[test]
fn threads_count_exactly() {
    for lock in both() {
        let lock: &Counted = &lock;
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let outer = lock.lock().unwrap();
                        let inner = lock.lock().unwrap();
                        inner.set(outer.get() + 1);
                    }
                });
            }
        });
        assert_eq!(lock.lock().unwrap().get(), 2000);
    }
}

#[test]
fn a_panic_does_not_poison() {
    for lock in both() {
        let lock: &Counted = &lock;
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let _guards = (lock.lock().unwrap(), lock.lock().unwrap());
            std::panic::resume_unwind(Box::new("with the lock"));
        }));
        assert!(panic.is_err() && !lock.is_poisoned());
        lock.lock().unwrap().set(1);
    }
}
