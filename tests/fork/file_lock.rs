//! File locks between processes: opened by each, inherited, interrupted, killed.

use crate::steps::{Interruptions, Signal, sleeps_in, until_idly};
use crate::support::{child, kill, kill_unreaped, passes, sleeps};
use nix::sys::signal::{SIGKILL, kill as signal};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use pshared::fork::{self, Child};
use pshared::{Error, FileLock, FileLockGuard, Shared, SharedEvent};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tempfile::TempDir;

crate::tests!(
    processes_that_each_open_the_file_count_exactly,
    a_sleeping_waiter_gets_the_lock_of_a_killed_holder,
    a_zombie_holds_no_lock,
    a_killed_waiter_keeps_no_lock,
    an_inherited_handle_is_refused_and_locks_nothing,
    a_handle_that_is_dropped_in_the_child_unlocks_nothing,
    a_guard_that_is_dropped_in_the_child_keeps_the_parents_lock,
    a_guard_dropped_by_the_parent_releases_the_lock_although_a_child_has_a_copy,
    a_child_that_inherited_a_handle_keeps_a_dead_parents_lock_held,
    an_exec_closes_what_a_child_inherited,
    signals_end_no_wait,
    processes_that_race_open_one_file,
    a_waiter_for_a_removed_file_waits_for_its_successor,
    processes_that_remove_the_file_while_they_hold_it_count_exactly,
    a_new_file_is_private_under_every_umask,
    a_file_can_be_created_in_the_working_directory,
);

/// How a file is opened, and the system call in which a waiter sleeps.
type Kind = (fn(&Path) -> Result<FileLock, Error>, libc::c_long);

const KINDS: [Kind; 2] = [
    (|path| FileLock::flock(path), libc::SYS_flock),
    (|path| FileLock::ofd(path), libc::SYS_fcntl),
];

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    (directory, path)
}

fn is_held((open, _): Kind, path: &Path) -> bool {
    match open(path).unwrap().try_lock() {
        Ok(_) => false,
        Err(Error::WouldBlock) => true,
        Err(other) => panic!("{other:?}"),
    }
}

/// Starts a child that holds the lock until it is killed.
fn holder((open, _): Kind, path: &Path) -> Child {
    let ready = Signal::new();
    let holder = child(|| {
        let mut lock = open(path).unwrap();
        let _guard = lock.lock().unwrap();
        ready.give();
        loop {
            nix::unistd::pause();
        }
    });
    ready.wait();
    holder
}

/// Starts a child that waits for the lock, and returns when it sleeps.
fn waiter((open, call): Kind, path: &Path) -> Child {
    let waiter = child(|| drop(open(path).unwrap().lock().unwrap()));
    until_idly(|| sleeps_in(waiter.id(), call));
    waiter
}

