//! Permits between processes that are forked, interrupted, or killed while they wait, hold or
//! release.

use crate::harness::Kills;
use crate::steps::{Interruptions, Random, Signal, until_idly};
use crate::support::{
    child, child_elsewhere as child_of_a_holder, create, kill, kill_unreaped, open, passes,
    sleeps_on_any, until,
};
use pshared::fork::Child;
use pshared::{Error, Permit, Shared, SharedCounter, SharedPermits, ShmSafe};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

crate::tests!(
    no_two_held_permits_have_the_same_number,
    permits_in_a_file_are_shared_by_all_openers,
    a_permit_inherited_by_fork_belongs_to_the_parent,
    signals_end_no_wait,
    a_wait_that_times_out_takes_no_permit,
    a_permit_of_a_dead_holder_wakes_a_waiter_and_reports_the_death,
    try_acquire_gets_the_permit_of_a_zombie,
    a_killed_waiter_swallows_no_wake_of_another_waiter,
    a_waiter_killed_as_it_was_woken_leaves_its_permit_to_the_next,
    a_permit_of_an_ended_thread_is_unavailable_until_its_process_ends,
    a_short_wait_reports_that_ended_threads_keep_all_permits,
    a_waiter_gets_an_error_if_ended_threads_of_a_busy_process_keep_all_permits,
    kills_at_any_instant_lose_no_permit_and_strand_no_waiter: 600 kills of "permits",
);

const LONG: Duration = Duration::from_secs(3600);

fn permits<const N: usize>() -> Shared<SharedPermits<N>> {
    Shared::anonymous(SharedPermits::new()).unwrap()
}

fn all<const N: usize>(permits: &SharedPermits<N>) -> [Permit<'_>; N] {
    std::array::from_fn(|_| permits.acquire_timeout(LONG).unwrap())
}

/// Starts a child that holds a permit until it is killed.
fn holder<const N: usize>(permits: &SharedPermits<N>) -> Child {
    let has_it = Signal::new();
    let holder = child(|| {
        let _permit = permits.acquire().unwrap();
        has_it.give();
        loop {
            nix::unistd::pause();
        }
    });
    has_it.wait();
    holder
}

#[derive(ShmSafe)]
#[repr(C)]
struct State<const N: usize> {
    permits: SharedPermits<N>,
    /// The worker that holds the permit of each number, or that held it when it died. 0 if there is
    /// none.
    stamps: [AtomicU32; N],
    turns: SharedCounter,
    reports: SharedCounter,
    stop: AtomicU32,
    two_with_one_number: SharedCounter,
    unreported_death: SharedCounter,
}

impl<const N: usize> State<N> {
    fn new() -> Self {
        State {
            permits: SharedPermits::new(),
            stamps: [const { AtomicU32::new(0) }; N],
            turns: SharedCounter::new(0),
            reports: SharedCounter::new(0),
            stop: AtomicU32::new(0),
            two_with_one_number: SharedCounter::new(0),
            unreported_death: SharedCounter::new(0),
        }
    }

    /// Acquires a permit in one of the possible ways, stamps its number, and releases it.
    fn turn(&self, random: &mut Random, own: u32) {
        let outcome = match random.below(4) {
            0 => self.permits.try_acquire(),
            1 => self.permits.acquire_timeout(Duration::from_micros(50)),
            2 => self.permits.acquire_timeout(LONG),
            _ => self.permits.acquire(),
        };
        let permit = match outcome {
            Ok(permit) => permit,
            Err(Error::WouldBlock | Error::TimedOut | Error::HolderDumpsCore) => return,
            // A call that does not wait may take a process that is being killed for a living one.
            Err(Error::HolderThreadEnded) => return,
            Err(other) => panic!("{other}"),
        };
        let stamp = &self.stamps[permit.number()];
        let left = stamp.swap(own, SeqCst);
        if permit.previous_holder_died() {
            self.reports.add(1);
        } else if left != 0 {
            self.unreported_death.add(1);
        }
        for _ in 0..random.below(300) {
            std::hint::spin_loop();
        }
        if random.below(16) == 0 {
            std::thread::yield_now();
        }
        if stamp.swap(0, SeqCst) != own {
            self.two_with_one_number.add(1);
        }
        self.turns.add(1);
        drop(permit);
    }

