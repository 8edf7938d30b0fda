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
    a_wait_that_gives_up_leaves_nothing_in_the_slot,
    an_unplaced_lock_in_the_place_of_a_mutex_that_glibc_left_in_the_slot_is_released,
    a_robust_lock_that_is_held_over_a_pthread_stays_announced,
    a_cycle_that_a_timeout_resolves_is_none_any_more,
    a_killed_waiter_of_a_pthread_strands_nobody,
    who_only_looks_takes_no_news_of_a_death,
    who_only_looks_takes_no_news_that_a_reset_noted,
    a_reset_that_is_killed_half_way_is_told_as_a_death,
);

const A_MOMENT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(60);

/// Returns `list_op_pending` of the calling thread's robust list.
fn slot() -> usize {
    let (mut head, mut length) = (std::ptr::null::<[usize; 3]>(), 0_usize);
    // SAFETY: the kernel writes a pointer and a length.
    let answer =
        unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length) };
    assert_eq!(answer, 0);
    // SAFETY: glibc registered the head of this thread's list. It consists of three words and lives
    // as long as the thread.
    unsafe { (*head)[2] }
}

fn a_wait_that_gives_up_leaves_nothing_in_the_slot() {
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
            assert_eq!(slot(), 0);
            assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
            assert_eq!(slot(), 0);
        });
    });
    drop(guard);
}

fn an_unplaced_lock_in_the_place_of_a_mutex_that_glibc_left_in_the_slot_is_released() {
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
    assert_ne!(slot(), 0, "glibc leaves it there");
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
fn a_robust_lock_that_is_held_over_a_pthread_stays_announced() {
    announced_over::<PthreadRobust>();
    announced_over::<PthreadPi>();
}

fn announced_over<R: RawLock>() {
    let ours = Shared::anonymous(SharedMutex::new(0_u64)).unwrap();
    let theirs = Shared::anonymous(SharedMutex::<u64, R>::with_strategy(0)).unwrap();
    let guard = ours.lock().unwrap();
    let node = slot();
    assert_ne!(node, 0);
    drop(theirs.lock().unwrap());
    assert_eq!((own_list(), slot()), (vec![node], 0));
    drop(guard);
    assert_eq!((own_list(), slot()), (vec![], 0));
}

/// Two threads wait for each other until one of them gives up.
fn a_cycle_that_a_timeout_resolves_is_none_any_more() {
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
fn a_killed_waiter_of_a_pthread_strands_nobody() {
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
            kill(&other);
            panic!("a waiter is stranded");
        }
    }
}

fn who_only_looks_takes_no_news_of_a_death() {
    looks::<Robust>();
    looks::<PthreadRobust>();
    looks::<PthreadPi>();
}

fn looks<R: RawLock>() {
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

fn who_only_looks_takes_no_news_that_a_reset_noted() {
    looks_after_a_reset::<Robust>();
    looks_after_a_reset::<Pthread>();
    looks_after_a_reset::<PthreadRobust>();
    looks_after_a_reset::<PthreadPi>();
}

fn looks_after_a_reset<R: RawLock>() {
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
fn a_reset_that_is_killed_half_way_is_told_as_a_death() {
    half_a_reset::<PthreadRobust>();
    half_a_reset::<Pthread>();
    half_a_reset::<Robust>();
}

fn half_a_reset<R: RawLock>() {
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
