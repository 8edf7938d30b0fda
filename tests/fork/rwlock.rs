//! Readers and writers in several processes and threads, and deaths in each of their states.

use crate::files::place;
use crate::steps::{Interruptions, until_idly};
use crate::support::{child, child_elsewhere, create, kill, open, passes, sleeps_on_any, until};
use fastrand::Rng;
use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;
use pshared::fork::Child;
use pshared::{
    Cause, LockError, LockGuard, Shared, SharedCounter, SharedEvent, SharedRwLock,
    SharedRwLockUpgradableReadGuard as Upgradable, SharedRwLockWriteGuard, ShmSafe,
};
use std::time::Duration;

crate::tests!(
    processes_and_threads_exclude_in_anonymous_memory,
    unrelated_processes_exclude_in_a_file,
    a_dead_reader_blocks_no_writer,
    a_writers_death_is_reported_to_every_locker_and_to_one_as_the_first_report,
    a_writer_killed_while_it_waits_changes_nothing,
    a_reader_killed_while_it_waits_blocks_no_other_locker,
    a_reader_killed_as_it_is_woken_blocks_no_other_locker,
    the_death_of_an_upgradable_reader_is_not_reported,
    a_waiting_reader_precedes_the_next_writer,
    later_readers_wait_for_a_waiting_writer,
    a_read_guard_that_an_ended_thread_leaked_blocks_writers_until_its_process_ends,
    a_write_guard_that_an_ended_thread_leaked_blocks_all_until_its_process_ends,
    a_guard_dropped_in_the_child_keeps_the_parents_lock,
    signals_end_no_wait,
    a_writers_death_is_reported_after_the_file_is_reopened,
);

/// Both halves are equal outside of writers' critical sections.
type Pair = [u64; 2];

#[derive(ShmSafe)]
#[repr(C)]
struct Stage {
    lock: SharedRwLock<Pair>,
    ready: SharedEvent,
    over: SharedEvent,
    count: SharedCounter,
    other: SharedCounter,
}

impl Stage {
    fn new() -> Self {
        Stage {
            lock: SharedRwLock::new([0, 0]),
            ready: SharedEvent::new(),
            over: SharedEvent::new(),
            count: SharedCounter::new(0),
            other: SharedCounter::new(0),
        }
    }

    fn anonymous() -> Shared<Self> {
        Shared::anonymous(Stage::new()).unwrap()
    }

    /// Starts a child that holds a read lock until `over` is set.
    fn reader(&self) -> Child {
        self.holds(child(|| {
            let guard = self.lock.read().unwrap();
            self.ready.set();
            self.over.wait();
            drop(guard);
        }))
    }

    fn writer(&self) -> Child {
        self.holds(child(|| {
            let mut guard = self.lock.write().unwrap();
            guard[0] += 1;
            self.ready.set();
            self.over.wait();
            guard[1] += 1;
        }))
    }

    fn holds(&self, child: Child) -> Child {
        self.ready.wait();
        self.ready.reset();
        child
    }

    fn reads(&self) -> Child {
        asleep(child(|| {
            let guard = self.lock.read().unwrap();
            assert_eq!(guard[0], guard[1]);
        }))
    }

    fn writes(&self) -> Child {
        asleep(child(|| change(&mut self.lock.write().unwrap())))
    }
}

fn asleep(child: Child) -> Child {
    until_idly(|| sleeps_on_any(child.id()));
    child
}

fn change(pair: &mut Pair) {
    pair[0] += 1;
    std::hint::black_box(&mut *pair);
    pair[1] += 1;
}

fn whole(pair: &Pair) {
    assert_eq!(pair[0], pair[1], "reader and writer were inside at once");
}

