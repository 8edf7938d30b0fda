//! The readers-writer lock: readers see complete data, writers are alone, no thread is stranded,
//! and a death is reported once.

use crate::model::{Count, Model};
use crate::raw::event::Event;
use crate::raw::outcome::{AcquireError, WaitMode};
use crate::raw::rwlock::{ReadPosition, RwLock};
use crate::sys::{Deadline, Fault, Joins, World, current_thread, join_all, step};
use loom::cell::UnsafeCell;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// A lock with `N` slots, its data, and a count of reported deaths.
struct Lock<const N: usize> {
    raw: RwLock<N>,
    /// Loom panics if a reader and a writer, or two writers, access it without an order between
    /// them.
    data: UnsafeCell<u32>,
    /// How often a death was reported. A thread that receives a report has exclusive access to the
    /// lock.
    reports: loom::cell::Cell<u32>,
}

/// What a thread does with the lock.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Read,
    ReadUntil,
    TryRead,
    ReadTwice,
    Write,
    /// Tries to read as it writes.
    WriteAndRead,
    WriteUntil,
    TryWrite,
    Upgrade,
    Downgrade,
}

impl<const N: usize> Lock<N> {
    fn place(world: &Rc<World>) -> Rc<Self> {
        let lock = Rc::new(Lock {
            raw: RwLock::new(),
            data: UnsafeCell::new(0),
            reports: loom::cell::Cell::new(0),
        });
        lock.raw.words().for_each(|word| world.map(&lock, word));
        // SAFETY: no thread uses it yet, and `World` keeps it at its address until the run ends.
        unsafe { lock.raw.init() };
        lock
    }

    fn report(&self) {
        self.reports.set(self.reports.get() + 1);
    }

    fn read_data(&self) {
        step();
        // SAFETY: loom panics before it calls the closure if a write is not ordered with this read.
        self.data.with(|data| unsafe {
            let _ = *data;
            // Lets other threads arrive. This switch costs no preemption.
            loom::thread::yield_now();
        });
    }

    fn write_data(&self) {
        step();
        // SAFETY: as above, for any access.
        self.data.with_mut(|data| unsafe {
            loom::thread::yield_now();
            *data += 1;
        });
        step();
    }

    fn perform(&self, operation: Op) -> Result<(), AcquireError> {
        let (current, report) = (current_thread(), |_| self.report());
        let mode = match operation {
            Op::TryRead | Op::TryWrite => WaitMode::Try,
            Op::ReadUntil | Op::WriteUntil => WaitMode::Until(Some(Deadline::Ahead)),
            _ => WaitMode::Until(None),
        };
        let read = |mode| {
            let place = self.raw.read(current, mode, &report);
            place.inspect(|_| self.read_data())
        };
        // SAFETY: the calling thread has begun the read at `place`.
        let end_read = |place: ReadPosition| unsafe { self.raw.end_read(current, place) };
        match operation {
            Op::Read | Op::ReadUntil | Op::TryRead => end_read(read(mode)?),
            Op::ReadTwice => {
                let first = read(mode)?;
                let second = read(mode)?;
                end_read(first);
                self.read_data();
                end_read(second);
            }
            Op::Write | Op::WriteUntil | Op::TryWrite => {
                self.raw.write(current, mode, &report)?;
                self.write_data();
                // SAFETY: acquired above.
                unsafe { self.raw.end_write(current) };
            }
            Op::WriteAndRead => {
                self.raw.write(current, mode, &report)?;
                assert!(self.raw.read(current, WaitMode::Try, &report).is_err());
                self.write_data();
                // SAFETY: as above.
                unsafe { self.raw.end_write(current) };
            }
            Op::Upgrade => {
                self.raw.upgradable_read(current, mode, &report)?;
                self.read_data();
                // SAFETY: as above.
                unsafe {
                    self.raw.upgrade(current, mode)?;
                    self.write_data();
                    self.raw.end_write(current);
                }
            }
            Op::Downgrade => {
                self.raw.write(current, mode, &report)?;
                self.write_data();
                // SAFETY: as above.
                let place = unsafe { self.raw.downgrade(current) };
                self.read_data();
                end_read(place);
            }
        }
        Ok(())
    }

