//! The strategies based on glibc's mutexes: their use together with the crate's own locks, and
//! glibc's handling of the robust list.

use crate::list_op_pending::own_list;
use crate::pthread::{Protocol, PthreadMutex};
use crate::support::{child, kill, passes, sleeps, until};
use pshared::raw::{Pthread, PthreadPi, PthreadRobust, RawLock, Robust};
use pshared::{Cause, LockError, Shared, SharedEvent, SharedMutex};
use std::mem::MaybeUninit;
use std::sync::Barrier;
use std::time::Duration;

crate::tests!(
    a_wait_that_times_out_leaves_list_op_pending_empty,
    an_in_process_lock_at_the_address_left_in_list_op_pending_is_released,
    a_robust_lock_held_while_a_pthread_mutex_is_used_stays_listed,
    a_cycle_that_a_timeout_resolves_is_not_a_deadlock,
    a_killed_waiter_of_a_pthread_strands_no_other_waiter,
    formatting_does_not_consume_the_report_of_a_death,
    formatting_does_not_consume_a_report_noted_by_a_reset,
    a_death_is_reported_after_an_interrupted_reset,
);

const A_MOMENT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(60);

/// Returns `list_op_pending` of the calling thread's robust list.
fn pending() -> usize {
    let (mut head, mut length) = (std::ptr::null::<[usize; 3]>(), 0_usize);
    // SAFETY: the kernel writes a pointer and a length.
    let answer =
        unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length) };
    assert_eq!(answer, 0);
    // SAFETY: glibc registered the head of this thread's list. It consists of three words and lives
    // as long as the thread.
    unsafe { (*head)[2] }
}

fn a_wait_that_times_out_leaves_list_op_pending_empty() {
    gives_up::<PthreadRobust>();
    gives_up::<PthreadPi>();
}

fn gives_up<R: RawLock>() {
    let lock = Shared::anonymous(SharedMutex::<u64, R>::with_strategy(0)).unwrap();
    let guard = lock.lock().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let outcome = lock.lock_timeout(A_MOMENT);
            assert!(matches!(outcome, Err(LockError::TimedOut)), "{outcome:?}");
            assert_eq!(pending(), 0);
            assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
            assert_eq!(pending(), 0);
        });
    });
    drop(guard);
}

fn an_in_process_lock_at_the_address_left_in_list_op_pending_is_released() {
    const BYTES: usize = size_of::<SharedMutex<u64>>();
    let mut place = MaybeUninit::<[u64; BYTES / 8]>::uninit();
    let theirs = place.as_mut_ptr().cast::<PthreadMutex>();
    {
        // SAFETY: the memory is large enough for either type, and aligned for both.
        let theirs = unsafe {
            theirs.write(PthreadMutex::new());
            &*theirs
        };
        theirs.init(Protocol::None);
        let (locked, over) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                theirs.lock().unwrap();
                locked.wait();
                over.wait();
                theirs.unlock();
            });
            locked.wait();
            assert_eq!(theirs.lock_timeout(A_MOMENT), Err(libc::ETIMEDOUT));
            over.wait();
        });
    }
    assert_ne!(pending(), 0, "glibc leaves it there");
    let ours = place.as_mut_ptr().cast::<SharedMutex<u64>>();
    // SAFETY: as above. The mutex that was there before is not used any more.
    let ours = unsafe {
        ours.write(SharedMutex::new(0));
        &*ours
    };
    for _ in 0..3 {
        *ours.lock().unwrap() += 1;
    }
    assert_eq!(*ours.lock_timeout(A_MOMENT).unwrap(), 3);
}

/// glibc clears `list_op_pending`. If the field holds a lock of this crate, that lock is put on the
/// list first, so that the kernel finds it.
fn a_robust_lock_held_while_a_pthread_mutex_is_used_stays_listed() {
    stays_listed::<PthreadRobust>();
    stays_listed::<PthreadPi>();
}

fn stays_listed<R: RawLock>() {
    let ours = Shared::anonymous(SharedMutex::new(0_u64)).unwrap();
    let theirs = Shared::anonymous(SharedMutex::<u64, R>::with_strategy(0)).unwrap();
    let guard = ours.lock().unwrap();
    let node = pending();
    assert_ne!(node, 0);
    drop(theirs.lock().unwrap());
    assert_eq!((own_list(), pending()), (vec![node], 0));
    drop(guard);
    assert_eq!((own_list(), pending()), (vec![], 0));
}

/// Two threads wait for each other until one of them gives up.
fn a_cycle_that_a_timeout_resolves_is_not_a_deadlock() {
    cycle::<Robust>();
    cycle::<PthreadRobust>();
    cycle::<PthreadPi>();
}

fn cycle<R: RawLock>() {
    let locks = Shared::anonymous([const { SharedMutex::<u64, R>::with_strategy(0) }; 2]).unwrap();
    let met = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _first = locks[0].lock().unwrap();
            met.wait();
            drop(locks[1].lock().unwrap());
        });
        let second = locks[1].lock().unwrap();
        met.wait();
        let outcome = locks[0].lock_timeout(Duration::from_millis(300));
        assert!(matches!(outcome, Err(LockError::TimedOut)), "{outcome:?}");
        drop(second);
    });
}

