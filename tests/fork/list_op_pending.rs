//! The robust list's field `list_op_pending`, which glibc's robust mutexes use too: what they leave
//! in it, and what they remove from it. Also: nested locks in every order, with deaths at any
//! instant, and how `fork::spawn` treats locks that are neither in the field nor in the list.

use crate::harness::{Kills, skip};
use crate::pthread::{Protocol, PthreadMutex};
use crate::seccomp::{deny, needs_filters};
use crate::support::{Outcome, child, gettid, kill, outcome_of, passes, repaired, until};
use fastrand::Rng;
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use pshared::fork::{self as forks, Child};
use pshared::{Error, LockError, Shared, SharedCounter, SharedEvent, SharedMutex, ShmSafe};
use std::io;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

crate::tests!(
    #[cfg(target_env = "gnu")]
    a_failed_wait_for_a_glibc_mutex_leaves_its_holders_list_intact,
    #[cfg(target_env = "gnu")]
    a_failed_wait_for_a_glibc_mutex_that_is_then_unmapped_does_no_harm,
    #[cfg(target_env = "gnu")]
    a_glibc_mutex_where_another_thread_unmapped_a_lock_is_not_mistaken_for_it,
    #[cfg(target_env = "gnu")]
    a_glibc_mutex_where_another_thread_unmapped_a_lock_may_be_unmapped_too,
    #[cfg(target_env = "gnu")]
    spawn_refuses_while_a_lock_is_held_that_glibc_removed_from_list_op_pending,
    spawn_refuses_after_an_ended_thread_leaked_a_guard,
    spawn_refuses_after_an_ended_thread_leaked_a_guard_of_an_unmarked_lock,
    spawn_refuses_while_a_lock_is_held_if_get_robust_list_is_denied,
    deaths_are_reported_if_get_robust_list_is_denied,
    no_lock_is_placed_if_get_robust_list_was_always_denied,
    a_kill_at_any_instant_of_every_order_reports_every_held_lock: 360 kills of "mutexes in every order",
);

type Lock = SharedMutex<u64>;

fn locks<const N: usize>() -> Shared<[Lock; N]> {
    Shared::anonymous([const { SharedMutex::new(0) }; N]).unwrap()
}

/// Does what a program's C library may do on any thread at any time.
fn glibc_locks_and_unlocks(mutex: &PthreadMutex) {
    mutex.lock().unwrap();
    mutex.unlock();
}

fn theirs(protocol: Protocol) -> Shared<PthreadMutex> {
    let mutex = Shared::anonymous(PthreadMutex::new()).unwrap();
    mutex.init(protocol);
    mutex
}

/// Returns the nodes in the calling thread's robust list, the newest first.
pub fn own_list() -> Vec<usize> {
    let mut head = ptr::null::<usize>();
    let mut length = 0_usize;
    // SAFETY: get_robust_list(2) may write to both places; 0 is the calling thread.
    let answer =
        unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length) };
    assert_eq!(answer, 0, "{}", io::Error::last_os_error());
    let mut nodes = Vec::new();
    // SAFETY: the head of a robust list starts with a pointer to the first node, or to the head.
    let mut entry = unsafe { *head };
    while entry & !1 != head.addr() {
        assert!(
            nodes.len() < 100,
            "the list of thread {} has no end: {nodes:x?}",
            gettid()
        );
        nodes.push(entry & !1);
        // SAFETY: a list entry points to the next one; its lowest bit is a flag and not part of the
        // address. Only this thread changes its list.
        entry = unsafe { *ptr::with_exposed_provenance::<usize>(entry & !1) };
    }
    nodes
}

/// How a wait for a mutex that another thread holds fails. glibc then leaves `list_op_pending`
/// unchanged: it still names the mutex.
#[derive(Debug, Clone, Copy)]
enum Failure {
    TimedOut,
    /// The timeout is not a valid time.
    NoTime,
}

fn fails_to_get(mutex: &PthreadMutex, failure: Failure) {
    match failure {
        Failure::TimedOut => {
            assert_eq!(
                mutex.lock_timeout(Duration::from_millis(1)),
                Err(libc::ETIMEDOUT)
            );
        }
        Failure::NoTime => {
            let never = libc::timespec {
                tv_sec: 1,
                tv_nsec: -1,
            };
            let place = ptr::from_ref(mutex)
                .cast_mut()
                .cast::<libc::pthread_mutex_t>();
            // SAFETY: `place` is an initialized mutex, the only content of a `PthreadMutex`;
            // `never` is a timespec.
            let answer = unsafe { libc::pthread_mutex_timedlock(place, &never) };
            assert_ne!(answer, 0);
        }
    }
}

