//! Errors of system calls.

use nix::errno::Errno;
use std::io;

/// A system call that failed.
#[derive(Debug)]
pub(crate) struct SysError {
    /// The call and its arguments, as an error message names them.
    pub(crate) call: String,
    pub(crate) errno: Errno,
}

impl SysError {
    pub(super) fn new(call: impl Into<String>, errno: Errno) -> Self {
        SysError {
            call: call.into(),
            errno,
        }
    }

    /// Returns the error of the call that has just failed, from the thread's `errno`.
    pub(super) fn last(call: impl Into<String>) -> Self {
        Self::new(call, Errno::last())
    }
}

/// Returns whether the kernel does not have the call that failed, or a system call filter denies
/// it. Filters deny unknown calls with either error.
pub(crate) fn is_call_denied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

/// Why the calling thread cannot own robust locks.
#[derive(Debug)]
pub enum RobustUnusable {
    /// See [`RobustListUnusable`].
    List(RobustListUnusable),
    /// The PID namespace of the process is not known. No process could tell whether a thread of
    /// this process that owns a lock still exists.
    NamespaceUnknown,
}

/// The calling thread has no robust futex list that it can join. The text says what was found
/// instead.
#[derive(Debug)]
pub struct RobustListUnusable(pub(crate) String);