/// Runs one critical section of the given kind. Returns true if it was a writer's.
fn section(lock: &SharedRwLock<Pair>, kind: u32) -> bool {
    const LONG: Duration = Duration::from_secs(600);
    match kind % 16 {
        0 => change(&mut lock.write().unwrap()),
        1 => change(&mut lock.write_timeout(LONG).unwrap()),
        2 => match lock.try_write() {
            Ok(mut pair) => change(&mut pair),
            Err(LockError::WouldBlock) => return false,
            Err(other) => panic!("{other:?}"),
        },
        3 => {
            let pair = lock.upgradable_read().unwrap();
            whole(&pair);
            let before = pair[0];
            let mut pair = Upgradable::upgrade(pair).unwrap();
            assert_eq!(pair[0], before, "another writer came before the upgrade");
            change(&mut pair);
        }
        4 => {
            let mut pair = lock.write().unwrap();
            change(&mut pair);
            let after = pair[0];
            let pair = SharedRwLockWriteGuard::downgrade(pair);
            whole(&pair);
            assert_eq!(pair[0], after, "another writer came after the downgrade");
        }
        5 => match lock.write_timeout(Duration::from_micros(20)) {
            Ok(mut pair) => change(&mut pair),
            Err(LockError::TimedOut | LockError::HolderDumpsCore) => return false,
            Err(other) => panic!("{other:?}"),
        },
        6 => {
            match lock.read_timeout(Duration::from_micros(20)) {
                Ok(pair) => whole(&pair),
                Err(LockError::TimedOut | LockError::HolderDumpsCore) => {}
                Err(other) => panic!("{other:?}"),
            }
            return false;
        }
        7 => {
            match lock.try_read() {
                Ok(pair) => whole(&pair),
                Err(LockError::WouldBlock) => {}
                Err(other) => panic!("{other:?}"),
            }
            return false;
        }
        _ => {
            let pair = lock.read().unwrap();
            whole(&pair);
            if kind.is_multiple_of(3) {
                whole(&lock.read().unwrap());
            }
            return false;
        }
    }
    true
}

/// Runs critical sections in three threads of the calling process.
fn process(stage: &Stage, seed: u64) {
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                let mut random = Rng::with_seed(seed * 3 + thread);
                for _ in 0..15_000 {
                    if section(&stage.lock, random.u32(..)) {
                        stage.count.add(1);
                    }
                }
            });
        }
    });
}

fn counted(stage: &Stage) {
    let pair = stage.lock.try_write().expect("the lock is free");
    assert_eq!(*pair, [stage.count.get(); 2]);
}

fn processes_and_threads_exclude_in_anonymous_memory() {
    let stage = Stage::anonymous();
    let stage = &*stage;
    let children: Vec<_> = (0..3)
        .map(|seed| child(move || process(stage, seed)))
        .collect();
    children.iter().for_each(passes);
    counted(stage);
}

fn unrelated_processes_exclude_in_a_file() {
    let (_directory, path) = place();
    let stage = create(&path, Stage::new());
    let path = &path;
    let children: Vec<_> = (0..2)
        .map(|seed| child(move || process(&open::<Stage>(path), seed)))
        .collect();
    children.iter().for_each(passes);
    counted(&stage);
}

fn a_dead_reader_blocks_no_writer() {
    let stage = Stage::anonymous();
    let reader = stage.reader();
    let writer = stage.writes();
    kill(&reader);
    passes(&writer);
    assert_eq!(*stage.lock.try_write().unwrap(), [1, 1]);
}

fn a_writers_death_is_reported_to_every_locker_and_to_one_as_the_first_report() {
    fn note<G: LockGuard>(stage: &Stage, outcome: Result<G, LockError<G>>) {
        let Err(LockError::Poisoned(poisoned)) = outcome else {
            panic!("the death was not reported")
        };
        stage.count.add(1);
        stage.other.add(u64::from(poisoned.is_first_report()));
    }
    for _ in 0..10 {
        let stage = Stage::anonymous();
        let dies = stage.writer();
        let stage = &*stage;
        let mut others: Vec<_> = (0..3)
            .map(|_| asleep(child(|| note(stage, stage.lock.read()))))
            .collect();
        others.push(asleep(child(|| note(stage, stage.lock.write()))));
        others.push(asleep(child(|| note(stage, stage.lock.upgradable_read()))));
        kill(&dies);
        others.iter().for_each(passes);
        assert_eq!((stage.count.get(), stage.other.get()), (5, 1));
        // A reader gets the torn bytes, and a writer repairs them.
        match stage.lock.try_read() {
            Err(LockError::Poisoned(poisoned)) => assert_eq!(*poisoned.into_guard(), [1, 0]),
            other => panic!("{other:?}"),
        }
        match stage.lock.try_write() {
            Err(LockError::Poisoned(poisoned)) => drop(poisoned.replace([5, 5])),
            other => panic!("{other:?}"),
        }
        assert_eq!(*stage.lock.try_read().unwrap(), [5, 5]);
    }
}

