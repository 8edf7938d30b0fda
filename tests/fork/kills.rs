//! Kills processes with SIGKILL at random instants of lock, hold and unlock, with waiters asleep,
//! both beside glibc's own robust mutexes and without them.
//!
//! Each victim records its position in shared memory: before each lock call, inside, before each
//! release, outside. A thread that acquires a lock stamps it with its serial number as its first
//! act, and removes the stamp as its last. So the test knows what must be reported of each death:
//!
//! - Inside: exactly one first report, to the locker that finds the stamp.
//! - Outside: no report.
//! - At the border: one report or none, because the kernel marks from the acquisition to the
//!   release.
//!
//! The killer waits for its victim's end and then acquires each lock before it kills again, so the
//! reports of one death are counted exactly.
//!
//! The liveness check would hide locks that the kernel fails to mark. One test therefore examines
//! the locks where the check cannot act: in another PID namespace, which is not the initial one.
//!
//! `PSHARED_KILLS` sets the number of kills of each run (default 2,000). `PSHARED_SEED` repeats a
//! run.

use crate::harness::{Kills, describe_threads};
use crate::pthread::{Protocol, PthreadMutex};
use crate::support::{
    Outcome, child, child_elsewhere, create, in_a_pid_namespace, kill, outcome_of, passes,
    sleeps_on, until,
};
use fastrand::Rng;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use pshared::fork::Child;
use pshared::{Cause, LockError, Shared, SharedCounter, SharedMutex, SharedMutexGuard, ShmSafe};
use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

crate::tests!(
    each_death_is_reported_exactly_and_the_data_is_repaired: 2_000 kills of "mutex",
    each_death_is_reported_exactly_in_a_file: 600 kills of "mutex in a file",
    #[cfg(target_env = "gnu")]
    each_death_is_reported_exactly_beside_glibcs_robust_mutexes: 2_000 kills of "mutex beside glibc's",
    the_kernel_alone_marks_every_lock_at_any_instant: 2_000 kills of "mutex, by the kernel alone",
    many_deaths_at_once_leave_no_locker_waiting: 2_000 kills of "mutex, threads",
);

/// Ours at 0 and 1, glibc's at 2 (robust) and 3 (robust, priority-inheriting).
const LOCKS: usize = 4;
const OURS: usize = 2;
/// The number of victims alive at the same time, and of processes that are never killed.
const VICTIMS: usize = 3;
const SURVIVORS: usize = 2;
/// The stamp of the killer. The survivors' stamps are the numbers below it.
const KILLER: u32 = u32::MAX;

// The position of a victim, for each lock.
const OUTSIDE: u32 = 0;
const LOCKING: u32 = 1;
const INSIDE: u32 = 2;
const LEAVING: u32 = 3;

/// Both halves are equal outside critical sections.
type Pair = [u64; 2];

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    ours: [SharedMutex<Pair>; OURS],
    theirs: [PthreadMutex; LOCKS - OURS],
    /// The data that glibc's mutexes protect.
    guarded: [[AtomicU64; 2]; LOCKS - OURS],
    /// The stamp of the thread inside, or of the one that died inside.
    stamp: [AtomicU32; LOCKS],
    /// How many deaths were reported, and the stamp that was found with the last report of a death
    /// inside.
    reports: [SharedCounter; LOCKS],
    reported_stamp: [AtomicU32; LOCKS],
    place: [[AtomicU32; LOCKS]; VICTIMS],
    /// The victim that is asked to stay in the critical section of lock 0, and the victim that
    /// does.
    stay: AtomicU32,
    stays: AtomicU32,
    stop: AtomicU32,
    sections: SharedCounter,
    wrong: Wrong,
}

/// Counts of events that must never happen.
#[derive(ShmSafe, Debug)]
#[repr(C)]
struct Wrong {
    two_inside: SharedCounter,
    unreported_death_inside: SharedCounter,
    death_reported_twice: SharedCounter,
    torn_data_as_whole: SharedCounter,
    other: SharedCounter,
}