    fn worker(&self, own: u32, seed: u64) -> Child {
        child(move || {
            let mut random = Random::new(seed);
            while self.stop.load(SeqCst) == 0 {
                self.turn(&mut random, own);
            }
        })
    }

    fn is_in_order(&self) {
        let wrong = [&self.two_with_one_number, &self.unreported_death];
        assert_eq!(wrong.map(SharedCounter::get), [0, 0]);
        assert_eq!(self.permits.available(), N);
        let numbers = all(&self.permits).map(|permit| permit.number());
        assert!((0..N).all(|number| numbers.contains(&number)));
    }
}

fn no_two_held_permits_have_the_same_number() {
    let state = Shared::anonymous(State::<3>::new()).unwrap();
    let workers: Vec<_> = (1..=6).map(|own| state.worker(own, own.into())).collect();
    until_idly(|| state.turns.get() > 20_000);
    state.stop.store(1, SeqCst);
    workers.iter().for_each(passes);
    assert_eq!(state.reports.get(), 0);
    state.is_in_order();
}

fn permits_in_a_file_are_shared_by_all_openers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permits");
    let here = create(&path, SharedPermits::<2>::new());
    let has_it = Signal::new();
    let holder = child_of_a_holder(|| {
        let there = open::<SharedPermits<2>>(&path);
        let _permit = there.acquire().unwrap();
        has_it.give();
        loop {
            nix::unistd::pause();
        }
    });
    has_it.wait();
    let one = here.acquire().unwrap();
    assert!(matches!(here.try_acquire(), Err(Error::WouldBlock)));
    let waiter = child_of_a_holder(|| {
        let there = open::<SharedPermits<2>>(&path);
        assert!(there.acquire().unwrap().previous_holder_died());
    });
    until_idly(|| sleeps_on_any(waiter.id()));
    kill(&holder);
    passes(&waiter);
    drop(one);
    assert_eq!(here.available(), 2);
}

fn a_permit_inherited_by_fork_belongs_to_the_parent() {
    let permits = permits::<2>();
    let permit = Cell::new(Some(permits.acquire().unwrap()));
    passes(&child_of_a_holder(|| drop(permit.take())));
    assert_eq!(permits.available(), 1);
    passes(&child_of_a_holder(|| {
        let own = permits.acquire().unwrap();
        drop(permit.take());
        assert_eq!(permits.available(), 0);
        drop(own);
        assert_eq!(permits.available(), 1);
    }));
    drop(permit.take());
    assert!(
        all(&permits)
            .iter()
            .all(|permit| !permit.previous_holder_died())
    );
}

fn signals_end_no_wait() {
    type Wait = fn(&SharedPermits<2>) -> Result<Permit<'_>, Error>;
    let waits: [Wait; 2] = [SharedPermits::acquire, |permits| {
        permits.acquire_timeout(LONG)
    }];
    for wait in waits {
        let (permits, interruptions) = (permits::<2>(), Interruptions::new());
        let both = all(&permits);
        let waiters = [(); 2].map(|()| {
            let waiter = child_of_a_holder(|| {
                interruptions.allow();
                drop(wait(&permits).unwrap());
            });
            until_idly(|| sleeps_on_any(waiter.id()));
            waiter
        });
        // The queue head, and the waiter behind it.
        for waiter in &waiters {
            interruptions.send_when(waiter, sleeps_on_any);
        }
        drop(both);
        waiters.iter().for_each(passes);
    }
}

