//! What a panic leaves behind.

use super::*;
use pshared::Cause;

#[test]
fn a_panic_poisons_and_the_data_stays_accessible() {
    for lock in both(1) {
        assert!(!lock.is_poisoned());
        poison(&lock);
        assert!(lock.is_poisoned());
        for _ in 0..2 {
            let Err(LockError::Poisoned(poisoned)) = lock.lock() else {
                panic!("not poisoned")
            };
            assert_eq!(
                (poisoned.cause(), poisoned.is_first_report()),
                (Cause::Panicked, false)
            );
            assert_eq!(*poisoned.try_into_guard().unwrap(), 1);
        }
        for refused in [
            lock.try_lock(),
            lock.lock_timeout(LONG),
            lock.lock_until(Instant::now()),
        ] {
            let Err(LockError::Poisoned(poisoned)) = refused else {
                continue;
            };
            drop(poisoned);
        }
        lock.clear_poison();
        assert!(!lock.is_poisoned());
        assert_eq!(*lock.lock().unwrap(), 1);
    }
}

#[test]
fn each_repair_method_returns_the_guard() {
    for lock in both(1) {
        poison(&lock);
        let Err(LockError::Poisoned(poisoned)) = lock.lock() else {
            panic!("not poisoned")
        };
        assert_eq!(*poisoned.replace(2), 2);
        assert!(!lock.is_poisoned());

        poison(&lock);
        let Err(LockError::Poisoned(poisoned)) = lock.try_lock() else {
            panic!("not poisoned")
        };
        let mut guard = poisoned.into_guard();
        *guard += 1;
        assert!(lock.is_poisoned());
        SharedMutexGuard::clear_poison(&guard);
        drop(guard);
        assert!(!lock.is_poisoned());

        poison(&lock);
        let Err(LockError::Poisoned(poisoned)) = lock.lock_timeout(LONG) else {
            panic!("not poisoned")
        };
        // SAFETY: no process died, so the data is whole.
        assert_eq!(*unsafe { poisoned.assume_valid() }, 3);
        assert!(lock.is_poisoned());
        lock.clear_poison();
    }
}

#[test]
fn a_poison_error_holds_the_lock_and_a_panic_with_it_does_not_poison_again() {
    for lock in both(1) {
        poison(&lock);
        let Err(error) = lock.lock() else {
            panic!("not poisoned")
        };
        assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
        lock.clear_poison();
        assert!(
            catch_unwind(AssertUnwindSafe(|| {
                let _error = error;
                std::panic::resume_unwind(Box::new("without the data"));
            }))
            .is_err()
        );
        assert!(!lock.is_poisoned());
        drop(lock.lock().unwrap());
    }
}

#[test]
fn a_lock_taken_and_released_while_the_thread_panics_is_not_poisoned() {
    struct OnDrop<'a>(&'a SharedMutex<u32>);
    impl Drop for OnDrop<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    for lock in both(1) {
        assert!(
            catch_unwind(AssertUnwindSafe(|| {
                let _counts = OnDrop(&lock);
                std::panic::resume_unwind(Box::new("elsewhere"));
            }))
            .is_err()
        );
        assert!(!lock.is_poisoned());
        assert_eq!(*lock.lock().unwrap(), 2);
    }
}

#[test]
fn a_panic_poisons_through_a_mapped_guard_and_in_the_mapping_too() {
    for lock in both([1, 2]) {
        assert!(
            catch_unwind(AssertUnwindSafe(|| {
                let _part = SharedMutexGuard::map(lock.lock().unwrap(), |data| &mut data[0]);
                std::panic::resume_unwind(Box::new("with the part"));
            }))
            .is_err()
        );
        assert!(lock.is_poisoned());
        lock.clear_poison();
        assert!(
            catch_unwind(AssertUnwindSafe(|| {
                let _part =
                    SharedMutexGuard::map(lock.lock().unwrap(), |data| &mut data[2 + data.len()]);
            }))
            .is_err()
        );
        assert!(lock.is_poisoned());
        lock.clear_poison();
        assert_eq!(*lock.lock().unwrap(), [1, 2]);
    }
}