impl Wrong {
    fn none(&self) -> bool {
        let Wrong {
            two_inside,
            unreported_death_inside,
            death_reported_twice,
            torn_data_as_whole,
            other,
        } = self;
        [
            two_inside,
            unreported_death_inside,
            death_reported_twice,
            torn_data_as_whole,
            other,
        ]
        .iter()
        .all(|count| count.get() == 0)
    }
}

enum Got<'a> {
    Ours(SharedMutexGuard<'a, Pair>),
    Theirs(&'a PthreadMutex),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Wait,
    Try,
    Timed,
    Long,
}

impl State {
    fn new() -> Self {
        State {
            ours: [const { SharedMutex::new([0, 0]) }; OURS],
            theirs: [const { PthreadMutex::new() }; LOCKS - OURS],
            guarded: Default::default(),
            stamp: Default::default(),
            reports: Default::default(),
            reported_stamp: Default::default(),
            place: Default::default(),
            stay: AtomicU32::new(0),
            stays: AtomicU32::new(0),
            stop: AtomicU32::new(0),
            sections: SharedCounter::new(0),
            wrong: Wrong {
                two_inside: SharedCounter::new(0),
                unreported_death_inside: SharedCounter::new(0),
                death_reported_twice: SharedCounter::new(0),
                torn_data_as_whole: SharedCounter::new(0),
                other: SharedCounter::new(0),
            },
        }
    }

    fn anonymous() -> Shared<Self> {
        let state = Shared::anonymous(Self::new()).unwrap();
        state.theirs[0].init(Protocol::None);
        state.theirs[1].init(Protocol::Inherit);
        state
    }

    /// Returns the lock, and whether the acquisition reported a death. Returns `None` if the lock
    /// was not acquired.
    fn acquire(&self, lock: usize, how: How) -> Option<(Got<'_>, bool)> {
        if let Some(theirs) = lock.checked_sub(OURS) {
            let mutex = &self.theirs[theirs];
            let answer = match how {
                How::Wait => mutex.lock(),
                How::Try | How::Long => mutex.try_lock(),
                How::Timed => mutex.lock_timeout(Duration::from_micros(20)),
            };
            return match answer {
                Ok(()) => Some((Got::Theirs(mutex), false)),
                Err(libc::EOWNERDEAD) => Some((Got::Theirs(mutex), true)),
                Err(libc::EBUSY | libc::ETIMEDOUT) => None,
                Err(number) => {
                    eprintln!("glibc: {}", std::io::Error::from_raw_os_error(number));
                    self.wrong.other.add(1);
                    None
                }
            };
        }
        let mutex = &self.ours[lock];
        let outcome = match how {
            How::Wait => mutex.lock(),
            How::Try => mutex.try_lock(),
            How::Timed => mutex.lock_timeout(Duration::from_micros(20)),
            How::Long => mutex.lock_timeout(Duration::from_secs(60)),
        };
        match outcome {
            Ok(guard) => Some((Got::Ours(guard), false)),
            Err(LockError::Poisoned(poisoned)) => {
                // A thread that receives a report repairs the data. If it is killed before that,
                // its own death is reported.
                if poisoned.cause() != Cause::Died || !poisoned.is_first_report() {
                    self.wrong.death_reported_twice.add(1);
                }
                Some((Got::Ours(poisoned.into_guard()), true))
            }
            Err(LockError::WouldBlock | LockError::TimedOut | LockError::HolderDumpsCore) => None,
            Err(LockError::HolderThreadEnded) if IN_A_CROWD.get() => None,
            Err(other) => {
                eprintln!("lock {lock} by {how:?}: {other:?}");
                self.wrong.other.add(1);
                None
            }
        }
    }

    /// The first half of a critical section: reads the stamp that was left, stamps, repairs, and
    /// changes the first half of the data.
    fn enter(&self, lock: usize, got: &mut Got<'_>, is_reported: bool, own: u32) {
        let left = self.stamp[lock].load(SeqCst);
        if is_reported {
            if left != 0 {
                self.reported_stamp[lock].store(left, SeqCst);
            }
            self.reports[lock].add(1);
        } else if left != 0 {
            self.wrong.unreported_death_inside.add(1);
        }
        self.stamp[lock].store(own, SeqCst);
        let whole = match got {
            Got::Ours(pair) => {
                let whole = pair[0] == pair[1];
                pair[1] = pair[0];
                if is_reported {
                    SharedMutexGuard::clear_poison(pair);
                }
                pair[0] += 1;
                whole
            }
            Got::Theirs(mutex) => {
                let [first, second] = &self.guarded[lock - OURS];
                let whole = first.load(SeqCst) == second.load(SeqCst);
                second.store(first.load(SeqCst), SeqCst);
                if is_reported {
                    mutex.consistent();
                }
                first.store(first.load(SeqCst) + 1, SeqCst);
                whole
            }
        };
        if !is_reported && !whole {
            self.wrong.torn_data_as_whole.add(1);
        }
    }

    /// The second half of a critical section.
    fn leave(&self, lock: usize, got: &mut Got<'_>, own: u32) {
        match got {
            Got::Ours(pair) => pair[1] += 1,
            Got::Theirs(_) => {
                let [first, second] = &self.guarded[lock - OURS];
                second.store(first.load(SeqCst), SeqCst);
            }
        }
        if self.stamp[lock].swap(0, SeqCst) != own {
            self.wrong.two_inside.add(1);
        }
        self.sections.add(1);
    }

    fn release(got: Got<'_>) {
        match got {
            Got::Ours(guard) => drop(guard),
            Got::Theirs(mutex) => mutex.unlock(),
        }
    }

    /// Acquires some of the locks in a random order and releases them in another. Waits for the
    /// first lock only, if that is permitted.
    fn round(&self, random: &mut Rng, locks: usize, own: u32, slot: Option<usize>) {
        let at = |lock: usize, place| {
            if let Some(slot) = slot {
                self.place[slot][lock].store(place, SeqCst);
            }
        };
        let mut order: Vec<usize> = (0..locks).collect();
        random.shuffle(&mut order);
        order.truncate(random.usize(1..=locks));
        let asked = slot.is_some() && self.stay.load(SeqCst) == own;
        if asked {
            order = vec![0];
        }
        let mut held = Vec::new();
        for lock in order {
            // A waiter must hold no lock, or cycles of waiters would arise. Survivors never wait
            // for glibc's mutexes: a waiter sleeps forever on one after another waiter was woken
            // and died. No process waits for a priority-inheriting mutex: glibc aborts if the
            // kernel answers ESRCH, which means that the holder is just ending.
            let how = match random.u8(..4) {
                _ if asked => How::Wait,
                _ if lock == LOCKS - 1 => How::Try,
                0 => How::Try,
                1 => How::Timed,
                _ if held.is_empty() && (lock < OURS || slot.is_some()) => How::Wait,
                _ => How::Try,
            };
            at(lock, LOCKING);
            let Some((mut got, is_reported)) = self.acquire(lock, how) else {
                at(lock, OUTSIDE);
                continue;
            };
            self.enter(lock, &mut got, is_reported, own);
            at(lock, INSIDE);
            held.push((lock, got));
        }
        if asked && !held.is_empty() {
            self.stays.store(own, SeqCst);
            loop {
                std::thread::park();
            }
        }
        spin(random.u32(..400));
        random.shuffle(&mut held);
        for (lock, mut got) in held {
            at(lock, LEAVING);
            self.leave(lock, &mut got, own);
            Self::release(got);
            at(lock, OUTSIDE);
        }
        spin(random.u32(..200));
    }

    fn victim(&self, locks: usize, serial: u32, slot: usize, seed: u64) -> Child {
        for place in &self.place[slot] {
            place.store(OUTSIDE, SeqCst);
        }
        child(|| {
            let mut random = Rng::with_seed(seed);
            loop {
                self.round(&mut random, locks, serial, Some(slot));
            }
        })
    }

    fn survivor(&self, locks: usize, number: usize, seed: u64) -> Child {
        let own = KILLER - 1 - number as u32;
        child(move || {
            let mut random = Rng::with_seed(seed);
            while self.stop.load(SeqCst) == 0 {
                self.round(&mut random, locks, own, None);
            }
        })
    }

    /// Acquires a lock as the other processes do, however long that takes. Fails after a minute.
    fn visit(&self, lock: usize) {
        let since = Instant::now();
        let (mut got, is_reported) = loop {
            match self.acquire(lock, How::Long) {
                Some(outcome) => break outcome,
                None => std::thread::yield_now(),
            }
            self.check("a visit");
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "no process acquires lock {lock} any more, held by {:?} or {:?}; {}",
                self.ours.get(lock).map(SharedMutex::holder),
                lock.checked_sub(OURS)
                    .map(|lock| self.theirs[lock].holder()),
                describe_threads(Pid::this()),
            );
        };
        self.enter(lock, &mut got, is_reported, KILLER);
        self.leave(lock, &mut got, KILLER);
        Self::release(got);
    }

    fn reports(&self) -> u64 {
        self.reports.iter().map(SharedCounter::get).sum()
    }

    #[track_caller]
    fn check(&self, when: &str) {
        assert!(self.wrong.none(), "{when}: {:?}", self.wrong);
    }

    fn stop(&self, survivors: &[Child]) {
        self.stop.store(1, SeqCst);
        survivors.iter().for_each(passes);
        self.check("at the end");
    }
}

