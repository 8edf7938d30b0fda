//! What `fork::spawn` refuses, and that no child runs if it fails.

use crate::list_op_pending::{has_no_children, own_list, spawn_refuses, spawn_works};
use crate::liveness_fallback::be_interrupted_every;
use crate::seccomp::{deny, needs_filters};
use crate::support::{Stage, child, gettid, passes, state, until};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};
use pshared::{
    Shared, SharedBarrier, SharedCounter, SharedMutex, SharedOnce, SharedOnceLock, SharedPermits,
    SharedReentrantLock, SharedRoster, SharedRwLock, SharedRwLockUpgradableReadGuard,
    SharedRwLockWriteGuard, fork, raw,
};
use std::mem::forget;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

crate::tests!(
    spawn_refuses_while_a_mutex_that_is_not_placed_is_held,
    spawn_refuses_while_a_rwlock_that_is_not_placed_is_held,
    spawn_refuses_inside_an_initialization_that_is_not_placed,
    spawn_refuses_while_a_slot_that_is_not_placed_is_held,
    spawn_refuses_while_many_locks_that_are_not_placed_are_held,
    spawn_refuses_after_a_guard_was_leaked_until_the_lock_is_placed,
    spawn_ignores_locks_that_are_not_placed_and_that_the_parent_held,
    spawn_refuses_while_another_process_checks_a_lock_that_was_leaked,
    spawn_refuses_while_another_copy_of_the_crate_holds_a_lock,
    no_child_runs_if_it_cannot_be_identified,
    children_run_if_their_ends_are_ignored,
    signals_disturb_no_spawn,
    a_child_that_waits_to_be_identified_ends_with_its_parent,
    spawn_needs_two_descriptors,
);

fn refuses_while_held<G>(hold: impl FnOnce() -> G) {
    spawn_works();
    let guard = hold();
    spawn_refuses();
    drop(guard);
    spawn_works();
}

fn spawn_refuses_while_a_mutex_that_is_not_placed_is_held() {
    static LOCK: SharedMutex<u64> = SharedMutex::new(0);
    refuses_while_held(|| LOCK.lock().unwrap());
    refuses_while_held(|| LOCK.try_lock().unwrap());
    refuses_while_held(|| LOCK.lock_timeout(Duration::from_secs(60)).unwrap());
    let lock = SharedReentrantLock::new(0);
    refuses_while_held(|| (lock.lock().unwrap(), lock.lock().unwrap()));
    with_strategy::<raw::Futex>();
    with_strategy::<raw::Spin>();
    with_strategy::<raw::Ticket>();
    with_strategy::<raw::Pthread>();
    with_strategy::<raw::PosixSem>();
    #[cfg(target_env = "gnu")]
    with_strategy::<raw::PthreadRobust>();
    #[cfg(target_env = "gnu")]
    with_strategy::<raw::PthreadPi>();
}

fn with_strategy<R: raw::RawLock>() {
    let lock = SharedMutex::<u64, R>::with_strategy(0);
    refuses_while_held(|| lock.lock().unwrap());
    refuses_while_held(|| lock.try_lock().unwrap());
    // A locker that had to wait.
    thread::scope(|scope| {
        let guard = lock.lock().unwrap();
        let waits = scope.spawn(|| *lock.lock().unwrap() += 1);
        thread::yield_now();
        drop(guard);
        waits.join().unwrap();
    });
    spawn_works();
    let placed = Shared::anonymous(lock).unwrap();
    refuses_while_held(|| placed.lock().unwrap());
}

fn spawn_refuses_while_a_rwlock_that_is_not_placed_is_held() {
    static LOCK: SharedRwLock<u64> = SharedRwLock::new(0);
    refuses_while_held(|| LOCK.read().unwrap());
    refuses_while_held(|| (LOCK.read().unwrap(), LOCK.try_read().unwrap()));
    refuses_while_held(|| LOCK.write().unwrap());
    refuses_while_held(|| SharedRwLockWriteGuard::downgrade(LOCK.write().unwrap()));
    refuses_while_held(|| LOCK.upgradable_read().unwrap());
    refuses_while_held(|| {
        let reads = LOCK.upgradable_read().unwrap();
        SharedRwLockUpgradableReadGuard::upgrade(reads).unwrap()
    });
}

fn spawn_refuses_inside_an_initialization_that_is_not_placed() {
    static ONCE: SharedOnce = SharedOnce::new();
    static CELL: SharedOnceLock<u64> = SharedOnceLock::new();
    ONCE.call_once(spawn_refuses);
    CELL.get_or_init(|| {
        spawn_refuses();
        1
    });
    spawn_works();
    passes(&child(|| assert_eq!(CELL.get_or_init(|| 2), &1)));
}

fn spawn_refuses_while_a_slot_that_is_not_placed_is_held() {
    static PERMITS: SharedPermits<3> = SharedPermits::new();
    refuses_while_held(|| PERMITS.acquire().unwrap());
    let roster = SharedRoster::<u64, 2>::from_fn(|_| 0);
    refuses_while_held(|| roster.join().unwrap());
    let barrier = SharedBarrier::<2>::new();
    refuses_while_held(|| barrier.join().unwrap());
}

