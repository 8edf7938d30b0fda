//! Child processes: [`spawn`] runs a closure in a new process, if that is sound.
//!
//! ```
//! use pshared::{fork, Shared, SharedCounter};
//!
//! let done = Shared::anonymous(SharedCounter::new(0))?;
//! let children: Vec<_> = (0..3)
//!     .map(|_| fork::spawn(|| { done.add(1); }))
//!     .collect::<Result<_, _>>()?;
//! for child in children {
//!     assert!(child.wait()?.success());
//! }
//! assert_eq!(done.get(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::sys::limits::NoDescriptors;
use crate::sys::start_gate::{ChildGate, start_gate};
use crate::sys::{self, Deadline, process};
use std::cell::Cell;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// The exit code of a child whose closure panicked, as for a Rust program whose `main` panics.
pub const PANICKED: i32 = 101;

/// The reason why no child was created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process has more threads than the calling one.
    #[error(
        "fork refused: the process has {threads} threads. The child would have only the calling thread, and every lock that another thread holds, including the allocator's, would stay held in it. Fork before starting threads, or call spawn_unchecked"
    )]
    OtherThreads {
        /// The number of threads of the process, including the calling one.
        threads: usize,
    },

    /// The calling thread holds a lock, or a thread that has ended leaked the guard of one
    /// (`mem::forget`). The lock may be placed or not: the child's copy of a lock that is not
    /// placed would never be released.
    #[error(
        "fork refused: this process holds a lock, through a guard or a leaked guard. The child would continue as if it held the lock, but the lock stays the parent's. Drop the guard first"
    )]
    LockHeld,

    /// Children would be created in another PID namespace.
    #[error(
        "fork refused: after unshare(CLONE_NEWPID) or setns(2), children get another PID namespace ({childrens} instead of {own}), in which the thread ids in lock words identify other threads. Fork before unshare, or fork an intermediate process that makes its own maps"
    )]
    PidNamespaceMismatch {
        /// The number of the caller's PID namespace.
        own: u32,
        /// The number of the PID namespace that a child would get.
        childrens: u32,
    },

    /// The process, or the system, has no file descriptor left.
    #[error(
        "{call} failed: {source}. fork::spawn needs two file descriptors, for the pidfd of the child and to start it. {}",
        match limit {
            Some(limit) => format!("This process may have {limit}: close some, or raise the limit (`ulimit -n`)"),
            None => "The system has none left: end programs that keep many files open, or raise the sysctl fs.file-max".to_owned(),
        }
    )]
    NoDescriptors {
        /// The system call that failed, with the path that it used, if any.
        call: &'static str,
        /// The largest number of descriptors that the process may have, or `None` if the limit of
        /// the whole system is reached.
        limit: Option<u64>,
        /// The error from the kernel.
        source: io::Error,
    },

    /// The conditions for a sound fork could not be checked.
    #[error(
        "fork refused: {what} cannot be read, so the number of threads of the process is unknown: {source}. Mount /proc"
    )]
    Unchecked {
        /// The file or directory that could not be read.
        what: &'static str,
        /// The error from the kernel.
        source: io::Error,
    },

    /// The kernel created no child, or no descriptor to wait for it. In the latter case the child
    /// has ended before it ran any code of the caller.
    #[error("{call} failed: {source}{}", advice(call, source))]
    Os {
        /// The system call that failed.
        call: &'static str,
        /// The error from the kernel.
        source: io::Error,
    },
}