fn a_failed_wait_for_a_glibc_mutex_leaves_its_holders_list_intact() {
    for protocol in [Protocol::None, Protocol::Inherit] {
        for failure in [Failure::TimedOut, Failure::NoTime] {
            for ends_with_all in [false, true] {
                passes(&child(|| {
                    fails_while_a_holder_exists(protocol, failure, ends_with_all)
                }));
            }
        }
    }
}

fn fails_while_a_holder_exists(protocol: Protocol, failure: Failure, ends_with_all: bool) {
    let theirs = [theirs(protocol), theirs(protocol)];
    let held = locks::<2>();
    let free = locks::<2>();
    let step = Barrier::new(2);
    thread::scope(|scope| {
        let holder = scope.spawn(|| {
            theirs[0].lock().unwrap();
            let guards = held.each_ref().map(|lock| lock.lock().unwrap());
            theirs[1].lock().unwrap();
            let list = own_list();
            assert!(list.len() >= 3);
            step.wait();
            step.wait();
            assert_eq!(own_list(), list, "{protocol:?}, {failure:?}");
            if ends_with_all {
                return forget(guards);
            }
            theirs[1].unlock();
            drop(guards);
            theirs[0].unlock();
            assert!(own_list().is_empty());
        });
        step.wait();
        for mutex in &theirs {
            fails_to_get(mutex, failure);
            drop(free[0].lock().unwrap());
            fails_to_get(mutex, failure);
            let first = free[0].lock().unwrap();
            fails_to_get(mutex, failure);
            let second = free[1].lock().unwrap();
            fails_to_get(mutex, failure);
            drop(first);
            fails_to_get(mutex, failure);
            drop(second);
            fails_to_get(mutex, failure);
            drop((free[1].lock().unwrap(), free[0].lock().unwrap()));
            assert!(own_list().is_empty());
        }
        step.wait();
        holder.join().unwrap();
    });
    for mutex in &theirs {
        if ends_with_all {
            assert_eq!(
                mutex.try_lock(),
                Err(libc::EOWNERDEAD),
                "{protocol:?}, {failure:?}"
            );
            mutex.consistent();
        } else {
            mutex.try_lock().unwrap();
        }
        mutex.unlock();
    }
    for lock in held.iter() {
        // If glibc removed the lock from `list_op_pending`, only the liveness check finds it.
        let expected = if ends_with_all {
            Outcome::HolderThreadEnded
        } else {
            Outcome::Unpoisoned
        };
        assert_eq!(outcome_of(lock.lock()), expected);
    }
    for lock in free.iter() {
        assert_eq!(outcome_of(lock.lock()), Outcome::Unpoisoned);
    }
    if !ends_with_all {
        passes(&child(|| ()));
    }
}

/// A page of private memory with two mutexes of glibc in it.
struct Page(*mut libc::c_void);

const PAGE: usize = 4096;

impl Page {
    /// Maps the page at any unused address.
    fn new() -> Self {
        Self::at(ptr::null_mut(), 0)
    }

    /// Maps the page at an address where something else was unmapped.
    fn in_the_place_of(place: usize) -> Self {
        Self::at(
            ptr::with_exposed_provenance_mut(place),
            libc::MAP_FIXED_NOREPLACE,
        )
    }

    fn at(place: *mut libc::c_void, flags: i32) -> Self {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
        // SAFETY: requests new memory, and none that is in use.
        let page = unsafe { libc::mmap(place, PAGE, access, flags, -1, 0) };
        assert_ne!(page, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        let page = Page(page);
        page.mutexes()
            .iter()
            .for_each(|mutex| mutex.init(Protocol::None));
        page
    }

    fn mutexes(&self) -> &[PthreadMutex; 2] {
        // SAFETY: the page is large enough, aligned and mapped; zero bytes are mutexes that are not
        // initialized yet.
        unsafe { &*self.0.cast::<[PthreadMutex; 2]>() }
    }

    /// Unmaps the memory, or removes the right to access it.
    fn take_away(self, unmap: bool) {
        // SAFETY: this value owns the page, and it is no longer borrowed.
        let answer = unsafe {
            match unmap {
                true => libc::munmap(self.0, PAGE),
                false => libc::mprotect(self.0, PAGE, libc::PROT_NONE),
            }
        };
        assert_eq!(answer, 0, "{}", io::Error::last_os_error());
    }
}

/// Waits for the mutex in vain, while another thread holds it.
fn times_out(mutex: &PthreadMutex) {
    let step = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            mutex.lock().unwrap();
            step.wait();
            step.wait();
            mutex.unlock();
        });
        step.wait();
        fails_to_get(mutex, Failure::TimedOut);
        step.wait();
    });
}

