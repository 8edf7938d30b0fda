//! A readers-writer lock with all of its reader slots taken, and a reader that waits for a slot.

use crate::seccomp::{deny, needs_filters};
use crate::steps::{Signal, until_idly};
use crate::support::{child, kill, needs_futex_waitv, passes, sleeps, sleeps_on_any};
use crate::traced::Traced;
use pshared::fork::Child;
use pshared::{LockError, Shared, SharedRwLock};
use std::time::Duration;

crate::tests!(
    a_waiting_reader_is_woken_when_any_slot_is_released_or_abandoned,
    several_waiters_for_a_slot_each_get_one_although_another_is_killed,
    a_slot_of_an_ended_thread_is_available_after_its_process_ends,
    a_short_wait_reports_that_ended_threads_keep_all_slots,
    a_writer_gets_the_lock_after_all_slots_were_taken,
    a_wait_for_a_slot_times_out_and_takes_no_slot,
    a_waiter_gets_a_slot_without_futex_waitv,
);

const SLOTS: usize = 16;

/// The system calls of a reader that sleeps: on all slots, or on one.
const SLEEPS: [libc::c_long; 2] = [libc::SYS_futex_waitv, libc::SYS_futex];

type Lock = SharedRwLock<u64>;

fn lock() -> Shared<Lock> {
    Shared::anonymous(SharedRwLock::new(0)).unwrap()
}

/// A child that reads until `leave` is given.
struct Reader {
    child: Child,
    leave: Signal,
}

impl Reader {
    /// Starts a reader and waits until it has a slot. If `in_a_thread`, the slot belongs to a
    /// thread other than the first one of its process. After a kill, that process may then still
    /// exist when the kernel has marked the slot.
    fn start(lock: &Lock, in_a_thread: bool) -> Self {
        let (ready, leave) = (Signal::new(), Signal::new());
        let read = || {
            let _guard = lock.read().unwrap();
            ready.give();
            leave.wait();
        };
        let child = child(|| match in_a_thread {
            true => std::thread::scope(|scope| scope.spawn(read).join().unwrap()),
            false => read(),
        });
        ready.wait();
        Reader { child, leave }
    }

    fn end(self) {
        self.leave.give();
        passes(&self.child);
    }
}

/// Starts a reader for each slot. Every second one reads in a thread of its own.
fn fill_slots(lock: &Lock) -> Vec<Reader> {
    (0..SLOTS)
        .map(|slot| Reader::start(lock, slot % 2 == 0))
        .collect()
}

fn asleep(child: Child) -> Child {
    until_idly(|| sleeps_on_any(child.id()));
    child
}

/// Starts a child that waits for a slot.
fn reads(lock: &Lock) -> Child {
    asleep(child(|| assert_eq!(*lock.read().unwrap(), 0)))
}

/// A wake must end the reader's sleep, not its recheck timer. The return value of the system call
/// distinguishes the two. Rarely, the timer ends at the same moment.
fn a_waiting_reader_is_woken_when_any_slot_is_released_or_abandoned() {
    needs_futex_waitv();
    let lock = lock();
    let mut readers = fill_slots(&lock);
    let mut woken = 0;
    for slot in 0..2 * SLOTS {
        let waits = reads(&lock);
        let traced = Traced::seize(&waits);
        traced.sleeps_in_any(&SLEEPS);
        let ends = readers.remove(0);
        // Over the two rounds, each slot is orphaned once and released once.
        match (slot + 2 * (slot / SLOTS)) % 4 {
            0 | 1 => kill(&ends.child),
            _ => ends.end(),
        }
        woken += u32::from(traced.wakes() >= 0);
        passes(&waits);
        readers.push(Reader::start(&lock, slot % 2 == 0));
    }
    assert!(woken as usize > SLOTS, "only {woken} were woken");
    readers.into_iter().for_each(Reader::end);
    drop(lock.try_write().unwrap());
}

/// The queue head or a waiter behind it is killed when a slot is released or orphaned.
fn several_waiters_for_a_slot_each_get_one_although_another_is_killed() {
    for round in 0..12 {
        let lock = lock();
        let mut readers = fill_slots(&lock);
        let waiters = [(); 3].map(|()| reads(&lock));
        let ends = readers.remove(round % SLOTS);
        match round % 4 {
            0 | 1 => ends.end(),
            _ => kill(&ends.child),
        }
        let victim = &waiters[round % 3];
        victim.kill().unwrap();
        victim.wait().unwrap();
        for (number, waits) in waiters.iter().enumerate() {
            if number != round % 3 {
                passes(waits);
            }
        }
        readers.into_iter().for_each(Reader::end);
        drop(lock.try_write().unwrap());
    }
}

