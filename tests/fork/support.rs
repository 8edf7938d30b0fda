//! Helpers that the tests share: children, the outcome of a lock call, and the state of other
//! threads.

pub use crate::harness::kill;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Gid, Pid, Uid};
use pshared::fork::{self, Child};
use pshared::{
    Cause, LockError, LockResult, Shared, SharedEvent, SharedMutex, SharedMutexGuard, ShmData,
    ShmSafe,
};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Runs `body` in a child, which does not outlive the thread that created it.
pub fn child(body: impl FnOnce()) -> Child {
    fork::spawn(|| {
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        body();
    })
    .expect("no child")
}

/// Runs `body` in a child that `fork(2)` makes, where `fork::spawn` would refuse or use the crate
/// first.
pub fn forked(body: impl FnOnce()) -> Pid {
    // SAFETY: this process has one thread.
    match unsafe { nix::unistd::fork() }.expect("no child") {
        ForkResult::Child => exit_after(body),
        ForkResult::Parent { child } => child,
    }
}

/// Runs `body`, and ends the process at once: with 0, or with 101 after a panic.
pub fn exit_after(body: impl FnOnce()) -> ! {
    let passed = catch_unwind(AssertUnwindSafe(body)).is_ok();
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(if passed { 0 } else { 101 }) }
}

/// Waits for a child to exit, and checks that it exited by itself and without a panic.
#[track_caller]
pub fn passes(child: &Child) {
    let status = child.wait().expect("no status");
    assert!(status.success(), "child {}: {status}", child.id());
}

/// Kills a child and waits until it has ended, without reaping it. The child stays a zombie.
#[track_caller]
pub fn kill_unreaped(child: &Child) {
    child.kill().expect("not killed");
    let mut ended = [nix::poll::PollFd::new(
        std::os::fd::AsFd::as_fd(child),
        nix::poll::PollFlags::POLLIN,
    )];
    nix::poll::poll(&mut ended, nix::poll::PollTimeout::NONE).expect("no poll");
    assert_eq!(state(child.id()), Some('Z'));
}

/// Waits until `holds` returns true, by calling it repeatedly.
pub fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}

/// Creates a file that no other test knows.
pub fn create<T: ShmSafe>(path: &Path, value: T) -> Shared<T> {
    // SAFETY: the file is in a directory of the test's own, and the test uses it only through this
    // crate.
    unsafe { Shared::create(path, value) }.expect("no file")
}

/// Opens a file that [`create`] made.
pub fn open<T: ShmSafe>(path: &Path) -> Shared<T> {
    // SAFETY: as above.
    unsafe { Shared::open(path) }.expect("no file")
}

/// Returns the id of the calling thread.
pub fn gettid() -> u32 {
    nix::unistd::gettid().as_raw().cast_unsigned()
}

/// Returns the state of a thread as in proc_pid_stat(5), or `None` if the thread does not exist.
pub fn state(thread: u32) -> Option<char> {
    field(Path::new(&format!("/proc/{thread}/stat")), 3)?
        .chars()
        .next()
}

/// Returns a field of a `stat` file. `number` counts as in proc_pid_stat(5) and is at least 3.
pub fn field(stat: &Path, number: usize) -> Option<String> {
    let text = fs::read_to_string(stat).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(number - 3).map(String::from)
}

/// Whether the thread sleeps in futex(2) on the word at this address. The address is the caller's,
/// and is the same in both processes because one was forked from the other.
pub fn sleeps_on<T>(thread: u32, word: &T) -> bool {
    let address = std::ptr::from_ref(word).addr();
    futex_word(thread).is_some_and(|word| word == address)
}

/// Whether the thread sleeps in futex(2).
pub fn sleeps(thread: u32) -> bool {
    futex_word(thread).is_some()
}

/// Whether the thread sleeps in futex(2), or in futex_waitv(2) on several words.
pub fn sleeps_on_any(thread: u32) -> bool {
    sleeps(thread) || crate::steps::sleeps_in(thread, libc::SYS_futex_waitv)
}

/// Skips the test if a thread cannot sleep on several words: it looks at them at intervals then,
/// and no wake for one of them ends a sleep.
pub fn needs_futex_waitv() {
    let none = std::ptr::null::<u32>();
    // SAFETY: the kernel refuses a call with no words.
    unsafe { libc::syscall(libc::SYS_futex_waitv, none, 0, 0, none, 0) };
    let is_missing = Errno::last() != Errno::EINVAL;
    if is_missing || assumed_kernel().is_some_and(|kernel| kernel < (5, 16)) {
        crate::harness::skip("needs futex_waitv(2), Linux 5.16");
    }
}

/// The version of Linux in `PSHARED_ASSUME_KERNEL`.
fn assumed_kernel() -> Option<(u32, u32)> {
    let text = std::env::var("PSHARED_ASSUME_KERNEL").ok()?;
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn futex_word(thread: u32) -> Option<usize> {
    // "202 0x7f52c8a3b000 0x89 ..."; "running" if the thread does not sleep.
    let text = fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?;
    let mut words = text.split_whitespace();
    if words.next()?.parse() != Ok(libc::SYS_futex) {
        return None;
    }
    usize::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()
}

/// The outcome of a lock call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The lock was acquired and is not poisoned.
    Unpoisoned,
    /// The lock was acquired, with the first report of a death.
    FreshDeath,
    /// The lock was acquired, with a death that was reported before.
    OldDeath,
    /// The lock was acquired and is poisoned by a panic.
    Panic,
    Deadlock,
    HolderThreadEnded,
    WouldBlock,
    TimedOut,
    HolderDumpsCore,
}

