//! `SharedRwLock` in one process: its interface, its refusals, and what a panic leaves.

use pshared::{
    Cause, Error, LockError, Shared, SharedRwLock, SharedRwLockUpgradableReadGuard as Upgradable,
    SharedRwLockWriteGuard,
};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const SLOTS: usize = 16;
const SOON: Duration = Duration::from_millis(20);

fn placed() -> Shared<SharedRwLock<u64>> {
    Shared::anonymous(SharedRwLock::new(7)).unwrap()
}

/// Runs the test with a lock in a map, and with an in-process one.
fn both(test: impl Fn(&SharedRwLock<u64>)) {
    test(&placed());
    test(&SharedRwLock::new(7));
}

#[test]
fn readers_share_the_lock_and_a_writer_excludes_all() {
    both(|lock| {
        let first = lock.read().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(*lock.read().unwrap(), 7);
                assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
                assert!(matches!(lock.write_timeout(SOON), Err(LockError::TimedOut)));
                assert_eq!(*lock.try_read().unwrap(), 7);
            });
        });
        drop(first);
        let mut writer = lock.write().unwrap();
        *writer += 1;
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
                assert!(matches!(lock.read_timeout(SOON), Err(LockError::TimedOut)));
                assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
                assert!(matches!(
                    lock.try_upgradable_read(),
                    Err(LockError::WouldBlock)
                ));
            });
        });
        drop(writer);
        assert_eq!(*lock.try_read().unwrap(), 8);
    });
}

#[test]
fn waiters_get_the_lock_when_it_is_released() {
    both(|lock| {
        let (sender, receiver) = mpsc::channel();
        let writer = lock.write().unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                let sender = sender.clone();
                scope.spawn(move || sender.send(*lock.read().unwrap()).unwrap());
            }
            scope.spawn(|| *lock.write().unwrap() += 1);
            assert!(receiver.recv_timeout(SOON).is_err());
            drop(writer);
            (0..3).for_each(|_| assert!((7..=8).contains(&receiver.recv().unwrap())));
        });
        assert_eq!(*lock.read().unwrap(), 8);
    });
}

#[test]
fn reading_then_writing_in_one_thread_is_a_deadlock_and_so_is_the_reverse() {
    let lock = placed();
    let reader = lock.read().unwrap();
    assert!(matches!(lock.write(), Err(LockError::Deadlock)));
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    drop(reader);
    let writer = lock.write().unwrap();
    assert!(matches!(lock.read(), Err(LockError::Deadlock)));
    assert!(matches!(lock.write(), Err(LockError::Deadlock)));
    assert!(matches!(lock.upgradable_read(), Err(LockError::Deadlock)));
    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
    drop(writer);
    let upgradable = lock.upgradable_read().unwrap();
    assert!(matches!(lock.write(), Err(LockError::Deadlock)));
    let reader = lock.read().unwrap();
    let refused = Upgradable::upgrade(upgradable).unwrap_err();
    assert!(matches!(refused.error(), Error::Deadlock));
    drop(reader);
    let writer = Upgradable::upgrade(refused.into_guard()).unwrap();
    assert_eq!(*writer, 7);
}

/// A thread that reads may read again, although a writer waits, and although every slot is taken.
#[test]
fn a_nested_read_never_waits() {
    let lock = placed();
    let lock = &*lock;
    let (first, second) = (lock.read().unwrap(), lock.read().unwrap());
    drop(first);
    thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let writer = scope.spawn(move || {
            ready.send(()).unwrap();
            *lock.write().unwrap() += 1;
        });
        is_ready.recv().unwrap();
        // Once the writer has excluded new readers, a thread is refused.
        while scope.spawn(|| lock.try_read().is_ok()).join().unwrap() {}
        let third = lock.read().unwrap();
        let fourth = lock.read_timeout(SOON).unwrap();
        drop(second);
        drop(third);
        assert_eq!(*fourth, 7);
        assert!(!writer.is_finished());
        drop(fourth);
    });
    assert_eq!(*lock.read().unwrap(), 8);
}

