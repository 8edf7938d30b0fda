//! Semaphores in one process, placed and in-process.

use pshared::{Error, Shared, SharedSemaphore};
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// Returns an in-process semaphore and one in a map.
fn both(permits: u32) -> [Box<dyn Deref<Target = SharedSemaphore> + Sync>; 2] {
    let placed = Shared::anonymous(SharedSemaphore::new(permits)).unwrap();
    [
        Box::new(Box::new(SharedSemaphore::new(permits))),
        Box::new(placed),
    ]
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn permits_are_acquired_until_none_is_left_and_are_released() {
    for semaphore in both(2) {
        semaphore.wait().unwrap();
        semaphore.try_wait().unwrap();
        assert_eq!(semaphore.value(), 0);
        assert!(matches!(semaphore.try_wait(), Err(Error::WouldBlock)));
        assert!(matches!(
            semaphore.wait_timeout(Duration::from_nanos(1)),
            Err(Error::TimedOut)
        ));
        assert!(matches!(
            semaphore.wait_timeout(Duration::ZERO),
            Err(Error::TimedOut)
        ));
        semaphore.post().unwrap();
        semaphore.post().unwrap();
        semaphore.post().unwrap();
        assert_eq!(semaphore.value(), 3);
        semaphore.wait_timeout(Duration::ZERO).unwrap();
        assert_eq!(semaphore.value(), 2);
    }
}

#[test]
fn a_permit_is_returned_when_dropped_and_lost_when_leaked() {
    for semaphore in both(3) {
        let one = semaphore.acquire().unwrap();
        let two = semaphore.try_acquire().unwrap();
        let three = semaphore.acquire_timeout(LONG).unwrap();
        assert!(matches!(semaphore.try_acquire(), Err(Error::WouldBlock)));
        assert!(matches!(
            semaphore.acquire_timeout(Duration::from_nanos(1)),
            Err(Error::TimedOut)
        ));
        drop((one, two));
        assert_eq!(semaphore.value(), 2);
        std::mem::forget(three);
        assert_eq!(semaphore.value(), 2);
    }
}

#[test]
fn a_permit_may_be_dropped_by_another_thread() {
    for semaphore in both(1) {
        let permit = semaphore.acquire().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || drop(permit));
        });
        assert_eq!(semaphore.value(), 1);
    }
}

#[test]
fn a_post_to_a_full_semaphore_is_an_error() {
    for semaphore in both(SharedSemaphore::MAX) {
        let refusal = semaphore.post().unwrap_err();
        assert!(
            matches!(refusal, Error::SemaphoreFull { max: 2_147_483_647 }),
            "{refusal:?}"
        );
        assert!(
            refusal.to_string().contains("2147483647 permits"),
            "{refusal}"
        );
        assert_eq!(semaphore.value(), SharedSemaphore::MAX);
        semaphore.wait().unwrap();
        semaphore.post().unwrap();
    }
}

#[test]
#[should_panic(expected = "at most 2^31 - 1 permits")]
fn more_permits_than_can_be_counted_are_refused() {
    let _ = SharedSemaphore::new(SharedSemaphore::MAX + 1);
}

#[test]
fn the_count_moves_with_an_in_process_semaphore() {
    let semaphore = SharedSemaphore::new(5);
    semaphore.wait().unwrap();
    let moved = Box::new(semaphore);
    moved.post().unwrap();
    moved.post().unwrap();
    let placed = Shared::anonymous(*moved).unwrap();
    assert_eq!(placed.value(), 6);
    placed.wait().unwrap();
    assert_eq!(placed.value(), 5);
}

/// Returns the `sem_t` of a placed semaphore.
fn sem_t(semaphore: &SharedSemaphore) -> *mut libc::sem_t {
    std::ptr::from_ref(semaphore).cast_mut().cast()
}

