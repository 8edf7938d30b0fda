//! Auto-reset events between processes: each set lets one waiter through, whichever other process
//! dies meanwhile.

use crate::files::{open, open_or_create, place};
use crate::harness::Kills;
use crate::steps::{Interruptions, Random};
use crate::support::{child, kill, passes, sleeps, sleeps_on, state, until};
use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;
use pshared::{Shared, SharedAutoResetEvent, SharedCounter, ShmSafe};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

crate::tests!(
    each_set_releases_one_thread_of_any_process,
    a_set_reaches_a_process_that_opened_the_file,
    a_waiter_killed_as_it_was_woken_leaves_its_set_to_another,
    setters_and_waiters_are_killed_at_random_instants: 600 kills of "auto-reset event",
    signals_end_no_wait,
);

const LONG: Duration = Duration::from_secs(3600);

/// A token that the workers pass to each other.
#[derive(ShmSafe)]
#[repr(C)]
struct Ring {
    token: SharedAutoResetEvent,
    inside: AtomicU32,
    passed: SharedCounter,
}

impl Ring {
    fn new() -> Self {
        Ring {
            token: SharedAutoResetEvent::new(),
            inside: AtomicU32::new(0),
            passed: SharedCounter::new(0),
        }
    }

    fn pass(&self, times: u32) {
        for turn in 0..times {
            if turn.is_multiple_of(2) {
                self.token.wait();
            } else {
                assert!(self.token.wait_timeout(LONG).is_ok());
            }
            assert_eq!(self.inside.swap(1, Relaxed), 0, "two workers passed");
            self.inside.store(0, Relaxed);
            self.passed.add(1);
            self.token.set();
        }
    }
}

fn each_set_releases_one_thread_of_any_process() {
    const TIMES: u32 = 300;
    let ring = Shared::anonymous(Ring::new()).unwrap();
    let workers: Vec<_> = (0..3)
        .map(|_| {
            child(|| {
                std::thread::scope(|scope| {
                    scope.spawn(|| ring.pass(TIMES));
                    ring.pass(TIMES);
                });
            })
        })
        .collect();
    until(|| workers.iter().all(|worker| sleeps(worker.id())));
    ring.token.set();
    workers.iter().for_each(passes);
    assert_eq!(ring.passed.get(), u64::from(6 * TIMES));
    assert!(ring.token.try_wait() && !ring.token.try_wait());
}

fn a_set_reaches_a_process_that_opened_the_file() {
    let (_directory, path) = place();
    let waiter = child(|| {
        open_or_create(&path, SharedAutoResetEvent::new)
            .unwrap()
            .wait();
    });
    until(|| sleeps(waiter.id()));
    open::<SharedAutoResetEvent>(&path).unwrap().set();
    passes(&waiter);
}

fn a_waiter_killed_as_it_was_woken_leaves_its_set_to_another() {
    let event = Shared::anonymous(SharedAutoResetEvent::new()).unwrap();
    for _ in 0..10 {
        let waiters = [0, 1].map(|_| {
            let waiter = child(|| event.wait());
            until(|| sleeps_on(waiter.id(), &*event));
            waiter
        });
        // The first sleeper is woken first. It is stopped, so it receives the wake and does
        // nothing.
        let [victim, waiter] = waiters;
        signal(Pid::from_raw(victim.id().cast_signed()), Signal::SIGSTOP).unwrap();
        until(|| state(victim.id()) == Some('T'));
        event.set();
        kill(&victim);
        passes(&waiter);
        assert!(!event.is_set());
    }
}

fn setters_and_waiters_are_killed_at_random_instants(run: &Kills<'_>) {
    let mut random = Random::new(run.seed());
    let ring = Shared::anonymous(Ring::new()).unwrap();
    let over = Shared::anonymous(AtomicU32::new(0)).unwrap();
    // Each survivor that a set lets through counts it. A set that a killed process consumed is
    // lost, so the parent sets until a survivor has passed.
    let survivors: Vec<_> = (0..3)
        .map(|_| {
            child(|| {
                while over.load(Relaxed) == 0 {
                    ring.token.wait();
                    ring.passed.add(1);
                }
            })
        })
        .collect();
    let asleep = || {
        survivors
            .iter()
            .all(|waiter| sleeps_on(waiter.id(), &ring.token))
    };
    while run.go_on() {
        let turn = run.made();
        until(asleep);
        let victim = child(|| {
            if turn.is_multiple_of(2) {
                loop {
                    ring.token.set();
                }
            }
            loop {
                ring.token.wait();
            }
        });
        if turn.is_multiple_of(2) {
            until(|| !asleep());
        } else {
            (0..random.below(6)).for_each(|_| ring.token.set());
        }
        (0..random.below(4_000)).for_each(|_| std::hint::spin_loop());
        run.kill(&victim);
        // The parent sets no more: the survivors find what was left.
        until(|| !ring.token.is_set());
        until(asleep);
        let passed = ring.passed.get();
        ring.token.set();
        until(|| ring.passed.get() > passed);
        run.note(ring.passed.get(), 0);
    }
    over.store(1, Relaxed);
    until(|| {
        ring.token.set();
        survivors
            .iter()
            .all(|waiter| waiter.try_wait().unwrap().is_some())
    });
    survivors.iter().for_each(passes);
}

fn signals_end_no_wait() {
    let waits: [fn(&SharedAutoResetEvent); 2] = [SharedAutoResetEvent::wait, |event| {
        assert!(event.wait_timeout(LONG).is_ok());
    }];
    for wait in waits {
        let event = Shared::anonymous(SharedAutoResetEvent::new()).unwrap();
        let interruptions = Interruptions::new();
        let waiter = child(|| {
            interruptions.allow();
            wait(&event);
        });
        interruptions.send(&waiter);
        event.set();
        passes(&waiter);
    }
}
