//! Condition variables between processes: no waiter waits forever, whichever process dies, and no
//! notifier ever waits.

use crate::files::{open, open_or_create, place};
use crate::harness::Kills;
use crate::steps::{Interruptions, Random};
use crate::support::{
    Outcome, child, kill, outcome_of, passes, repaired, sleeps, sleeps_on, until,
};
use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;
use pshared::fork::Child;
use pshared::raw::{Futex, PosixSem, Pthread, RawLock, Robust, Spin, Ticket};
#[cfg(target_env = "gnu")]
use pshared::raw::{PthreadPi, PthreadRobust};
use pshared::{
    LockError, LockResult, Shared, SharedCondvar, SharedCounter, SharedEvent, SharedMutex,
    SharedMutexGuard, ShmSafe, fork,
};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

crate::tests!(
    threads_and_processes_consume_every_item_with_every_strategy,
    a_notification_reaches_a_process_that_opened_the_file,
    a_notification_of_all_wakes_every_process,
    killed_waiters_never_block_a_notifier,
    a_mutex_whose_waiters_are_killed_one_by_one_stays_usable,
    a_waiter_killed_as_it_was_woken_loses_no_other_waiters_notification,
    a_waiter_killed_while_it_holds_the_mutex_is_reported_to_the_next_locker,
    waiters_get_an_error_when_the_holder_dies,
    a_change_is_seen_although_its_writer_was_killed_before_it_notified,
    waiters_and_notifiers_are_killed_at_random_instants: 600 kills of "condvar",
    signals_end_no_wait,
    a_guard_inherited_by_fork_belongs_to_the_parent,
);

const LONG: Duration = Duration::from_secs(3600);

/// A number of items, and the means to wait for one.
#[derive(ShmSafe)]
#[repr(C)]
struct State<R: RawLock = Robust> {
    items: SharedMutex<u64, R>,
    added: SharedCondvar,
    ready: SharedEvent,
    taken: SharedCounter,
    over: AtomicU32,
}

impl<R: RawLock> State<R> {
    fn new() -> Self {
        State {
            items: SharedMutex::with_strategy(0),
            added: SharedCondvar::new(),
            ready: SharedEvent::new(),
            taken: SharedCounter::new(0),
            over: AtomicU32::new(0),
        }
    }

    fn anonymous() -> Shared<Self> {
        Shared::anonymous(Self::new()).unwrap()
    }

    /// Adds an item and notifies a waiter.
    fn put(&self) {
        *self.items.lock().unwrap() += 1;
        self.added.notify_one();
    }

    /// Takes `items` items. Waits for them alternately without and with a timeout.
    fn take(&self, items: u32) {
        for turn in 0..items {
            let guard = self.items.lock().unwrap();
            let mut guard = if turn.is_multiple_of(2) {
                self.added.wait_while(guard, |items| *items == 0)
            } else {
                let outcome = self
                    .added
                    .wait_timeout_while(guard, LONG, |items| *items == 0);
                outcome.map(|(guard, result)| {
                    assert!(!result.timed_out());
                    guard
                })
            }
            .unwrap();
            *guard -= 1;
            drop(guard);
            self.taken.add(1);
        }
    }
}

impl State {
    /// Starts a child that waits, with the mutex released, for the first item.
    fn waiter(&self) -> Child {
        let waiter = child(|| {
            let guard = self.items.lock().unwrap();
            drop(self.added.wait_while(guard, |items| *items == 0).unwrap());
        });
        until(|| sleeps_on(waiter.id(), &self.added));
        waiter
    }
}

fn threads_and_processes_consume_every_item_with_every_strategy() {
    fn check<R: RawLock>() {
        const CONSUMERS: u32 = 2;
        const ITEMS: u32 = 40;
        let state = State::<R>::anonymous();
        let consumers: Vec<_> = (0..CONSUMERS)
            .map(|_| {
                child(|| {
                    std::thread::scope(|scope| {
                        scope.spawn(|| state.take(ITEMS));
                        state.take(ITEMS);
                    });
                })
            })
            .collect();
        for _ in 0..CONSUMERS * 2 * ITEMS {
            state.put();
        }
        consumers.iter().for_each(passes);
        assert_eq!(*state.items.lock().unwrap(), 0);
        assert_eq!(state.taken.get(), u64::from(CONSUMERS * 2 * ITEMS));
    }
    check::<Robust>();
    check::<Futex>();
    check::<Pthread>();
    #[cfg(target_env = "gnu")]
    check::<PthreadRobust>();
    #[cfg(target_env = "gnu")]
    check::<PthreadPi>();
    check::<PosixSem>();
    check::<Spin>();
    check::<Ticket>();
}

fn a_notification_reaches_a_process_that_opened_the_file() {
    let (_directory, path) = place();
    let consumer = child(|| {
        let state = open_or_create(&path, State::<Robust>::new).unwrap();
        state.take(2);
    });
    until(|| sleeps(consumer.id()));
    let state = open::<State>(&path).unwrap();
    state.put();
    state.put();
    passes(&consumer);
}

