//! System V semaphores in one process.

use pshared::{Error, SysvPermit, SysvSemaphore};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

/// Returns the mode of the set with this id, or `None` if there is no such set: sysvipc(7).
fn mode(id: i32) -> Option<String> {
    let sets = fs::read_to_string("/proc/sysvipc/sem").unwrap();
    sets.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        (fields.next()? == id.to_string()).then(|| fields.next().unwrap().to_string())
    })
}

#[test]
fn permits_are_acquired_until_none_is_left_and_are_returned_on_drop() {
    let semaphore = SysvSemaphore::private(3).unwrap();
    let one = semaphore.acquire().unwrap();
    let two = semaphore.try_acquire().unwrap();
    let three = semaphore.acquire_timeout(LONG).unwrap();
    assert_eq!(semaphore.value().unwrap(), 0);
    assert!(matches!(semaphore.try_acquire(), Err(Error::WouldBlock)));
    drop((one, two));
    assert_eq!(semaphore.value().unwrap(), 2);
    let one = semaphore.acquire_timeout(Duration::ZERO).unwrap();
    assert_eq!(semaphore.value().unwrap(), 1);
    std::mem::forget(three);
    drop(one);
    assert_eq!(semaphore.value().unwrap(), 2);
}

#[test]
fn a_wait_without_a_permit_times_out_and_takes_nothing() {
    let semaphore = SysvSemaphore::private(0).unwrap();
    for timeout in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_millis(20),
    ] {
        assert!(matches!(
            semaphore.acquire_timeout(timeout),
            Err(Error::TimedOut)
        ));
    }
    assert_eq!(semaphore.value().unwrap(), 0);
}

#[test]
fn a_timeout_beyond_every_clock_is_valid() {
    let semaphore = SysvSemaphore::private(1).unwrap();
    let permit = semaphore.acquire_timeout(Duration::MAX).unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(semaphore.acquire_timeout(Duration::MAX).unwrap()));
        thread::yield_now();
        drop(permit);
        waiter.join().unwrap();
    });
}

#[test]
fn threads_count_exactly() {
    let semaphore = SysvSemaphore::private(1).unwrap();
    let count = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (semaphore, count) = (&semaphore, &count);
            scope.spawn(move || {
                for turn in 0..1_000 {
                    let permit = match (thread + turn) % 2 {
                        0 => semaphore.acquire(),
                        _ => semaphore.acquire_timeout(LONG),
                    };
                    let before = count.load(Relaxed);
                    if turn % 16 == 0 {
                        thread::yield_now();
                    }
                    count.store(before + 1, Relaxed);
                    drop(permit.unwrap());
                }
            });
        }
    });
    assert_eq!(count.load(Relaxed), 4_000);
    assert_eq!(semaphore.value().unwrap(), 1);
}

#[test]
fn a_thread_new_to_this_crate_may_drop_a_permit_and_the_semaphore() {
    let semaphore = SysvSemaphore::private(1).unwrap();
    thread::scope(|scope| {
        let permit = semaphore.acquire().unwrap();
        scope.spawn(move || drop(permit)).join().unwrap();
    });
    assert_eq!(semaphore.value().unwrap(), 1);
    let id = semaphore.id();
    thread::spawn(move || drop(semaphore)).join().unwrap();
    assert_eq!(mode(id), None);
}

#[test]
fn a_permit_that_a_thread_leaked_stays_taken_after_its_end() {
    let semaphore = SysvSemaphore::private(1).unwrap();
    thread::scope(|scope| {
        scope
            .spawn(|| std::mem::forget(semaphore.acquire().unwrap()))
            .join()
            .unwrap();
    });
    assert!(matches!(semaphore.try_acquire(), Err(Error::WouldBlock)));
}

#[test]
fn a_new_set_is_private_and_is_removed_with_the_handle_that_created_it() {
    let made = SysvSemaphore::private(1).unwrap();
    let id = made.id();
    assert_eq!(mode(id).as_deref(), Some("600"));
    drop(SysvSemaphore::attach(id).unwrap());
    assert!(mode(id).is_some(), "an attached handle has removed it");
    drop(made);
    assert_eq!(mode(id), None);
}

