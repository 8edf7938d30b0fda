//! Checks what the guide on choosing says about all locks, in maps and elsewhere: each lock
//! excludes, and the table states what the next locker sees after a holder was killed.

use crate::support::{child, kill, passes, until};
use pshared::raw::{Futex, PosixSem, Pthread, RawLock, Robust, Spin, Ticket};
#[cfg(target_env = "gnu")]
use pshared::raw::{PthreadPi, PthreadRobust};
use pshared::{
    Cause, FileLock, LockError, LockResult, Shared, SharedEvent, SharedMutex, SharedMutexGuard,
    SysvSemaphore, fork,
};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

crate::tests!(every_lock_excludes, the_guides_table_is_up_to_date);

/// Long enough to conclude that a blocked process stays blocked: more than one second, the longest
/// recheck interval.
const LONG_ENOUGH: Duration = Duration::from_millis(1_500);

/// What the next locker sees after a holder is killed by SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterDeath {
    /// It acquires the lock and receives an error.
    Reported,
    /// It acquires the lock and receives no error.
    NotReported,
    /// It does not acquire the lock.
    Blocked,
}

impl AfterDeath {
    fn in_words(self) -> &'static str {
        match self {
            AfterDeath::Reported => "acquires the lock and receives an error",
            AfterDeath::NotReported => "acquires the lock without an error",
            AfterDeath::Blocked => "waits forever",
        }
    }
}