fn processes_that_each_open_the_file_count_exactly() {
    for (open, _) in KINDS {
        let (_directory, path) = place();
        // Each increment is a separate read and write.
        let count = Shared::anonymous(AtomicU64::new(0)).unwrap();
        let work = |process: u64| {
            let mut lock = open(&path).unwrap();
            for turn in 0..2_000 {
                let guard = if (process + turn).is_multiple_of(4) {
                    loop {
                        match lock.try_lock() {
                            Ok(guard) => break guard,
                            Err(Error::WouldBlock) => std::thread::yield_now(),
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                } else {
                    lock.lock().unwrap()
                };
                let before = count.load(Relaxed);
                if turn % 64 == 0 {
                    std::thread::yield_now();
                }
                count.store(before + 1, Relaxed);
                drop(guard);
            }
        };
        let children: Vec<_> = (0..6).map(|process| child(move || work(process))).collect();
        children.iter().for_each(passes);
        assert_eq!(count.load(Relaxed), 12_000);
    }
}

fn a_sleeping_waiter_gets_the_lock_of_a_killed_holder() {
    for kind in KINDS {
        let (_directory, path) = place();
        for _ in 0..10 {
            let holder = holder(kind, &path);
            let waiters = [waiter(kind, &path), waiter(kind, &path)];
            kill(&holder);
            waiters.iter().for_each(passes);
            assert!(!is_held(kind, &path));
        }
    }
}

fn a_zombie_holds_no_lock() {
    for kind in KINDS {
        let (_directory, path) = place();
        let holder = holder(kind, &path);
        assert!(is_held(kind, &path));
        kill_unreaped(&holder);
        assert!(!is_held(kind, &path));
    }
}

fn a_killed_waiter_keeps_no_lock() {
    for kind in KINDS {
        let (_directory, path) = place();
        let holder = holder(kind, &path);
        let waiters: Vec<_> = (0..4).map(|_| waiter(kind, &path)).collect();
        waiters[..3].iter().for_each(kill);
        kill(&holder);
        passes(&waiters[3]);
        assert!(!is_held(kind, &path));
    }
}

#[track_caller]
fn is_refused(outcome: Result<FileLockGuard<'_>, Error>, expected: &Path) {
    let error = outcome.unwrap_err();
    let message = error.to_string();
    assert!(
        matches!(&error, Error::InheritedFileLock { path } if path == expected),
        "{error:?}"
    );
    assert!(
        message.contains("Open it in each process, after the fork"),
        "{message}"
    );
}

fn an_inherited_handle_is_refused_and_locks_nothing() {
    for kind in KINDS {
        let (_directory, path) = place();
        let lock = Cell::new(Some((kind.0)(&path).unwrap()));
        let in_a_child = |is_held_then: bool| {
            let mut lock = lock.take().unwrap();
            // Without the check these calls would succeed, even if the parent held the lock: parent
            // and child share the open file description.
            is_refused(lock.lock(), &path);
            is_refused(lock.try_lock(), &path);
            assert_eq!(is_held(kind, &path), is_held_then);
            // A grandchild is refused too, on its first call.
            passes(&child(|| is_refused(lock.lock(), &path)));
            // A thread that has not used this crate before is refused too.
            std::thread::scope(|scope| {
                let other = scope.spawn(|| is_refused(lock.lock(), &path));
                other.join().unwrap();
            });
        };
        passes(&child(|| in_a_child(false)));
        // The parent's handle is still usable.
        let mut ours = lock.take().unwrap();
        let guard = ours.lock().unwrap();
        assert!(is_held(kind, &path));
        drop(guard);
        lock.set(Some(ours));
        let other = holder(kind, &path);
        passes(&child(|| in_a_child(true)));
        kill(&other);
    }
}

fn a_handle_that_is_dropped_in_the_child_unlocks_nothing() {
    for kind in KINDS {
        let (_directory, path) = place();
        let lock = Cell::new(Some((kind.0)(&path).unwrap()));
        let mut held = lock.take().unwrap();
        std::mem::forget(held.lock().unwrap());
        lock.set(Some(held));
        passes(&child(|| drop(lock.take())));
        assert!(is_held(kind, &path));
        drop(lock.take());
        assert!(!is_held(kind, &path));
    }
}

fn a_guard_that_is_dropped_in_the_child_keeps_the_parents_lock() {
    for kind in KINDS {
        let (_directory, path) = place();
        let mut lock = (kind.0)(&path).unwrap();
        let guard = Cell::new(Some(lock.lock().unwrap()));
        passes(&child(|| {
            drop(guard.take());
            assert!(is_held(kind, &path));
        }));
        assert!(is_held(kind, &path));
        // The same holds in a thread that has not used this crate before.
        passes(&child(|| {
            let guard = guard.take();
            let other = std::thread::spawn(|| {});
            other.join().unwrap();
            std::thread::scope(|scope| scope.spawn(move || drop(guard)).join().unwrap());
        }));
        assert!(is_held(kind, &path));
        drop(guard.take());
        assert!(!is_held(kind, &path));
    }
}

fn a_guard_dropped_by_the_parent_releases_the_lock_although_a_child_has_a_copy() {
    for kind in KINDS {
        let (_directory, path) = place();
        let mut lock = (kind.0)(&path).unwrap();
        let guard = lock.lock().unwrap();
        let heir = child(|| {
            loop {
                nix::unistd::pause();
            }
        });
        let waiter = waiter(kind, &path);
        drop(guard);
        passes(&waiter);
        kill(&heir);
    }
}

fn a_child_that_inherited_a_handle_keeps_a_dead_parents_lock_held() {
    for kind in KINDS {
        let (_directory, path) = place();
        let (ready, heir) = (Signal::new(), Shared::anonymous(AtomicU32::new(0)).unwrap());
        let holder = child(|| {
            let mut lock = (kind.0)(&path).unwrap();
            let _guard = lock.lock().unwrap();
            // This child must outlive its parent. `child` would kill it together with the parent.
            let child = fork::spawn(|| {
                loop {
                    nix::unistd::pause();
                }
            });
            heir.store(child.unwrap().id(), Relaxed);
            ready.give();
            loop {
                nix::unistd::pause();
            }
        });
        ready.wait();
        let waiter = waiter(kind, &path);
        kill(&holder);
        assert!(is_held(kind, &path));
        // This process is a subreaper and has adopted the child.
        let heir = Pid::from_raw(heir.load(Relaxed).cast_signed());
        signal(heir, SIGKILL).unwrap();
        waitpid(heir, None).unwrap();
        passes(&waiter);
        assert!(!is_held(kind, &path));
    }
}

fn an_exec_closes_what_a_child_inherited() {
    for kind in KINDS {
        let (_directory, path) = place();
        let lock = Cell::new(Some((kind.0)(&path).unwrap()));
        let mut held = lock.take().unwrap();
        std::mem::forget(held.lock().unwrap());
        let mut heir = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        // `spawn` may return before the exec is complete.
        until_idly(|| sleeps_in(heir.id(), libc::SYS_clock_nanosleep));
        drop(held);
        assert!(!is_held(kind, &path));
        heir.kill().unwrap();
        heir.wait().unwrap();
    }
}

fn signals_end_no_wait() {
    for kind in KINDS {
        let (_directory, path) = place();
        let interruptions = Interruptions::new();
        let holder = holder(kind, &path);
        let waiter = child(|| {
            interruptions.allow();
            drop((kind.0)(&path).unwrap().lock().unwrap());
        });
        interruptions.send_when(&waiter, |process| sleeps_in(process, kind.1));
        kill(&holder);
        passes(&waiter);
    }
}

fn processes_that_race_open_one_file() {
    for kind in KINDS {
        for _ in 0..20 {
            let (_directory, path) = place();
            let inside = Shared::anonymous(AtomicU32::new(0)).unwrap();
            let start = Shared::anonymous(SharedEvent::new()).unwrap();
            let race = || {
                start.wait();
                let mut lock = (kind.0)(&path).unwrap();
                let _guard = lock.lock().unwrap();
                assert_eq!(inside.load(Relaxed), 0, "two files");
                inside.store(1, Relaxed);
                std::thread::yield_now();
                inside.store(0, Relaxed);
            };
            let children: Vec<_> = (0..6).map(|_| child(race)).collect();
            until_idly(|| children.iter().all(|child| sleeps(child.id())));
            start.set();
            children.iter().for_each(passes);
        }
    }
}

type Wait = fn(&mut FileLock) -> Result<FileLockGuard<'_>, Error>;

/// The ways to wait for a lock.
const WAITS: [Wait; 3] = [
    |lock| lock.lock(),
    |lock| lock.lock_timeout(Duration::from_secs(100)),
    |lock| lock.lock_until(Instant::now() + Duration::from_secs(100)),
];

/// Whether the process has the file open that the path names now.
fn has_open(process: u32, path: &Path) -> bool {
    std::fs::read_dir(format!("/proc/{process}/fd")).is_ok_and(|descriptors| {
        // The kernel appends " (deleted)" to the path of a removed file.
        (descriptors.flatten())
            .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path))
    })
}

