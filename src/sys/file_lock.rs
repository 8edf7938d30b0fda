//! Locks on a whole file that belong to its open file description: `flock(2)`, and `fcntl(2)` with
//! `F_OFD_SETLK`.

use crate::sys::files::flock;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The call that locks a file. Locks of the two kinds do not conflict with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileLockKind {
    /// `flock(2)`.
    Flock,
    /// `fcntl(2)` with `F_OFD_SETLK`. The file must be open for writing.
    Ofd,
}

impl FileLockKind {
    /// Returns the name that errors use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FileLockKind::Flock => "flock",
            FileLockKind::Ofd => "fcntl(F_OFD_SETLK)",
        }
    }

    /// Acquires an exclusive lock on the file, blocking until it is available.
    pub(crate) fn lock(self, file: impl AsFd) -> io::Result<()> {
        let file = file.as_fd();
        self.panic_on_misuse(match self {
            FileLockKind::Flock => flock(file, libc::LOCK_EX),
            FileLockKind::Ofd => ofd(file, libc::F_OFD_SETLKW, libc::F_WRLCK),
        })
    }

    /// Tries to acquire an exclusive lock on the file. Returns false if a lock of another holder
    /// conflicts.
    pub(crate) fn try_lock(self, file: impl AsFd) -> io::Result<bool> {
        let file = file.as_fd();
        let outcome = match self {
            FileLockKind::Flock => flock(file, libc::LOCK_EX | libc::LOCK_NB),
            FileLockKind::Ofd => ofd(file, libc::F_OFD_SETLK, libc::F_WRLCK),
        };
        match outcome {
            // EAGAIN. POSIX also allows EACCES here, but on Linux EACCES comes from a security
            // module.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            outcome => self.panic_on_misuse(outcome).map(|()| true),
        }
    }

    /// Releases the lock, for every process that shares the open file description.
    ///
    /// # Panics
    ///
    /// Panics if the kernel refuses, because all other lockers would wait forever.
    pub(crate) fn unlock(self, file: impl AsFd) {
        let file = file.as_fd();
        let outcome = match self {
            FileLockKind::Flock => flock(file, libc::LOCK_UN),
            FileLockKind::Ofd => ofd(file, libc::F_OFD_SETLK, libc::F_UNLCK),
        };
        if let Err(error) = outcome {
            panic!("{}: {error}", self.name());
        }
    }

    /// Returns the errors that can occur in correct use: no memory for the lock (`ENOLCK`,
    /// `ENOMEM`), or a denial by a security module or a system call filter. Panics on errors that
    /// mean misuse.
    fn panic_on_misuse(self, outcome: io::Result<()>) -> io::Result<()> {
        match outcome {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EBADF | libc::EINVAL | libc::EFAULT | libc::EDEADLK)
                ) =>
            {
                panic!("{}: {error}", self.name())
            }
            outcome => outcome,
        }
    }
}

fn ofd(file: BorrowedFd<'_>, command: libc::c_int, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: zero bytes are a valid `struct flock`. They describe the range from the start of the
    // file (`SEEK_SET` is 0) to its end, wherever that will be, and the process id 0, which the
    // kernel requires for this kind of lock.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = kind as libc::c_short;
    loop {
        // SAFETY: the commands for open file descriptions take a `struct flock` and only read it.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const whole) } != -1 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}
