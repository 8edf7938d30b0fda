//! Children: [`spawn`] runs a closure in a new process, where that is sound.
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

use crate::sys::{self, Deadline, process};
use std::cell::Cell;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// The exit code of a child whose closure panicked: that of a Rust program whose `main` panics.
pub const PANICKED: i32 = 101;

/// Why no child was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process has more threads than the calling one.
    #[error(
        "fork refused: the process has {threads} threads. The child would have only the calling one, and whatever lock another thread holds, the allocator's too, would stay held in it. Fork before starting threads, or call spawn_unchecked"
    )]
    OtherThreads {
        /// All threads of the process, the calling one among them.
        threads: usize,
    },

    /// The calling thread holds a lock, or one that has ended does: its guard was forgotten.
    #[error(
        "fork refused: this process holds a robust lock, by a guard or by a forgotten one. The child would run on as if it held the lock, which stays its parent's. Drop the guard first"
    )]
    LockHeld,

    /// Children would be born into another PID namespace.
    #[error(
        "fork refused: after unshare(CLONE_NEWPID) or setns(2) children get another PID namespace ({childrens} instead of {own}), in which thread ids in lock words mean other threads. Fork before unshare, or fork an intermediate process that makes its own maps"
    )]
    PidNamespaceMismatch {
        /// The number of the caller's namespace.
        own: u32,
        /// The number of the namespace that a child would get.
        childrens: u32,
    },

    /// What makes a fork sound could not be checked.
    #[error(
        "fork refused: {what} cannot be read, so nothing is known of the process's threads: {source}. Mount /proc"
    )]
    Unchecked {
        /// What was to be read.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },

    /// The kernel made no child, or none that can be waited for.
    #[error("{call} failed: {source}")]
    Os {
        /// The system call.
        call: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Runs `body` in a child process and gives a handle on it.
///
/// The child has a copy of the caller's memory and shares its maps. It runs `body`, flushes standard output, and leaves
/// by `_exit`: code 0, or [`PANICKED`] after a panic; destructors of the caller's frames do not run in it. Standard output
/// is flushed before the fork, so that no line is written twice.
///
/// # What it checks
///
/// A fork is unsound in a process with several threads, or in one that holds a lock. So this refuses where the process has
/// another thread (one that was just joined lingers for a moment: it looks again for some milliseconds), where the calling
/// thread holds a robust lock, or one that has ended forgot its guard, and where children would get another PID namespace.
///
/// What remains: memory that another crate shares with the kernel or with other processes and believes to own exclusively,
/// such as an io_uring ring, is duplicated by any fork.
///
/// # Errors
///
/// See [`Error`]; in each case there is no child.
///
/// # What a death does
///
/// The child's death, however it comes, is told by [`Child::wait`], and to whoever meets a primitive that it held.
pub fn spawn<F: FnOnce()>(body: F) -> Result<Child, Error> {
    check_single_thread()?;
    // SAFETY: there is no other thread.
    if sys::holds_robust_lock() || unsafe { crate::memory::any_lock_in_use() } {
        return Err(Error::LockHeld);
    }
    check_childrens_namespace()?;
    // SAFETY: there is no other thread, so no lock, the allocator's included, is held by one that the child lacks; the
    // calling thread holds none itself.
    unsafe { spawn_unchecked(body) }
}

/// Rejects a process with a second thread.
///
/// The kernel lists a joined thread until it has released it, so a second thread is counted again
/// for some milliseconds.
fn check_single_thread() -> Result<(), Error> {
    const RELEASE_TIME: Duration = Duration::from_millis(20);
    let until = Deadline::after(RELEASE_TIME);
    loop {
        let threads = process::thread_count().map_err(|source| Error::Unchecked {
            what: process::THREADS,
            source,
        })?;
        if threads == 1 {
            return Ok(());
        }
        if until.has_passed() {
            return Err(Error::OtherThreads { threads });
        }
        Deadline::after(Duration::from_micros(200)).sleep();
    }
}

/// Rejects a process whose children would be born into another PID namespace than its own.
fn check_childrens_namespace() -> Result<(), Error> {
    let own = sys::own_namespace();
    let childrens = sys::childrens_namespace();
    if own == childrens {
        Ok(())
    } else {
        Err(Error::PidNamespaceMismatch { own, childrens })
    }
}

/// As [`spawn`], with nothing checked.
///
/// # Errors
///
/// [`Error::Os`] where the kernel makes no child.
///
/// # Safety
///
/// Where the process has other threads, `body` does only what is async-signal-safe: locks that those threads hold stay held
/// in the child, the allocator's too, and data under them may be half written. A guard of the calling thread is the
/// parent's; `body` does not touch the data of one through a borrow.
pub unsafe fn spawn_unchecked<F: FnOnce()>(body: F) -> Result<Child, Error> {
    let _ = io::stdout().flush();
    // SAFETY: the caller's promise; the child below does nothing but run the body and leave.
    match unsafe { process::fork() }.map_err(|source| Error::Os {
        call: "fork",
        source,
    })? {
        None => {
            let code = match catch_unwind(AssertUnwindSafe(body)) {
                Ok(()) => 0,
                Err(payload) => {
                    // A payload whose drop panics must not unwind into the parent's frames.
                    std::mem::forget(payload);
                    PANICKED
                }
            };
            let _ = catch_unwind(|| io::stdout().flush());
            process::exit_at_once(code)
        }
        Some(id) => {
            let pidfd = process::pidfd_open(id).map_err(|source| {
                process::kill_and_reap(id);
                Error::Os {
                    call: "pidfd_open",
                    source,
                }
            })?;
            Ok(Child {
                id,
                pidfd,
                status: Cell::new(None),
            })
        }
    }
}

/// A child process. It is known by a pidfd, so that no later process with the same id is taken for it.
///
/// Dropping the handle neither kills the child nor waits for it, as for [`std::process::Child`].
#[derive(Debug)]
pub struct Child {
    id: u32,
    pidfd: OwnedFd,
    status: Cell<Option<ExitStatus>>,
}

impl Child {
    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits until the child has ended, and reaps it. Called again, it gives the same status.
    ///
    /// # Errors
    ///
    /// Where somebody else has reaped the child (`ECHILD`).
    pub fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.poll(None)? {
                return Ok(status);
            }
        }
    }

    /// The status of the child if it has ended; it is reaped then.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.poll(Some(Duration::ZERO))
    }

    /// Waits until the child has ended, but no longer than `timeout`; `None` says that it still runs.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        self.poll(Some(timeout))
    }

    /// As [`wait_timeout`](Self::wait_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Self::wait_timeout).
    pub fn wait_until(&self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        self.poll(Some(deadline.saturating_duration_since(Instant::now())))
    }

    /// Kills the child by SIGKILL. It is not reaped: [`wait`](Self::wait) for it.
    ///
    /// A child that has ended already is left as it is.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses, as for a child that has changed its user.
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
    /// The pidfd, for `poll` and its kin: it is readable once the child has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
