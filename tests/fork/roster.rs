//! A roster of workers. Workers join, are watched, and are killed, and other workers adopt their
//! slots.

use crate::harness::Kills;
use crate::steps::{Interruptions, Random, Signal, until_idly};
use crate::support::{
    child, child_elsewhere as child_of_a_holder, create, kill, kill_unreaped, open, passes,
    sleeps_on_any, state, until,
};
use pshared::fork::Child;
use pshared::{
    Error, Holder, Shared, SharedCounter, SharedRoster, ShmSafe, SlotState, wait_any_timeout,
};
use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

crate::tests!(
    a_worker_is_listed_and_its_slot_is_free_after_it_leaves,
    a_roster_in_a_file_outlives_its_workers,
    a_slot_inherited_by_fork_belongs_to_the_parent,
    a_death_wakes_every_watcher,
    a_zombies_slot_is_abandoned,
    an_abandoned_slot_is_adopted_with_its_data,
    a_waiter_for_a_slot_gets_the_slot_of_a_dead_worker,
    a_killed_watcher_does_not_affect_other_watchers,
    signals_end_no_watch,
    a_watch_ends_by_its_deadline,
    watchers_do_not_wake_each_other_repeatedly,
    a_slot_of_an_ended_thread_is_not_reused_while_its_process_lives,
    kills_at_any_instant_lose_no_count_and_no_slot: 600 kills of "roster",
);

const LONG: Duration = Duration::from_secs(3600);

type Roster<const N: usize> = SharedRoster<SharedCounter, N>;

fn roster<const N: usize>() -> Shared<Roster<N>> {
    Shared::anonymous(SharedRoster::default()).unwrap()
}

/// Starts a child that has a slot until it is killed.
fn worker<const N: usize>(roster: &Roster<N>) -> Child {
    let joined = Signal::new();
    let worker = child_of_a_holder(|| {
        let slot = roster.join().unwrap();
        slot.add(1);
        joined.give();
        loop {
            nix::unistd::pause();
        }
    });
    joined.wait();
    worker
}

/// The state of a slot, with the process id of its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    Occupied(Option<u32>),
    Abandoned(Option<u32>),
}

fn states<const N: usize>(roster: &Roster<N>) -> Vec<Slot> {
    let state = |state| match state {
        SlotState::Free => Slot::Free,
        SlotState::Occupied { by } => Slot::Occupied(id_of(by)),
        SlotState::Abandoned { by } => Slot::Abandoned(id_of(by)),
        other => panic!("an unknown state: {other:?}"),
    };
    roster.slots().map(|slot| state(slot.state)).collect()
}

/// The id of a process whose first thread has the slot.
fn id_of(worker: Option<Holder>) -> Option<u32> {
    worker.map(|worker| {
        assert_eq!(worker.thread, worker.process);
        worker.process
    })
}

fn a_worker_is_listed_and_its_slot_is_free_after_it_leaves() {
    let roster = roster::<2>();
    let (joined, over) = (Signal::new(), Signal::new());
    let worker = child(|| {
        let slot = roster.join().unwrap();
        assert_eq!((slot.number(), slot.previous_holder_died()), (0, false));
        joined.give();
        over.wait();
        drop(slot);
    });
    joined.wait();
    let occupied = Slot::Occupied(Some(worker.id()));
    assert_eq!(states(&roster), [occupied, Slot::Free]);
    assert!(matches!(roster.adopt(0), Err(Error::WouldBlock)));
    over.give();
    passes(&worker);
    assert_eq!(states(&roster), [Slot::Free; 2]);
    assert_eq!(roster.abandoned(), None);
}

fn a_roster_in_a_file_outlives_its_workers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roster");
    let here = create(&path, Roster::<3>::default());
    let joined = Signal::new();
    let worker = child(|| {
        let there = open::<Roster<3>>(&path);
        there.join().unwrap().add(4);
        let _slot = there.join().unwrap();
        joined.give();
        loop {
            nix::unistd::pause();
        }
    });
    joined.wait();
    let watcher = child(|| assert_eq!(open::<Roster<3>>(&path).wait_for_abandoned().unwrap(), 0));
    until_idly(|| sleeps_on_any(watcher.id()));
    kill(&worker);
    passes(&watcher);
    assert_eq!(here.slots().map(|slot| slot.data.get()).sum::<u64>(), 4);
    drop(here);
    // No process uses the roster any more. The slot is still abandoned.
    let here = open::<Roster<3>>(&path);
    assert!(matches!(states(&here)[0], Slot::Abandoned(_)));
    assert!(here.adopt(0).unwrap().previous_holder_died());
}

fn a_slot_inherited_by_fork_belongs_to_the_parent() {
    let roster = roster::<1>();
    let slot = Cell::new(Some(roster.join().unwrap()));
    passes(&child_of_a_holder(|| drop(slot.take())));
    assert!(matches!(states(&roster)[0], Slot::Occupied(_)));
    passes(&child_of_a_holder(|| {
        assert!(matches!(roster.try_join(), Err(Error::WouldBlock)));
    }));
    drop(slot.take());
    assert_eq!(states(&roster), [Slot::Free]);
}