fn spin(turns: u32) {
    for _ in 0..turns {
        std::hint::spin_loop();
    }
}

/// Kills victims one after the other, and counts the reports of each death.
fn one_by_one(run: &Kills<'_>, state: &State, locks: usize) {
    let mut random = Rng::with_seed(run.seed());
    let survivors: Vec<_> = (0..SURVIVORS)
        .map(|number| state.survivor(locks, number, random.u64(..)))
        .collect();
    let mut serial = 0;
    let mut next_victim = |random: &mut Rng, slot| {
        serial += 1;
        (serial, state.victim(locks, serial, slot, random.u64(..)))
    };
    let mut victims: Vec<_> = (0..VICTIMS)
        .map(|slot| next_victim(&mut random, slot))
        .collect();
    let (mut inside, mut border, mut outside) = (0, 0, 0);
    while run.go_on() {
        let death = run.made();
        let slot = random.usize(..VICTIMS);
        let (serial, victim) = &victims[slot];
        if death.is_multiple_of(4) {
            // The victim is inside, and a survivor sleeps on the lock.
            state.stay.store(*serial, SeqCst);
            until(|| state.stays.load(SeqCst) == *serial);
            until(|| {
                survivors
                    .iter()
                    .any(|waiter| sleeps_on(waiter.id(), &state.ours[0]))
            });
        } else {
            spin(random.u32(..20_000));
        }
        let reports_before: Vec<u64> = state.reports.iter().map(SharedCounter::get).collect();
        run.kill(victim);
        for (lock, reports_before) in reports_before.into_iter().enumerate().take(locks) {
            state.visit(lock);
            let place = state.place[slot][lock].load(SeqCst);
            let reports = state.reports[lock].get() - reports_before;
            let reported_stamp = state.reported_stamp[lock].load(SeqCst);
            let is_own_report = reports == 1 && reported_stamp == *serial;
            let right = match place {
                OUTSIDE => reports == 0,
                INSIDE => is_own_report,
                _ => reports <= 1,
            };
            assert!(
                right,
                "death {death}, of {serial}, lock {lock}, place {place}: {reports} reports, last of {reported_stamp}; {:?}",
                state.wrong
            );
            match place {
                OUTSIDE => outside += 1,
                INSIDE => inside += 1,
                _ => border += 1,
            }
        }
        state.check("after a death");
        run.note(state.sections.get(), state.reports());
        victims[slot] = next_victim(&mut random, slot);
    }
    victims.iter().for_each(|(_, victim)| kill(victim));
    state.stop(&survivors);
    println!(
        "{inside} inside, {border} at the border, {outside} outside; {} sections",
        state.sections.get()
    );
    assert!(inside >= run.goal() / 4);
}

