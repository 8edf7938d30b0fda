//! Locks on a whole file that belong to its open file description: `flock(2)`, and `fcntl(2)` with `F_OFD_SETLK`.

use crate::sys::files::flock;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// By which call a file is locked. The locks of one know nothing of those of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileLockKind {
    /// `flock(2)`.
    Flock,
    /// `fcntl(2)` with `F_OFD_SETLK`. The file is open for writing.
    Ofd,
}

impl FileLockKind {
    /// What an error names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FileLockKind::Flock => "flock",
            FileLockKind::Ofd => "fcntl(F_OFD_SETLK)",
        }
    }

    /// Locks the file alone, waiting as long as it takes.
    pub(crate) fn lock(self, file: impl AsFd) -> io::Result<()> {
        let file = file.as_fd();
        self.judge(match self {
            FileLockKind::Flock => flock(file, libc::LOCK_EX),
            FileLockKind::Ofd => ofd(file, libc::F_OFD_SETLKW, libc::F_WRLCK),
        })
    }

    /// Locks the file alone, or tells by false that somebody has it.
    pub(crate) fn try_lock(self, file: impl AsFd) -> io::Result<bool> {
        let file = file.as_fd();
        let outcome = match self {
            FileLockKind::Flock => flock(file, libc::LOCK_EX | libc::LOCK_NB),
            FileLockKind::Ofd => ofd(file, libc::F_OFD_SETLK, libc::F_WRLCK),
        };
        match outcome {
            // EAGAIN. POSIX would also allow EACCES, which in Linux is a security module's.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            outcome => self.judge(outcome).map(|()| true),
        }
    }

    /// Gives the lock up, for everybody who shares the open file description.
    ///
    /// # Panics
    ///
    /// Where the kernel refuses, which would leave all others waiting.
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

    /// Passes on what may happen: no memory for the lock (`ENOLCK`, `ENOMEM`), a security module or a filter of system calls.
    fn judge(self, outcome: io::Result<()>) -> io::Result<()> {
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
    // SAFETY: zero bytes are a `struct flock`: from the file's start (`SEEK_SET` is 0) to its end, wherever that will be, and
    // a process id of 0, as the kernel asks for this kind.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = kind as libc::c_short;
    loop {
        // SAFETY: the commands of an open file description take a `struct flock`, which they only read.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const whole) } != -1 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}