fn a_failed_wait_for_a_glibc_mutex_that_is_then_unmapped_does_no_harm() {
    let ready = Shared::anonymous(SharedEvent::new()).unwrap();
    for unmap in [true, false] {
        for holds_one in [false, true] {
            let ours = locks::<3>();
            ready.reset();
            let dies = child(|| {
                let first = holds_one.then(|| ours[0].lock().unwrap());
                let page = Page::new();
                let [mutex, _] = page.mutexes();
                times_out(mutex);
                page.take_away(unmap);
                drop(ours[2].lock().unwrap());
                let first = first.unwrap_or_else(|| ours[0].lock().unwrap());
                let second = ours[1].lock().unwrap();
                drop(ours[2].lock().unwrap());
                forget((first, second));
                ready.set();
                loop {
                    thread::park();
                }
            });
            meet(&ready, &dies);
            kill(&dies);
            let all = ours.each_ref().map(|lock| outcome_of(lock.lock()));
            assert_eq!(
                all,
                [
                    Outcome::FreshDeath,
                    Outcome::FreshDeath,
                    Outcome::Unpoisoned
                ],
                "unmapped: {unmap}, held before: {holds_one}"
            );
        }
    }
}

fn a_glibc_mutex_where_another_thread_unmapped_a_lock_is_not_mistaken_for_it() {
    for nested in [false, true] {
        passes(&child(|| waits_in_the_place_of_a_lock(nested)));
    }
}

fn waits_in_the_place_of_a_lock(nested: bool) {
    let other = locks::<2>();
    let gone = locks::<2>();
    let place = ptr::from_ref(&gone[0]).addr();
    drop((gone[1].lock().unwrap(), gone[0].lock().unwrap()));
    // This thread stored this lock in `list_op_pending` last.
    drop(gone[0].lock().unwrap());
    in_a_thread(|| drop(gone));
    let page = Page::in_the_place_of(place);
    let mutexes = page.mutexes();
    let step = Barrier::new(2);
    thread::scope(|scope| {
        let holder = scope.spawn(|| {
            mutexes[1].lock().unwrap();
            mutexes[0].lock().unwrap();
            let list = own_list();
            step.wait();
            step.wait();
            assert_eq!(own_list(), list, "nested: {nested}");
            mutexes.iter().for_each(PthreadMutex::unlock);
            assert!(own_list().is_empty());
        });
        step.wait();
        fails_to_get(&mutexes[0], Failure::TimedOut);
        let guards = (
            other[0].lock().unwrap(),
            nested.then(|| other[1].lock().unwrap()),
        );
        fails_to_get(&mutexes[0], Failure::TimedOut);
        drop(guards);
        step.wait();
        holder.join().unwrap();
    });
    assert!(own_list().is_empty());
    for mutex in mutexes {
        mutex.try_lock().unwrap();
        mutex.unlock();
    }
}

fn a_glibc_mutex_where_another_thread_unmapped_a_lock_may_be_unmapped_too() {
    for unmap in [true, false] {
        for spawns in [true, false] {
            passes(&child(|| {
                waits_in_a_place_that_is_unmapped_too(unmap, spawns)
            }));
        }
    }
}

/// `list_op_pending` names memory that is unmapped or must not be accessed. The thread then locks,
/// or checks whether it holds a lock.
fn waits_in_a_place_that_is_unmapped_too(unmap: bool, spawns: bool) {
    let other = locks::<2>();
    let gone = locks::<2>();
    let place = ptr::from_ref(&gone[0]).addr();
    // This thread stored this lock in `list_op_pending` last.
    drop(gone[0].lock().unwrap());
    in_a_thread(|| drop(gone));
    let page = Page::in_the_place_of(place);
    let [mutex, _] = page.mutexes();
    times_out(mutex);
    page.take_away(unmap);
    if spawns {
        spawn_works();
    }
    let guards = other.each_ref().map(|lock| lock.lock().unwrap());
    spawn_refuses();
    drop(guards);
    assert!(own_list().is_empty());
    spawn_works();
}