fn a_waiter_for_a_removed_file_waits_for_its_successor() {
    for (open, _) in KINDS {
        for wait in WAITS {
            let (_directory, path) = place();
            let inside = Shared::anonymous(AtomicU32::new(0)).unwrap();
            let mut first = open(&path).unwrap();
            let held = first.lock().unwrap();
            let waiter = child(|| {
                let mut lock = open(&path).unwrap();
                let _guard = wait(&mut lock).unwrap();
                assert_eq!(inside.load(Relaxed), 0, "two files");
            });
            until_idly(|| has_open(waiter.id(), &path));
            // As other programs do when they release a lock file.
            std::fs::remove_file(&path).unwrap();
            let [locked, over] = [(); 2].map(|()| Signal::new());
            let second = child(|| {
                let mut lock = open(&path).unwrap();
                let _guard = lock.lock().unwrap();
                inside.store(1, Relaxed);
                locked.give();
                over.wait();
                inside.store(0, Relaxed);
            });
            locked.wait();
            drop(held);
            until_idly(|| waiter.try_wait().unwrap().is_some() || has_open(waiter.id(), &path));
            over.give();
            passes(&second);
            passes(&waiter);
        }
    }
}

fn processes_that_remove_the_file_while_they_hold_it_count_exactly() {
    for (open, _) in KINDS {
        let (_directory, path) = place();
        // Each increment is a separate read and write.
        let count = Shared::anonymous(AtomicU64::new(0)).unwrap();
        let work = |process: usize| {
            let mut lock = open(&path).unwrap();
            for turn in 0..500 {
                let guard = WAITS[(process + turn) % 3](&mut lock).unwrap();
                let before = count.load(Relaxed);
                if turn % 16 == 0 {
                    std::thread::yield_now();
                }
                count.store(before + 1, Relaxed);
                if turn % 3 != 0 {
                    std::fs::remove_file(&path).unwrap();
                }
                drop(guard);
            }
        };
        let children: Vec<_> = (0..6).map(|process| child(move || work(process))).collect();
        children.iter().for_each(passes);
        assert_eq!(count.load(Relaxed), 3_000);
    }
}

fn a_new_file_is_private_under_every_umask() {
    for umask in [0, 0o777] {
        let mode = nix::sys::stat::Mode::from_bits_truncate(umask);
        let (_directory, path) = place();
        nix::sys::stat::umask(mode);
        drop(FileLock::flock(&path).unwrap());
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let metadata = std::fs::metadata(&path).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&metadata) & 0o7777;
        assert_eq!(mode, 0o600);
    }
}

fn a_file_can_be_created_in_the_working_directory() {
    let (directory, path) = place();
    std::env::set_current_dir(directory.path()).unwrap();
    let mut lock = FileLock::ofd("lock").unwrap();
    let _guard = lock.lock().unwrap();
    assert!(is_held(KINDS[1], &path));
}