fn each_death_is_reported_exactly_and_the_data_is_repaired(run: &Kills<'_>) {
    one_by_one(run, &State::anonymous(), 1);
}

fn each_death_is_reported_exactly_in_a_file(run: &Kills<'_>) {
    let directory = tempfile::tempdir().unwrap();
    one_by_one(
        run,
        &create(&directory.path().join("locks"), State::new()),
        1,
    );
}

#[cfg(target_env = "gnu")]
fn each_death_is_reported_exactly_beside_glibcs_robust_mutexes(run: &Kills<'_>) {
    one_by_one(run, &State::anonymous(), LOCKS);
}

/// The locks of one victim, and its position with each.
#[derive(ShmSafe, Default)]
#[repr(C)]
struct Own {
    locks: [SharedMutex<u64>; 3],
    place: [AtomicU32; 3],
}

/// Acquires and releases its locks in random orders, until it is killed.
fn nest(own: &Own, random: &mut Rng) {
    let mut order = [0, 1, 2];
    loop {
        let mut guards = [None, None, None];
        random.shuffle(&mut order);
        for &lock in &order[..random.usize(1..=3)] {
            own.place[lock].store(LOCKING, SeqCst);
            guards[lock] = Some(own.locks[lock].lock().expect("held by no other process"));
            own.place[lock].store(INSIDE, SeqCst);
        }
        random.shuffle(&mut order);
        for &lock in &order {
            if guards[lock].is_some() {
                own.place[lock].store(LEAVING, SeqCst);
                guards[lock] = None;
                own.place[lock].store(OUTSIDE, SeqCst);
            }
        }
    }
}