fn spawn_refuses_while_many_locks_that_are_not_placed_are_held() {
    let locks = [const { SharedMutex::new(0) }; 30];
    let mut guards = locks.each_ref().map(|lock| Some(lock.lock().unwrap()));
    for index in (0..30).step_by(2).chain((1..30).step_by(2)) {
        spawn_refuses();
        guards[index] = None;
    }
    spawn_works();
}

fn spawn_refuses_after_a_guard_was_leaked_until_the_lock_is_placed() {
    static HELD: SharedMutex<u64> = SharedMutex::new(0);
    let lock = SharedMutex::new(0);
    forget(lock.lock().unwrap());
    spawn_refuses();
    // Moved, with other bytes in its old place.
    let mut moved = Box::new(lock);
    spawn_refuses();
    *moved = SharedMutex::new(1);
    // The guard still counts: nothing shows that the lock is gone.
    spawn_refuses();
    let other = SharedMutex::new(2);
    forget(other.lock().unwrap());
    // Each lock that is placed counts no more, and no other lock in its place.
    let held = HELD.lock().unwrap();
    let placed = Shared::anonymous(other).unwrap();
    spawn_refuses();
    drop(held);
    spawn_refuses();
    drop(placed.lock().unwrap());
    // Another thread has leaked none, and neither has the only thread of a child.
    // SAFETY: there is no other thread, and the child does not use the guards.
    passes(&unsafe { fork::spawn_unchecked(spawn_works) }.unwrap());
}

fn spawn_ignores_locks_that_are_not_placed_and_that_the_parent_held() {
    static LOCK: SharedMutex<u64> = SharedMutex::new(0);
    static OTHER: SharedRwLock<u64> = SharedRwLock::new(0);
    let _guards = (LOCK.lock().unwrap(), OTHER.read().unwrap());
    // SAFETY: there is no other thread, and the child does not use the guards.
    let parent = unsafe { fork::spawn_unchecked(spawn_works) }.unwrap();
    passes(&parent);
}

/// The word of a lock, its first field.
fn word_of(lock: &SharedMutex<u64>) -> &AtomicU32 {
    // SAFETY: the mutex is `repr(C)` and starts with its word, an `AtomicU32`.
    unsafe { &*ptr::from_ref(lock).cast() }
}

fn spawn_refuses_while_another_process_checks_a_lock_that_was_leaked() {
    const OWNER_DIED: u32 = 1 << 30;
    let lock = Shared::anonymous(SharedMutex::new(0)).unwrap().leak();
    let leaks = thread::spawn(|| {
        forget(lock.lock().unwrap());
        gettid()
    });
    let ended = leaks.join().unwrap();
    until(|| state(ended).is_none());
    spawn_refuses();
    assert_eq!(word_of(lock).load(Relaxed), OWNER_DIED);
    // A locker takes the marked word for a moment: until it has read the record.
    word_of(lock).store(std::os::unix::process::parent_id(), Relaxed);
    spawn_refuses();
    word_of(lock).store(OWNER_DIED, Relaxed);
    spawn_refuses();
}

/// A lock as another copy of this crate lays it out.
#[repr(C)]
struct OtherLock {
    word: AtomicU32,
    unused: [AtomicU32; 5],
    links: [AtomicPtr<()>; 2],
}

