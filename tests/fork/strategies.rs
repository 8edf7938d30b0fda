//! One test suite for all lock strategies of a mutex. `choosing` tests what they share with locks
//! outside of maps.

use crate::support::{child, kill, passes, until};
use pshared::raw::{Futex, PosixSem, Pthread, RawLock, Robust, Spin, Ticket};
#[cfg(target_env = "gnu")]
use pshared::raw::{PthreadPi, PthreadRobust};
use pshared::{Cause, LockError, Shared, SharedCounter, SharedEvent, SharedMutex, ShmSafe, fork};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Long enough for a thread that is not blocked.
const LONG: Duration = Duration::from_secs(60);

/// Runs a function for every strategy.
macro_rules! for_each {
    ($function:ident $($argument:expr)?) => {
        $function::<Robust>($($argument)?);
        $function::<Futex>($($argument)?);
        $function::<Pthread>($($argument)?);
        #[cfg(target_env = "gnu")]
        $function::<PthreadRobust>($($argument)?);
        #[cfg(target_env = "gnu")]
        $function::<PthreadPi>($($argument)?);
        $function::<PosixSem>($($argument)?);
        $function::<Spin>($($argument)?);
        $function::<Ticket>($($argument)?);
    };
}

/// Defines a test for each function. The test runs the function for every strategy.
macro_rules! suite {
    ($($name:ident by $function:ident),* $(,)?) => {
        $(fn $name() {
            for_each!($function);
        })*
        crate::tests!(
            $($name,)*
            a_file_of_one_strategy_is_not_opened_as_another,
            #[cfg(target_env = "gnu")]
            data_of_an_ended_thread_that_leaked_its_guard_is_not_returned,
            a_waiter_that_dies_with_a_ticket_blocks_all_later_waiters,
        );
    };
}

suite!(
    every_strategy_counts_exactly_with_processes_and_threads by count,
    every_strategy_lets_a_waiter_time_out by give_up,
    every_strategy_reports_its_holder_and_refuses_to_relock by relock,
    every_strategy_keeps_its_parents_lock_when_a_child_drops_the_guard by cross_a_fork,
    every_strategy_refuses_a_fork_while_it_is_held by fork_while_held,
    every_strategy_works_before_it_is_placed by use_in_process,
    every_strategy_is_usable_after_all_its_users_have_ended by reopen,
    every_strategy_reports_a_panic by panic_inside,
);

#[derive(ShmSafe)]
#[repr(C)]
struct State<R: RawLock> {
    count: SharedMutex<u64, R>,
    /// The thread that is inside, or 0.
    inside: AtomicU32,
    /// How often two threads were inside at once.
    together: SharedCounter,
    start: SharedEvent,
    ready: SharedEvent,
}

impl<R: RawLock> State<R> {
    fn new() -> Self {
        State {
            count: SharedMutex::with_strategy(0),
            inside: AtomicU32::new(0),
            together: SharedCounter::new(0),
            start: SharedEvent::new(),
            ready: SharedEvent::new(),
        }
    }

    fn anonymous() -> Shared<Self> {
        Shared::anonymous(Self::new()).expect("no map")
    }

    /// Runs one critical section of the thread `own`, which is not 0.
    fn section(&self, own: u32, turn: u32) {
        let mut count = match turn % 16 {
            0 => loop {
                match self.count.try_lock() {
                    Ok(guard) => break guard,
                    Err(LockError::WouldBlock) => std::thread::yield_now(),
                    Err(other) => panic!("{other:?}"),
                }
            },
            8 => self.count.lock_timeout(LONG).expect("lock_timeout"),
            _ => self.count.lock().expect("lock"),
        };
        let before = self.inside.swap(own, Relaxed);
        *count += 1;
        let after = self.inside.swap(0, Relaxed);
        if before != 0 || after != own {
            self.together.add(1);
        }
    }
}

fn wait_to_be_killed() -> ! {
    loop {
        std::thread::park();
    }
}