fn a_wait_that_times_out_takes_no_permit() {
    let permits = permits::<2>();
    let both = all(&permits);
    let waiters = [(); 3].map(|()| {
        child_of_a_holder(|| {
            let outcome = permits.acquire_timeout(Duration::from_millis(30));
            assert!(matches!(outcome, Err(Error::TimedOut)));
        })
    });
    waiters.iter().for_each(passes);
    drop(both);
    assert_eq!(permits.available(), 2);
    let both = all(&permits);
    assert!(matches!(permits.acquire(), Err(Error::Deadlock)));
    drop(both);
}

fn a_permit_of_a_dead_holder_wakes_a_waiter_and_reports_the_death() {
    for _ in 0..50 {
        let permits = permits::<3>();
        let holders = [(); 3].map(|()| holder(&permits));
        let reports = Shared::anonymous(SharedCounter::new(0)).unwrap();
        let waiters = [(); 3].map(|()| {
            child(|| {
                let permit = permits.acquire().unwrap();
                reports.add(permit.previous_holder_died().into());
                // Each death makes one permit available, and the sleepers keep these until the end.
                until_idly(|| reports.get() == 3);
            })
        });
        until_idly(|| waiters.iter().all(|waiter| sleeps_on_any(waiter.id())));
        holders.iter().for_each(kill);
        waiters.iter().for_each(passes);
        assert!(
            all(&permits)
                .iter()
                .all(|permit| !permit.previous_holder_died())
        );
    }
}

fn try_acquire_gets_the_permit_of_a_zombie() {
    let permits = permits::<1>();
    let holder = holder(&permits);
    kill_unreaped(&holder);
    assert!(permits.try_acquire().unwrap().previous_holder_died());
    holder.wait().unwrap();
}

fn a_killed_waiter_swallows_no_wake_of_another_waiter() {
    for victim in 0..3 {
        let permits = permits::<2>();
        let both = all(&permits);
        let waiters = [(); 3].map(|()| {
            let waiter = child_of_a_holder(|| drop(permits.acquire().unwrap()));
            until_idly(|| sleeps_on_any(waiter.id()));
            waiter
        });
        // In each round another sleeper is killed: first the queue head, then a waiter behind it.
        kill(&waiters[victim]);
        drop(both);
        let others = (0..3).filter(|waiter| *waiter != victim);
        others.for_each(|waiter| passes(&waiters[waiter]));
        assert_eq!(permits.available(), 2);
    }
}

/// The queue head is woken and killed at once, often before it has run. The waiters behind it do
/// not have to wait for the liveness check.
fn a_waiter_killed_as_it_was_woken_leaves_its_permit_to_the_next() {
    for _ in 0..100 {
        let permits = permits::<2>();
        let mut both = all(&permits).map(Some);
        let waiters = [(); 3].map(|()| {
            let waiter = child_of_a_holder(|| drop(permits.acquire().unwrap()));
            until_idly(|| sleeps_on_any(waiter.id()));
            waiter
        });
        both[0].take();
        waiters[0].kill().unwrap();
        waiters[0].wait().unwrap();
        waiters[1..].iter().for_each(passes);
    }
}

fn a_permit_of_an_ended_thread_is_unavailable_until_its_process_ends() {
    let permits = permits::<2>();
    let (ended, over) = (Signal::new(), Signal::new());
    let process = child_of_a_holder(|| {
        std::thread::scope(|scope| {
            let ends = scope.spawn(|| std::mem::forget(permits.acquire().unwrap()));
            // A scope does not wait until the kernel has finished with its threads.
            ends.join().unwrap();
        });
        ended.give();
        over.wait();
    });
    ended.wait();
    let other = permits.acquire().unwrap();
    // No call acquires the permit of the ended thread, however it waits.
    let until_certain = || loop {
        match permits.try_acquire() {
            Err(Error::WouldBlock) => std::thread::yield_now(),
            outcome => break outcome,
        }
    };
    assert!(permits.try_acquire().is_err());
    let soon = permits.acquire_timeout(Duration::from_millis(20));
    assert!(matches!(soon, Err(Error::TimedOut)));
    drop(other);
    drop(permits.acquire().unwrap());
    let waiter = child_of_a_holder(|| {
        let both = all(&permits);
        assert!(both.iter().any(Permit::previous_holder_died));
    });
    until_idly(|| sleeps_on_any(waiter.id()));
    over.give();
    passes(&process);
    passes(&waiter);
    assert_eq!(permits.available(), 2);
    drop(until_certain());
}

