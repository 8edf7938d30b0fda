//! Mutual exclusion: a plain integer counts exactly, and no two threads are ever inside together.

use crate::support::{child, passes};
use pshared::{LockError, Shared, SharedCounter, SharedEvent, SharedMutex, ShmSafe};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

crate::tests!(
    processes_and_threads_count_exactly_in_anonymous_memory,
    processes_and_threads_count_exactly_in_dev_zero,
    unrelated_processes_count_exactly_in_a_file_that_each_opens,
    unrelated_processes_count_exactly_in_a_memfd_that_each_maps,
    critical_sections_of_many_locks_do_not_mix,
    waiters_that_time_out_and_others_count_exactly,
);

/// Threads of each process.
const THREADS: u32 = 3;
/// Critical sections of all threads together, in each run.
const SECTIONS: u32 = 150_000;

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    count: SharedMutex<u64>,
    /// The number of the thread inside, or 0.
    inside: AtomicU32,
    /// How often two threads were inside at once.
    together: SharedCounter,
    start: SharedEvent,
}

impl State {
    fn new() -> Self {
        State {
            count: SharedMutex::new(0),
            inside: AtomicU32::new(0),
            together: SharedCounter::new(0),
            start: SharedEvent::new(),
        }
    }

    /// Runs one critical section of the thread `own`, which is not 0.
    fn section(&self, own: u32, turn: u32) {
        let mut count = match turn % 16 {
            0 => loop {
                match self.count.try_lock() {
                    Ok(guard) => break guard,
                    Err(LockError::WouldBlock) => std::thread::yield_now(),
                    Err(other) => panic!("{other:?}"),
                }
            },
            8 => self
                .count
                .lock_timeout(Duration::from_secs(600))
                .expect("lock_timeout"),
            _ => self.count.lock().expect("lock"),
        };
        let before = self.inside.swap(own, Relaxed);
        *count += 1;
        let after = self.inside.swap(0, Relaxed);
        if before != 0 || after != own {
            self.together.add(1);
        }
    }

    /// Runs `THREADS` threads, including the calling one, as each process does.
    fn process(&self, process: u32, sections: u32) {
        let work = |thread| {
            self.start.wait();
            (0..sections).for_each(|turn| self.section(process * THREADS + thread + 1, turn));
        };
        std::thread::scope(|scope| {
            for thread in 1..THREADS {
                scope.spawn(move || work(thread));
            }
            work(0);
        });
    }

    fn check(&self, expected: u64) {
        assert_eq!(self.together.get(), 0, "two threads were inside at once");
        assert_eq!(*self.count.lock().unwrap(), expected);
    }
}

/// Runs 2 to 8 processes on `state`. `open` returns a child's own access to them.
fn count<'a, B: std::ops::Deref<Target = State>>(state: &State, open: impl Fn() -> B + 'a) {
    let mut expected = 0;
    for processes in 2..=8 {
        let sections = SECTIONS / processes / THREADS;
        state.start.reset();
        let children: Vec<_> = (0..processes)
            .map(|process| child(|| open().process(process, sections)))
            .collect();
        state.start.set();
        children.iter().for_each(passes);
        expected += u64::from(processes * THREADS * sections);
        state.check(expected);
    }
}

fn processes_and_threads_count_exactly_in_anonymous_memory() {
    let state = Shared::anonymous(State::new()).unwrap();
    count(&state, || &*state);
}

fn processes_and_threads_count_exactly_in_dev_zero() {
    let state = Shared::dev_zero(State::new()).unwrap();
    count(&state, || &*state);
}

fn unrelated_processes_count_exactly_in_a_file_that_each_opens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books");
    // SAFETY: only this test knows the file.
    let state = unsafe { Shared::create(&path, State::new()) }.unwrap();
    // SAFETY: as above.
    count(&state, || unsafe { Shared::open(&path) }.unwrap());
}

fn unrelated_processes_count_exactly_in_a_memfd_that_each_maps() {
    let state = Shared::memfd("books", State::new()).unwrap();
    count(&state, || {
        // SAFETY: only this crate uses the memory, and no thread closes the descriptors meanwhile.
        let descriptor = unsafe { state.as_fd() }
            .unwrap()
            .try_clone_to_owned()
            .unwrap();
        // SAFETY: as above.
        unsafe { Shared::<State>::from_fd(descriptor) }.unwrap()
    });
}

/// Transfers amounts between accounts, with both accounts locked: the sum stays the same.
fn critical_sections_of_many_locks_do_not_mix() {
    const ACCOUNTS: usize = 8;
    const TRANSFERS: usize = 10_000;
    let accounts =
        Shared::<[SharedMutex<i64>]>::anonymous_from_fn(ACCOUNTS, |_| SharedMutex::new(100))
            .unwrap();
    let children: Vec<_> = (0..4)
        .map(|seed| {
            let accounts = &accounts;
            child(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..TRANSFERS {
                    let (one, other) = (random.usize(..ACCOUNTS), random.usize(..ACCOUNTS));
                    if one == other {
                        continue;
                    }
                    let mut low = accounts[one.min(other)].lock().unwrap();
                    let mut high = accounts[one.max(other)].lock().unwrap();
                    let amount = random.i64(-5..=5);
                    *low -= amount;
                    *high += amount;
                    // The guards are dropped in either order.
                    if random.bool() {
                        drop(low);
                    } else {
                        drop(high);
                    }
                }
            })
        })
        .collect();
    children.iter().for_each(passes);
    let sum: i64 = accounts
        .iter()
        .map(|account| *account.lock().unwrap())
        .sum();
    assert_eq!(sum, 100 * ACCOUNTS as i64);
}

fn waiters_that_time_out_and_others_count_exactly() {
    let state = Shared::anonymous(State::new()).unwrap();
    let done = Shared::anonymous(SharedCounter::new(0)).unwrap();
    let children: Vec<_> = (0..6_u32)
        .map(|process| {
            let (state, done) = (&state, &done);
            child(move || {
                let mut random = fastrand::Rng::with_seed(process.into());
                for _ in 0..5_000 {
                    let timeout = Duration::from_nanos(random.u64(..100_000));
                    let mut count = match state.count.lock_timeout(timeout) {
                        Ok(guard) => guard,
                        Err(LockError::TimedOut | LockError::HolderDumpsCore) => continue,
                        Err(other) => panic!("{other:?}"),
                    };
                    assert_eq!(state.inside.swap(process + 1, Relaxed), 0);
                    *count += 1;
                    done.add(1);
                    assert_eq!(state.inside.swap(0, Relaxed), process + 1);
                }
            })
        })
        .collect();
    children.iter().for_each(passes);
    state.check(done.get());
}