fn after_a_death<R: RawLock>(outcome: LockResult<SharedMutexGuard<'_, u64, R>>) -> AfterDeath {
    match outcome {
        Ok(_) => AfterDeath::NotReported,
        Err(LockError::Poisoned(poisoned)) => {
            assert_eq!(poisoned.cause(), Cause::Died);
            AfterDeath::Reported
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// A lock of any kind: a strategy or a handle.
trait AnyLock {
    fn new() -> Self;

    /// Runs `body` in a critical section, in any process.
    fn hold(&self, body: impl FnOnce()) -> AfterDeath;
}

impl<R: RawLock> AnyLock for Shared<SharedMutex<u64, R>> {
    fn new() -> Self {
        Shared::anonymous(SharedMutex::with_strategy(0)).expect("no map")
    }

    fn hold(&self, body: impl FnOnce()) -> AfterDeath {
        let outcome = self.lock();
        body();
        after_a_death(outcome)
    }
}

/// A file lock that each process opens for itself.
struct Files<const OFD: bool>(tempfile::TempDir);

impl<const OFD: bool> AnyLock for Files<OFD> {
    fn new() -> Self {
        Files(tempfile::tempdir().expect("no directory"))
    }

    fn hold(&self, body: impl FnOnce()) -> AfterDeath {
        let path = self.0.path().join("lock");
        let opened = if OFD {
            FileLock::ofd(path)
        } else {
            FileLock::flock(path)
        };
        let mut lock = opened.expect("no file");
        let _guard = lock.lock().expect("not locked");
        body();
        AfterDeath::NotReported
    }
}

impl AnyLock for SysvSemaphore {
    fn new() -> Self {
        SysvSemaphore::private(1).expect("no semaphore")
    }

    fn hold(&self, body: impl FnOnce()) -> AfterDeath {
        let _permit = self.acquire().expect("no permit");
        body();
        AfterDeath::NotReported
    }
}

/// Runs processes that increment a number by a load and a store under the lock.
fn exclude<L: AnyLock>() {
    const PROCESSES: u64 = 4;
    const SECTIONS: u64 = 3_000;
    let lock = L::new();
    let number = Shared::anonymous(AtomicU64::new(0)).unwrap();
    let start = Shared::anonymous(SharedEvent::new()).unwrap();
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| {
            child(|| {
                start.wait();
                for _ in 0..SECTIONS {
                    lock.hold(|| {
                        let before = number.load(Relaxed);
                        std::hint::black_box(&before);
                        number.store(before + 1, Relaxed);
                    });
                }
            })
        })
        .collect();
    start.set();
    children.iter().for_each(passes);
    assert_eq!(number.load(Relaxed), PROCESSES * SECTIONS);
}

fn every_lock_excludes() {
    exclude::<Shared<SharedMutex<u64, Robust>>>();
    #[cfg(target_env = "gnu")]
    exclude::<Shared<SharedMutex<u64, PthreadRobust>>>();
    #[cfg(target_env = "gnu")]
    exclude::<Shared<SharedMutex<u64, PthreadPi>>>();
    exclude::<Shared<SharedMutex<u64, Futex>>>();
    exclude::<Shared<SharedMutex<u64, Pthread>>>();
    exclude::<Shared<SharedMutex<u64, PosixSem>>>();
    exclude::<Shared<SharedMutex<u64, Spin>>>();
    exclude::<Shared<SharedMutex<u64, Ticket>>>();
    exclude::<Files<false>>();
    exclude::<Files<true>>();
    exclude::<SysvSemaphore>();
}

/// Starts a child that holds the lock until it is killed.
fn holder<L: AnyLock>(lock: &L) -> fork::Child {
    let ready = Shared::anonymous(SharedEvent::new()).unwrap();
    let holder = child(|| {
        lock.hold(|| {
            ready.set();
            loop {
                std::thread::park();
            }
        });
    });
    ready.wait();
    holder
}

/// A child that tries to acquire the lock, and what it sees.
struct Locker {
    child: fork::Child,
    result: Shared<AtomicU32>,
}

impl Locker {
    fn start<L: AnyLock>(lock: &L) -> Self {
        let result = Shared::anonymous(AtomicU32::new(0)).unwrap();
        let started = Shared::anonymous(SharedEvent::new()).unwrap();
        let child = child(|| {
            started.set();
            result.store(lock.hold(|| ()) as u32 + 1, Relaxed);
        });
        started.wait();
        Locker { child, result }
    }

    /// Returns what the child has seen after more than enough time. A child that has seen nothing
    /// after that time is killed.
    fn end(self) -> AfterDeath {
        if self.child.wait_timeout(LONG_ENOUGH).unwrap().is_none() {
            kill(&self.child);
            return AfterDeath::Blocked;
        }
        passes(&self.child);
        match self.result.load(Relaxed) {
            1 => AfterDeath::Reported,
            2 => AfterDeath::NotReported,
            other => panic!("{other}"),
        }
    }
}

/// The holder is killed, and then another process locks.
fn locks_later<L: AnyLock>() -> AfterDeath {
    let lock = L::new();
    kill(&holder(&lock));
    Locker::start(&lock).end()
}

/// The holder is killed while another process waits. The waiter sleeps, unless the lock only spins.
fn waits<L: AnyLock>(asleep: bool) -> AfterDeath {
    let lock = L::new();
    let holder = holder(&lock);
    let waiter = Locker::start(&lock);
    let state = if asleep { 'S' } else { 'R' };
    until(|| crate::support::state(waiter.child.id()) == Some(state));
    kill(&holder);
    waiter.end()
}

/// Runs all cases and returns the rows of the guide's table.
fn table() -> String {
    let mut rows = String::from(
        "| lock | a locker that comes after the holder was killed | a waiter when the holder is killed |\n|---|---|---|\n",
    );
    macro_rules! row {
        ($lock:ty, $name:literal, $link:literal, $asleep:literal) => {
            rows += &format!(
                "| [`{}`]({}) | {} | {} |\n",
                $name,
                $link,
                locks_later::<$lock>().in_words(),
                waits::<$lock>($asleep).in_words(),
            );
        };
    }
    macro_rules! strategy {
        ($name:ident, $asleep:literal) => {
            rows += &format!(
                "| [`{0}`](crate::raw::{0}) | {1} | {2} |\n",
                stringify!($name),
                locks_later::<Shared<SharedMutex<u64, $name>>>().in_words(),
                waits::<Shared<SharedMutex<u64, $name>>>($asleep).in_words(),
            );
        };
    }
    strategy!(Robust, true);
    #[cfg(target_env = "gnu")]
    strategy!(PthreadRobust, true);
    #[cfg(target_env = "gnu")]
    strategy!(PthreadPi, true);
    row!(
        Files<false>,
        "FileLock::flock",
        "crate::FileLock::flock",
        true
    );
    row!(Files<true>, "FileLock::ofd", "crate::FileLock::ofd", true);
    row!(SysvSemaphore, "SysvSemaphore", "crate::SysvSemaphore", true);
    strategy!(Futex, true);
    strategy!(Pthread, true);
    strategy!(PosixSem, true);
    strategy!(Spin, false);
    strategy!(Ticket, false);
    rows
}

/// Compares the table with the guide. With `PSHARED_WRITE_GUIDE=1` it writes the table into the
/// guide instead.
fn the_guides_table_is_up_to_date() {
    const FIRST: &str = "<!-- made by tests/fork/choosing.rs -->\n";
    const LAST: &str = "<!-- made until here -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/choosing.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let (before, rest) = guide.split_once(FIRST).expect("no start mark in guide");
    let (current, after) = rest.split_once(LAST).expect("no end mark");
    // musl has no strategies of robust pthread mutexes.
    let is_here = |row: &&str| cfg!(target_env = "gnu") || !row.contains("`Pthread");
    let is_plain = |row: &&str| row.contains("`Pthread`");
    let current: String = (current.split_inclusive('\n'))
        .filter(|row| is_here(row) || is_plain(row))
        .collect();
    let measured = table();
    if std::env::var_os("PSHARED_WRITE_GUIDE").is_some() {
        std::fs::write(path, format!("{before}{FIRST}{measured}{LAST}{after}")).unwrap();
    } else {
        assert_eq!(
            current, measured,
            "run with PSHARED_WRITE_GUIDE=1 and check the difference"
        );
    }
}