fn count<R: RawLock>() {
    const PROCESSES: u32 = 3;
    const THREADS: u32 = 2;
    const SECTIONS: u32 = 4_000;
    let state = State::<R>::anonymous();
    let children: Vec<_> = (0..PROCESSES)
        .map(|process| {
            let state = &*state;
            child(move || {
                let work = |thread| {
                    state.start.wait();
                    let own = process * THREADS + thread + 1;
                    (0..SECTIONS).for_each(|turn| state.section(own, turn));
                };
                std::thread::scope(|scope| {
                    (1..THREADS).for_each(|thread| {
                        scope.spawn(move || work(thread));
                    });
                    work(0);
                });
            })
        })
        .collect();
    state.start.set();
    children.iter().for_each(passes);
    assert_eq!(state.together.get(), 0, "two threads were inside at once");
    assert_eq!(
        *state.count.lock().unwrap(),
        u64::from(PROCESSES * THREADS * SECTIONS)
    );
}

fn give_up<R: RawLock>() {
    let state = State::<R>::anonymous();
    let guard = state.count.lock().unwrap();
    passes(&unsafe_child(|| {
        assert!(matches!(state.count.try_lock(), Err(LockError::WouldBlock)));
        let outcome = state.count.lock_timeout(Duration::from_millis(3));
        assert!(matches!(outcome, Err(LockError::TimedOut)), "{outcome:?}");
    }));
    drop(guard);
    assert!(state.count.try_lock().is_ok());
}

/// Forks a child of a process that holds a lock.
fn unsafe_child(body: impl FnOnce()) -> fork::Child {
    // SAFETY: the process has one thread, and the child uses its parent's guards only to drop them.
    unsafe { fork::spawn_unchecked(body) }.expect("no child")
}

fn relock<R: RawLock>() {
    let state = State::<R>::anonymous();
    assert_eq!(state.count.holder(), None);
    let guard = state.count.lock().unwrap();
    let holder = state.count.holder().expect("it is held");
    assert_eq!(
        (holder.process, holder.thread),
        (std::process::id(), crate::support::gettid())
    );
    assert!(matches!(state.count.lock(), Err(LockError::Deadlock)));
    let timed = state.count.lock_timeout(Duration::from_millis(1));
    assert!(matches!(timed, Err(LockError::Deadlock)), "{timed:?}");
    assert!(matches!(state.count.try_lock(), Err(LockError::WouldBlock)));
    drop(guard);
    assert_eq!(state.count.holder(), None);
    assert!(state.count.lock().is_ok());
}

fn cross_a_fork<R: RawLock>() {
    let state = State::<R>::anonymous();
    let guard = state.count.lock().unwrap();
    let mut copy = Some(guard);
    passes(&unsafe_child(|| drop(copy.take())));
    passes(&unsafe_child(|| {
        let outcome = state.count.lock_timeout(Duration::from_millis(1));
        assert!(matches!(outcome, Err(LockError::TimedOut)), "{outcome:?}");
    }));
    assert!(state.count.holder().is_some());
    drop(copy);
    assert!(state.count.try_lock().is_ok());
}

fn fork_while_held<R: RawLock>() {
    let state = State::<R>::anonymous();
    let guard = state.count.lock().unwrap();
    assert!(matches!(fork::spawn(|| ()), Err(fork::Error::LockHeld)));
    drop(guard);
    passes(&child(|| ()));
}

fn use_in_process<R: RawLock>() {
    let lock = SharedMutex::<u64, R>::with_strategy(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..2_000).for_each(|_| *lock.lock().unwrap() += 1));
        }
    });
    assert_eq!(*lock.lock().unwrap(), 6_000);
    std::mem::forget(lock.lock().unwrap());
    // The lock is free after it was moved and placed.
    let placed = Shared::anonymous(lock).expect("no map");
    passes(&child(|| *placed.lock().unwrap() += 1));
    assert_eq!(*placed.lock().unwrap(), 6_001);
}