/// Runs `body` in a child process and returns a handle to it.
///
/// The child has a copy of the caller's memory and shares its maps. It runs `body`, flushes
/// standard output, and ends with `_exit`. The exit code is 0, or [`PANICKED`] after a panic.
/// Destructors of the caller's frames do not run in the child. Standard output is flushed before
/// the fork, so that no line is written twice.
///
/// # What it checks
///
/// A fork is unsound in a process with several threads, and in a process that holds a lock. So this
/// function returns an error in these cases:
///
/// - The process has another thread. One that was just joined may still exist, so the check is
///   repeated: for 100 milliseconds, or for a second if that thread is about to end.
/// - The calling thread holds a lock of this crate, placed or not, or a robust lock of the C
///   library, or a thread that has ended leaked the guard of a placed lock.
/// - Children would be created in another PID namespace.
///
/// A plugin (`dlopen`) may contain its own copy of this crate. Of the locks of that copy, only the
/// robust ones that are placed and that the calling thread holds are known here.
///
/// One hazard is not checked. Any fork duplicates memory that another crate shares with the kernel
/// or with other processes and assumes to own exclusively, such as an io_uring ring.
///
/// # Errors
///
/// Returns an [`Error`] if one of the checks or a system call fails. In each case `body` did not
/// begin, and there is no child: the child waits until this process has a descriptor (a pidfd) that
/// identifies it. Two descriptors must be available.
///
/// # What a death does
///
/// [`Child::wait`] reports the death of the child, whatever its cause. Robust primitives that the
/// child held report it to the next process that uses them.
pub fn spawn<F: FnOnce()>(body: F) -> Result<Child, Error> {
    check_single_thread()?;
    let holds_lock = sys::holds_robust_lock() || sys::holds_unplaced_lock();
    // SAFETY: the process has no other thread: that was just checked.
    if holds_lock || unsafe { crate::memory::any_lock_in_use() } {
        return Err(Error::LockHeld);
    }
    check_childrens_namespace()?;
    // SAFETY: there is no other thread, so no lock, including the allocator's, is held by a thread
    // that the child does not have. The calling thread itself holds none.
    unsafe { spawn_unchecked(body) }
}

/// Rejects a process with a second thread.
///
/// A thread that has been joined may still be about to end, which takes longer on a machine that is
/// short of processors. A thread of a scope that has ended may even run some more instructions.
fn check_single_thread() -> Result<(), Error> {
    const LONGEST_RUN: Duration = Duration::from_millis(100);
    const LONGEST_END: Duration = Duration::from_secs(1);
    let (end_of_run, end) = (Deadline::after(LONGEST_RUN), Deadline::after(LONGEST_END));
    loop {
        let threads =
            sys::ThreadCounts::read().map_err(|source| match NoDescriptors::of(&source) {
                Some(_) => os_error("open of /proc/self/task", source),
                None => Error::Unchecked {
                    what: sys::OWN_THREADS,
                    source,
                },
            })?;
        let has_other = threads.running > 1;
        if !has_other && threads.ending == 0 {
            return Ok(());
        }
        if has_other && end_of_run.has_passed() || end.has_passed() {
            return Err(Error::OtherThreads {
                threads: threads.running + threads.ending,
            });
        }
        Deadline::after(Duration::from_micros(200)).sleep();
    }
}

/// Rejects a process whose children would be created in another PID namespace than its own.
fn check_childrens_namespace() -> Result<(), Error> {
    let own = sys::own_namespace();
    let childrens = sys::childrens_namespace();
    if own == childrens {
        Ok(())
    } else {
        Err(Error::PidNamespaceMismatch { own, childrens })
    }
}

/// Runs `body` in a child process like [`spawn`], without any check.
///
/// # Errors
///
/// Returns [`Error::Os`] if the kernel creates no child, or no pidfd to wait for it. `body` did not
/// begin then.
///
/// # Safety
///
/// If the process has other threads, `body` must do only what is async-signal-safe. Locks that
/// those threads hold, including the allocator's, stay held in the child, and the data under them
/// may be half written.
///
/// A guard of the calling thread belongs to the parent. `body` must not access the data of such a
/// guard through a borrow.
///
/// If another thread forks at the same time, its child may inherit two descriptors of this call,
/// which are closed by `exec`.
pub unsafe fn spawn_unchecked<F: FnOnce()>(body: F) -> Result<Child, Error> {
    let _ = io::stdout().flush();
    let (parents_side, childs_side) =
        start_gate().map_err(|source| os_error("socketpair", source))?;
    // SAFETY: guaranteed by the caller; the child only waits, runs the body, flushes standard
    // output and exits.
    match unsafe { process::fork() }.map_err(|source| os_error("fork", source))? {
        None => {
            drop(parents_side);
            run_child(childs_side, body)
        }
        Some(id) => {
            drop(childs_side);
            match parents_side.start(id) {
                Ok(pidfd) => Ok(Child {
                    id,
                    pidfd,
                    status: Cell::new(None),
                }),
                Err((call, source)) => {
                    process::reap(id);
                    Err(os_error(call, source))
                }
            }
        }
    }
}