/// Waits for an event that the child sets. Fails if the child ends without setting it.
#[track_caller]
fn meet(event: &SharedEvent, child: &Child) {
    while event.wait_timeout(Duration::from_millis(50)).is_err() {
        let ended = child.try_wait().expect("no status");
        assert!(
            ended.is_none() || event.is_set(),
            "child {}: {ended:?}",
            child.id()
        );
    }
}

#[track_caller]
pub fn has_no_children() {
    let any = waitpid(None, Some(WaitPidFlag::WNOHANG));
    assert_eq!(any, Err(Errno::ECHILD));
}

#[track_caller]
pub fn spawn_refuses() {
    match forks::spawn(|| ()) {
        Err(forks::Error::LockHeld) => {}
        other => panic!("not refused: {other:?}"),
    }
    has_no_children();
}

#[track_caller]
pub fn spawn_works() {
    passes(&child(|| ()));
}

fn spawn_refuses_while_a_lock_is_held_that_glibc_removed_from_list_op_pending() {
    let other_thread_holds = theirs(Protocol::None);
    let mutexes = [theirs(Protocol::None), theirs(Protocol::Inherit)];
    let ours = locks::<2>();
    for mutex in &mutexes {
        for nested in [false, true] {
            let guard = ours[0].lock().unwrap();
            let second = nested.then(|| ours[1].lock().unwrap());
            spawn_refuses();
            glibc_locks_and_unlocks(mutex);
            spawn_refuses();
            drop(guard);
            if nested {
                spawn_refuses();
                glibc_locks_and_unlocks(mutex);
                spawn_refuses();
            }
            drop(second);
            spawn_works();
        }
    }
    // The same if glibc stored its own mutex in the field, and its wait failed.
    let step = Barrier::new(2);
    let guard = thread::scope(|scope| {
        scope.spawn(|| {
            other_thread_holds.lock().unwrap();
            step.wait();
            step.wait();
            other_thread_holds.unlock();
        });
        step.wait();
        let guard = ours[0].lock().unwrap();
        fails_to_get(&other_thread_holds, Failure::TimedOut);
        step.wait();
        guard
    });
    spawn_refuses();
    drop(guard);
    spawn_works();
}

/// Runs `hold` in a thread and waits until the thread has ended.
fn in_a_thread(hold: impl FnOnce() + Send) {
    thread::scope(|scope| scope.spawn(hold).join().unwrap());
}

/// Runs `hold` in a thread that ends. In its process nothing is placed except what `hold` uses.
fn refuses_after(hold: impl FnOnce() + Send) {
    passes(&child(|| {
        spawn_works();
        in_a_thread(hold);
        spawn_refuses();
        // The refusal continues after this thread has used other locks.
        let other = locks::<1>();
        drop(other[0].lock().unwrap());
        spawn_refuses();
    }));
}

fn spawn_refuses_after_an_ended_thread_leaked_a_guard() {
    refuses_after(|| {
        let lock = locks::<1>().leak();
        Box::leak(Box::new(lock[0].lock().unwrap()));
    });
    refuses_after(|| {
        let lock = Shared::memfd("lock", Lock::new(0)).unwrap().leak();
        forget(lock.lock().unwrap());
    });
    refuses_after(|| {
        let slice = Shared::<[Lock]>::anonymous_from_fn(300, |_| Lock::new(0)).unwrap();
        forget(slice.leak()[299].try_lock().unwrap());
    });
    refuses_after(|| {
        let (_directory, path) = crate::files::place();
        // The lock is acquired through the second of two maps of one file.
        let first = crate::support::create(&path, Lock::new(0)).leak();
        let second = crate::support::open::<Lock>(&path).leak();
        forget(second.lock_timeout(Duration::from_secs(60)).unwrap());
        assert_eq!(outcome_of(first.try_lock()), Outcome::WouldBlock);
    });
    // The error that reports a death may be leaked, too.
    let ours = locks::<1>();
    passes(&child(|| forget(ours[0].lock().unwrap())));
    refuses_after(|| {
        let Err(LockError::Poisoned(poisoned)) = ours[0].lock() else {
            panic!("not poisoned")
        };
        forget(poisoned);
    });
    // No thread of this process leaked anything.
    spawn_works();
    // After its memory is unmapped, a leaked lock has no effect.
    let gone = locks::<1>();
    in_a_thread(|| forget(gone[0].lock().unwrap()));
    spawn_refuses();
    drop(gone);
    spawn_works();
}

