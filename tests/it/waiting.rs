//! Condition variables, auto-reset events and once cells in one process: placed and in-process.

use pshared::{
    Error, LockError, Shared, SharedAutoResetEvent, SharedCondvar, SharedEvent, SharedMutex,
    SharedOnce, SharedOnceLock, ShmSafe, raw,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

/// Two primitives that lie in one map.
#[derive(ShmSafe)]
#[repr(C)]
struct Both<A, B>(A, B);

mod condvar {
    use super::*;

    #[test]
    fn a_timed_wait_returns_whether_it_was_notified() {
        let (lock, condvar) = (SharedMutex::new(0_u32), SharedCondvar::new());
        let (guard, result) = condvar.wait_timeout(lock.lock().unwrap(), SHORT).unwrap();
        assert!(result.timed_out());
        let (guard, result) = condvar.wait_timeout(guard, Duration::ZERO).unwrap();
        assert!(result.timed_out());
        let waits = condvar.wait_timeout_while(guard, SHORT, |number| *number == 0);
        let (guard, result) = waits.unwrap();
        assert!(result.timed_out() && *guard == 0);
        let waits = condvar.wait_timeout_while(guard, LONG, |number| *number != 0);
        let (guard, result) = waits.unwrap();
        assert!(!result.timed_out());
        drop(guard);
        thread::scope(|scope| {
            scope.spawn(|| {
                *lock.lock().unwrap() = 1;
                condvar.notify_one();
            });
            let guard = lock.lock().unwrap();
            let waits = condvar.wait_timeout_while(guard, LONG, |number| *number == 0);
            let (guard, result) = waits.unwrap();
            assert!(!result.timed_out() && *guard == 1);
        });
    }

    #[test]
    fn threads_take_turns() {
        fn check(lock: &SharedMutex<u32>, condvar: &SharedCondvar) {
            thread::scope(|scope| {
                for own in 0..4 {
                    scope.spawn(move || {
                        for _ in 0..50 {
                            let guard = lock.lock().unwrap();
                            let is_not_mine = |turn: &mut u32| *turn % 4 != own;
                            *condvar.wait_while(guard, is_not_mine).unwrap() += 1;
                            condvar.notify_all();
                        }
                    });
                }
            });
            assert_eq!(*lock.lock().unwrap(), 200);
        }
        check(&SharedMutex::new(0), &SharedCondvar::default());
        let placed = Shared::anonymous(Both(SharedMutex::new(0), SharedCondvar::new()));
        let placed = placed.unwrap();
        check(&placed.0, &placed.1);
    }

    #[test]
    fn one_condvar_serves_mutexes_of_two_strategies() {
        let robust = SharedMutex::new(false);
        let ticket = SharedMutex::<bool, raw::Ticket>::with_strategy(false);
        let condvar = SharedCondvar::new();
        thread::scope(|scope| {
            scope.spawn(|| drop(condvar.wait_while(robust.lock().unwrap(), |ready| !*ready)));
            scope.spawn(|| drop(condvar.wait_while(ticket.lock().unwrap(), |ready| !*ready)));
            *robust.lock().unwrap() = true;
            *ticket.lock().unwrap() = true;
            condvar.notify_all();
        });
    }

    #[test]
    fn a_wait_reports_a_panic_that_happened_meanwhile() {
        let (lock, condvar) = (SharedMutex::new(0_u32), SharedCondvar::new());
        let ready = SharedEvent::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                let guard = lock.lock().unwrap();
                ready.set();
                let outcome = condvar.wait_while(guard, |number| *number == 0);
                let Err(LockError::Poisoned(poisoned)) = outcome else {
                    panic!("the panic was not reported");
                };
                assert_eq!(*poisoned.try_into_guard().unwrap(), 1);
            });
            ready.wait();
            let panic = catch_unwind(AssertUnwindSafe(|| {
                let mut guard = lock.lock().unwrap();
                *guard = 1;
                condvar.notify_one();
                std::panic::resume_unwind(Box::new("with the lock"));
            }));
            assert!(panic.is_err());
        });
    }

    #[test]
    fn the_sequence_wraps_around_and_goes_on() {
        let placed =
            Shared::anonymous(Both(SharedMutex::new(0_u32), SharedCondvar::new())).unwrap();
        // SAFETY: a condition variable is one atomic word, and no other thread uses it now.
        unsafe {
            (&raw const placed.1)
                .cast_mut()
                .cast::<u32>()
                .write(u32::MAX - 1)
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                drop(
                    placed
                        .1
                        .wait_while(placed.0.lock().unwrap(), |number| *number < 3),
                );
            });
            for _ in 0..3 {
                *placed.0.lock().unwrap() += 1;
                placed.1.notify_one();
            }
        });
    }
}

