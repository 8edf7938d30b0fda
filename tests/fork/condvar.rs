//! Condition variables between processes: no waiter waits forever, whichever process dies, and no
//! notifier ever waits.

use crate::files::{open, open_or_create, place};
use crate::steps::{Interruptions, Random};
use crate::support::{Told, child, kill, passes, repaired, sleeps, sleeps_on, told, until};
use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;
use pshared::fork::Child;
use pshared::raw::{
    Futex, PosixSem, Pthread, PthreadPi, PthreadRobust, RawLock, Robust, Spin, Ticket,
};
use pshared::{
    LockError, LockResult, Shared, SharedCondvar, SharedCounter, SharedEvent, SharedMutex,
    SharedMutexGuard, ShmSafe, fork,
};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

crate::tests!(
    letters_are_taken_by_threads_and_processes_with_every_strategy,
    a_notification_reaches_a_program_that_opened_the_file,
    a_notification_of_all_wakes_every_process,
    killed_waiters_never_keep_a_notifier,
    a_mutex_whose_waiters_are_killed_one_by_one_goes_on,
    a_waiter_that_is_killed_as_it_was_woken_loses_nobody_elses_notification,
    a_waiter_that_is_killed_with_the_mutex_is_told_of_to_the_next,
    waiters_are_told_of_a_holders_death,
    a_change_whose_maker_was_killed_before_it_notified_is_seen,
    waiters_and_notifiers_are_killed_at_random_instants,
    signals_end_no_wait,
    a_guard_that_crossed_a_fork_stays_the_parents,
);

const LONG: Duration = Duration::from_secs(3600);

/// Letters, and the means to wait for one.
#[derive(ShmSafe)]
#[repr(C)]
struct Desk<R: RawLock = Robust> {
    letters: SharedMutex<u64, R>,
    arrived: SharedCondvar,
    ready: SharedEvent,
    taken: SharedCounter,
    over: AtomicU32,
}

impl<R: RawLock> Desk<R> {
    fn new() -> Self {
        Desk {
            letters: SharedMutex::with_strategy(0),
            arrived: SharedCondvar::new(),
            ready: SharedEvent::new(),
            taken: SharedCounter::new(0),
            over: AtomicU32::new(0),
        }
    }

    fn anonymous() -> Shared<Self> {
        Shared::anonymous(Self::new()).unwrap()
    }

    /// Leaves a letter and notifies a waiter.
    fn leave(&self) {
        *self.letters.lock().unwrap() += 1;
        self.arrived.notify_one();
    }