fn spawn_refuses_after_an_ended_thread_leaked_a_guard_of_an_unmarked_lock() {
    refuses_after(|| {
        forget(locks::<1>().leak()[0].lock().unwrap());
        // glibc clears `list_op_pending`, where the kernel would have found the lock.
        glibc_locks_and_unlocks(&theirs(Protocol::None));
    });
    refuses_after(|| {
        forget(locks::<1>().leak()[0].lock().unwrap());
        // SAFETY: the call takes a head, here null, and its length.
        unsafe { libc::syscall(libc::SYS_set_robust_list, 0, 24) };
    });
}

/// Runs `body` in a process that may not ask the kernel for its robust list, as in some containers.
fn with_get_robust_list_denied(body: impl FnOnce()) -> Child {
    needs_filters();
    child(|| {
        deny(libc::SYS_get_robust_list).unwrap();
        body();
    })
}

fn spawn_refuses_while_a_lock_is_held_if_get_robust_list_is_denied() {
    let ours = locks::<2>();
    let mutex = theirs(Protocol::None);
    passes(&with_get_robust_list_denied(|| {
        let first = ours[0].lock().unwrap();
        spawn_refuses();
        let second = ours[1].lock().unwrap();
        drop(first);
        spawn_refuses();
        glibc_locks_and_unlocks(&mutex);
        spawn_refuses();
        drop(second);
        // musl's mutexes are in a list of musl, for which the kernel would have to be asked.
        if cfg!(target_env = "gnu") {
            mutex.lock().unwrap();
            spawn_refuses();
            mutex.unlock();
        }
        passes(&child(|| {
            let _guard = ours[0].lock().unwrap();
            spawn_refuses();
        }));
        in_a_thread(|| forget(ours[1].lock().unwrap()));
        spawn_refuses();
    }));
    assert_eq!(outcome_of(ours[0].lock()), Outcome::Unpoisoned);
    assert_eq!(outcome_of(ours[1].lock()), Outcome::FreshDeath);
}

fn deaths_are_reported_if_get_robust_list_is_denied() {
    let ours = locks::<3>();
    let ready = Shared::anonymous(SharedEvent::new()).unwrap();
    for in_another_thread in [false, true] {
        ready.reset();
        let dies = with_get_robust_list_denied(|| {
            let holds = || {
                let guards = ours.each_ref().map(|lock| repaired(lock.lock(), 0));
                let [_first, second, _third] = guards;
                drop(second);
                ready.set();
                loop {
                    thread::park();
                }
            };
            if in_another_thread {
                in_a_thread(holds);
            } else {
                holds();
            }
        });
        meet(&ready, &dies);
        kill(&dies);
        let all = ours.each_ref().map(|lock| outcome_of(lock.lock()));
        assert_eq!(
            all,
            [
                Outcome::FreshDeath,
                Outcome::Unpoisoned,
                Outcome::FreshDeath
            ],
            "{in_another_thread}"
        );
        ours.iter().for_each(|lock| drop(repaired(lock.lock(), 0)));
    }
}

fn no_lock_is_placed_if_get_robust_list_was_always_denied() {
    const DENIED: i32 = 7;
    // Forks by the bare call: `fork::spawn` would ask for the list, and the child would inherit the
    // answer.
    // SAFETY: the process has one thread.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let body = || {
                if deny(libc::SYS_get_robust_list).is_err() {
                    return DENIED;
                }
                let refusal = Shared::anonymous(Lock::new(0)).unwrap_err();
                assert!(
                    matches!(refusal, Error::RobustListUnusable { .. }),
                    "{refusal:?}"
                );
                assert!(refusal.to_string().contains("get_robust_list"), "{refusal}");
                // A value that needs no list can be placed.
                drop(Shared::anonymous(SharedCounter::new(0)).unwrap());
                0
            };
            let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(101);
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => child,
    };
    match waitpid(child, None).unwrap() {
        WaitStatus::Exited(_, DENIED) => skip("seccomp filters are not permitted here"),
        status => assert_eq!(status, WaitStatus::Exited(child, 0)),
    }
}

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    ours: [Lock; 3],
    theirs: PthreadMutex,
    /// The position of the victim with each lock.
    place: [AtomicU32; 3],
    steps: SharedCounter,
}

const OUTSIDE: u32 = 0;
const LOCKING: u32 = 1;
const INSIDE: u32 = 2;
const LEAVING: u32 = 3;