fn a_notification_of_all_wakes_every_process() {
    let state = State::<Robust>::anonymous();
    for _ in 0..30 {
        let waiters: Vec<_> = (0..6).map(|_| state.waiter()).collect();
        *state.items.lock().unwrap() = 1;
        state.added.notify_all();
        waiters.iter().for_each(passes);
        *state.items.lock().unwrap() = 0;
    }
}

/// In this situation glibc's `pthread_cond_signal` sleeps forever.
fn killed_waiters_never_block_a_notifier() {
    let state = State::<Robust>::anonymous();
    for round in 0..20 {
        let victims: Vec<_> = (0..5).map(|_| state.waiter()).collect();
        let waiter = state.waiter();
        victims.iter().for_each(kill);
        // Notifies with the mutex held, and without.
        let mut items = state.items.lock().unwrap();
        for _ in 0..5 {
            state.added.notify_one();
            state.added.notify_all();
        }
        *items = 1;
        if round % 2 == 0 {
            state.added.notify_one();
            drop(items);
        } else {
            drop(items);
            state.added.notify_all();
        }
        passes(&waiter);
        *state.items.lock().unwrap() = 0;
    }
}

/// After glibc's test `tst-robust7`: waiters die one after the other inside their waits, while
/// others wait.
fn a_mutex_whose_waiters_are_killed_one_by_one_stays_usable() {
    let state = State::<Robust>::anonymous();
    let waiters: Vec<_> = (0..8).map(|_| state.waiter()).collect();
    let (killed, left) = waiters.split_at(6);
    for victim in killed {
        kill(victim);
        assert_eq!(outcome_of(state.items.lock()), Outcome::Unpoisoned);
        state.added.notify_one();
    }
    for _ in left {
        *state.items.lock().unwrap() = 1;
        state.added.notify_one();
    }
    left.iter().for_each(passes);
}

fn send(child: &Child, what: Signal) {
    signal(Pid::from_raw(child.id().cast_signed()), what).unwrap();
}

fn a_waiter_killed_as_it_was_woken_loses_no_other_waiters_notification() {
    let state = State::<Robust>::anonymous();
    for _ in 0..10 {
        // The first sleeper is woken first. It is stopped, so it receives the wake and does
        // nothing.
        let victim = state.waiter();
        let waiter = state.waiter();
        send(&victim, Signal::SIGSTOP);
        until(|| crate::support::state(victim.id()) == Some('T'));
        state.put();
        kill(&victim);
        passes(&waiter);
        *state.items.lock().unwrap() = 0;
    }
}

fn a_waiter_killed_while_it_holds_the_mutex_is_reported_to_the_next_locker() {
    let state = State::<Robust>::anonymous();
    for _ in 0..20 {
        state.ready.reset();
        let victim = child(|| {
            let guard = state.items.lock().unwrap();
            let guard = state.added.wait_while(guard, |items| *items == 0);
            state.ready.set();
            std::mem::forget(guard);
            loop {
                std::thread::park();
            }
        });
        until(|| sleeps_on(victim.id(), &state.added));
        *state.items.lock().unwrap() = 1;
        state.added.notify_one();
        state.ready.wait();
        let next = child(|| {
            // Sleeps on the mutex when the owner dies.
            assert_eq!(outcome_of(state.items.lock()), Outcome::FreshDeath);
        });
        until(|| sleeps_on(next.id(), &state.items));
        kill(&victim);
        passes(&next);
        drop(repaired(state.items.lock(), 0));
    }
}

fn waiters_get_an_error_when_the_holder_dies() {
    let waits: [fn(&State); 4] = [
        |state| {
            let guard = state.items.lock().unwrap();
            assert_eq!(outcome_of(state.added.wait(guard)), Outcome::FreshDeath);
        },
        |state| {
            let guard = state.items.lock().unwrap();
            let outcome = state.added.wait_timeout(guard, LONG);
            assert_eq!(
                outcome_of(outcome.map(|(guard, _)| guard)),
                Outcome::FreshDeath
            );
        },
        |state| {
            let guard = state.items.lock().unwrap();
            assert_eq!(
                outcome_of(state.added.wait_while(guard, |_| true)),
                Outcome::FreshDeath
            );
        },
        |state| {
            let guard = state.items.lock().unwrap();
            let outcome = state.added.wait_timeout_while(guard, LONG, |_| true);
            assert_eq!(
                outcome_of(outcome.map(|(guard, _)| guard)),
                Outcome::FreshDeath
            );
        },
    ];
    for wait in waits {
        let state = State::<Robust>::anonymous();
        let waiter = child(|| wait(&state));
        until(|| sleeps_on(waiter.id(), &state.added));
        let victim = child(|| {
            std::mem::forget(state.items.lock().unwrap());
            std::process::abort();
        });
        victim.wait().unwrap();
        passes(&waiter);
    }
}