mod auto_event {
    use super::*;

    #[test]
    fn a_set_releases_one_waiter_and_persists_until_then() {
        let event = SharedAutoResetEvent::default();
        assert!(!event.is_set() && !event.try_wait() && !event.reset());
        assert!(event.wait_timeout(Duration::ZERO).is_err() && event.wait_timeout(SHORT).is_err());
        event.set();
        event.set();
        assert!(event.is_set());
        event.wait();
        assert!(!event.is_set() && event.wait_timeout(SHORT).is_err());
        event.set();
        assert!(event.wait_timeout(Duration::ZERO).is_ok() && !event.try_wait());
        event.set();
        assert!(event.reset() && !event.is_set());
    }

    #[test]
    fn threads_release_each_other_one_at_a_time() {
        let event = Shared::anonymous(SharedAutoResetEvent::new()).unwrap();
        let inside = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        event.wait();
                        assert_eq!(inside.swap(1, Relaxed), 0);
                        inside.store(0, Relaxed);
                        event.set();
                    }
                });
            }
            event.set();
        });
        assert!(event.try_wait());
    }
}

mod once {
    use super::*;

    #[test]
    fn the_initializer_runs_once_and_the_cell_may_be_moved_and_placed() {
        let once = SharedOnce::new();
        let times = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    once.call_once(|| _ = times.fetch_add(1, Relaxed));
                    assert_eq!(times.load(Relaxed), 1);
                });
            }
        });
        let placed = Shared::anonymous(Both(once, SharedOnceLock::from(7_u64))).unwrap();
        placed.0.call_once(|| unreachable!("it is completed"));
        assert!(placed.0.is_completed() && placed.0.wait_timeout(Duration::ZERO).is_ok());
        assert_eq!(placed.1.get(), Some(&7));
        assert_eq!(format!("{:?}", placed.1), "SharedOnceLock(7)");
    }

    #[test]
    fn a_cell_whose_initializer_failed_or_panicked_is_empty_and_may_be_placed() {
        let cell = SharedOnceLock::<u64>::new();
        let failed: Result<_, &str> = cell.get_or_try_init(|| Err("no"));
        assert_eq!(failed, Err("no"));
        assert!(
            catch_unwind(AssertUnwindSafe(|| {
                cell.get_or_init(|| std::panic::resume_unwind(Box::new("inside")));
            }))
            .is_err()
        );
        assert_eq!((cell.get(), cell.wait_timeout(SHORT).ok()), (None, None));
        let placed = Shared::anonymous(cell).unwrap();
        let value = placed.get_or_init_with(|state| {
            assert!(state.is_poisoned() && !state.initializer_died());
            5
        });
        assert_eq!((*value, placed.set(6)), (5, Err(6)));
        assert_eq!(placed.get_or_try_init(|| Err("unused")), Ok(&5));
    }

    #[test]
    fn a_panic_poisons_until_it_is_forced() {
        let once = SharedOnce::default();
        let panics = || once.call_once(|| std::panic::resume_unwind(Box::new("inside")));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| once.call_once(|| ()))).is_err());
        assert!(!once.is_completed());
        once.call_once_force(|state| assert!(state.is_poisoned()));
        once.call_once(|| unreachable!("it is completed"));
    }

    #[test]
    fn an_initialization_inside_itself_panics() {
        for placed in [false, true] {
            let cell = Shared::anonymous(SharedOnceLock::<u32>::new()).unwrap();
            let in_process = SharedOnceLock::<u32>::new();
            let cell = if placed { &*cell } else { &in_process };
            let nested = || *cell.get_or_init(|| *cell.get_or_init(|| 1));
            assert!(catch_unwind(AssertUnwindSafe(nested)).is_err());
            assert_eq!(cell.get(), None);
            let nested = || *cell.get_or_init(|| cell.set_timeout(1, LONG).map_or(1, |()| 1));
            assert!(catch_unwind(AssertUnwindSafe(nested)).is_err());
            let tries = cell.try_get_or_try_init(|| {
                assert!(matches!(cell.try_get_or_init(|| 1), Err(Error::WouldBlock)));
                assert_eq!(cell.try_set(1), Err(1));
                cell.get_or_init_timeout(LONG, || 1).copied()
            });
            assert!(matches!(tries, Err(Error::Deadlock)));
            assert_eq!(cell.get(), None);
            assert_eq!(*cell.get_or_init(|| 2), 2);
        }
    }

    #[test]
    fn a_panic_poisons_the_methods_with_a_timeout_too() {
        let once = SharedOnce::new();
        let panics =
            || once.call_once_timeout(LONG, || std::panic::resume_unwind(Box::new("inside")));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| once.try_call_once(|| ()))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| once.call_once_timeout(LONG, || ()))).is_err());
        assert!(!once.is_completed());
        let forced = once.try_call_once_force(|state| assert!(state.is_poisoned()));
        assert!(forced.is_ok() && once.is_completed());
    }

    #[test]
    fn an_initializer_that_fails_leaves_the_cell_empty_and_its_error_is_returned() {
        let cell = SharedOnceLock::<u64>::default();
        let fails = || Err::<u64, _>(Error::ZeroLength);
        let failed = cell.get_or_try_init_timeout(LONG, fails);
        assert!(matches!(failed, Err(Error::ZeroLength)));
        let failed = cell.try_get_or_try_init(fails);
        assert!(matches!(failed, Err(Error::ZeroLength)) && cell.get().is_none());
        assert_eq!(cell.set_timeout(3, Duration::ZERO), Ok(()));
        assert_eq!(
            (cell.try_set(4), cell.set_timeout(5, LONG)),
            (Err(4), Err(5))
        );
        assert_eq!(cell.try_get_or_try_init(fails).ok(), Some(&3));
    }

    /// A process checks this before it unmaps a map, and before it forks.
    #[test]
    fn an_initialization_by_this_process_is_known() {
        use pshared::memory::Primitive;
        let both = Shared::anonymous(Both(SharedOnce::new(), SharedOnceLock::<u8>::new()));
        let both = both.unwrap();
        let held = || {
            (
                both.0.is_held_by_this_process(),
                both.1.is_held_by_this_process(),
            )
        };
        assert_eq!(held(), (false, false));
        both.0.call_once(|| {
            assert_eq!(held(), (true, false));
            both.1.get_or_init(|| {
                assert_eq!(held(), (true, true));
                1
            });
        });
        assert_eq!(held(), (false, false));
        both.0
            .owners_in_this_process(&mut |_| panic!("it has no owner"));
        both.1
            .owners_in_this_process(&mut |_| panic!("it has no owner"));
    }

    #[test]
    fn zero_bytes_are_an_empty_cell() {
        let cells = Shared::<[SharedOnceLock<std::num::NonZeroU32>; 3]>::zeroed().unwrap();
        assert_eq!(cells[1].get(), None);
        assert!(cells[1].set(9.try_into().unwrap()).is_ok());
        assert_eq!(cells[1].wait().get(), 9);
        let mut own = SharedOnceLock::from(3_u8);
        *own.get_mut().unwrap() += 1;
        assert_eq!(own.into_inner(), Some(4));
        assert_eq!(SharedOnceLock::<u8>::new().into_inner(), None);
    }
}