#[test]
fn a_placed_semaphore_is_a_process_shared_sem_t() {
    let placed = Shared::anonymous(SharedSemaphore::new(2)).unwrap();
    let sem_t = sem_t(&placed);
    let mut value = 0;
    // SAFETY: a placed semaphore starts with an initialized sem_t, which any thread may use.
    unsafe {
        assert_eq!(libc::sem_getvalue(sem_t, &mut value), 0);
        assert_eq!(value, 2);
        assert_eq!(libc::sem_post(sem_t), 0);
        assert_eq!(libc::sem_trywait(sem_t), 0);
        assert_eq!(libc::sem_trywait(sem_t), 0);
        // glibc keeps the count in the lower half of the first 64-bit word. The word behind it
        // holds the flag that glibc passes to futex(2): 0 if pshared is 0, otherwise
        // FUTEX_PRIVATE_FLAG, which glibc then turns off. musl keeps the count in the first 32-bit
        // word, and in the third the flag as it passes it: 0 if pshared is not 0.
        let flag = match cfg!(target_env = "musl") {
            true => 0,
            false => libc::FUTEX_PRIVATE_FLAG,
        };
        assert_eq!(sem_t.cast::<u32>().read(), 1);
        assert_eq!(sem_t.cast::<i32>().add(2).read(), flag);
    }
    assert_eq!(placed.value(), 1);
}

#[test]
fn a_waiter_is_woken_by_a_post_to_the_bare_sem_t_and_wakes_one_there() {
    let placed = Shared::anonymous(SharedSemaphore::new(0)).unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| placed.wait());
        // SAFETY: as above.
        unsafe { libc::sem_post(sem_t(&placed)) };
        waiter.join().unwrap().unwrap();
        let bare = scope.spawn(|| {
            // SAFETY: as above.
            while unsafe { libc::sem_wait(sem_t(&placed)) } != 0 {}
        });
        placed.post().unwrap();
        bare.join().unwrap();
    });
    assert_eq!(placed.value(), 0);
}

#[test]
fn every_post_releases_one_waiter() {
    for semaphore in both(0) {
        let passed = AtomicU32::new(0);
        thread::scope(|scope| {
            for index in 0..6 {
                let (semaphore, passed) = (&semaphore, &passed);
                scope.spawn(move || {
                    match index % 3 {
                        0 => semaphore.wait().unwrap(),
                        1 => semaphore.wait_timeout(LONG).unwrap(),
                        _ => std::mem::forget(semaphore.acquire_timeout(LONG).unwrap()),
                    }
                    passed.fetch_add(1, Relaxed);
                });
            }
            (0..6).for_each(|_| semaphore.post().unwrap());
        });
        assert_eq!((passed.into_inner(), semaphore.value()), (6, 0));
    }
}

#[test]
fn no_more_are_inside_than_there_are_permits() {
    for semaphore in both(3) {
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let _permit = semaphore.acquire().unwrap();
                        most.fetch_max(inside.fetch_add(1, Relaxed) + 1, Relaxed);
                        thread::yield_now();
                        inside.fetch_sub(1, Relaxed);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert_eq!(semaphore.value(), 3);
    }
}

#[test]
fn a_ping_pong_of_two_semaphores_loses_no_wake() {
    let pairs = [(both(0), both(1))];
    for (pings, pongs) in pairs {
        for (ping, pong) in pings.iter().zip(&pongs) {
            thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        ping.wait().unwrap();
                        pong.post().unwrap();
                    }
                });
                for _ in 0..5_000 {
                    pong.wait().unwrap();
                    ping.post().unwrap();
                }
            });
            assert_eq!((ping.value(), pong.value()), (0, 1));
        }
    }
}

#[test]
fn semaphores_and_permits_are_formatted() {
    let semaphore = SharedSemaphore::new(2);
    let permit = semaphore.acquire().unwrap();
    assert_eq!(format!("{semaphore:?}"), "SharedSemaphore { value: 1, .. }");
    assert!(format!("{permit:?}").starts_with("SemaphorePermit"));
}
