//! A wait ends in time although its thread's timer slack is large. A child inherits the slack of
//! its parent's thread: see prctl(2), PR_SET_TIMERSLACK.

use crate::support::{Outcome, Stage, child, child_elsewhere, kill, outcome_of, passes};
use pshared::raw::{PosixSem, RawLock};
#[cfg(target_env = "gnu")]
use pshared::raw::{PthreadPi, PthreadRobust};
use pshared::{
    Error, FileLock, LockError, Shared, SharedEvent, SharedMutex, SharedPermits, SharedSemaphore,
    SysvSemaphore, wait_any_timeout,
};
use std::time::{Duration, Instant};

crate::tests!(
    a_large_timer_slack_postpones_no_timeout,
    a_large_timer_slack_postpones_no_liveness_check,
);

const SLACK: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_millis(50);
/// A wait that the slack postpones takes longer.
const LIMIT: Duration = Duration::from_secs(2);

fn slack() -> i64 {
    // SAFETY: PR_GET_TIMERSLACK takes no argument. The system call returns a long.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_TIMERSLACK) }
}

/// Sets the slack of the calling thread.
fn be_slack() {
    let nanoseconds = SLACK.as_nanos() as i64;
    // SAFETY: the call takes a number.
    let answer = unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_TIMERSLACK, nanoseconds) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    assert_eq!(slack(), nanoseconds);
}

/// Checks that `wait` ends in time, and that the thread has its slack again afterwards.
#[track_caller]
fn in_time<T>(wait: impl FnOnce() -> T) -> T {
    let (before, started) = (slack(), Instant::now());
    let outcome = wait();
    let elapsed = started.elapsed();
    assert!(elapsed < LIMIT, "{elapsed:?}");
    assert_eq!(slack(), before);
    outcome
}

fn a_mutex_of<R: RawLock>() {
    let mutex = Shared::anonymous(SharedMutex::<u64, R>::with_strategy(0)).unwrap();
    let ready = Shared::anonymous(SharedEvent::new()).unwrap();
    let holder = child(|| {
        let _guard = mutex.lock().unwrap();
        ready.set();
        loop {
            std::thread::park();
        }
    });
    ready.wait();
    passes(&child(|| {
        be_slack();
        let outcome = in_time(|| mutex.lock_timeout(TIMEOUT));
        assert!(matches!(outcome, Err(LockError::TimedOut)));
    }));
    kill(&holder);
}

fn a_large_timer_slack_postpones_no_timeout() {
    a_mutex_of::<pshared::raw::Robust>();
    a_mutex_of::<PosixSem>();
    #[cfg(target_env = "gnu")]
    a_mutex_of::<PthreadRobust>();
    #[cfg(target_env = "gnu")]
    a_mutex_of::<PthreadPi>();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    let mut held = FileLock::flock(&path).unwrap();
    let _held = held.lock().unwrap();
    let event = Shared::anonymous(SharedEvent::new()).unwrap();
    let permits = Shared::anonymous(SharedPermits::<2>::new()).unwrap();
    let _permits = [permits.acquire().unwrap(), permits.acquire().unwrap()];
    let semaphore = Shared::anonymous(SharedSemaphore::new(0)).unwrap();
    let sysv = SysvSemaphore::private(1).unwrap();
    let _permit = sysv.acquire().unwrap();
    passes(&child_elsewhere(|| {
        be_slack();
        let outcomes = [
            in_time(|| event.wait_timeout(TIMEOUT)),
            in_time(|| wait_any_timeout(&[&*event, &*permits], TIMEOUT).map(drop)),
            in_time(|| permits.acquire_timeout(TIMEOUT).map(drop)),
            in_time(|| semaphore.wait_timeout(TIMEOUT)),
            in_time(|| sysv.acquire_timeout(TIMEOUT).map(drop)),
            in_time(|| FileLock::flock(&path)?.lock_timeout(TIMEOUT).map(drop)),
        ];
        for outcome in outcomes {
            assert!(matches!(outcome, Err(Error::TimedOut)), "{outcome:?}");
        }
        let sleeper = child(|| {
            loop {
                std::thread::park();
            }
        });
        assert!(in_time(|| sleeper.wait_timeout(TIMEOUT)).unwrap().is_none());
        kill(&sleeper);
    }));
}

fn a_large_timer_slack_postpones_no_liveness_check() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        let _guard = stage.lock.lock();
        // SAFETY: the call takes a null head; the kernel then walks no list for this thread.
        unsafe { libc::syscall(libc::SYS_set_robust_list, 0, 24) };
        stage.ready.set();
        loop {
            std::thread::park();
        }
    });
    stage.meet(&holder);
    kill(&holder);
    passes(&child(|| {
        be_slack();
        let outcome = in_time(|| outcome_of(stage.lock.lock()));
        assert_eq!(outcome, Outcome::FreshDeath);
    }));
}