    fn in_thread(self: &Rc<Self>, world: &Rc<World>, tid: u32, operation: Op) -> Joins<bool> {
        let lock = self.clone();
        world.spawn(tid, move || match lock.perform(operation) {
            Ok(()) => true,
            Err(refused) => {
                assert!(matches!(
                    refused,
                    AcquireError::TimedOut | AcquireError::WouldBlock
                ));
                false
            }
        })
    }
}

/// Threads 2 and up do one thing each. Every thread that is not killed comes to its end. The lock
/// is free afterwards.
fn threads<const N: usize>(world: &Rc<World>, operations: &[Op]) -> Rc<Lock<N>> {
    threads_after(0, world, operations)
}

/// The number of writes in succession after which the next one leans towards `WRITERS`. After one
/// more, the bias is `WRITERS`.
const QUIET_WRITES: u32 = 4;

/// The same after some writes that met no reader.
fn threads_after<const N: usize>(
    writes_before: u32,
    world: &Rc<World>,
    operations: &[Op],
) -> Rc<Lock<N>> {
    let lock = Lock::<N>::place(world);
    for _ in 0..writes_before {
        assert_eq!(lock.perform(Op::Write), Ok(()));
    }
    let threads: Vec<_> = (2..)
        .zip(operations)
        .map(|(tid, &operation)| lock.in_thread(world, tid, operation))
        .collect();
    if operations
        .iter()
        .any(|operation| matches!(operation, Op::ReadUntil | Op::WriteUntil))
    {
        world.deadline_passes();
    }
    let ends: Vec<_> = threads.into_iter().map(Joins::join).collect();
    assert_eq!(lock.perform(Op::TryWrite), Ok(()));
    if ends.iter().all(Option::is_some) {
        let writes = |operation| {
            !matches!(
                operation,
                Op::Read | Op::ReadUntil | Op::TryRead | Op::ReadTwice
            )
        };
        let written = operations
            .iter()
            .zip(&ends)
            .filter(|&(&operation, &end)| writes(operation) && end == Some(true));
        // SAFETY: the other threads have ended.
        let uses = lock.data.with(|data| unsafe { *data });
        assert_eq!(uses, writes_before + written.count() as u32 + 1);
        assert_eq!(
            lock.reports.get(),
            0,
            "a death was reported that did not happen"
        );
    }
    lock
}

fn with(preemptions: usize) -> Model {
    Model {
        preemptions,
        ..Model::PLAIN
    }
}

#[test]
fn a_reader_and_a_writer_exclude_each_other() {
    let model = Model {
        follows_old_values: true,
        ..with(3)
    };
    let seen = model.holds(|world| drop(threads::<1>(world, &[Op::Read, Op::Write])));
    assert!(seen.sleeps.get() > 0);
}

#[test]
fn two_readers_and_a_writer() {
    with(2).holds(|world| drop(threads::<2>(world, &[Op::Read, Op::Read, Op::Write])));
}

#[test]
fn a_reader_and_two_writers() {
    with(1).holds(|world| drop(threads::<1>(world, &[Op::Write, Op::Read, Op::Write])));
}

#[test]
fn a_reader_waits_if_all_slots_are_taken() {
    with(1).holds(|world| drop(threads::<1>(world, &[Op::Read, Op::Read, Op::Write])));
}

#[test]
fn a_nested_read_does_not_wait() {
    with(2).holds(|world| drop(threads::<2>(world, &[Op::ReadTwice, Op::Write])));
    with(2).holds(|world| drop(threads::<1>(world, &[Op::ReadTwice, Op::Write])));
}

#[test]
fn upgrades_and_downgrades_exclude_too() {
    with(2).holds(|world| drop(threads::<1>(world, &[Op::Upgrade, Op::Read])));
    with(1).holds(|world| drop(threads::<1>(world, &[Op::Upgrade, Op::Downgrade])));
    with(2).holds(|world| drop(threads::<1>(world, &[Op::Downgrade, Op::Read])));
}

