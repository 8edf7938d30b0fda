//! Waiting for the first of several events.

use crate::harness::Kills;
use crate::list_op_pending::deny;
use crate::steps::{Interruptions, Random, Signal, sleeps_in, until_idly};
use crate::support::{child, child_elsewhere as child_of_a_holder, kill, passes, until};
use pshared::{
    Error, Shared, SharedBarrier, SharedCounter, SharedEvent, SharedPermits, SharedRoster, ShmSafe,
    Waitable, wait_any, wait_any_timeout,
};
use std::time::Duration;

crate::tests!(
    an_event_a_permit_and_a_death_each_end_the_wait,
    signals_end_no_wait,
    a_wait_without_any_event_times_out,
    a_queued_waiter_gets_the_permit_although_watchers_wait_too,
    kills_of_watchers_strand_no_queued_waiter: 500 kills of "wait_any",
    an_error_is_returned_if_the_kernel_has_no_futex_waitv,
);

#[derive(ShmSafe, Default)]
#[repr(C)]
struct State {
    event: SharedEvent,
    permits: SharedPermits<2>,
    roster: SharedRoster<SharedCounter, 3>,
}

impl State {
    fn anonymous() -> Shared<Self> {
        Shared::anonymous(State::default()).unwrap()
    }

    fn all(&self) -> [&dyn Waitable; 3] {
        [&self.event, &self.permits, &self.roster]
    }
}

fn watches(process: u32) -> bool {
    sleeps_in(process, libc::SYS_futex_waitv)
}

fn an_event_a_permit_and_a_death_each_end_the_wait() {
    for expected in 0..3 {
        let state = State::anonymous();
        let held = [(); 2].map(|()| state.permits.acquire().unwrap());
        let joined = Signal::new();
        let worker = child_of_a_holder(|| {
            let _slot = state.roster.join().unwrap();
            joined.give();
            loop {
                nix::unistd::pause();
            }
        });
        joined.wait();
        let watchers = [(); 3]
            .map(|()| child_of_a_holder(|| assert_eq!(wait_any(&state.all()).unwrap(), expected)));
        until_idly(|| watchers.iter().all(|watcher| watches(watcher.id())));
        match expected {
            0 => state.event.set(),
            1 => drop(held),
            _ => kill(&worker),
        }
        watchers.iter().for_each(passes);
    }
}

fn signals_end_no_wait() {
    let (state, interruptions) = (State::anonymous(), Interruptions::new());
    let held = [(); 2].map(|()| state.permits.acquire().unwrap());
    let watcher = child_of_a_holder(|| {
        interruptions.allow();
        assert_eq!(wait_any(&state.all()).unwrap(), 1);
    });
    interruptions.send_when(&watcher, watches);
    drop(held);
    passes(&watcher);
}

fn a_wait_without_any_event_times_out() {
    let state = State::anonymous();
    let _held = [(); 2].map(|()| state.permits.acquire().unwrap());
    let soon = Duration::from_millis(10);
    assert!(matches!(
        wait_any_timeout(&state.all(), soon),
        Err(Error::TimedOut)
    ));
    state.event.set();
    assert_eq!(wait_any_timeout(&state.all(), Duration::ZERO).unwrap(), 0);
}

fn a_queued_waiter_gets_the_permit_although_watchers_wait_too() {
    for _ in 0..50 {
        let state = State::anonymous();
        let held = [(); 2].map(|()| state.permits.acquire().unwrap());
        // The watchers sleep before the waiter does, so they are the first in the futex queues.
        let watchers = [(); 2].map(|()| {
            let watcher = child_of_a_holder(|| assert_eq!(wait_any(&state.all()).unwrap(), 1));
            until_idly(|| watches(watcher.id()));
            watcher
        });
        let taken = Signal::new();
        let waiter = child_of_a_holder(|| {
            let _permit = state.permits.acquire().unwrap();
            taken.give();
        });
        until_idly(|| watches(waiter.id()));
        let [one, other] = held;
        drop(one);
        taken.wait();
        drop(other);
        passes(&waiter);
        watchers.iter().for_each(passes);
    }
}

fn kills_of_watchers_strand_no_queued_waiter(run: &Kills<'_>) {
    let state = State::anonymous();
    let turns = Shared::anonymous(SharedCounter::new(0)).unwrap();
    let workers = [(); 4].map(|()| {
        child(|| {
            loop {
                let permit = state.permits.acquire().unwrap();
                turns.add(1);
                drop(permit);
            }
        })
    });
    let watch = || {
        child(|| {
            loop {
                let _ = wait_any(&state.all());
            }
        })
    };
    let mut watchers = [(); 2].map(|()| watch());
    let mut random = Random::new(run.seed());
    while run.go_on() {
        let victim = (run.made() % 2) as usize;
        let until_turn = turns.get() + 1 + random.below(20);
        until(|| turns.get() >= until_turn);
        for _ in 0..random.below(2_000) {
            std::hint::spin_loop();
        }
        run.kill(&watchers[victim]);
        watchers[victim] = watch();
        run.note(turns.get(), 0);
    }
    let until_turn = turns.get() + 100;
    until_idly(|| turns.get() >= until_turn);
    watchers.iter().chain(&workers).for_each(kill);
    assert_eq!(state.permits.available(), 2);
}

/// Linux before 5.16 and some containers have no `futex_waitv`.
fn an_error_is_returned_if_the_kernel_has_no_futex_waitv() {
    let probe = child(|| deny(libc::SYS_futex_waitv).unwrap());
    if !probe.wait().unwrap().success() {
        crate::harness::skip("seccomp filters are not permitted here");
    }
    passes(&child(|| {
        deny(libc::SYS_futex_waitv).unwrap();
        let state = State::anonymous();
        let _held = [(); 2].map(|()| state.permits.acquire().unwrap());
        let barrier = Shared::anonymous(SharedBarrier::<2>::new()).unwrap();
        let party = barrier.join().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(matches!(
                    state.permits.acquire(),
                    Err(Error::FutexWaitvUnsupported)
                ));
                assert!(matches!(
                    state.permits.try_acquire(),
                    Err(Error::WouldBlock)
                ));
            });
        });
        assert!(matches!(
            wait_any(&state.all()),
            Err(Error::FutexWaitvUnsupported)
        ));
        assert!(matches!(
            state.roster.wait_for_abandoned(),
            Err(Error::FutexWaitvUnsupported)
        ));
        assert!(matches!(party.wait(), Err(Error::FutexWaitvUnsupported)));
        // A wait on one word alone does not need that call.
        let one = Shared::anonymous(SharedPermits::<1>::new()).unwrap();
        let held = one.acquire().unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| one.acquire().map(drop));
            std::thread::yield_now();
            drop(held);
            waiter.join().unwrap().unwrap();
        });
        // The arrival that could not wait was undone.
        drop(party);
        assert!(!barrier.is_broken());
    }));
}