/// Waits until the parent starts this child, runs `body`, and ends the process.
fn run_child(gate: ChildGate, body: impl FnOnce()) -> ! {
    if !gate.wait() {
        process::exit_at_once(PANICKED);
    }
    let code = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(()) => 0,
        Err(payload) => {
            // A payload that panics when it is dropped must not unwind into the frames of the
            // parent.
            std::mem::forget(payload);
            PANICKED
        }
    };
    let _ = catch_unwind(|| io::stdout().flush());
    process::exit_at_once(code)
}

/// What to do about a kernel, an emulator or a system call filter without pidfd_open(2).
fn advice(call: &str, source: &io::Error) -> &'static str {
    match call {
        "pidfd_open" if sys::is_call_denied(source) => {
            ". fork::spawn identifies its child by that call. Linux has it since 5.3, but some \
             versions of valgrind, and container filters of before 2021, do not allow it: update \
             them or allow the call. Or create the child by fork(2): a child made by any means can \
             use the values"
        }
        _ => "",
    }
}

fn os_error(call: &'static str, source: io::Error) -> Error {
    match NoDescriptors::of(&source) {
        Some(NoDescriptors { limit }) => Error::NoDescriptors {
            call,
            limit,
            source,
        },
        None => Error::Os { call, source },
    }
}

/// A child process. It is identified by a pidfd, so no later process with the same id is taken for
/// it.
///
/// Dropping the handle neither kills the child nor waits for it, as for [`std::process::Child`].
#[derive(Debug)]
pub struct Child {
    id: u32,
    pidfd: OwnedFd,
    status: Cell<Option<ExitStatus>>,
}

impl Child {
    /// Returns the process id of the child.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits until the child has ended, and reaps it. A later call returns the same status.
    ///
    /// # Errors
    ///
    /// Returns an error if other code has reaped the child, or if the process ignores SIGCHLD
    /// (`ECHILD`).
    pub fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.poll(None)? {
                return Ok(status);
            }
        }
    }

    /// Returns the status of the child and reaps it, if it has ended. Returns `None` if it still
    /// runs.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`wait`](Self::wait).
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.poll(Some(Duration::ZERO))
    }

    /// Waits until the child has ended, but no longer than `timeout`. Returns `None` if the child
    /// still runs.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        self.poll(Some(timeout))
    }

    /// Waits until the child has ended, but no longer than until `deadline`. Returns `None` if the
    /// child still runs.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`wait`](Self::wait).
    pub fn wait_until(&self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        self.poll(Some(deadline.saturating_duration_since(Instant::now())))
    }

    /// Kills the child with SIGKILL. Does not reap it: call [`wait`](Self::wait) for that.
    ///
    /// If the child has already ended, this does nothing.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel refuses, for example for a child that has changed its user.
    pub fn kill(&self) -> io::Result<()> {
        process::pidfd_kill(&self.pidfd)
    }

    fn poll(&self, timeout: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.status.get() {
            return Ok(Some(status));
        }
        if !process::pidfd_wait(&self.pidfd, timeout)? {
            return Ok(None);
        }
        let status = process::pidfd_reap(&self.pidfd)?;
        self.status.set(Some(status));
        Ok(Some(status))
    }
}

impl AsFd for Child {
    /// Returns the pidfd, for `poll` and similar calls. It is readable once the child has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