const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

impl State {
    /// Acquires all locks in one order and releases them in another, again and again. Before each
    /// of the six steps whose bit is set in `glibc`, glibc uses the list and `list_op_pending` for
    /// a mutex of its own.
    fn victim(&self, taken: [usize; 3], given: [usize; 3], glibc: u32) {
        let mut guards = [const { None }; 3];
        let at = |lock: usize, place| self.place[lock].store(place, SeqCst);
        loop {
            for step in 0..6 {
                if glibc & 1 << step != 0 {
                    glibc_locks_and_unlocks(&self.theirs);
                }
                if let Some(&lock) = taken.get(step) {
                    at(lock, LOCKING);
                    guards[lock] = Some(self.ours[lock].lock().expect("whole and free"));
                    at(lock, INSIDE);
                } else {
                    let lock = given[step - taken.len()];
                    at(lock, LEAVING);
                    guards[lock] = None;
                    at(lock, OUTSIDE);
                }
                self.steps.add(1);
            }
        }
    }

    /// Checks that what the death left is reported once and correctly, and repairs it.
    fn check_reports(&self, what: &str) {
        for (number, lock) in self.ours.iter().enumerate() {
            let first = outcome_of(lock.lock_timeout(Duration::from_secs(60)));
            let place = self.place[number].load(SeqCst);
            let right = match place {
                OUTSIDE => first == Outcome::Unpoisoned,
                INSIDE => first == Outcome::FreshDeath,
                _ => matches!(first, Outcome::Unpoisoned | Outcome::FreshDeath),
            };
            assert!(right, "{what}, lock {number}, place {place}: {first:?}");
            let second = outcome_of(lock.lock());
            let expected = if first == Outcome::FreshDeath {
                Outcome::OldDeath
            } else {
                Outcome::Unpoisoned
            };
            assert_eq!(second, expected, "{what}, lock {number}");
            drop(repaired(lock.lock(), 0));
            assert_eq!(
                outcome_of(lock.lock()),
                Outcome::Unpoisoned,
                "{what}, lock {number}"
            );
            self.place[number].store(OUTSIDE, SeqCst);
        }
        match self.theirs.try_lock() {
            Ok(()) => {}
            Err(libc::EOWNERDEAD) => self.theirs.consistent(),
            Err(error) => panic!("{what}: {}", io::Error::from_raw_os_error(error)),
        }
        self.theirs.unlock();
        assert!(own_list().is_empty(), "{what}");
    }
}

fn a_kill_at_any_instant_of_every_order_reports_every_held_lock(run: &Kills<'_>) {
    let mut random = Rng::with_seed(run.seed());
    let state = Shared::anonymous(State {
        ours: [const { SharedMutex::new(0) }; 3],
        theirs: PthreadMutex::new(),
        place: Default::default(),
        steps: SharedCounter::new(0),
    })
    .unwrap();
    state.theirs.init(Protocol::None);
    let mut deaths = [0_u64; 4];
    let orders = ORDERS.map(|taken| ORDERS.map(|given| (taken, given)));
    for &(taken, given) in orders.iter().flatten().cycle() {
        if !run.go_on() {
            break;
        }
        let glibc = match run.made() / 36 % 3 {
            // musl would register its own list: see `src/sys/robust_list/musl.rs`.
            _ if cfg!(target_env = "musl") => 0,
            0 => 0,
            1 => random.u32(1..64),
            _ => 1 << random.u32(..6),
        };
        state.steps.reset();
        let victim = child(|| state.victim(taken, given, glibc));
        let steps = random.u64(1..40);
        until(|| state.steps.get() >= steps);
        for _ in 0..random.u32(..2_000) {
            std::hint::spin_loop();
        }
        run.kill(&victim);
        for place in &state.place {
            deaths[place.load(SeqCst) as usize] += 1;
        }
        run.add(state.steps.get(), 0);
        state.check_reports(&format!(
            "taken {taken:?}, given {given:?}, glibc {glibc:06b}"
        ));
    }
    let [outside, locking, inside, leaving] = deaths;
    println!("{outside} outside, {locking} locking, {inside} inside, {leaving} leaving");
    assert!(inside >= run.goal() / 4, "too few deaths inside");
    // All locks can be used as before.
    passes(&child(|| {
        for order in ORDERS {
            let mut guards = order.map(|lock| Some(state.ours[lock].lock().unwrap()));
            for lock in order {
                guards[lock] = None;
            }
        }
    }));
}