#[test]
fn a_reader_waits_when_all_slots_are_taken_and_nested_reads_succeed() {
    let lock = placed();
    let lock = &*lock;
    let (ready, is_ready) = mpsc::channel();
    let (next, goes_on) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let mut ends = Vec::new();
        for _ in 0..SLOTS {
            let ready = ready.clone();
            let (end, ended) = mpsc::channel::<()>();
            ends.push(end);
            scope.spawn(move || {
                let first = lock.read().unwrap();
                ready.send(()).unwrap();
                let _ = ended.recv();
                let nested = lock.read().unwrap();
                drop(first);
                assert_eq!(*nested, 7);
                ready.send(()).unwrap();
                let _ = ended.recv();
            });
        }
        (0..SLOTS).for_each(|_| is_ready.recv().unwrap());
        assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
        assert!(matches!(lock.read_timeout(SOON), Err(LockError::TimedOut)));
        let waits = scope.spawn(move || {
            let guard = lock.read().unwrap();
            next.send(()).unwrap();
            *guard
        });
        ends.iter().for_each(|end| end.send(()).unwrap());
        (0..SLOTS).for_each(|_| is_ready.recv().unwrap());
        assert!(goes_on.try_recv().is_err());
        ends.pop();
        goes_on.recv().unwrap();
        assert_eq!(waits.join().unwrap(), 7);
        drop(ends);
    });
    *lock.try_write().unwrap() += 1;
}

#[test]
fn an_upgrade_waits_for_the_readers_and_a_downgrade_lets_them_in() {
    both(|lock| {
        let upgradable = lock.upgradable_read().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(*lock.read().unwrap(), 7);
                assert!(matches!(
                    lock.try_upgradable_read(),
                    Err(LockError::WouldBlock)
                ));
                assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
            });
        });
        let (ready, is_ready) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let writer = thread::scope(|scope| {
            scope.spawn(move || {
                let guard = lock.read().unwrap();
                ready.send(()).unwrap();
                ended.recv().unwrap();
                drop(guard);
            });
            is_ready.recv().unwrap();
            let refused = Upgradable::try_upgrade(upgradable).unwrap_err();
            assert!(matches!(refused.error(), Error::WouldBlock));
            let refused = Upgradable::upgrade_timeout(refused.into_guard(), SOON).unwrap_err();
            assert!(matches!(refused.error(), Error::TimedOut));
            end.send(()).unwrap();
            Upgradable::upgrade(refused.into_guard()).unwrap()
        });
        let mut writer = writer;
        *writer += 1;
        let reader = SharedRwLockWriteGuard::downgrade(writer);
        thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(*lock.try_read().unwrap(), 8);
                assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
            });
        });
        drop(reader);
        drop(lock.try_write().unwrap());
    });
}

#[test]
fn a_panic_of_a_writer_poisons_and_one_of_a_reader_does_not() {
    both(|lock| {
        let panics = |write: bool| {
            thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let _reader = (!write).then(|| lock.read().unwrap());
                    let _writer = write.then(|| lock.write().unwrap());
                    panic!("on purpose");
                });
                assert!(thread.join().is_err());
            });
        };
        panics(false);
        assert!(!lock.is_poisoned());
        panics(true);
        assert!(lock.is_poisoned());
        match lock.read() {
            Err(LockError::Poisoned(poisoned)) => {
                assert_eq!(poisoned.cause(), Cause::Panicked);
                assert!(!poisoned.is_first_report());
                assert_eq!(*poisoned.try_into_guard().unwrap(), 7);
            }
            other => panic!("{other:?}"),
        }
        lock.clear_poison();
        assert_eq!(*lock.read().unwrap(), 7);
    });
}

#[test]
fn an_in_process_lock_can_be_moved_and_its_guards_leaked() {
    let mut lock = SharedRwLock::new(1_u64);
    *lock.get_mut().unwrap() = 2;
    std::mem::forget(lock.read().unwrap());
    let lock = Box::new(lock);
    assert_eq!(*lock.read().unwrap(), 2);
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    let lock = *lock;
    // Placing the lock frees it.
    let lock = Shared::anonymous(lock).unwrap();
    *lock.try_write().unwrap() += 1;
    assert_eq!(SharedRwLock::new(3_u64).into_inner().unwrap(), 3);
}