fn panic_inside<R: RawLock>() {
    let state = State::<R>::anonymous();
    let child = fork::spawn(|| {
        let _guard = state.count.lock().unwrap();
        panic!("inside");
    })
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(fork::PANICKED));
    match state.count.lock() {
        Err(LockError::Poisoned(poisoned)) => assert_eq!(poisoned.cause(), Cause::Panicked),
        other => panic!("the panic was not reported: {other:?}"),
    };
}

/// The last user of a file is killed in its critical section. The next opener is the only user and
/// can acquire the lock.
fn reopen<R: RawLock>() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books");
    drop(crate::support::create(&path, State::<R>::new()));
    let ready = Shared::anonymous(SharedEvent::new()).unwrap();
    let holder = child(|| {
        let state = crate::support::open::<State<R>>(&path);
        let mut count = state.count.lock().unwrap();
        *count = 5;
        ready.set();
        wait_to_be_killed();
    });
    ready.wait();
    kill(&holder);
    let state = crate::support::open::<State<R>>(&path);
    match state.count.lock() {
        Err(LockError::Poisoned(poisoned)) => {
            assert_eq!(poisoned.cause(), Cause::Died);
            assert_eq!(*poisoned.into_guard(), 5);
        }
        other => panic!("the death was not reported: {other:?}"),
    };
}

fn a_file_of_one_strategy_is_not_opened_as_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    drop(crate::support::create(
        &path,
        SharedMutex::<u64, Spin>::with_strategy(0),
    ));
    // SAFETY: no other process knows the file.
    let refused = unsafe { Shared::<SharedMutex<u64, Futex>>::open(&path) }.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("mutex-spin"), "{text}");
    assert!(text.contains("mutex-futex"), "{text}");
}

/// The thread that holds the lock ends. Its process lives on, and so does the guard.
#[cfg(target_env = "gnu")]
fn data_of_an_ended_thread_that_leaked_its_guard_is_not_returned() {
    leak_in_a_thread::<PthreadRobust>();
    leak_in_a_thread::<PthreadPi>();
}

#[cfg(target_env = "gnu")]
fn leak_in_a_thread<R: RawLock>() {
    let state = State::<R>::anonymous();
    let state: &'static State<R> = state.leak();
    let over = Shared::anonymous(SharedEvent::new()).unwrap();
    let leaks = child(|| {
        std::thread::spawn(|| {
            let guard = Box::leak(Box::new(state.count.lock().unwrap()));
            let data: &'static mut u64 = &mut *guard;
            *data = 1;
        })
        .join()
        .unwrap();
        state.ready.set();
        over.wait();
    });
    state.ready.wait();
    for _ in 0..3 {
        let outcome = state.count.lock();
        assert!(
            matches!(outcome, Err(LockError::HolderThreadEnded)),
            "{outcome:?}"
        );
    }
    over.set();
    passes(&leaks);
    let fresh = state.count.lock();
    assert!(
        matches!(&fresh, Err(LockError::Poisoned(poisoned)) if poisoned.is_first_report()),
        "{fresh:?}"
    );
    drop(fresh);
    let again = state.count.lock();
    assert!(
        matches!(&again, Err(LockError::Poisoned(poisoned)) if !poisoned.is_first_report()),
        "{again:?}"
    );
}

fn a_waiter_that_dies_with_a_ticket_blocks_all_later_waiters() {
    let state = State::<Ticket>::anonymous();
    let guard = state.count.lock().unwrap();
    let waiter = unsafe_child(|| {
        state.ready.set();
        let _ = state.count.lock();
    });
    state.ready.wait();
    // SAFETY: the mutex starts with its strategy, and the strategy starts with the number of the
    // next ticket.
    let next = unsafe { &*std::ptr::from_ref(&state.count).cast::<AtomicU32>() };
    until(|| next.load(Relaxed) == 2);
    kill(&waiter);
    drop(guard);
    assert!(matches!(state.count.try_lock(), Err(LockError::WouldBlock)));
    let outcome = state.count.lock_timeout(Duration::from_millis(50));
    assert!(matches!(outcome, Err(LockError::TimedOut)), "{outcome:?}");
}