/// Classifies the outcome of a lock call. Releases the lock if it was acquired, and leaves it
/// poisoned.
pub fn outcome_of<T: ShmData>(outcome: LockResult<SharedMutexGuard<'_, T>>) -> Outcome {
    match outcome {
        Ok(_) => Outcome::Unpoisoned,
        Err(LockError::Poisoned(poisoned)) => match poisoned.cause() {
            Cause::Died if poisoned.is_first_report() => Outcome::FreshDeath,
            Cause::Died => Outcome::OldDeath,
            _ => Outcome::Panic,
        },
        Err(LockError::Deadlock) => Outcome::Deadlock,
        Err(LockError::HolderThreadEnded) => Outcome::HolderThreadEnded,
        Err(LockError::WouldBlock) => Outcome::WouldBlock,
        Err(LockError::TimedOut) => Outcome::TimedOut,
        Err(LockError::HolderDumpsCore) => Outcome::HolderDumpsCore,
        Err(other) => panic!("an unknown error: {other:?}"),
    }
}

/// Calls `try_lock` until it does not return `WouldBlock`, and classifies the outcome. No thread
/// may hold the lock for long. If the owner's thread has ended but its process still runs, the
/// process may be ending. During that time the lock counts as held.
pub fn outcome_of_try_lock<T: ShmData>(lock: &SharedMutex<T>) -> Outcome {
    loop {
        match outcome_of(lock.try_lock()) {
            Outcome::WouldBlock => std::thread::yield_now(),
            outcome => return outcome,
        }
    }
}

/// Returns the guard of an acquired lock. Replaces the data if the lock was poisoned.
#[track_caller]
pub fn repaired<'a, T: ShmData>(
    outcome: LockResult<SharedMutexGuard<'a, T>>,
    value: T,
) -> SharedMutexGuard<'a, T> {
    match outcome {
        Ok(guard) => guard,
        Err(LockError::Poisoned(poisoned)) => poisoned.replace(value),
        Err(other) => panic!("not acquired: {other:?}"),
    }
}

/// A lock, and what two processes need to synchronize around it.
#[derive(ShmSafe)]
#[repr(C)]
pub struct Stage {
    pub lock: SharedMutex<u64>,
    pub ready: SharedEvent,
    pub over: SharedEvent,
    pub thread: AtomicU32,
}

impl Stage {
    pub fn new() -> Self {
        Stage {
            lock: SharedMutex::new(0),
            ready: SharedEvent::new(),
            over: SharedEvent::new(),
            thread: AtomicU32::new(0),
        }
    }

    pub fn anonymous() -> Shared<Self> {
        Shared::anonymous(Self::new()).expect("no map")
    }

    /// Holds the lock from `ready` to `over`.
    pub fn hold(&self) {
        let guard = self.lock.lock().expect("the lock is free and whole");
        self.ready.set();
        self.over.wait();
        drop(guard);
    }

    /// Starts a child that holds the lock until `over` is set.
    pub fn holder(&self) -> Child {
        let child = child(|| self.hold());
        self.meet(&child);
        child
    }

    /// Waits until the child has set `ready`. Panics if the child ends without setting it, for
    /// example because a check in it failed.
    #[track_caller]
    pub fn meet(&self, child: &Child) {
        while self.ready.wait_timeout(Duration::from_millis(50)).is_err() {
            let ended = child.try_wait().expect("no status");
            assert!(
                ended.is_none() || self.ready.is_set(),
                "child {}: {ended:?}",
                child.id()
            );
        }
    }
}

/// Skips the test if the user is not root.
pub fn as_root() {
    if !nix::unistd::geteuid().is_root() {
        crate::harness::skip("needs root");
    }
}

/// Gives up root's privileges permanently.
pub fn become_unprivileged() {
    let (group, user) = (Gid::from_raw(65534), Uid::from_raw(65534));
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setresgid(group, group, group).unwrap();
    nix::unistd::setresuid(user, user, user).unwrap();
}

/// Mounts a `/proc` for this process alone that hides the processes of other users.
pub fn hide_others() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        MsFlags::empty(),
        Some("hidepid=2"),
    )
    .unwrap();
}

/// Removes the mark by which this boot of the machine is known to have used the file. A reboot
/// removes it, because it exists only in the kernel's memory.
pub fn forget_boot_mark(path: &Path) {
    use std::os::fd::AsRawFd;
    const F_SET_RW_HINT: libc::c_int = 1036;
    let file = fs::File::open(path).unwrap();
    let not_set = 0_u64;
    // SAFETY: the call reads eight bytes.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), F_SET_RW_HINT, &raw const not_set) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

/// Runs `body` in a child. The child is created in the PID namespace of this process's children,
/// which may differ from its own. The process may hold locks.
pub fn child_elsewhere(body: impl FnOnce()) -> Child {
    let body = || {
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        body();
    };
    // SAFETY: the process has one thread, and `body` does not access the data of a guard of its
    // parent. The child may be created in another namespace on purpose.
    unsafe { fork::spawn_unchecked(body) }.expect("no child")
}

/// Runs `body` in a process that is the first one of a new PID namespace.
pub fn in_a_pid_namespace(body: impl FnOnce()) -> Child {
    as_root();
    child(|| {
        unshare(CloneFlags::CLONE_NEWPID).unwrap();
        passes(&child_elsewhere(|| {
            assert_eq!(std::process::id(), 1);
            body();
        }));
    })
}