fn spawn_refuses_while_another_copy_of_the_crate_holds_a_lock() {
    const OFFSET_OF_PENDING: usize = 16;
    let lock = OtherLock {
        word: AtomicU32::new(0),
        unused: Default::default(),
        links: Default::default(),
    };
    // Under musl, a thread has a list once a copy of this crate has registered one.
    spawn_works();
    let mut head = ptr::null_mut::<()>();
    let mut length = 0_usize;
    // SAFETY: get_robust_list(2) may write to both places; 0 is the calling thread.
    let answer =
        unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length) };
    assert_eq!(answer, 0);
    // SAFETY: the field lies there in a head, and only this thread and the kernel access it.
    let pending = unsafe { &*head.byte_add(OFFSET_OF_PENDING).cast::<AtomicPtr<()>>() };
    let entry = ptr::from_ref(&lock.links[1]).cast_mut().cast::<()>();
    assert_eq!(entry.addr() - ptr::from_ref(&lock.word).addr(), 32);
    let own_id = gettid();
    for (word, is_held) in [
        (own_id, true),
        (own_id | 1 << 31, true),
        (0, false),
        (1 << 31, false),
        (own_id + 1, false),
    ] {
        lock.word.store(word, Relaxed);
        pending.store(entry, Relaxed);
        match is_held {
            true => spawn_refuses(),
            false => spawn_works(),
        }
        pending.store(ptr::null_mut(), Relaxed);
        spawn_works();
    }
    // This copy needs the field for its own lock.
    for word in [own_id, own_id | 1 << 31] {
        lock.word.store(word, Relaxed);
        pending.store(entry, Relaxed);
        let ours = Shared::anonymous(SharedMutex::new(0)).unwrap();
        let guard = ours.lock().unwrap();
        assert_eq!(own_list(), [entry.addr()]);
        spawn_refuses();
        drop(guard);
        assert_eq!(own_list(), [entry.addr()]);
        spawn_refuses();
        // The other copy releases its lock: it finds it linked.
        pending.store(entry, Relaxed);
        let [prev, next] = lock.links.each_ref().map(|link| link.load(Relaxed));
        // SAFETY: the lock is the only node of the list, so both of its links point to the head,
        // which has the link to the last node directly before that to the first.
        unsafe {
            assert_eq!((prev, next), (head, head));
            let first = &*head.cast::<AtomicPtr<()>>();
            (*head.byte_sub(8).cast::<AtomicPtr<()>>()).store(head, Relaxed);
            first.store(head, Relaxed);
        }
        lock.links
            .iter()
            .for_each(|link| link.store(ptr::null_mut(), Relaxed));
        lock.word.store(0, Relaxed);
        pending.store(ptr::null_mut(), Relaxed);
        spawn_works();
    }
    // A lock that glibc did not acquire is not linked.
    lock.word.store(own_id + 1, Relaxed);
    pending.store(entry, Relaxed);
    let ours = Shared::anonymous(SharedMutex::new(0)).unwrap();
    drop(ours.lock().unwrap());
    assert!(own_list().is_empty() && lock.links[1].load(Relaxed).is_null());
}

fn no_child_runs_if_it_cannot_be_identified() {
    needs_filters();
    let runs = Shared::anonymous(SharedCounter::new(0)).unwrap();
    passes(&child(|| {
        deny(libc::SYS_pidfd_open).unwrap();
        for _ in 0..200 {
            match fork::spawn(|| _ = runs.add(1)).map(|child| child.id()) {
                Err(
                    error @ fork::Error::Os {
                        call: "pidfd_open", ..
                    },
                ) => assert!(error.to_string().contains("allow the call"), "{error}"),
                other => panic!("{other:?}"),
            }
            has_no_children();
        }
    }));
    assert_eq!(runs.get(), 0);
}

fn children_run_if_their_ends_are_ignored() {
    let runs = Shared::anonymous(SharedCounter::new(0)).unwrap();
    passes(&child(|| {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        for _ in 0..200 {
            let ends = fork::spawn(|| _ = runs.add(1)).expect("no child");
            let status = ends.wait();
            assert_eq!(status.unwrap_err().raw_os_error(), Some(libc::ECHILD));
        }
    }));
    assert_eq!(runs.get(), 200);
}

fn signals_disturb_no_spawn() {
    let runs = Shared::anonymous(SharedCounter::new(0)).unwrap();
    passes(&child(|| {
        be_interrupted_every(Duration::from_micros(200));
        for _ in 0..300 {
            passes(&fork::spawn(|| _ = runs.add(1)).unwrap());
        }
    }));
    assert_eq!(runs.get(), 300);
}

/// The parent is killed in a `fork` handler: before it could identify its child.
fn a_child_that_waits_to_be_identified_ends_with_its_parent() {
    extern "C" fn die() {
        // SAFETY: the process ends here.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    let stage = Stage::anonymous();
    let runs = Shared::anonymous(SharedCounter::new(0)).unwrap();
    let parent = child(|| {
        stage.ready.set();
        // SAFETY: the function exists for as long as the process.
        assert_eq!(unsafe { libc::pthread_atfork(None, Some(die), None) }, 0);
        let _ = fork::spawn(|| _ = runs.add(1));
        unreachable!("the parent is dead");
    });
    assert!(!parent.wait().unwrap().success());
    // This process adopts orphans (`PR_SET_CHILD_SUBREAPER`). The child is gone when there is none.
    until(|| waitpid(None, Some(WaitPidFlag::WNOHANG)) == Err(Errno::ECHILD));
    assert_eq!(runs.get(), 0);
}

fn spawn_needs_two_descriptors() {
    passes(&child(|| {
        let mut files = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            files.push(file);
        }
        let closed_before_it_runs = files.len();
        drop(files.split_off(closed_before_it_runs - 2));
        passes(&fork::spawn(|| ()).unwrap());
        files.push(std::fs::File::open("/dev/null").unwrap());
        for call in ["socketpair", "open of /proc/self/task"] {
            let refused = fork::spawn(|| ()).expect_err("there is no descriptor");
            let message = refused.to_string();
            assert!(
                matches!(refused, fork::Error::NoDescriptors { call: failed, .. } if failed == call),
                "{refused:?}"
            );
            assert!(
                message.contains("ulimit -n") && !message.contains("Mount"),
                "{message}"
            );
            files.extend(std::fs::File::open("/dev/null"));
        }
        has_no_children();
    }));
}