/// Also if all slots are taken by readers that wait for it.
#[test]
fn a_writer_that_tries_to_read_excludes_the_others() {
    with(2).holds(|world| drop(threads::<1>(world, &[Op::WriteAndRead, Op::Read])));
    with(1).holds(|world| drop(threads::<1>(world, &[Op::Read, Op::WriteAndRead, Op::Read])));
}

#[test]
fn tries_and_waits_with_a_deadline_strand_no_thread() {
    for pair in [
        [Op::TryRead, Op::Write],
        [Op::TryWrite, Op::Read],
        [Op::ReadUntil, Op::Write],
        [Op::WriteUntil, Op::Read],
    ] {
        with(2).holds(move |world| drop(threads::<1>(world, &pair)));
    }
}

/// The bias becomes `WRITERS` during the write, or it was that before.
#[test]
fn readers_and_writers_that_need_not_look_exclude_each_other() {
    for writes in [QUIET_WRITES, QUIET_WRITES + 1] {
        let model = Model {
            follows_old_values: true,
            ..with(2)
        };
        model.holds(move |world| {
            drop(threads_after::<1>(writes, world, &[Op::Read, Op::Write]));
        });
        for operations in [
            [Op::Read, Op::Read, Op::Write],
            [Op::Read, Op::Write, Op::Write],
        ] {
            with(1).holds(move |world| drop(threads_after::<2>(writes, world, &operations)));
        }
        for pair in [
            [Op::Upgrade, Op::Read],
            [Op::Downgrade, Op::Write],
            [Op::TryRead, Op::Write],
            [Op::ReadUntil, Op::Write],
        ] {
            with(1).holds(move |world| drop(threads_after::<1>(writes, world, &pair)));
        }
    }
}

/// The same, and thread 2 is killed at each of its steps.
#[test]
fn readers_and_writers_that_need_not_look_are_killed() {
    for writes in [QUIET_WRITES, QUIET_WRITES + 1] {
        let reported = |preemptions, operations| killed_after(writes, preemptions, operations).1;
        assert!(reported(1, &[Op::Write, Op::Read]) > 0);
        assert!(reported(0, &[Op::Write, Op::Read, Op::Write]) > 0);
        assert!(reported(1, &[Op::Upgrade, Op::Read]) > 0);
        assert_eq!(reported(1, &[Op::Read, Op::Write]), 0);
        assert_eq!(reported(0, &[Op::Read, Op::Write, Op::Write]), 0);
    }
}

/// Thread 2 is killed at each of its steps. A death in the critical section of a writer is
/// reported, and any other death is not. Returns the number of deaths, and the number of reported
/// deaths.
///
/// A thorough run has one more preemption, and takes a minute and a half.
fn killed(preemptions: usize, operations: &'static [Op]) -> (usize, usize) {
    killed_after(0, preemptions, operations)
}

/// The same after some writes that met no reader.
fn killed_after(
    writes_before: u32,
    preemptions: usize,
    operations: &'static [Op],
) -> (usize, usize) {
    let reports = Arc::new(Count::default());
    let counted = reports.clone();
    let seen = with(preemptions).holds_if_killed(2, move |world| {
        let lock = threads_after::<1>(writes_before, world, operations);
        assert!(lock.reports.get() <= 1, "a death was reported twice");
        (0..lock.reports.get()).for_each(|_| counted.add());
    });
    (seen.kills.get(), reports.get())
}

#[test]
fn a_reader_is_killed() {
    let (kills, reports) = killed(1, &[Op::Read, Op::Write]);
    assert!(kills > 0);
    assert_eq!(reports, 0, "the death of a reader is not reported");
    assert_eq!(killed(1, &[Op::Read, Op::Read]).1, 0);
}