fn a_death_wakes_every_watcher() {
    for _ in 0..50 {
        let roster = roster::<3>();
        let workers = [(); 3].map(|()| worker(&roster));
        let watchers =
            [(); 3].map(|()| child(|| assert_eq!(roster.wait_for_abandoned().unwrap(), 1)));
        until_idly(|| watchers.iter().all(|watcher| sleeps_on_any(watcher.id())));
        kill(&workers[1]);
        watchers.iter().for_each(passes);
        assert_eq!(states(&roster)[1], Slot::Abandoned(Some(workers[1].id())));
        [&workers[0], &workers[2]].into_iter().for_each(kill);
    }
}

fn a_zombies_slot_is_abandoned() {
    let roster = roster::<1>();
    let worker = worker(&roster);
    kill_unreaped(&worker);
    assert_eq!(states(&roster), [Slot::Abandoned(Some(worker.id()))]);
    assert!(roster.try_join().unwrap().previous_holder_died());
    worker.wait().unwrap();
}

fn an_abandoned_slot_is_adopted_with_its_data() {
    let roster = roster::<2>();
    let worker = worker(&roster);
    kill(&worker);
    let slot = roster.adopt(0).unwrap();
    assert!(slot.previous_holder_died());
    assert_eq!(id_of(slot.previous_holder()), Some(worker.id()));
    assert_eq!(slot.get(), 1);
    // The data is reset by its own method.
    slot.reset();
    drop(slot);
    let slot = roster.join().unwrap();
    assert_eq!((slot.number(), slot.get()), (0, 0));
    assert_eq!(slot.previous_holder(), None);
    // A free slot is preferred to an abandoned one.
    drop(slot);
    kill(&self::worker(&roster));
    assert_eq!(roster.join().unwrap().number(), 1);
}

fn a_waiter_for_a_slot_gets_the_slot_of_a_dead_worker() {
    for _ in 0..30 {
        let roster = roster::<2>();
        let workers = [(); 2].map(|()| worker(&roster));
        let successors = [(); 2].map(|()| {
            child(|| {
                let slot = roster.join_timeout(LONG).unwrap();
                assert!(slot.previous_holder_died());
                slot.add(10);
                std::mem::forget(slot);
            })
        });
        // One successor waits for the queue lock, and the other sleeps on the slots. A watcher
        // sleeps on the slots too.
        let watcher = child(|| _ = roster.wait_for_abandoned().unwrap());
        until_idly(|| {
            successors.iter().any(|one| sleeps_on_any(one.id())) && sleeps_on_any(watcher.id())
        });
        workers.iter().for_each(kill);
        successors.iter().for_each(passes);
        // Both successors have ended while they held their slots.
        passes(&watcher);
        let total: u64 = roster.slots().map(|slot| slot.data.get()).sum();
        assert_eq!(total, 22);
    }
}

fn a_killed_watcher_does_not_affect_other_watchers() {
    for _ in 0..30 {
        let roster = roster::<2>();
        let worker = worker(&roster);
        let watchers = [(); 3].map(|()| {
            let watcher = child(|| assert_eq!(roster.wait_for_abandoned().unwrap(), 0));
            until_idly(|| sleeps_on_any(watcher.id()));
            watcher
        });
        kill(&worker);
        // The watcher is often killed before it has run.
        watchers[0].kill().unwrap();
        watchers[0].wait().unwrap();
        watchers[1..].iter().for_each(passes);
    }
}

fn signals_end_no_watch() {
    let (roster, interruptions) = (roster::<2>(), Interruptions::new());
    let worker = worker(&roster);
    let watcher = child(|| {
        interruptions.allow();
        assert_eq!(roster.wait_for_abandoned_timeout(LONG).unwrap(), 0);
    });
    interruptions.send_when(&watcher, sleeps_on_any);
    kill(&worker);
    passes(&watcher);
}

fn a_watch_ends_by_its_deadline() {
    let roster = roster::<2>();
    let worker = worker(&roster);
    let soon = Duration::from_millis(20);
    assert!(matches!(
        roster.wait_for_abandoned_timeout(soon),
        Err(Error::TimedOut)
    ));
    let _own = roster.join().unwrap();
    assert!(matches!(roster.join_timeout(soon), Err(Error::TimedOut)));
    kill(&worker);
    assert_eq!(roster.wait_for_abandoned_timeout(LONG).unwrap(), 0);
}

/// Returns the number of context switches of a process, both voluntary and involuntary.
fn switches(process: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let counts = status
        .lines()
        .filter_map(|line| line.split_once("ctxt_switches:"));
    counts
        .map(|(_, count)| count.trim().parse::<u64>().unwrap())
        .sum()
}

