//! Permits between processes that are forked, interrupted, or killed while they wait, hold or
//! release.

use crate::steps::{Interruptions, Random, Signal, sleeps_in, until_idly};
use crate::support::{
    child, child_elsewhere as child_of_a_holder, create, kill, kill_unreaped, open, passes, sleeps,
    until,
};
use pshared::fork::Child;
use pshared::{Error, Permit, Shared, SharedCounter, SharedPermits, ShmSafe};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

crate::tests!(
    a_number_is_nobody_elses_while_its_permit_is_held,
    permits_in_a_file_are_shared_by_those_who_open_it,
    a_permit_that_crossed_a_fork_is_the_parents,
    signals_end_no_wait,
    a_deadline_ends_a_wait_and_takes_nothing,
    a_permit_of_the_dead_wakes_a_sleeper_who_is_told,
    a_permit_of_a_zombie_is_had_by_a_try,
    a_sleeper_that_is_killed_takes_nobodys_wake_with_it,
    who_is_killed_when_it_was_woken_leaves_its_permit_to_the_next,
    a_permit_of_an_ended_thread_waits_for_its_process,
    however_short_the_wait_who_finds_all_permits_kept_is_told,
    however_many_permits_a_busy_process_keeps_who_waits_is_told,
    kills_at_any_instant_lose_no_permit_and_strand_nobody,
);

const LONG: Duration = Duration::from_secs(3600);

/// Whether the process sleeps on one word or on several words.
fn sleeps_on_any(process: u32) -> bool {
    sleeps(process) || sleeps_in(process, libc::SYS_futex_waitv)
}

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
struct Room<const N: usize> {
    permits: SharedPermits<N>,
    /// The worker that holds the permit of each number, or that held it when it died. 0 if there is
    /// none.
    stamps: [AtomicU32; N],
    turns: SharedCounter,
    told: SharedCounter,
    stop: AtomicU32,
    two_with_one_number: SharedCounter,
    death_not_told: SharedCounter,
}

impl<const N: usize> Room<N> {
    fn new() -> Self {
        Room {
            permits: SharedPermits::new(),
            stamps: [const { AtomicU32::new(0) }; N],
            turns: SharedCounter::new(0),
            told: SharedCounter::new(0),
            stop: AtomicU32::new(0),
            two_with_one_number: SharedCounter::new(0),
            death_not_told: SharedCounter::new(0),
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
            Err(Error::WouldBlock | Error::TimedOut) => return,
            // A call that does not wait may take a process that is being killed for a living one.
            Err(Error::HolderThreadEnded) => return,
            Err(other) => panic!("{other}"),
        };
        let stamp = &self.stamps[permit.number()];
        let left = stamp.swap(own, SeqCst);
        if permit.previous_holder_died() {
            self.told.add(1);
        } else if left != 0 {
            self.death_not_told.add(1);
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
        let wrong = [&self.two_with_one_number, &self.death_not_told];
        assert_eq!(wrong.map(SharedCounter::get), [0, 0]);
        assert_eq!(self.permits.available(), N);
        let numbers = all(&self.permits).map(|permit| permit.number());
        assert!((0..N).all(|number| numbers.contains(&number)));
    }
}

fn a_number_is_nobody_elses_while_its_permit_is_held() {
    let room = Shared::anonymous(Room::<3>::new()).unwrap();
    let workers: Vec<_> = (1..=6).map(|own| room.worker(own, own.into())).collect();
    until_idly(|| room.turns.get() > 20_000);
    room.stop.store(1, SeqCst);
    workers.iter().for_each(passes);
    assert_eq!(room.told.get(), 0);
    room.is_in_order();
}

fn permits_in_a_file_are_shared_by_those_who_open_it() {
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
    let sleeper = child_of_a_holder(|| {
        let there = open::<SharedPermits<2>>(&path);
        assert!(there.acquire().unwrap().previous_holder_died());
    });
    until_idly(|| sleeps_on_any(sleeper.id()));
    kill(&holder);
    passes(&sleeper);
    drop(one);
    assert_eq!(here.available(), 2);
}

fn a_permit_that_crossed_a_fork_is_the_parents() {
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
            interruptions.send_where(waiter, sleeps_on_any);
        }
        drop(both);
        waiters.iter().for_each(passes);
    }
}