#[test]
fn an_attached_handle_shares_the_permits_and_may_remove_the_set() {
    let made = SysvSemaphore::private(2).unwrap();
    let attached = SysvSemaphore::attach(made.id()).unwrap();
    assert_eq!(attached.id(), made.id());
    let permits = (made.acquire().unwrap(), attached.acquire().unwrap());
    assert!(matches!(made.try_acquire(), Err(Error::WouldBlock)));
    drop(permits);
    attached.remove().unwrap();
    assert_eq!(mode(made.id()), None);
}

#[test]
fn every_call_on_a_removed_set_is_an_error_that_states_the_removal() {
    let made = SysvSemaphore::private(1).unwrap();
    let id = made.id();
    let attached = SysvSemaphore::attach(id).unwrap();
    let permit = attached.acquire().unwrap();
    made.remove().unwrap();
    assert_eq!(mode(id), None);
    type Attempt = fn(&SysvSemaphore) -> Result<SysvPermit<'_>, Error>;
    let attempts: [Attempt; 4] = [
        |semaphore| semaphore.acquire(),
        |semaphore| semaphore.try_acquire(),
        |semaphore| semaphore.acquire_timeout(LONG),
        |semaphore| semaphore.acquire_timeout(Duration::ZERO),
    ];
    let removed = |error: &Error| matches!(error, Error::SemaphoreRemoved { id: of } if *of == id);
    for attempt in attempts {
        let error = attempt(&attached).unwrap_err();
        assert!(removed(&error), "{error:?}");
        assert!(error.to_string().contains("it was removed"), "{error}");
    }
    assert!(removed(&attached.value().unwrap_err()));
    assert!(removed(&SysvSemaphore::attach(id).unwrap_err()));
    // There is no semaphore to return the permit to.
    drop(permit);
    assert!(removed(&attached.remove().unwrap_err()));
    assert!(matches!(
        SysvSemaphore::attach(-1),
        Err(Error::SemaphoreRemoved { id: -1 })
    ));
}

#[test]
fn a_set_of_another_program_is_refused_and_not_changed() {
    // SAFETY: the call takes numbers only.
    let id = unsafe { libc::semget(libc::IPC_PRIVATE, 3, 0o600) };
    let outcome = SysvSemaphore::attach(id);
    let was_left = mode(id).is_some();
    // SAFETY: the call takes numbers only, and only this test knows the id.
    unsafe { libc::semctl(id, 0, libc::IPC_RMID) };
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, Error::SemaphoreSetMismatch { id: of, found: 3 } if of == id),
        "{error:?}"
    );
    assert!(was_left);
}

#[test]
fn a_semaphore_counts_to_its_maximum_and_no_further() {
    const MAX: u32 = SysvSemaphore::MAX;
    let semaphore = SysvSemaphore::private(MAX).unwrap();
    assert_eq!(semaphore.value().unwrap(), MAX);
    for asked in [MAX + 1, u32::MAX] {
        let error = SysvSemaphore::private(asked).unwrap_err();
        assert!(
            matches!(error, Error::TooManyPermits { asked: of, max: MAX } if of == asked),
            "{error:?}"
        );
    }
}

/// Adds a permit that no thread has acquired, as another program may.
fn add(semaphore: &SysvSemaphore) {
    let mut operation = libc::sembuf {
        sem_num: 0,
        sem_op: 1,
        sem_flg: 0,
    };
    // SAFETY: the call takes one operation, and `operation` is one.
    let answer = unsafe { libc::semop(semaphore.id(), &mut operation, 1) };
    assert_eq!(answer, 0);
}

#[test]
fn a_process_that_holds_the_maximum_of_permits_gets_an_error() {
    const MAX: u32 = SysvSemaphore::MAX;
    let semaphore = SysvSemaphore::private(MAX).unwrap();
    for _ in 0..MAX {
        std::mem::forget(semaphore.acquire().unwrap());
    }
    assert!(matches!(semaphore.try_acquire(), Err(Error::WouldBlock)));
    add(&semaphore);
    let error = semaphore.acquire().unwrap_err();
    assert!(
        matches!(error, Error::TooManyPermitsHeld { id, max: MAX } if id == semaphore.id()),
        "{error:?}"
    );
    assert_eq!(semaphore.value().unwrap(), 1);
}

#[test]
fn a_permit_that_would_exceed_the_maximum_is_dropped_silently() {
    const MAX: u32 = SysvSemaphore::MAX;
    let semaphore = SysvSemaphore::private(MAX).unwrap();
    let permit = semaphore.acquire().unwrap();
    add(&semaphore);
    drop(permit);
    assert_eq!(semaphore.value().unwrap(), MAX);
}
