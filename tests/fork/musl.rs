//! The robust lists that threads have under musl, beside musl's own.

use crate::pthread::{Protocol, PthreadMutex};
use crate::support::{Outcome, child, gettid, kill, outcome_of, passes, state, until};
use pshared::{Error, Shared, SharedEvent, SharedMutex, ShmSafe, fork};
use std::collections::BTreeSet;
use std::mem::forget;
use std::ptr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

crate::tests!(
    each_thread_registers_a_list_of_its_own_at_its_first_use,
    the_kernel_marks_the_lock_of_a_joinable_and_of_a_detached_thread,
    the_lists_of_ended_threads_are_used_again,
    a_child_registers_an_empty_list_of_its_own,
    a_list_that_another_copy_of_the_crate_registered_is_joined,
    a_list_that_musl_registered_first_stays_registered,
    a_list_that_musl_registers_later_replaces_this_crates,
    a_thread_with_a_list_of_musl_places_no_robust_primitive,
    an_unregistered_list_is_registered_again_before_a_lock_is_placed,
    spawn_refuses_while_a_mutex_of_musl_is_held,
);

type Lock = SharedMutex<u64>;

/// The kernel's bits in a lock word.
const OWNER_DIED: u32 = 1 << 30;
const WAITERS: u32 = 1 << 31;

/// The offsets of the lock words of this crate and of musl from their list entries.
const OURS: isize = -32;
const THEIRS: isize = -28;

/// The kernel's `struct robust_list_head`.
#[repr(C)]
struct Head {
    first: usize,
    futex_offset: isize,
    pending: usize,
}

/// Returns the calling thread's list as the kernel knows it.
fn head() -> Option<&'static Head> {
    let mut head = ptr::null::<Head>();
    let mut length = 0_usize;
    // SAFETY: get_robust_list(2) may write to both places; 0 is the calling thread.
    let answer =
        unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a registered head is never unmapped while its thread lives. The tests read it in that
    // thread only.
    unsafe { head.as_ref() }
}

fn offset() -> Option<isize> {
    head().map(|head| head.futex_offset)
}

fn lock() -> &'static Lock {
    Shared::anonymous(Lock::new(0)).unwrap().leak()
}

/// The word of a lock, its first field.
fn word_of(lock: &Lock) -> &AtomicU32 {
    // SAFETY: the mutex is `repr(C)` and starts with its word, an `AtomicU32`.
    unsafe { &*ptr::from_ref(lock).cast() }
}

fn mutex() -> &'static PthreadMutex {
    let mutex = Shared::anonymous(PthreadMutex::new()).unwrap().leak();
    mutex.init(Protocol::None);
    mutex
}

fn each_thread_registers_a_list_of_its_own_at_its_first_use() {
    let lock = lock();
    let use_it = || {
        assert!(head().is_none(), "musl registers none");
        drop(lock.lock().unwrap());
        assert_eq!(offset(), Some(OURS));
        ptr::from_ref(head().unwrap()).addr()
    };
    let both = Barrier::new(2);
    let heads = thread::scope(|scope| {
        let threads = [(), ()].map(|()| {
            scope.spawn(|| {
                let head = use_it();
                both.wait();
                head
            })
        });
        threads.map(|thread| thread.join().unwrap())
    });
    assert_ne!(heads[0], heads[1]);
    assert_eq!(offset(), Some(OURS), "the first thread has placed the lock");
}

/// The thread ends as the owner of a lock on which a thread might sleep. A liveness check would
/// also mark the lock, but none is made here.
fn the_kernel_marks_the_lock_of_a_joinable_and_of_a_detached_thread() {
    for is_detached in [false, true] {
        let lock = lock();
        let may_end: &'static SharedEvent = Shared::anonymous(SharedEvent::new()).unwrap().leak();
        let tid: &'static AtomicU32 = Box::leak(Box::default());
        let ends = thread::spawn(move || {
            forget(lock.lock().unwrap());
            word_of(lock).fetch_or(WAITERS, Relaxed);
            tid.store(gettid(), Relaxed);
            may_end.wait();
        });
        until(|| tid.load(Relaxed) != 0);
        if is_detached {
            drop(ends);
            may_end.set();
        } else {
            may_end.set();
            ends.join().unwrap();
        }
        until(|| state(tid.load(Relaxed)).is_none());
        assert_eq!(word_of(lock).load(Relaxed), OWNER_DIED | WAITERS);
    }
}

fn the_lists_of_ended_threads_are_used_again() {
    const THREADS: usize = 2_000;
    const AT_ONCE: usize = 200;
    let lock = lock();
    let use_it = || {
        drop(lock.lock().unwrap());
        ptr::from_ref(head().unwrap()).addr()
    };
    let heads = (0..THREADS).map(|_| thread::scope(|scope| scope.spawn(use_it).join().unwrap()));
    let used = heads.collect::<BTreeSet<_>>().len();
    assert!(used <= 64, "{used} lists for {THREADS} threads");
    // No two threads that exist at the same time have the same list.
    let all = Barrier::new(AT_ONCE);
    let heads: BTreeSet<usize> = thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    let head = use_it();
                    all.wait();
                    head
                })
            })
            .collect();
        let heads = threads.into_iter().map(|thread| thread.join().unwrap());
        heads.collect()
    });
    assert_eq!(heads.len(), AT_ONCE);
}