fn a_change_is_seen_although_its_writer_was_killed_before_it_notified() {
    let state = State::<Robust>::anonymous();
    let waiter = state.waiter();
    passes(&child(|| *state.items.lock().unwrap() = 1));
    passes(&waiter);
}

/// Returns the guard, also after a death. The count is one word, so it is never torn, whichever
/// process died.
fn cleared<'a>(outcome: LockResult<SharedMutexGuard<'a, u64>>) -> SharedMutexGuard<'a, u64> {
    match outcome {
        Ok(guard) => guard,
        Err(LockError::Poisoned(poisoned)) => {
            let guard = poisoned.into_guard();
            SharedMutexGuard::clear_poison(&guard);
            guard
        }
        Err(other) => panic!("not acquired: {other:?}"),
    }
}

/// Waiters and notifiers are killed at random instants while others sleep. The survivors then take
/// all items that are left.
fn waiters_and_notifiers_are_killed_at_random_instants(run: &Kills<'_>) {
    const SURVIVORS: u64 = 3;
    let mut random = Random::new(run.seed());
    let state = State::<Robust>::anonymous();
    let take = |state: &State| {
        let mut guard = cleared(state.items.lock());
        while *guard == 0 && state.over.load(Relaxed) == 0 {
            let wait = |items: &mut u64| *items == 0 && state.over.load(Relaxed) == 0;
            guard = cleared(state.added.wait_while(guard, wait));
        }
        *guard = guard.saturating_sub(1);
        state.taken.add(1);
    };
    let put = |state: &State, turn: u64| {
        *cleared(state.items.lock()) += 1;
        if turn.is_multiple_of(2) {
            state.added.notify_one();
        } else {
            state.added.notify_all();
        }
    };
    let survivors: Vec<_> = (0..SURVIVORS)
        .map(|_| {
            child(|| {
                while state.over.load(Relaxed) == 0 {
                    take(&state);
                }
            })
        })
        .collect();
    while run.go_on() {
        let turn = run.made();
        // At the start of each turn, all survivors are asleep.
        until(|| {
            survivors
                .iter()
                .all(|waiter| sleeps_on(waiter.id(), &state.added))
        });
        let victim = child(|| {
            for own in 0.. {
                if !turn.is_multiple_of(3) {
                    put(&state, own);
                }
                if turn % 3 != 1 {
                    take(&state);
                }
            }
        });
        if turn.is_multiple_of(3) {
            (0..random.below(8)).for_each(|turn| put(&state, turn));
        } else {
            // The victim may also be done already: the survivors took its item, and it waits for
            // another, as they do.
            until(|| {
                sleeps_on(victim.id(), &state.added)
                    || !survivors
                        .iter()
                        .all(|waiter| sleeps_on(waiter.id(), &state.added))
            });
        }
        (0..random.below(4_000)).for_each(|_| std::hint::spin_loop());
        run.kill(&victim);
        // The parent notifies no more: the survivors find what was left.
        until(|| *cleared(state.items.lock()) == 0);
        run.note(state.taken.get(), 0);
    }
    state.over.store(1, Relaxed);
    state.added.notify_all();
    survivors.iter().for_each(passes);
}

fn signals_end_no_wait() {
    let waits: [fn(&State); 2] = [
        |state| {
            let guard = state.items.lock().unwrap();
            assert_eq!(*state.added.wait(guard).unwrap(), 1);
        },
        |state| {
            let guard = state.items.lock().unwrap();
            let (guard, result) = state.added.wait_timeout(guard, LONG).unwrap();
            assert!(*guard == 1 && !result.timed_out());
        },
    ];
    for wait in waits {
        let (state, interruptions) = (State::<Robust>::anonymous(), Interruptions::new());
        let waiter = child(|| {
            interruptions.allow();
            wait(&state);
        });
        interruptions.send(&waiter);
        state.put();
        passes(&waiter);
    }
}

fn a_guard_inherited_by_fork_belongs_to_the_parent() {
    let state = State::<Robust>::anonymous();
    let guard = state.items.lock().unwrap();
    let mut guard = Some(guard);
    let copy = &mut guard;
    // SAFETY: the process has one thread. It holds a lock, which is the subject of this test.
    let waits = unsafe {
        fork::spawn_unchecked(|| {
            let own = state.added.wait(copy.take().unwrap()).unwrap();
            assert_eq!(*own, 7);
        })
    }
    .unwrap();
    until(|| sleeps_on(waits.id(), &state.added));
    let mut guard = guard.unwrap();
    // The parent still holds the lock: the child has not released it.
    assert_eq!(outcome_of(state.items.try_lock()), Outcome::WouldBlock);
    *guard = 7;
    state.added.notify_one();
    drop(guard);
    passes(&waits);
}