/// Slots are released while a process that waits for one is stopped. Each watcher propagates the
/// wake that it received, because that wake may have been meant for the stopped process. A watcher
/// must do so only once.
fn watchers_do_not_wake_each_other_repeatedly() {
    let roster = roster::<2>();
    let slots = [(); 2].map(|()| roster.join().unwrap());
    let stopped = child_of_a_holder(|| drop(roster.join().unwrap()));
    until_idly(|| sleeps_on_any(stopped.id()));
    let signal = |signal| {
        let process = nix::unistd::Pid::from_raw(stopped.id().cast_signed());
        nix::sys::signal::kill(process, signal).unwrap();
    };
    signal(nix::sys::signal::Signal::SIGSTOP);
    until_idly(|| state(stopped.id()) == Some('T'));
    let watchers: Vec<_> = (0..8)
        .map(|number| {
            child_of_a_holder(|| match number % 2 {
                0 => _ = roster.wait_for_abandoned_timeout(LONG),
                _ => _ = wait_any_timeout(&[&*roster], LONG),
            })
        })
        .collect();
    until_idly(|| watchers.iter().all(|watcher| sleeps_on_any(watcher.id())));
    drop(slots);
    let all = || watchers.iter().map(switches).sum::<u64>();
    let before = all();
    // During this second, the recheck interval of the watchers grows to half a second.
    assert!(matches!(
        wait_any_timeout(&[&*roster], Duration::from_secs(1)),
        Err(Error::TimedOut)
    ));
    let during = all() - before;
    signal(nix::sys::signal::Signal::SIGCONT);
    passes(&stopped);
    watchers.iter().for_each(kill);
    assert!(during < 5_000, "{during} switches in a second");
}

fn a_slot_of_an_ended_thread_is_not_reused_while_its_process_lives() {
    let roster = roster::<1>();
    let (ended, over) = (Signal::new(), Signal::new());
    let process = child(|| {
        std::thread::scope(|scope| {
            let ends = scope.spawn(|| std::mem::forget(roster.join().unwrap()));
            // A scope does not wait until the kernel has finished with its threads.
            ends.join().unwrap();
        });
        ended.give();
        over.wait();
    });
    ended.wait();
    assert!(matches!(roster.join(), Err(Error::HolderThreadEnded)));
    assert!(matches!(roster.adopt(0), Err(Error::HolderThreadEnded)));
    over.give();
    passes(&process);
    assert!(roster.join().unwrap().previous_holder_died());
}

/// The data of a worker: it writes two numbers, one after the other.
#[derive(ShmSafe, Default)]
#[repr(C)]
struct Work {
    begun: AtomicU64,
    done: AtomicU64,
}

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    roster: SharedRoster<Work, 4>,
    total: SharedCounter,
    adopted: SharedCounter,
    stop: AtomicU32,
}

fn kills_at_any_instant_lose_no_count_and_no_slot(run: &Kills<'_>) {
    let shared = Shared::anonymous(State {
        roster: SharedRoster::default(),
        total: SharedCounter::new(0),
        adopted: SharedCounter::new(0),
        stop: AtomicU32::new(0),
    })
    .unwrap();
    let work = |seed: u64| {
        let shared = &shared;
        child(move || {
            let mut random = Random::new(seed);
            while shared.stop.load(SeqCst) == 0 {
                let slot = shared.roster.join().unwrap();
                for _ in 0..random.below(30) {
                    // The two numbers change one after the other, and both before the total.
                    slot.begun.fetch_add(1, SeqCst);
                    slot.done.fetch_add(1, SeqCst);
                    shared.total.add(1);
                }
            }
        })
    };
    // Six workers share four slots, so two of them sleep. There is also a watcher.
    let mut random = Random::new(run.seed());
    let mut workers: Vec<_> = (0..6).map(|_| work(random.next())).collect();
    let watcher = child(|| {
        while shared.stop.load(SeqCst) == 0 {
            match shared
                .roster
                .wait_for_abandoned_timeout(Duration::from_millis(5))
            {
                Ok(number) => {
                    shared.adopted.add(1);
                    drop(shared.roster.adopt(number));
                }
                Err(Error::TimedOut) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert!(shared.adopted.get() > 0);
    });
    while run.go_on() {
        let victim = random.below(6) as usize;
        let total = shared.total.get() + 1 + random.below(20);
        until(|| shared.total.get() >= total);
        for _ in 0..random.below(2_000) {
            std::hint::spin_loop();
        }
        run.kill(&workers[victim]);
        workers[victim] = work(random.next());
        run.note(shared.total.get(), shared.adopted.get());
    }
    let total = shared.total.get() + 100;
    until_idly(|| shared.total.get() >= total);
    shared.stop.store(1, SeqCst);
    workers.iter().for_each(passes);
    passes(&watcher);
    let (begun, done) = shared.roster.slots().fold((0, 0), |(begun, done), slot| {
        let Work { begun: b, done: d } = slot.data;
        (begun + b.load(SeqCst), done + d.load(SeqCst))
    });
    // The counts of the killed workers are still there. Each death may have occurred between two
    // steps of one count.
    assert!(done <= begun && begun - done <= run.made());
    assert!(shared.total.get() <= done && done - shared.total.get() <= run.made());
    let slots: Vec<_> = (0..4)
        .map(|_| shared.roster.join_timeout(LONG).unwrap())
        .collect();
    assert!(matches!(shared.roster.try_join(), Err(Error::WouldBlock)));
    drop(slots);
}