fn a_deadline_ends_a_wait_and_takes_nothing() {
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

fn a_permit_of_the_dead_wakes_a_sleeper_who_is_told() {
    for _ in 0..50 {
        let permits = permits::<3>();
        let holders = [(); 3].map(|()| holder(&permits));
        let told = Shared::anonymous(SharedCounter::new(0)).unwrap();
        let sleepers = [(); 3].map(|()| {
            child(|| {
                let permit = permits.acquire().unwrap();
                told.add(permit.previous_holder_died().into());
                // Each death makes one permit available, and the sleepers keep these until the end.
                until_idly(|| told.get() == 3);
            })
        });
        until_idly(|| sleepers.iter().all(|sleeper| sleeps_on_any(sleeper.id())));
        holders.iter().for_each(kill);
        sleepers.iter().for_each(passes);
        assert!(
            all(&permits)
                .iter()
                .all(|permit| !permit.previous_holder_died())
        );
    }
}

fn a_permit_of_a_zombie_is_had_by_a_try() {
    let permits = permits::<1>();
    let holder = holder(&permits);
    kill_unreaped(&holder);
    assert!(permits.try_acquire().unwrap().previous_holder_died());
    holder.wait().unwrap();
}

fn a_sleeper_that_is_killed_takes_nobodys_wake_with_it() {
    for victim in 0..3 {
        let permits = permits::<2>();
        let both = all(&permits);
        let sleepers = [(); 3].map(|()| {
            let sleeper = child_of_a_holder(|| drop(permits.acquire().unwrap()));
            until_idly(|| sleeps_on_any(sleeper.id()));
            sleeper
        });
        // In each round another sleeper is killed: first the queue head, then a waiter behind it.
        kill(&sleepers[victim]);
        drop(both);
        let others = (0..3).filter(|sleeper| *sleeper != victim);
        others.for_each(|sleeper| passes(&sleepers[sleeper]));
        assert_eq!(permits.available(), 2);
    }
}

/// The queue head is woken and killed at once, often before it has run. The waiters behind it do
/// not have to wait for the liveness check.
fn who_is_killed_when_it_was_woken_leaves_its_permit_to_the_next() {
    for _ in 0..100 {
        let permits = permits::<2>();
        let mut both = all(&permits).map(Some);
        let sleepers = [(); 3].map(|()| {
            let sleeper = child_of_a_holder(|| drop(permits.acquire().unwrap()));
            until_idly(|| sleeps_on_any(sleeper.id()));
            sleeper
        });
        both[0].take();
        sleepers[0].kill().unwrap();
        sleepers[0].wait().unwrap();
        sleepers[1..].iter().for_each(passes);
    }
}

fn a_permit_of_an_ended_thread_waits_for_its_process() {
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
    let sleeper = child_of_a_holder(|| {
        let both = all(&permits);
        assert!(both.iter().any(Permit::previous_holder_died));
    });
    until_idly(|| sleeps_on_any(sleeper.id()));
    over.give();
    passes(&process);
    passes(&sleeper);
    assert_eq!(permits.available(), 2);
    drop(until_certain());
}

/// The error is also returned if a waiter's deadline passes before the end of the grace period, and
/// to a waiter that is not the queue head.
fn however_short_the_wait_who_finds_all_permits_kept_is_told() {
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
    let is_told = |outcome| matches!(outcome, Err(Error::HolderThreadEnded));
    // This call waits for the end of the grace period. Until then, the process may be about to end.
    assert!(is_told(permits.acquire()));
    assert!(is_told(permits.try_acquire()));
    let waiters = [(); 3]
        .map(|()| child(|| assert!(is_told(permits.acquire_timeout(Duration::from_millis(20))))));
    assert!(is_told(permits.acquire_timeout(Duration::from_millis(20))));
    waiters.iter().for_each(passes);
    over.give();
    passes(&process);
    assert!(all(&permits).iter().all(Permit::previous_holder_died));
}

/// A running thread may be about to end its process. So each ended thread of that process is
/// checked until the grace period is over.
fn however_many_permits_a_busy_process_keeps_who_waits_is_told() {
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
    let is_told = |outcome| matches!(outcome, Err(Error::HolderThreadEnded));
    assert!(is_told(permits.acquire_timeout(Duration::from_secs(30))));
    assert!(is_told(permits.try_acquire()));
    kill(&process);
}

fn kills_at_any_instant_lose_no_permit_and_strand_nobody() {
    const KILLS: u32 = 600;
    const WORKERS: usize = 6;
    let mut random = Random::new(17);
    let room = Shared::anonymous(Room::<2>::new()).unwrap();
    let mut workers: Vec<_> = (1..=WORKERS as u32)
        .map(|own| room.worker(own, own.into()))
        .collect();
    for serial in 0..KILLS {
        let victim = random.below(WORKERS as u64) as usize;
        let turns = room.turns.get() + 1 + random.below(20);
        until(|| room.turns.get() >= turns);
        for _ in 0..random.below(2_000) {
            std::hint::spin_loop();
        }
        kill(&workers[victim]);
        let own = WORKERS as u32 + 1 + serial;
        workers[victim] = room.worker(own, own.into());
    }
    let turns = room.turns.get() + 100;
    until_idly(|| room.turns.get() >= turns);
    room.stop.store(1, SeqCst);
    workers.iter().for_each(passes);
    assert!(room.told.get() > 0);
    room.is_in_order();
}
