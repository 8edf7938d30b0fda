//! Waiting for the first of several events.

use crate::harness::Kills;
use crate::seccomp::{deny, needs_filters};
use crate::steps::{Interruptions, Random, Signal, until_idly};
use crate::support::{
    child, child_elsewhere as child_of_a_holder, kill, passes, sleeps_on_any, until,
};
use pshared::{
    Error, Shared, SharedBarrier, SharedCounter, SharedEvent, SharedPermits, SharedRoster, ShmSafe,
    SlotState, Waitable, wait_any, wait_any_timeout,
};
use std::time::Duration;

crate::tests!(
    an_event_a_permit_and_a_death_each_end_the_wait,
    signals_end_no_wait,
    a_wait_without_any_event_times_out,
    a_queued_waiter_gets_the_permit_although_watchers_wait_too,
    kills_of_watchers_strand_no_queued_waiter: 500 kills of "wait_any",
    every_wait_ends_without_futex_waitv,
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
        until_idly(|| watchers.iter().all(|watcher| sleeps_on_any(watcher.id())));
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
    interruptions.send_when(&watcher, sleeps_on_any);
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
            until_idly(|| sleeps_on_any(watcher.id()));
            watcher
        });
        let taken = Signal::new();
        let waiter = child_of_a_holder(|| {
            let _permit = state.permits.acquire().unwrap();
            taken.give();
        });
        until_idly(|| sleeps_on_any(waiter.id()));
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

/// Linux before 5.16 has no `futex_waitv`, and the filters of some containers deny it.
fn every_wait_ends_without_futex_waitv() {
    needs_filters();
    let waits = |body: &dyn Fn()| {
        child(|| {
            deny(libc::SYS_futex_waitv).unwrap();
            body();
        })
    };
    let state = State::anonymous();
    let barrier = Shared::anonymous(SharedBarrier::<3>::new()).unwrap();
    let met = Signal::new();
    // The permits are held by two processes. One of them releases its permit, the other is killed.
    let holders = [(); 2].map(|()| {
        child(|| {
            let permit = state.permits.acquire().unwrap();
            state.event.wait();
            drop(permit);
            nix::unistd::pause();
        })
    });
    until(|| state.permits.available() == 0);
    let takes = [(); 2].map(|()| waits(&|| drop(state.permits.acquire().unwrap())));
    let any = waits(&|| assert_eq!(wait_any(&[&state.permits]).unwrap(), 0));
    let times_out = waits(&|| {
        let short = Duration::from_millis(20);
        let missed = state.permits.acquire_timeout(short);
        assert!(matches!(missed, Err(Error::TimedOut)));
    });
    passes(&times_out);
    kill(&holders[0]);
    takes.iter().for_each(passes);
    passes(&any);
    state.event.set();
    // The parties of a barrier, and then the death of one.
    let meets = |rounds: u32| {
        waits(&|| {
            let party = barrier.join().unwrap();
            (0..rounds).for_each(|_| assert!(party.wait().is_ok()));
            assert!(matches!(party.wait(), Err(Error::BarrierBroken { .. })));
        })
    };
    let parties = [meets(2), meets(2)];
    let dies = waits(&|| {
        let party = barrier.join().unwrap();
        (0..2).for_each(|_| assert!(party.wait().is_ok()));
        met.give();
        nix::unistd::pause();
    });
    met.wait();
    kill(&dies);
    parties.iter().for_each(passes);
    // A watcher of a roster.
    let watcher = waits(&|| {
        state.roster.wait_for_abandoned().unwrap();
    });
    let worker = child(|| {
        let _slot = state.roster.join().unwrap();
        nix::unistd::pause();
    });
    until(|| {
        state
            .roster
            .slots()
            .any(|slot| matches!(slot.state, SlotState::Occupied { .. }))
    });
    kill(&worker);
    passes(&watcher);
    kill(&holders[1]);
}