#[test]
fn a_map_whose_lock_is_held_stays_mapped() {
    for write in [false, true] {
        let lock = placed();
        let value: *const u64 = if write {
            let guard = lock.write().unwrap();
            let value = &raw const *guard;
            std::mem::forget(guard);
            value
        } else {
            let guard = lock.read().unwrap();
            let value = &raw const *guard;
            std::mem::forget(guard);
            value
        };
        drop(lock);
        // SAFETY: the guard was leaked, so its borrow has no end, and the map is kept for it.
        assert_eq!(unsafe { *value }, 7);
    }
}

#[test]
fn a_lock_is_formatted_without_waiting() {
    let lock = placed();
    assert_eq!(format!("{:?}", *lock), "SharedRwLock { data: 7, .. }");
    let writer = lock.write().unwrap();
    assert_eq!(
        format!("{:?}", *lock),
        "SharedRwLock { writer: \"a thread\", .. }"
    );
    drop(writer);
}

/// What a process does that is a file's only opener, first in the same boot and then after a
/// reboot.
#[test]
fn a_reset_releases_held_locks_and_after_a_reboot_no_data_is_trusted() {
    use pshared::memory::Primitive;
    let lock = placed();
    std::mem::forget(lock.read().unwrap());
    std::mem::forget(lock.upgradable_read().unwrap());
    assert!(lock.is_held_by_this_process());
    // SAFETY: no thread uses the lock.
    unsafe { lock.reset() };
    assert!(!lock.is_held_by_this_process());
    drop(lock.write().expect("readers leave no poison"));
    // Leaves a lock that readers use without a look at the writers.
    drop(lock.upgradable_read().unwrap());
    // SAFETY: as above.
    unsafe {
        lock.reset();
        lock.mark_inconsistent();
    }
    match lock.read() {
        Err(LockError::Poisoned(poisoned)) => {
            assert!(poisoned.is_first_report() && poisoned.cause() == Cause::Died);
        }
        other => panic!("{other:?}"),
    }
    match lock.write() {
        Err(LockError::Poisoned(poisoned)) => {
            assert!(!poisoned.is_first_report());
            drop(poisoned.replace(1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(*lock.read().unwrap(), 1);
}

/// A writer that met no reader, and then readers take every slot and wait for it.
#[test]
fn a_writer_that_tries_to_read_admits_no_waiting_reader() {
    let lock = Shared::anonymous(SharedRwLock::<_, 1>::with_slots(0_u64)).unwrap();
    let has_written = AtomicBool::new(false);
    let mut guard = lock.write().unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let guard = lock.read().unwrap();
            (*guard, has_written.load(SeqCst))
        });
        let until = Instant::now() + Duration::from_millis(50);
        while Instant::now() < until {
            assert!(matches!(lock.read(), Err(LockError::Deadlock)));
            assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
            assert!(format!("{lock:?}").contains("writer"));
        }
        *guard = 1;
        has_written.store(true, SeqCst);
        drop(guard);
        assert_eq!(reader.join().unwrap(), (1, true));
    });
}

#[test]
fn a_thread_that_excludes_itself_gets_a_deadlock_error_at_once() {
    let in_process = SharedRwLock::new(0_u64);
    let guard = in_process.write().unwrap();
    assert!(matches!(in_process.read(), Err(LockError::Deadlock)));
    drop(guard);
    let lock = Shared::anonymous(in_process).unwrap();
    let guard = lock.write().unwrap();
    assert!(matches!(lock.read(), Err(LockError::Deadlock)));
    drop(guard);
    // The thread's own slot is not the first of the taken slots, and the other readers have not
    // left theirs.
    let (ready, over) = (Barrier::new(4), Barrier::new(4));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let _guard = lock.read().unwrap();
                ready.wait();
                over.wait();
            });
        }
        let _own = lock.read().unwrap();
        ready.wait();
        assert!(matches!(lock.write(), Err(LockError::Deadlock)));
        over.wait();
    });
}

#[test]
fn the_holder_is_the_writer_or_the_upgradable_reader() {
    let lock = placed();
    let own = std::process::id();
    let holder = || lock.holder().map(|holder| holder.process);
    assert_eq!(holder(), None);
    let reads = lock.read().unwrap();
    assert_eq!(holder(), None, "a reader with a slot is not reported");
    drop(reads);
    let writes = lock.write().unwrap();
    assert_eq!(holder(), Some(own));
    drop(writes);
    let upgradable = lock.upgradable_read().unwrap();
    assert_eq!(holder(), Some(own));
    drop(upgradable);
    assert_eq!(holder(), None);
}