    /// Takes `letters` letters. Waits for them alternately without and with a timeout.
    fn take(&self, letters: u32) {
        for turn in 0..letters {
            let guard = self.letters.lock().unwrap();
            let mut guard = if turn % 2 == 0 {
                self.arrived.wait_while(guard, |letters| *letters == 0)
            } else {
                let outcome = self
                    .arrived
                    .wait_timeout_while(guard, LONG, |letters| *letters == 0);
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

impl Desk {
    /// Starts a child that waits, with the mutex released, for the first letter.
    fn waiter(&self) -> Child {
        let waiter = child(|| {
            let guard = self.letters.lock().unwrap();
            drop(
                self.arrived
                    .wait_while(guard, |letters| *letters == 0)
                    .unwrap(),
            );
        });
        until(|| sleeps_on(waiter.id(), &self.arrived));
        waiter
    }
}

fn letters_are_taken_by_threads_and_processes_with_every_strategy() {
    fn check<R: RawLock>() {
        const TAKERS: u32 = 2;
        const LETTERS: u32 = 40;
        let desk = Desk::<R>::anonymous();
        let takers: Vec<_> = (0..TAKERS)
            .map(|_| {
                child(|| {
                    std::thread::scope(|scope| {
                        scope.spawn(|| desk.take(LETTERS));
                        desk.take(LETTERS);
                    });
                })
            })
            .collect();
        for _ in 0..TAKERS * 2 * LETTERS {
            desk.leave();
        }
        takers.iter().for_each(passes);
        assert_eq!(*desk.letters.lock().unwrap(), 0);
        assert_eq!(desk.taken.get(), u64::from(TAKERS * 2 * LETTERS));
    }
    check::<Robust>();
    check::<Futex>();
    check::<Pthread>();
    check::<PthreadRobust>();
    check::<PthreadPi>();
    check::<PosixSem>();
    check::<Spin>();
    check::<Ticket>();
}

fn a_notification_reaches_a_program_that_opened_the_file() {
    let (_directory, path) = place();
    let taker = child(|| {
        let desk = open_or_create(&path, Desk::<Robust>::new).unwrap();
        desk.take(2);
    });
    until(|| sleeps(taker.id()));
    let desk = open::<Desk>(&path).unwrap();
    desk.leave();
    desk.leave();
    passes(&taker);
}

fn a_notification_of_all_wakes_every_process() {
    let desk = Desk::<Robust>::anonymous();
    for _ in 0..30 {
        let waiters: Vec<_> = (0..6).map(|_| desk.waiter()).collect();
        *desk.letters.lock().unwrap() = 1;
        desk.arrived.notify_all();
        waiters.iter().for_each(passes);
        *desk.letters.lock().unwrap() = 0;
    }
}

/// In this situation glibc's `pthread_cond_signal` sleeps forever.
fn killed_waiters_never_keep_a_notifier() {
    let desk = Desk::<Robust>::anonymous();
    for round in 0..20 {
        let victims: Vec<_> = (0..5).map(|_| desk.waiter()).collect();
        let waiter = desk.waiter();
        victims.iter().for_each(kill);
        // Notifies with the mutex held, and without.
        let mut letters = desk.letters.lock().unwrap();
        for _ in 0..5 {
            desk.arrived.notify_one();
            desk.arrived.notify_all();
        }
        *letters = 1;
        if round % 2 == 0 {
            desk.arrived.notify_one();
            drop(letters);
        } else {
            drop(letters);
            desk.arrived.notify_all();
        }
        passes(&waiter);
        *desk.letters.lock().unwrap() = 0;
    }
}

/// After glibc's test `tst-robust7`: waiters die one after the other inside their waits, while
/// others wait.
fn a_mutex_whose_waiters_are_killed_one_by_one_goes_on() {
    let desk = Desk::<Robust>::anonymous();
    let waiters: Vec<_> = (0..8).map(|_| desk.waiter()).collect();
    let (killed, left) = waiters.split_at(6);
    for victim in killed {
        kill(victim);
        assert_eq!(told(desk.letters.lock()), Told::Whole);
        desk.arrived.notify_one();
    }
    for _ in left {
        *desk.letters.lock().unwrap() = 1;
        desk.arrived.notify_one();
    }
    left.iter().for_each(passes);
}

fn send(child: &Child, what: Signal) {
    signal(Pid::from_raw(child.id().cast_signed()), what).unwrap();
}

fn a_waiter_that_is_killed_as_it_was_woken_loses_nobody_elses_notification() {
    let desk = Desk::<Robust>::anonymous();
    for _ in 0..10 {
        // The first sleeper is woken first. It is stopped, so it receives the wake and does
        // nothing.
        let victim = desk.waiter();
        let waiter = desk.waiter();
        send(&victim, Signal::SIGSTOP);
        until(|| crate::support::state(victim.id()) == Some('T'));
        desk.leave();
        kill(&victim);
        passes(&waiter);
        *desk.letters.lock().unwrap() = 0;
    }
}

fn a_waiter_that_is_killed_with_the_mutex_is_told_of_to_the_next() {
    let desk = Desk::<Robust>::anonymous();
    for _ in 0..20 {
        desk.ready.reset();
        let victim = child(|| {
            let guard = desk.letters.lock().unwrap();
            let guard = desk.arrived.wait_while(guard, |letters| *letters == 0);
            desk.ready.set();
            std::mem::forget(guard);
            loop {
                std::thread::park();
            }
        });
        until(|| sleeps_on(victim.id(), &desk.arrived));
        *desk.letters.lock().unwrap() = 1;
        desk.arrived.notify_one();
        desk.ready.wait();
        let next = child(|| {
            // Sleeps on the mutex when the owner dies.
            assert_eq!(told(desk.letters.lock()), Told::FreshDeath);
        });
        until(|| sleeps_on(next.id(), &desk.letters));
        kill(&victim);
        passes(&next);
        drop(repaired(desk.letters.lock(), 0));
    }
}

fn waiters_are_told_of_a_holders_death() {
    let waits: [fn(&Desk); 4] = [
        |desk| {
            let guard = desk.letters.lock().unwrap();
            assert_eq!(told(desk.arrived.wait(guard)), Told::FreshDeath);
        },
        |desk| {
            let guard = desk.letters.lock().unwrap();
            let outcome = desk.arrived.wait_timeout(guard, LONG);
            assert_eq!(told(outcome.map(|(guard, _)| guard)), Told::FreshDeath);
        },
        |desk| {
            let guard = desk.letters.lock().unwrap();
            assert_eq!(
                told(desk.arrived.wait_while(guard, |_| true)),
                Told::FreshDeath
            );
        },
        |desk| {
            let guard = desk.letters.lock().unwrap();
            let outcome = desk.arrived.wait_timeout_while(guard, LONG, |_| true);
            assert_eq!(told(outcome.map(|(guard, _)| guard)), Told::FreshDeath);
        },
    ];
    for wait in waits {
        let desk = Desk::<Robust>::anonymous();
        let waiter = child(|| wait(&desk));
        until(|| sleeps_on(waiter.id(), &desk.arrived));
        let victim = child(|| {
            std::mem::forget(desk.letters.lock().unwrap());
            std::process::abort();
        });
        victim.wait().unwrap();
        passes(&waiter);
    }
}

fn a_change_whose_maker_was_killed_before_it_notified_is_seen() {
    let desk = Desk::<Robust>::anonymous();
    let waiter = desk.waiter();
    passes(&child(|| *desk.letters.lock().unwrap() = 1));
    passes(&waiter);
}

/// Returns the guard, also after a death. The count is one word, so it is never torn, whichever
/// process died.
fn mended<'a>(outcome: LockResult<SharedMutexGuard<'a, u64>>) -> SharedMutexGuard<'a, u64> {
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

/// Takers and leavers are killed at random instants while others sleep. The survivors then take all
/// letters that are left.
fn waiters_and_notifiers_are_killed_at_random_instants() {
    const KILLS: u64 = 600;
    const SURVIVORS: u64 = 3;
    let mut random = Random::new(17);
    let desk = Desk::<Robust>::anonymous();
    let take = |desk: &Desk| {
        let mut guard = mended(desk.letters.lock());
        while *guard == 0 && desk.over.load(Relaxed) == 0 {
            let wait = |letters: &mut u64| *letters == 0 && desk.over.load(Relaxed) == 0;
            guard = mended(desk.arrived.wait_while(guard, wait));
        }
        *guard = guard.saturating_sub(1);
    };
    let leave = |desk: &Desk, turn: u64| {
        *mended(desk.letters.lock()) += 1;
        if turn.is_multiple_of(2) {
            desk.arrived.notify_one();
        } else {
            desk.arrived.notify_all();
        }
    };
    let survivors: Vec<_> = (0..SURVIVORS)
        .map(|_| {
            child(|| {
                while desk.over.load(Relaxed) == 0 {
                    take(&desk);
                }
            })
        })
        .collect();
    for turn in 0..KILLS {
        // At the start of each turn, all survivors are asleep.
        until(|| {
            survivors
                .iter()
                .all(|waiter| sleeps_on(waiter.id(), &desk.arrived))
        });
        let victim = child(|| {
            for own in 0.. {
                if turn % 3 != 0 {
                    leave(&desk, own);
                }
                if turn % 3 != 1 {
                    take(&desk);
                }
            }
        });
        if turn % 3 == 0 {
            (0..random.below(8)).for_each(|turn| leave(&desk, turn));
        } else {
            // The victim may also be done already: the survivors took its letter, and it waits for
            // another, as they do.
            until(|| {
                sleeps_on(victim.id(), &desk.arrived)
                    || !survivors
                        .iter()
                        .all(|waiter| sleeps_on(waiter.id(), &desk.arrived))
            });
        }
        (0..random.below(4_000)).for_each(|_| std::hint::spin_loop());
        kill(&victim);
        // The parent notifies no more: the survivors find what was left.
        until(|| *mended(desk.letters.lock()) == 0);
    }
    desk.over.store(1, Relaxed);
    desk.arrived.notify_all();
    survivors.iter().for_each(passes);
}

fn signals_end_no_wait() {
    let waits: [fn(&Desk); 2] = [
        |desk| {
            let guard = desk.letters.lock().unwrap();
            assert_eq!(*desk.arrived.wait(guard).unwrap(), 1);
        },
        |desk| {
            let guard = desk.letters.lock().unwrap();
            let (guard, result) = desk.arrived.wait_timeout(guard, LONG).unwrap();
            assert!(*guard == 1 && !result.timed_out());
        },
    ];
    for wait in waits {
        let (desk, interruptions) = (Desk::<Robust>::anonymous(), Interruptions::new());
        let waiter = child(|| {
            interruptions.allow();
            wait(&desk);
        });
        interruptions.send(&waiter);
        desk.leave();
        passes(&waiter);
    }
}

fn a_guard_that_crossed_a_fork_stays_the_parents() {
    let desk = Desk::<Robust>::anonymous();
    let guard = desk.letters.lock().unwrap();
    let mut guard = Some(guard);
    let copy = &mut guard;
    // SAFETY: the process has one thread. It holds a lock, which is the subject of this test.
    let waits = unsafe {
        fork::spawn_unchecked(|| {
            let own = desk.arrived.wait(copy.take().unwrap()).unwrap();
            assert_eq!(*own, 7);
        })
    }
    .unwrap();
    until(|| sleeps_on(waits.id(), &desk.arrived));
    let mut guard = guard.unwrap();
    // The parent still holds the lock: the child has not released it.
    assert_eq!(told(desk.letters.try_lock()), Told::WouldBlock);
    *guard = 7;
    desk.arrived.notify_one();
    drop(guard);
    passes(&waits);
}