/// The error is also returned if a waiter's deadline passes before the end of the grace period, and
/// to a waiter that is not the queue head.
fn a_short_wait_reports_that_ended_threads_keep_all_permits() {
    let permits = permits::<2>();
    let (ended, over) = (Signal::new(), Signal::new());
    let process = child(|| {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let ends = scope.spawn(|| std::mem::forget(permits.acquire().unwrap()));
                ends.join().unwrap();
            }
        });
        ended.give();
        over.wait();
    });
    ended.wait();
    let reports_ended_thread = |outcome| matches!(outcome, Err(Error::HolderThreadEnded));
    // This call waits for the end of the grace period. Until then, the process may be about to end.
    assert!(reports_ended_thread(permits.acquire()));
    assert!(reports_ended_thread(permits.try_acquire()));
    let waiters = [(); 3].map(|()| {
        child(|| {
            assert!(reports_ended_thread(
                permits.acquire_timeout(Duration::from_millis(20))
            ))
        })
    });
    assert!(reports_ended_thread(
        permits.acquire_timeout(Duration::from_millis(20))
    ));
    waiters.iter().for_each(passes);
    over.give();
    passes(&process);
    assert!(all(&permits).iter().all(Permit::previous_holder_died));
}

/// A running thread may be about to end its process. So each ended thread of that process is
/// checked until the grace period is over.
fn a_waiter_gets_an_error_if_ended_threads_of_a_busy_process_keep_all_permits() {
    let permits = permits::<127>();
    let ended = Signal::new();
    let process = child(|| {
        std::thread::scope(|scope| {
            for _ in 0..127 {
                let ends = scope.spawn(|| std::mem::forget(permits.acquire().unwrap()));
                ends.join().unwrap();
            }
        });
        ended.give();
        loop {
            std::hint::spin_loop();
        }
    });
    ended.wait();
    let reports_ended_thread = |outcome| matches!(outcome, Err(Error::HolderThreadEnded));
    assert!(reports_ended_thread(
        permits.acquire_timeout(Duration::from_secs(30))
    ));
    assert!(reports_ended_thread(permits.try_acquire()));
    kill(&process);
}

fn kills_at_any_instant_lose_no_permit_and_strand_no_waiter(run: &Kills<'_>) {
    const WORKERS: usize = 6;
    let mut random = Random::new(run.seed());
    let state = Shared::anonymous(State::<2>::new()).unwrap();
    let mut workers: Vec<_> = (1..=WORKERS as u32)
        .map(|own| state.worker(own, random.next()))
        .collect();
    let mut own = WORKERS as u32;
    while run.go_on() {
        let victim = random.below(WORKERS as u64) as usize;
        let turns = state.turns.get() + 1 + random.below(20);
        until(|| state.turns.get() >= turns);
        for _ in 0..random.below(2_000) {
            std::hint::spin_loop();
        }
        run.kill(&workers[victim]);
        own += 1;
        workers[victim] = state.worker(own, random.next());
        run.note(state.turns.get(), state.reports.get());
    }
    let turns = state.turns.get() + 100;
    until_idly(|| state.turns.get() >= turns);
    state.stop.store(1, SeqCst);
    workers.iter().for_each(passes);
    assert!(state.reports.get() > 0);
    state.is_in_order();
}