/// One waiter is killed as the lock is released. The other waiter gets the lock, even if the killed
/// waiter consumed the wake.
fn a_killed_waiter_of_a_pthread_strands_no_other_waiter() {
    for _ in 0..8 {
        let lock = Shared::anonymous(SharedMutex::<u64, Pthread>::with_strategy(0)).unwrap();
        let [ready, over] = [(); 2].map(|()| Shared::anonymous(SharedEvent::new()).unwrap());
        let holder = child(|| {
            let _guard = lock.lock().unwrap();
            ready.set();
            over.wait();
        });
        ready.wait();
        let waits = || child(|| drop(lock.lock().unwrap()));
        let (killed, other) = (waits(), waits());
        until(|| sleeps(killed.id()) && sleeps(other.id()));
        over.set();
        until(|| !sleeps(killed.id()) || !sleeps(other.id()));
        killed.kill().unwrap();
        killed.wait().unwrap();
        passes(&holder);
        if other.wait_timeout(LONG).unwrap().is_none() {
            // This lock is not robust. If the killed waiter had already acquired it, it remains
            // locked. A waiter is stranded if it waits for a lock that is free.
            let is_locked_by_the_dead = matches!(lock.try_lock(), Err(LockError::WouldBlock));
            kill(&other);
            assert!(is_locked_by_the_dead, "a waiter is stranded");
        }
    }
}

fn formatting_does_not_consume_the_report_of_a_death() {
    formatting_keeps_report::<Robust>();
    formatting_keeps_report::<PthreadRobust>();
    formatting_keeps_report::<PthreadPi>();
}

fn formatting_keeps_report<R: RawLock>() {
    for round in 0..60 {
        let lock = Shared::anonymous(SharedMutex::<u64, R>::with_strategy(0)).unwrap();
        let ready = Shared::anonymous(SharedEvent::new()).unwrap();
        let victim = child(|| {
            ready.set();
            loop {
                *lock.lock().unwrap() += 1;
            }
        });
        ready.wait();
        (0..round * 50).for_each(|_| std::hint::spin_loop());
        kill(&victim);
        let _ = format!("{lock:?}");
        if let Err(LockError::Poisoned(poisoned)) = lock.lock() {
            assert!(poisoned.is_first_report(), "the first report was lost");
        };
    }
}

fn formatting_does_not_consume_a_report_noted_by_a_reset() {
    formatting_keeps_report_of_reset::<Robust>();
    formatting_keeps_report_of_reset::<Pthread>();
    formatting_keeps_report_of_reset::<PthreadRobust>();
    formatting_keeps_report_of_reset::<PthreadPi>();
}

fn formatting_keeps_report_of_reset<R: RawLock>() {
    use pshared::memory::Primitive;
    let lock = Shared::anonymous(SharedMutex::<u64, R>::with_strategy(0)).unwrap();
    let ready = Shared::anonymous(SharedEvent::new()).unwrap();
    let holder = child(|| {
        let _guard = lock.lock().unwrap();
        ready.set();
        loop {
            std::thread::park();
        }
    });
    ready.wait();
    kill(&holder);
    // SAFETY: the only user of the lock is dead.
    unsafe { lock.reset() };
    let shown = format!("{lock:?}");
    match lock.lock() {
        Err(LockError::Poisoned(poisoned)) => {
            assert!(poisoned.is_first_report(), "formatting lost it: {shown}")
        }
        other => panic!("the death was not reported: {other:?}"),
    };
}

/// A reset that is killed after any of its steps is followed by another reset. The death must still
/// be reported.
fn a_death_is_reported_after_an_interrupted_reset() {
    interrupted_reset::<PthreadRobust>();
    interrupted_reset::<Pthread>();
    interrupted_reset::<Robust>();
}

fn interrupted_reset<R: RawLock>() {
    use pshared::memory::Primitive;
    let lock = Shared::anonymous(SharedMutex::<[u64; 2], R>::with_strategy([1, 1])).unwrap();
    let ready = Shared::anonymous(SharedEvent::new()).unwrap();
    let holder = child(|| {
        let mut guard = lock.lock().unwrap();
        guard[0] = 2;
        ready.set();
        loop {
            std::thread::park();
        }
    });
    ready.wait();
    kill(&holder);
    for _ in 0..2 {
        // SAFETY: the only user of the lock is dead.
        unsafe { lock.reset() };
    }
    match lock.lock() {
        Err(LockError::Poisoned(poisoned)) => {
            assert_eq!(poisoned.cause(), Cause::Died);
            assert!(poisoned.is_first_report());
        }
        other => panic!("a torn value is returned: {other:?}"),
    };
    let again = lock.lock();
    assert!(
        matches!(&again, Err(LockError::Poisoned(poisoned)) if !poisoned.is_first_report()),
        "{again:?}"
    );
}
