//! Waiting for the first of several events.

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
    a_wait_for_nothing_that_comes_ends_by_its_deadline,
    who_waits_in_line_gets_the_permit_beside_watchers,
    kills_of_watchers_strand_nobody_in_line,
    where_the_kernel_has_no_such_wait_an_error_says_so,
);

#[derive(ShmSafe, Default)]
#[repr(C)]
struct Board {
    event: SharedEvent,
    permits: SharedPermits<2>,
    roster: SharedRoster<SharedCounter, 3>,
}

impl Board {
    fn anonymous() -> Shared<Self> {
        Shared::anonymous(Board::default()).unwrap()
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
        let board = Board::anonymous();
        let held = [(); 2].map(|()| board.permits.acquire().unwrap());
        let sits = Signal::new();
        let worker = child_of_a_holder(|| {
            let _slot = board.roster.join().unwrap();
            sits.give();
            loop {
                nix::unistd::pause();
            }
        });
        sits.wait();
        let watchers = [(); 3]
            .map(|()| child_of_a_holder(|| assert_eq!(wait_any(&board.all()).unwrap(), expected)));
        until_idly(|| watchers.iter().all(|watcher| watches(watcher.id())));
        match expected {
            0 => board.event.set(),
            1 => drop(held),
            _ => kill(&worker),
        }
        watchers.iter().for_each(passes);
    }
}

fn signals_end_no_wait() {
    let (board, interruptions) = (Board::anonymous(), Interruptions::new());
    let held = [(); 2].map(|()| board.permits.acquire().unwrap());
    let watcher = child_of_a_holder(|| {
        interruptions.allow();
        assert_eq!(wait_any(&board.all()).unwrap(), 1);
    });
    interruptions.send_where(&watcher, watches);
    drop(held);
    passes(&watcher);
}

fn a_wait_for_nothing_that_comes_ends_by_its_deadline() {
    let board = Board::anonymous();
    let _held = [(); 2].map(|()| board.permits.acquire().unwrap());
    let soon = Duration::from_millis(10);
    assert!(matches!(
        wait_any_timeout(&board.all(), soon),
        Err(Error::TimedOut)
    ));
    board.event.set();
    assert_eq!(wait_any_timeout(&board.all(), Duration::ZERO).unwrap(), 0);
}

fn who_waits_in_line_gets_the_permit_beside_watchers() {
    for _ in 0..50 {
        let board = Board::anonymous();
        let held = [(); 2].map(|()| board.permits.acquire().unwrap());
        // The watchers sleep before the waiter does, so they are the first in the futex queues.
        let watchers = [(); 2].map(|()| {
            let watcher = child_of_a_holder(|| assert_eq!(wait_any(&board.all()).unwrap(), 1));
            until_idly(|| watches(watcher.id()));
            watcher
        });
        let taken = Signal::new();
        let waiter = child_of_a_holder(|| {
            let _permit = board.permits.acquire().unwrap();
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

fn kills_of_watchers_strand_nobody_in_line() {
    const KILLS: u64 = 500;
    let board = Board::anonymous();
    let turns = Shared::anonymous(SharedCounter::new(0)).unwrap();
    let workers = [(); 4].map(|()| {
        child(|| {
            loop {
                let permit = board.permits.acquire().unwrap();
                turns.add(1);
                drop(permit);
            }
        })
    });
    let watch = || {
        child(|| {
            loop {
                let _ = wait_any(&board.all());
            }
        })
    };
    let mut watchers = [(); 2].map(|()| watch());
    let mut random = Random::new(31);
    for kills in 0..KILLS {
        let victim = (kills % 2) as usize;
        let until_turn = turns.get() + 1 + random.below(20);
        until(|| turns.get() >= until_turn);
        for _ in 0..random.below(2_000) {
            std::hint::spin_loop();
        }
        kill(&watchers[victim]);
        watchers[victim] = watch();
    }
    let until_turn = turns.get() + 100;
    until_idly(|| turns.get() >= until_turn);
    watchers.iter().chain(&workers).for_each(kill);
    assert_eq!(board.permits.available(), 2);
}

/// Linux before 5.16 and some containers have no `futex_waitv`.
fn where_the_kernel_has_no_such_wait_an_error_says_so() {
    let probe = child(|| deny(libc::SYS_futex_waitv).unwrap());
    if !probe.wait().unwrap().success() {
        crate::harness::skip("seccomp filters are not permitted here");
    }
    passes(&child(|| {
        deny(libc::SYS_futex_waitv).unwrap();
        let board = Board::anonymous();
        let _held = [(); 2].map(|()| board.permits.acquire().unwrap());
        let barrier = Shared::anonymous(SharedBarrier::<2>::new()).unwrap();
        let party = barrier.join().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(matches!(
                    board.permits.acquire(),
                    Err(Error::FutexWaitvUnsupported)
                ));
                assert!(matches!(
                    board.permits.try_acquire(),
                    Err(Error::WouldBlock)
                ));
            });
        });
        assert!(matches!(
            wait_any(&board.all()),
            Err(Error::FutexWaitvUnsupported)
        ));
        assert!(matches!(
            board.roster.wait_for_abandoned(),
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