fn a_child_registers_an_empty_list_of_its_own() {
    let [held, linked, free] = [lock(), lock(), lock()];
    let guards = (linked.lock().unwrap(), held.lock().unwrap());
    assert_ne!(head().unwrap().first, ptr::from_ref(head().unwrap()).addr());
    let body = || {
        assert!(head().is_none());
        let guard = free.lock().unwrap();
        let list = head().unwrap();
        assert_eq!(list.first, ptr::from_ref(list).addr(), "an empty list");
        assert_ne!(list.pending, 0, "the lock that the child holds");
        forget(guard);
    };
    // SAFETY: the process has one thread, and the child accesses no data of its parent's guards.
    passes(&unsafe { fork::spawn_unchecked(body) }.unwrap());
    assert_eq!(word_of(free).load(Relaxed), OWNER_DIED);
    for lock in [held, linked] {
        assert_eq!(word_of(lock).load(Relaxed), gettid());
    }
    drop(guards);
}

/// A list as another copy of this crate registers it.
#[repr(C)]
struct OtherList {
    magic: [u8; 8],
    prev: usize,
    head: Head,
}

fn a_list_that_another_copy_of_the_crate_registered_is_joined() {
    let lock = lock();
    let tid = thread::spawn(|| {
        let list = Box::leak(Box::new(OtherList {
            magic: *b"pshared\x01",
            prev: 0,
            head: Head {
                first: 0,
                futex_offset: OURS,
                pending: 0,
            },
        }));
        let other = &raw mut list.head;
        (list.prev, list.head.first) = (other.addr(), other.addr());
        // SAFETY: the head is an empty list that is never freed.
        unsafe { libc::syscall(libc::SYS_set_robust_list, other, 24) };
        forget(lock.lock().unwrap());
        assert!(ptr::eq(head().unwrap(), other));
        // A second lock links the first one into the list.
        drop(Shared::anonymous(Lock::new(0)).unwrap().lock().unwrap());
        assert_ne!(head().unwrap().first, other.addr());
        gettid()
    });
    let tid = tid.join().unwrap();
    until(|| state(tid).is_none());
    assert_eq!(word_of(lock).load(Relaxed), OWNER_DIED);
}

/// What a child holds at its death.
#[derive(ShmSafe)]
#[repr(C)]
struct State {
    ours: [Lock; 2],
    theirs: PthreadMutex,
    ready: SharedEvent,
}

impl State {
    fn anonymous() -> Shared<Self> {
        let state = Shared::anonymous(State {
            ours: [const { Lock::new(0) }; 2],
            theirs: PthreadMutex::new(),
            ready: SharedEvent::new(),
        })
        .unwrap();
        state.theirs.init(Protocol::None);
        state
    }

    /// Runs a child that locks, kills it, and checks that each lock reports the death.
    fn dies_with_all(&self, locks: impl FnOnce(&Self)) {
        let dies = child(|| {
            locks(self);
            self.ready.set();
            loop {
                thread::park();
            }
        });
        self.ready.wait();
        kill(&dies);
        // The kernel walks one list only. The liveness check finds the others' death.
        for lock in &self.ours {
            let outcome = outcome_of(lock.lock_timeout(Duration::from_secs(60)));
            assert_eq!(outcome, Outcome::FreshDeath);
        }
        assert_eq!(self.theirs.try_lock(), Err(libc::EOWNERDEAD));
    }
}

fn a_list_that_musl_registered_first_stays_registered() {
    State::anonymous().dies_with_all(|state| {
        state.theirs.lock().unwrap();
        assert_eq!(offset(), Some(THEIRS));
        state.ours.iter().for_each(|lock| forget(lock.lock()));
        assert_eq!(offset(), Some(THEIRS));
    });
}

fn a_list_that_musl_registers_later_replaces_this_crates() {
    State::anonymous().dies_with_all(|state| {
        forget(state.ours[0].lock());
        assert_eq!(offset(), Some(OURS));
        state.theirs.lock().unwrap();
        assert_eq!(offset(), Some(THEIRS));
        forget(state.ours[1].lock());
    });
}

fn a_thread_with_a_list_of_musl_places_no_robust_primitive() {
    let (lock, mutex) = (lock(), mutex());
    let refuses = || {
        let refusal = Shared::anonymous(Lock::new(0)).unwrap_err();
        assert!(matches!(refusal, Error::RobustListUnusable { .. }));
        let text = refusal.to_string();
        assert!(
            text.contains("registers for a process-shared pthread_mutex_t"),
            "{text}"
        );
        assert!(
            text.contains("in a thread that locks no process-shared"),
            "{text}"
        );
        // What needs no list can be placed, and locks can be used.
        drop(Shared::anonymous(SharedEvent::new()).unwrap());
        assert_eq!(outcome_of(lock.lock()), Outcome::Unpoisoned);
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            mutex.lock().unwrap();
            mutex.unlock();
            refuses();
        });
    });
    // The same if musl's list replaces this crate's.
    drop(Shared::anonymous(Lock::new(0)).unwrap());
    mutex.lock().unwrap();
    mutex.unlock();
    refuses();
    // Other threads are not concerned.
    thread::scope(|scope| {
        scope.spawn(|| drop(Shared::anonymous(Lock::new(0)).unwrap()));
    });
}

fn an_unregistered_list_is_registered_again_before_a_lock_is_placed() {
    drop(lock().lock().unwrap());
    let before = ptr::from_ref(head().unwrap());
    // SAFETY: the call takes a head, here null, and its length.
    unsafe { libc::syscall(libc::SYS_set_robust_list, 0, 24) };
    assert!(head().is_none());
    lock();
    assert!(ptr::eq(head().unwrap(), before));
}

fn spawn_refuses_while_a_mutex_of_musl_is_held() {
    let (lock, mutex) = (lock(), mutex());
    for is_first in [true, false] {
        passes(&child(|| {
            if !is_first {
                drop(lock.lock().unwrap());
            }
            mutex.lock().unwrap();
            assert!(matches!(fork::spawn(|| ()), Err(fork::Error::LockHeld)));
            mutex.unlock();
            passes(&child(|| ()));
        }));
    }
}