fn a_writer_killed_while_it_waits_changes_nothing() {
    let stage = Stage::anonymous();
    let reader = stage.reader();
    let writer = stage.writes();
    // Both wait behind `writer`.
    let (another, next) = (stage.reads(), stage.writes());
    kill(&writer);
    stage.over.set();
    [&reader, &another, &next].into_iter().for_each(passes);
    assert_eq!(*stage.lock.try_write().unwrap(), [1, 1]);
}

fn a_reader_killed_while_it_waits_blocks_no_other_locker() {
    let stage = Stage::anonymous();
    let writer = stage.writer();
    let (dies, reads, writes) = (stage.reads(), stage.reads(), stage.writes());
    kill(&dies);
    stage.over.set();
    [&writer, &reads, &writes].into_iter().for_each(passes);
    assert_eq!(*stage.lock.try_write().unwrap(), [2, 2]);
}

fn a_reader_killed_as_it_is_woken_blocks_no_other_locker() {
    for _ in 0..10 {
        let stage = Stage::anonymous();
        let writer = stage.writer();
        let (dies, reads, writes) = (stage.reads(), stage.reads(), stage.writes());
        signal(Pid::from_raw(dies.id().cast_signed()), Signal::SIGSTOP).unwrap();
        until(|| crate::support::state(dies.id()) == Some('T'));
        // The stopped reader is woken and does not run.
        stage.over.set();
        passes(&writer);
        passes(&reads);
        kill(&dies);
        passes(&writes);
        assert_eq!(*stage.lock.try_write().unwrap(), [2, 2]);
    }
}

fn the_death_of_an_upgradable_reader_is_not_reported() {
    let stage = Stage::anonymous();
    let dies = stage.holds(child(|| {
        let _guard = stage.lock.upgradable_read().unwrap();
        stage.ready.set();
        stage.over.wait();
    }));
    let writes = stage.writes();
    whole(&stage.lock.read().unwrap());
    kill(&dies);
    passes(&writes);
    assert_eq!(*stage.lock.try_write().unwrap(), [1, 1]);
}

/// The bound for readers: at most one writer runs its critical section before a waiting reader.
fn a_waiting_reader_precedes_the_next_writer() {
    for _ in 0..30 {
        let stage = Stage::anonymous();
        let writer = stage.writer();
        let next = [stage.writes(), stage.writes()];
        let reader = asleep(child(|| {
            let guard = stage.lock.read().unwrap();
            assert_eq!(*guard, [1, 1], "it was overtaken");
        }));
        stage.over.set();
        passes(&writer);
        passes(&reader);
        next.iter().for_each(passes);
        assert_eq!(*stage.lock.try_write().unwrap(), [3, 3]);
    }
}

/// The bound for writers: once a writer waits for readers, later readers wait for the writer.
fn later_readers_wait_for_a_waiting_writer() {
    let stage = Stage::anonymous();
    let reader = stage.reader();
    let writer = stage.writes();
    let later: Vec<_> = (0..20)
        .map(|_| {
            asleep(child(|| {
                assert_eq!(*stage.lock.read().unwrap(), [1, 1], "it went first");
            }))
        })
        .collect();
    assert!(matches!(stage.lock.try_read(), Err(LockError::WouldBlock)));
    stage.over.set();
    passes(&reader);
    passes(&writer);
    later.iter().for_each(passes);
}

fn leak_in_a_thread(stage: &Stage, leak: impl FnOnce() + Send) -> Child {
    stage.holds(child(|| {
        std::thread::scope(|scope| {
            scope.spawn(leak).join().unwrap();
        });
        stage.ready.set();
        stage.over.wait();
    }))
}