#[test]
fn a_writer_is_killed() {
    assert!(killed(1, &[Op::Write, Op::Read]).1 > 0);
    assert!(killed(1, &[Op::Write, Op::Write]).1 > 0);
}

#[test]
fn a_writer_is_killed_while_two_others_lock() {
    assert!(killed(0, &[Op::Write, Op::Read, Op::Write]).1 > 0);
    assert!(killed(0, &[Op::Write, Op::Read, Op::Read]).1 > 0);
}

#[test]
fn a_reader_is_killed_while_two_others_lock() {
    assert_eq!(killed(0, &[Op::Read, Op::Read, Op::Write]).1, 0);
    assert_eq!(killed(0, &[Op::Read, Op::Write, Op::Write]).1, 0);
}

#[test]
fn a_thread_that_upgrades_or_downgrades_is_killed() {
    assert!(killed(1, &[Op::Upgrade, Op::Read]).1 > 0);
    assert!(killed(1, &[Op::Downgrade, Op::Read]).1 > 0);
}

/// Both slots have readers, and thread 2 leaves its slot. The first thread keeps the other slot
/// until all `waiting` threads have read, except one that is to be killed. The slot of the first
/// thread is the one that each of them tries first.
fn all_slots_taken(world: &Rc<World>, waiting: &[u32], timers_expire: bool) {
    let lock = Lock::<2>::place(world);
    let begin_read = |lock: &Lock<2>| {
        let place = lock
            .raw
            .read(current_thread(), WaitMode::Until(None), &|_| lock.report());
        let place = place.expect("a slot becomes free at some point");
        lock.read_data();
        place
    };
    // SAFETY: the calling thread has begun the read at `place`.
    let ends = |lock: &Lock<2>, place| unsafe { lock.raw.end_read(current_thread(), place) };
    let own = begin_read(&lock);
    let there = lock.clone();
    let leaves = world.spawn(2, move || ends(&there, begin_read(&there)));
    // Lets thread 2 take its slot. This switch costs no preemption.
    loom::thread::yield_now();
    let killed_tid = world.model.kill.map(|kill| kill.tid);
    let is_waited_for = |tid: &&u32| Some(**tid) != killed_tid;
    let left = Rc::new(Cell::new(waiting.iter().filter(is_waited_for).count()));
    let have_read = Rc::new(Event::new());
    let waiters: Vec<_> = waiting
        .iter()
        .map(|tid| {
            assert_eq!(tid % 2, 1, "the waiter starts at another slot");
            let is_waited_for = is_waited_for(&tid);
            let (lock, left, have_read) = (lock.clone(), left.clone(), have_read.clone());
            world.spawn(*tid, move || {
                ends(&lock, begin_read(&lock));
                left.set(left.get() - usize::from(is_waited_for));
                if left.get() == 0 {
                    have_read.set();
                }
            })
        })
        .collect();
    if timers_expire {
        leaves.join();
        world.expire_recheck_timers();
        have_read.wait(None);
    } else {
        have_read.wait(None);
        leaves.join();
    }
    join_all(waiters);
    ends(&lock, own);
    assert_eq!(lock.perform(Op::TryWrite), Ok(()));
}