/// The end of the process causes no wake. Until then, the other slots are available as usual.
fn a_slot_of_an_ended_thread_is_available_after_its_process_ends() {
    let lock = lock();
    let ended = Signal::new();
    let holder = child(|| {
        std::thread::scope(|scope| {
            let leak = || std::mem::forget(lock.read().unwrap());
            scope.spawn(leak).join().unwrap();
        });
        ended.give();
        loop {
            nix::unistd::pause();
        }
    });
    ended.wait();
    let mut readers: Vec<_> = (1..SLOTS)
        .map(|slot| Reader::start(&lock, slot % 2 == 0))
        .collect();
    for released in [false, true] {
        let waits = reads(&lock);
        let ends = readers.remove(0);
        match released {
            true => ends.end(),
            false => kill(&ends.child),
        }
        passes(&waits);
        readers.push(Reader::start(&lock, false));
    }
    let waits = reads(&lock);
    kill(&holder);
    passes(&waits);
    readers.into_iter().for_each(Reader::end);
    drop(lock.try_write().unwrap());
}

fn a_short_wait_reports_that_ended_threads_keep_all_slots() {
    let lock = lock();
    let ended = Signal::new();
    let holder = child(|| {
        std::thread::scope(|scope| {
            for _ in 0..SLOTS {
                let leak = || std::mem::forget(lock.read().unwrap());
                scope.spawn(leak).join().unwrap();
            }
        });
        ended.give();
        loop {
            nix::unistd::pause();
        }
    });
    ended.wait();
    let reports_ended_thread = |outcome| matches!(outcome, Err(LockError::HolderThreadEnded));
    // This call waits for the end of the grace period. Until then, the process may be about to end.
    assert!(reports_ended_thread(lock.read()));
    assert!(reports_ended_thread(lock.try_read()));
    assert!(reports_ended_thread(
        lock.read_timeout(Duration::from_millis(20))
    ));
    kill(&holder);
    drop(lock.try_write().unwrap());
}

/// While a reader waits for a slot, writers wait too. Afterwards, every slot is available to later
/// readers.
fn a_writer_gets_the_lock_after_all_slots_were_taken() {
    let lock = lock();
    let readers = fill_slots(&lock);
    let waits = reads(&lock);
    let writes = asleep(child(|| *lock.write().unwrap() += 1));
    readers.into_iter().for_each(Reader::end);
    passes(&waits);
    passes(&writes);
    assert_eq!(*lock.try_read().unwrap(), 1);
    // All slots are available again.
    fill_slots(&lock).into_iter().for_each(Reader::end);
    *lock.try_write().unwrap() += 1;
}

fn a_wait_for_a_slot_times_out_and_takes_no_slot() {
    let lock = lock();
    let readers = fill_slots(&lock);
    let refused = |outcome| matches!(outcome, Err(LockError::TimedOut));
    assert!(refused(lock.read_timeout(Duration::from_millis(30))));
    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
    let waits = reads(&lock);
    assert!(refused(lock.read_timeout(Duration::from_millis(30))));
    readers.into_iter().for_each(Reader::end);
    passes(&waits);
    drop(lock.try_write().unwrap());
}

/// Tests a kernel without `futex_waitv`: Linux before 5.16, or some containers. The reader sleeps
/// on one of the slots, and looks at the others every two milliseconds.
fn a_waiter_gets_a_slot_without_futex_waitv() {
    needs_filters();
    let lock = lock();
    let mut readers = fill_slots(&lock);
    for released in [false, true, false, true] {
        let waits = child(|| {
            deny(libc::SYS_futex_waitv).unwrap();
            assert_eq!(*lock.read().unwrap(), 0);
        });
        until_idly(|| sleeps(waits.id()));
        let ends = readers.remove(0);
        match released {
            true => ends.end(),
            false => kill(&ends.child),
        }
        passes(&waits);
        readers.push(Reader::start(&lock, released));
    }
    readers.into_iter().for_each(Reader::end);
    drop(lock.try_write().unwrap());
}