fn a_read_guard_that_an_ended_thread_leaked_blocks_writers_until_its_process_ends() {
    let stage = Stage::anonymous();
    let stage = &*stage;
    for upgradable in [false, true] {
        let holder = leak_in_a_thread(stage, || {
            if upgradable {
                std::mem::forget(stage.lock.upgradable_read().unwrap());
            } else {
                std::mem::forget(stage.lock.read().unwrap());
            }
        });
        for _ in 0..2 {
            assert!(matches!(
                stage.lock.write(),
                Err(LockError::HolderThreadEnded)
            ));
            whole(&stage.lock.read().unwrap());
        }
        kill(&holder);
        drop(stage.lock.write().unwrap());
    }
}

fn a_write_guard_that_an_ended_thread_leaked_blocks_all_until_its_process_ends() {
    let stage = Stage::anonymous();
    let stage = &*stage;
    let holder = leak_in_a_thread(stage, || std::mem::forget(stage.lock.write().unwrap()));
    assert!(matches!(
        stage.lock.write(),
        Err(LockError::HolderThreadEnded)
    ));
    assert!(matches!(
        stage.lock.read(),
        Err(LockError::HolderThreadEnded)
    ));
    kill(&holder);
    match stage.lock.read() {
        Err(LockError::Poisoned(poisoned)) => {
            assert!(poisoned.is_first_report() && poisoned.cause() == Cause::Died);
        }
        other => panic!("{other:?}"),
    }
}

fn a_guard_dropped_in_the_child_keeps_the_parents_lock() {
    let stage = Stage::anonymous();
    let is_held = || {
        passes(&child_elsewhere(|| {
            assert!(matches!(stage.lock.try_write(), Err(LockError::WouldBlock)));
        }));
    };
    macro_rules! crosses {
        ($guard:expr) => {
            let mut guard = Some($guard);
            // SAFETY: the process has one thread, and the child uses what it shares only to drop a
            // guard.
            let child = unsafe { pshared::fork::spawn_unchecked(|| drop(guard.take())) }.unwrap();
            passes(&child);
            is_held();
            drop(guard);
            drop(stage.lock.try_write().unwrap());
        };
    }
    crosses!(stage.lock.read().unwrap());
    crosses!(stage.lock.write().unwrap());
    crosses!(stage.lock.upgradable_read().unwrap());
}

fn signals_end_no_wait() {
    let interruptions = Interruptions::new();
    let stage = Stage::anonymous();
    let writer = stage.writer();
    let waits = [0, 1].map(|kind| {
        child(|| {
            interruptions.allow();
            match kind {
                0 => whole(&stage.lock.read().unwrap()),
                _ => change(&mut stage.lock.write().unwrap()),
            }
        })
    });
    for child in &waits {
        interruptions.send_when(child, sleeps_on_any);
    }
    stage.over.set();
    passes(&writer);
    waits.iter().for_each(passes);
    stage.over.reset();
    // Signals do not end a writer's wait for a reader either.
    let reader = stage.reader();
    let waits = child(|| {
        interruptions.allow();
        change(&mut stage.lock.write().unwrap());
    });
    interruptions.send(&waits);
    stage.over.set();
    passes(&reader);
    passes(&waits);
    assert_eq!(*stage.lock.try_write().unwrap(), [3, 3]);
}

fn a_writers_death_is_reported_after_the_file_is_reopened() {
    for write in [false, true] {
        let (_directory, path) = place();
        let meet = Stage::anonymous();
        let user = meet.holds(child(|| {
            let stage = create(&path, Stage::new());
            let _reads = (!write).then(|| stage.lock.read().unwrap());
            let _writes = write.then(|| stage.lock.write().unwrap());
            meet.ready.set();
            meet.over.wait();
        }));
        kill(&user);
        let stage = open::<Stage>(&path);
        match stage.lock.write() {
            Ok(_) => assert!(!write),
            Err(LockError::Poisoned(poisoned)) => assert!(write && poisoned.is_first_report()),
            Err(other) => panic!("{other:?}"),
        }
    }
}