fn the_kernel_alone_marks_every_lock_at_any_instant(run: &Kills<'_>) {
    let mut random = Rng::with_seed(run.seed());
    let owns = Shared::<[Own]>::anonymous_from_fn(run.goal() as usize, |_| Own::default()).unwrap();
    // The killer is the first process of a namespace; its victims live in a nested one. The killer
    // can never rule out that a process of another namespace lives. A lock that the kernel has
    // marked therefore reports an ended thread, and a lock that it has not marked counts as held.
    passes(&in_a_pid_namespace(|| {
        unshare(CloneFlags::CLONE_NEWPID).unwrap();
        let _first = child_elsewhere(|| {
            loop {
                std::thread::park();
            }
        });
        let mut seen = [0; 4];
        for (death, own) in owns.iter().enumerate() {
            let seed = random.u64(..);
            let victim = child_elsewhere(|| nest(own, &mut Rng::with_seed(seed)));
            // The victim is killed after it has begun its first acquisition.
            until(|| own.place.iter().any(|place| place.load(SeqCst) != OUTSIDE));
            spin(random.u32(..2_000));
            run.kill(&victim);
            for lock in 0..3 {
                let place = own.place[lock].load(SeqCst);
                seen[place as usize] += 1;
                let outcome = outcome_of(own.locks[lock].try_lock());
                run.add(1, (outcome != Outcome::Unpoisoned).into());
                let right = match place {
                    OUTSIDE => outcome == Outcome::Unpoisoned,
                    INSIDE => outcome == Outcome::HolderThreadEnded,
                    // The victim may have died before it recorded itself as the owner, or after it
                    // cleared the record. It is then reported like any other death.
                    _ => [
                        Outcome::Unpoisoned,
                        Outcome::FreshDeath,
                        Outcome::HolderThreadEnded,
                    ]
                    .contains(&outcome),
                };
                assert!(
                    right,
                    "death {death}, lock {lock}, place {place}: {outcome:?}"
                );
            }
        }
        println!("{seen:?}");
    }));
}

