//! Reentrant mutexes between processes. A mutex excludes others until its last guard is dropped,
//! and a death at any depth releases it.

use crate::files::{open, open_or_create, place};
use crate::harness::Kills;
use crate::steps::{Interruptions, Random};
use crate::support::{child, kill, passes, sleeps_on, until};
use pshared::{
    Error, LockError, LockResult, Shared, SharedCounter, SharedEvent, SharedReentrantLock,
    SharedReentrantLockGuard, ShmSafe, fork,
};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

crate::tests!(
    nested_critical_sections_of_threads_and_processes_count_exactly,
    others_wait_until_the_last_guard_is_dropped,
    a_death_at_any_depth_is_reported_exactly_once,
    holders_are_killed_at_random_instants: 600 kills of "reentrant mutex",
    the_data_is_not_replaced_while_another_guard_exists,
    unrelated_processes_share_a_lock_in_a_file,
    signals_end_no_wait,
    a_guard_inherited_by_fork_belongs_to_the_parent,
    data_of_an_ended_thread_that_leaked_its_guard_is_not_returned,
);

const LONG: Duration = Duration::from_secs(3600);

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    /// Both halves are equal outside of critical sections.
    pair: SharedReentrantLock<Cell<[u64; 2]>>,
    ready: SharedEvent,
    inside: AtomicU32,
}

type Guard<'a> = SharedReentrantLockGuard<'a, Cell<[u64; 2]>>;
type Outcome<'a> = LockResult<Guard<'a>>;

impl State {
    fn new() -> Self {
        State {
            pair: SharedReentrantLock::new(Cell::new([0, 0])),
            ready: SharedEvent::new(),
            inside: AtomicU32::new(0),
        }
    }

    fn anonymous() -> Shared<Self> {
        Shared::anonymous(Self::new()).unwrap()
    }

    /// Adds one to both halves, each in a critical section of its own inside another one.
    fn add(&self) {
        let outer = self.pair.lock().unwrap();
        for half in 0..2 {
            let inner = self.pair.try_lock().unwrap();
            let mut pair = inner.get();
            pair[half] += 1;
            inner.set(pair);
        }
        let pair = outer.get();
        assert_eq!(pair[0], pair[1]);
    }

    /// Starts a child that acquires the mutex `times` times and holds it until it is killed.
    fn holder(&self, times: u32) -> fork::Child {
        let holder = child(|| {
            let guards: Vec<_> = (0..times).map(|_| self.pair.lock().unwrap()).collect();
            self.ready.set();
            std::mem::forget(guards);
            loop {
                std::thread::park();
            }
        });
        self.ready.wait();
        self.ready.reset();
        holder
    }
}

/// Returns the guard, and whether it came with the first report of a death. The data is whole
/// afterwards.
fn repaired(outcome: Outcome<'_>) -> (Guard<'_>, bool) {
    match outcome {
        Ok(guard) => (guard, false),
        Err(LockError::Poisoned(poisoned)) => {
            let fresh = poisoned.is_first_report();
            (poisoned.replace(Cell::new([0, 0])).unwrap(), fresh)
        }
        Err(other) => panic!("not acquired: {other:?}"),
    }
}

fn nested_critical_sections_of_threads_and_processes_count_exactly() {
    const TURNS: u64 = 400;
    let state = State::anonymous();
    let workers: Vec<_> = (0..3)
        .map(|_| {
            child(|| {
                std::thread::scope(|scope| {
                    scope.spawn(|| (0..TURNS).for_each(|_| state.add()));
                    (0..TURNS).for_each(|_| state.add());
                });
            })
        })
        .collect();
    workers.iter().for_each(passes);
    assert_eq!(state.pair.lock().unwrap().get(), [6 * TURNS; 2]);
}

fn others_wait_until_the_last_guard_is_dropped() {
    let state = State::anonymous();
    let (first, second) = (state.pair.lock().unwrap(), state.pair.lock().unwrap());
    let mut guards = Some((first, second));
    let refused = || {
        passes(&unsafe_child(|| {
            let outcome = state.pair.try_lock();
            assert!(matches!(outcome, Err(LockError::WouldBlock)));
            let outcome = state.pair.lock_timeout(Duration::from_millis(2));
            assert!(matches!(outcome, Err(LockError::TimedOut)));
        }));
    };
    refused();
    let (first, second) = guards.take().unwrap();
    // The guards are dropped in the order of their acquisition, not in the reverse order.
    drop(first);
    refused();
    let waiter = unsafe_child(|| drop(state.pair.lock().unwrap()));
    until(|| sleeps_on(waiter.id(), &state.pair));
    drop(second);
    passes(&waiter);
}

/// Forks a child of a process that holds a lock.
fn unsafe_child(body: impl FnOnce()) -> fork::Child {
    // SAFETY: the process has one thread, and the child uses its parent's guards only to drop them.
    unsafe { fork::spawn_unchecked(body) }.expect("no child")
}

fn a_death_at_any_depth_is_reported_exactly_once() {
    for depth in [1, 2, 7] {
        let state = State::anonymous();
        let victim = state.holder(depth);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                child(|| {
                    let (_guard, fresh) = repaired(state.pair.lock());
                    state.inside.fetch_add(fresh.into(), Relaxed);
                })
            })
            .collect();
        until(|| {
            let mut waiters = waiters.iter();
            waiters.all(|waiter| sleeps_on(waiter.id(), &state.pair))
        });
        kill(&victim);
        waiters.iter().for_each(passes);
        assert_eq!(state.inside.load(Relaxed), 1, "{depth}");
        assert!(!state.pair.is_poisoned());
    }
}