/// Three threads, two preemptions. A reader waits for a slot while both slots are released.
/// Whichever slot it gets, the other one is open to every reader. Both are open after the reader
/// has left.
#[test]
fn a_reader_that_waited_for_a_slot_leaves_the_others_open() {
    let seen = with(2).holds(|world| {
        let lock = Lock::<2>::place(world);
        let operation = Op::Read;
        let own = lock
            .raw
            .read(current_thread(), WaitMode::Until(None), &|_| lock.report());
        let leaves = lock.in_thread(world, 2, operation);
        loom::thread::yield_now();
        let waits = lock.in_thread(world, 3, operation);
        loom::thread::yield_now();
        // SAFETY: begun above.
        unsafe {
            lock.raw
                .end_read(current_thread(), own.expect("it is free"))
        };
        join_all([leaves, waits]);
        for slot in lock.raw.words().skip(3) {
            assert!(
                slot.try_acquire_fast(current_thread()),
                "a slot stays closed"
            );
            // SAFETY: acquired by the call above.
            unsafe { slot.unlock(current_thread()) };
        }
    });
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, two preemptions. A reader finds both slots taken. It gets the one that is
/// released, which is not the one that it tried first.
#[test]
fn the_release_of_any_slot_wakes_the_waiting_reader() {
    let seen = with(2).holds(|world| all_slots_taken(world, &[3], false));
    assert!(seen.sleeps.get() > 0);
}

/// The same, but the reader in that slot is killed at each of its steps.
#[test]
fn the_death_of_any_slot_owner_wakes_the_waiting_reader() {
    let seen = with(2).holds_if_killed(2, |world| all_slots_taken(world, &[3], false));
    assert!(seen.kills.get() > 0 && seen.sleeps.get() > 0);
}

/// Four threads, no preemption. Two threads wait. The one that may sleep on the slots is killed at
/// each of its steps, also after it was woken.
#[test]
fn a_reader_killed_as_it_waits_for_a_slot_consumes_no_wake_of_another() {
    let seen = with(0).holds_if_killed(3, |world| all_slots_taken(world, &[3, 5], false));
    assert!(seen.kills.get() > 0 && seen.sleeps.get() > 0);
}

/// Three threads, one preemption. If the kernel has no `futex_waitv`, the reader sleeps on one
/// slot. It sees at the end of that sleep that the other slot was released. No wake reports that.
#[test]
fn without_futex_waitv_a_free_slot_is_seen_when_a_recheck_timer_expires() {
    let model = Model {
        fault: Some(Fault::NoFutexWaitv),
        ..with(1)
    };
    let seen = model.holds(|world| all_slots_taken(world, &[3], true));
    assert!(seen.sleeps.get() > 0);
    let why = model.fails(|world| all_slots_taken(world, &[3], false));
    assert!(why.starts_with("deadlock; threads"), "{why}");
}

/// A thread ends with a leaked read, and its process lives. The data may still be in use.
#[test]
fn no_thread_writes_while_the_process_of_a_leaked_read_lives() {
    const PROCESS: u32 = 9;
    with(2).holds(|world| {
        let lock = Lock::<1>::place(world);
        let reads = lock.clone();
        world.keep_alive(PROCESS);
        world
            .spawn_in(PROCESS, 2, move || {
                let place = reads
                    .raw
                    .read(current_thread(), WaitMode::Until(None), &|_| reads.report());
                assert!(place.is_ok());
            })
            .join();
        assert_eq!(
            lock.perform(Op::Write),
            Err(AcquireError::HolderThreadEnded)
        );
        let writes = lock.clone();
        let writer = world.spawn(3, move || {
            let outcome = writes.perform(Op::Write);
            assert!(matches!(
                outcome,
                Ok(()) | Err(AcquireError::HolderThreadEnded)
            ));
        });
        lock.read_data();
        world.end_process(PROCESS);
        writer.join();
        assert_eq!(lock.perform(Op::Write), Ok(()));
        assert_eq!(lock.reports.get(), 0);
    });
}

/// Without the fence that provides the order of `SeqCst` accesses, a reader and a writer miss each
/// other.
#[test]
fn without_the_fence_a_reader_and_a_writer_miss_each_other() {
    let model = Model {
        fault: Some(Fault::NoDekkerFence),
        follows_old_values: true,
        ..with(2)
    };
    let why = model.fails(|world| drop(threads::<1>(world, &[Op::Read, Op::Write])));
    assert!(
        why.contains("from cell") || why.contains("to cell"),
        "{why}"
    );
}

#[test]
fn readers_and_writers_need_acquire_and_release_ordering() {
    for fault in [Fault::NoAcquire, Fault::NoRelease] {
        let model = Model {
            fault: Some(fault),
            follows_old_values: true,
            ..with(1)
        };
        model.fails(|world| drop(threads::<1>(world, &[Op::Read, Op::Write])));
    }
}