/// How a process of several threads ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    /// One thread calls `_exit` with this code. Code 0 is also the exit code that the kernel shows
    /// for a living process.
    Exit(i32),
    /// One thread calls `abort`.
    Abort,
}

const THREADS: u32 = 3;

std::thread_local! {
    /// Whether the thread's process may be dying thread by thread. A lock call of this thread may
    /// then report that another of its threads has ended.
    static IN_A_CROWD: Cell<bool> = const { Cell::new(false) };
}

impl State {
    /// Starts a process whose threads all use the locks. The last thread ends the process after
    /// some rounds, unless the process is to be killed.
    fn crowd(&self, stamp: u32, end: End, random: &mut Rng) -> Child {
        let seed = random.u64(..);
        let rounds = random.u32(1..100);
        let code = if let End::Exit(code) = end { code } else { 3 };
        child(|| {
            let work = |thread| {
                IN_A_CROWD.set(true);
                let mut random = Rng::with_seed(seed + u64::from(thread));
                for round in 0.. {
                    self.round(&mut random, OURS, stamp + thread + 1, None);
                    if end != End::Killed && thread + 1 == THREADS && round == rounds {
                        break;
                    }
                }
                // Other threads of the process are inside, and often this thread too.
                let _guard = rounds.is_multiple_of(2).then(|| self.acquire(0, How::Try));
                if end == End::Abort {
                    std::process::abort();
                }
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(code) };
            };
            std::thread::scope(|scope| {
                for thread in 1..THREADS {
                    scope.spawn(move || work(thread));
                }
                work(0);
            });
        })
    }
}

/// In this test no process waits until a death has been reported: the processes that receive a
/// report die too. Each process dies with all of its threads.
fn many_deaths_at_once_leave_no_locker_waiting(run: &Kills<'_>) {
    let mut random = Rng::with_seed(run.seed());
    let state = State::anonymous();
    let survivors: Vec<_> = (0..SURVIVORS)
        .map(|number| state.survivor(OURS, number, random.u64(..)))
        .collect();
    let mut deaths = 0;
    while run.go_on() {
        let victims: Vec<_> = (0..VICTIMS)
            .map(|_| {
                let end = random
                    .choice([
                        End::Killed,
                        End::Killed,
                        End::Exit(0),
                        End::Exit(3),
                        End::Abort,
                    ])
                    .unwrap();
                (end, state.crowd(deaths * THREADS, end, &mut random))
            })
            .collect();
        spin(random.u32(..20_000));
        for (_, victim) in victims.iter().filter(|(end, _)| *end == End::Killed) {
            victim.kill().unwrap();
            spin(random.u32(..400));
        }
        for (end, victim) in &victims {
            let status = victim.wait().unwrap();
            let expected = match end {
                End::Killed => (None, Some(libc::SIGKILL)),
                End::Exit(code) => (Some(*code), None),
                End::Abort => (None, Some(libc::SIGABRT)),
            };
            assert_eq!((status.code(), status.signal()), expected);
            deaths += 1;
            run.count(1);
        }
        state.check("after some deaths");
        run.note(state.sections.get(), state.reports());
    }
    (0..OURS).for_each(|lock| state.visit(lock));
    // The death of a process is reported at most once for each lock.
    assert!(state.reports() <= u64::from(deaths) * OURS as u64);
    state.stop(&survivors);
}