fn holders_are_killed_at_random_instants(run: &Kills<'_>) {
    let mut random = Random::new(run.seed());
    let state = State::anonymous();
    let stop = Shared::anonymous(AtomicU32::new(0)).unwrap();
    let [sections, reports] = [(); 2].map(|()| Shared::anonymous(SharedCounter::new(0)).unwrap());
    let work = |may_nest: bool| {
        while stop.load(Relaxed) == 0 {
            let (outer, fresh) = repaired(state.pair.lock());
            reports.add(fresh.into());
            sections.add(1);
            let pair = outer.get();
            assert!(fresh || pair[0] == pair[1], "torn data returned as whole");
            outer.set([pair[0] + 1, pair[1]]);
            if may_nest {
                let inner = state.pair.lock().unwrap();
                let innermost = state.pair.lock().unwrap();
                drop(outer);
                let pair = innermost.get();
                inner.set([pair[0], pair[0]]);
            } else {
                outer.set([pair[0] + 1; 2]);
            }
        }
    };
    let survivors = [child(|| work(true)), child(|| work(false))];
    while run.go_on() {
        let turn = run.made();
        let victim = child(|| work(turn.is_multiple_of(2)));
        if turn.is_multiple_of(4) {
            // Waits until a survivor sleeps on the lock.
            until(|| {
                survivors
                    .iter()
                    .any(|waiter| sleeps_on(waiter.id(), &state.pair))
            });
        }
        (0..random.below(20_000)).for_each(|_| std::hint::spin_loop());
        run.kill(&victim);
        let (_guard, fresh) = repaired(state.pair.lock());
        reports.add(fresh.into());
        run.note(sections.get(), reports.get());
    }
    stop.store(1, Relaxed);
    survivors.iter().for_each(passes);
}

fn unrelated_processes_share_a_lock_in_a_file() {
    let (_directory, path) = place();
    let workers = [0, 1].map(|_| {
        child(|| {
            let state = open_or_create(&path, State::new).unwrap();
            (0..100).for_each(|_| state.add());
        })
    });
    workers.iter().for_each(passes);
    let victim = child(|| {
        let state = open::<State>(&path).unwrap();
        std::mem::forget((state.pair.lock().unwrap(), state.pair.lock().unwrap()));
        std::process::abort();
    });
    victim.wait().unwrap();
    let state = open::<State>(&path).unwrap();
    let (guard, fresh) = repaired(state.pair.lock());
    assert!(fresh && guard.get() == [0, 0]);
}

fn signals_end_no_wait() {
    let waits: [fn(&State); 2] = [
        |state| assert!(repaired(state.pair.lock()).1),
        |state| assert!(repaired(state.pair.lock_timeout(LONG)).1),
    ];
    for wait in waits {
        let (state, interruptions) = (State::anonymous(), Interruptions::new());
        let holder = state.holder(2);
        let waiter = child(|| {
            interruptions.allow();
            wait(&state);
        });
        interruptions.send(&waiter);
        kill(&holder);
        passes(&waiter);
    }
}

fn a_guard_inherited_by_fork_belongs_to_the_parent() {
    let state = State::anonymous();
    let mut guards = Some((state.pair.lock().unwrap(), state.pair.lock().unwrap()));
    passes(&unsafe_child(|| {
        drop(guards.take());
        let outcome = state.pair.try_lock();
        assert!(matches!(outcome, Err(LockError::WouldBlock)));
    }));
    assert_eq!(state.pair.holder().unwrap().process, std::process::id());
    assert!(matches!(fork::spawn(|| ()), Err(fork::Error::LockHeld)));
    drop(guards);
    passes(&child(|| drop(state.pair.try_lock().unwrap())));
}

fn data_of_an_ended_thread_that_leaked_its_guard_is_not_returned() {
    let state = State::anonymous();
    let process = child(|| {
        let state: &State = &state;
        std::thread::scope(|scope| {
            let ends = scope.spawn(|| {
                std::mem::forget((state.pair.lock().unwrap(), state.pair.lock().unwrap()));
            });
            ends.join().unwrap();
        });
        // Waits until the thread has ended for the kernel too.
        until(|| std::fs::read_dir("/proc/self/task").unwrap().count() == 1);
        let refused = state.pair.lock().map(drop).map_err(Error::from);
        assert!(
            matches!(refused, Err(Error::HolderThreadEnded)),
            "{refused:?}"
        );
        state.ready.set();
        loop {
            std::thread::park();
        }
    });
    state.ready.wait();
    let refused = state.pair.lock().map(drop).map_err(Error::from);
    assert!(
        matches!(refused, Err(Error::HolderThreadEnded)),
        "{refused:?}"
    );
    kill(&process);
    assert!(repaired(state.pair.lock()).1);
}

fn the_data_is_not_replaced_while_another_guard_exists() {
    let lock = Shared::anonymous(SharedReentrantLock::new(3_u64)).unwrap();
    let victim = child(|| {
        std::mem::forget(lock.lock().unwrap());
        std::process::abort();
    });
    victim.wait().unwrap();
    let Err(LockError::Poisoned(poisoned)) = lock.lock() else {
        panic!("the death was not reported");
    };
    let guard = poisoned.into_guard();
    let Err(LockError::Poisoned(again)) = lock.lock() else {
        panic!("the poison is cleared");
    };
    let again = again.replace(5).unwrap_err();
    drop(again);
    drop(guard);
    assert!(matches!(
        lock.lock().map(drop).map_err(Error::from),
        Err(Error::Poisoned { .. })
    ));
    let Err(LockError::Poisoned(poisoned)) = lock.lock() else {
        panic!("the poison is cleared");
    };
    let guard: SharedReentrantLockGuard<'_, u64> = poisoned.replace(5).unwrap();
    assert_eq!((*guard, lock.is_poisoned()), (5, false));
}
