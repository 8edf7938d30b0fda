//! [`FileLock`]: a lock on a file of its own, kept by the kernel for whoever has the file open.

use crate::Error;
use crate::memory::{reject_irregular, reject_remote_fs};
use crate::sys::{Deadline, FileLockKind, current_thread, files};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A lock between processes on a file of its own, for programs that share nothing but a path: `flock(2)`, or `fcntl(2)` with
/// `F_OFD_SETLK` (*open file description* locks).
///
/// Nothing of it lies in a map. The lock belongs to the open file description that [`flock`](Self::flock) or
/// [`ofd`](Self::ofd) made, and this is the handle on it. The file's bytes are never read or written.
///
/// | | its locks exclude | use it where |
/// |---|---|---|
/// | [`flock`](Self::flock) | those of `flock(2)`, so also those of the program `flock(1)` | shell scripts take part |
/// | [`ofd`](Self::ofd) | those of `fcntl(2)`: POSIX record locks too, as of `lockf(3)` and SQLite | programs with such locks take part |
///
/// The two do not exclude each other: all who use a file use the same one.
///
/// # A handle a thread, a handle a process
///
/// - Handles exclude each other, also two handles of one process. What shares a handle does not: so
///   [`lock`](Self::lock) takes `&mut self`, and threads open one handle each. There is no deadlock detection: a
///   thread that waits for a lock that another handle of its own holds waits for ever.
/// - **Open it in each process, after the fork.** A child's copy of a handle is a second descriptor of the same open file
///   description, so parent and child would both hold the lock at once. It is refused:
///   [`Error::InheritedFileLock`].
/// - Do not remove or rename the file while it is in use: whoever opens it next makes another file, and another lock.
/// - Whoever may open the file can hold the lock. A new file has mode 0600, so that this is its owner.
///
/// # No timeout
///
/// There is no `lock_timeout`, since the kernel has none: `flock(2)` and `F_OFD_SETLKW` wait for ever. Trying again and again
/// is no wait: it burns time between the looks or comes late, and is overtaken by everybody who waits. An alarm would hit
/// any thread of the process. Where a wait must end use [`SharedMutex::lock_timeout`](crate::SharedMutex::lock_timeout) in a
/// file ([`Shared::open_or_create`](crate::Shared::open_or_create)), or
/// [`SysvSemaphore::acquire_timeout`](crate::SysvSemaphore::acquire_timeout).
///
/// # What a death does
///
/// The kernel closes the descriptors of a dead process and so releases the lock; a waiter that sleeps is woken. The next locker
/// gets it **silently**: nobody is told that there was a death, or that what the lock guards may be half written. Where
/// that matters use [`SharedMutex`](crate::SharedMutex), which tells. A panic releases the lock silently too.
///
/// The lock is released when the *last* descriptor of the open file description is closed. **A child that was forked while the
/// handle was open has one, so it keeps a dead parent's lock held** until it ends too or calls `exec`, which closes it
/// (`O_CLOEXEC`). Dropping a guard is not concerned: it releases the lock for all.
///
/// An `exec` closes the handle and so releases the lock, if no child has a copy. A reboot releases all.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Error, FileLock};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("lock");
///
/// let mut lock = FileLock::flock(&path)?;
/// let guard = lock.lock()?;
/// let child = fork::spawn(|| {
///     // A handle of its own, opened after the fork.
///     let mut lock = FileLock::flock(&path).unwrap();
///     assert!(matches!(lock.try_lock(), Err(Error::WouldBlock)));
/// })?;
/// assert!(child.wait()?.success());
/// drop(guard);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// [flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html), and "Open file description locks" in
/// [F_OFD_SETLK(2const)](https://man7.org/linux/man-pages/man2/F_OFD_SETLK.2const.html).
#[derive(Debug)]
pub struct FileLock {
    file: File,
    call: FileLockKind,
    path: PathBuf,
    /// The process that opened the file.
    generation: u64,
}

impl FileLock {
    /// Opens the file `path`, and makes it with mode 0600 where there is none, to be locked by `flock(2)`.
    ///
    /// Opening it locks nothing.
    ///
    /// # Errors
    ///
    /// [`Error::SymbolicLink`] and [`Error::NotARegularFile`], without opening what is there; [`Error::RemoteFileSystem`]
    /// on NFS, 9p, FUSE and their kin, where a lock is kept by a server that may forget it, or reaches one machine only;
    /// [`Error::Os`] where the kernel refuses, for missing rights or a missing directory, say. The file is opened for reading
    /// and writing.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::FileLock;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("lock");
    /// let mut lock = FileLock::flock(&path)?;
    /// drop(lock.lock()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flock(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open(path.as_ref(), FileLockKind::Flock)
    }

    /// As [`flock`](Self::flock), to be locked by `fcntl(2)` with `F_OFD_SETLK`, from the file's first byte to its end,
    /// wherever that will be.
    ///
    /// # Errors
    ///
    /// As [`flock`](Self::flock).
    pub fn ofd(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open(path.as_ref(), FileLockKind::Ofd)
    }

    fn open(path: &Path, call: FileLockKind) -> Result<Self, Error> {
        Ok(FileLock {
            file: open_or_create(path)?,
            call,
            path: path.into(),
            generation: current_thread().generation(),
        })
    }

    /// Locks the file, waiting as long as it takes. The order of waiters is the kernel's.
    ///
    /// # Errors
    ///
    /// [`Error::InheritedFileLock`] in another process than the one that opened the file; [`Error::Os`] where the kernel has
    /// no memory for the lock (`ENOLCK`), or a security module refuses it.
    pub fn lock(&mut self) -> Result<FileLockGuard<'_>, Error> {
        self.refuse_inherited()?;
        match self.call.lock(&self.file) {
            Ok(()) => Ok(FileLockGuard { lock: self }),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Locks the file, without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] where somebody else has locked it; as [`lock`](Self::lock).
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Error, FileLock};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("lock");
    /// let (mut one, mut other) = (FileLock::ofd(&path)?, FileLock::ofd(&path)?);
    /// let guard = one.try_lock()?;
    /// assert!(matches!(other.try_lock(), Err(Error::WouldBlock)));
    /// drop(guard);
    /// drop(other.try_lock()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_lock(&mut self) -> Result<FileLockGuard<'_>, Error> {
        self.refuse_inherited()?;
        match self.call.try_lock(&self.file) {
            Ok(true) => Ok(FileLockGuard { lock: self }),
            Ok(false) => Err(Error::WouldBlock),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Locks the file, waiting for at most `timeout` of the monotonic clock.
    ///
    /// Neither system call has a timeout, so this tries again after pauses of 1 to 50 ms. Waiters
    /// inside [`lock`](Self::lock) are served first.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if another holder kept the lock until then, and the errors of
    /// [`lock`](Self::lock).
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Error, FileLock};
    /// use std::time::Duration;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("lock");
    /// let (mut one, mut other) = (FileLock::flock(&path)?, FileLock::flock(&path)?);
    /// let guard = one.lock()?;
    /// let refused = other.lock_timeout(Duration::from_millis(5));
    /// assert!(matches!(refused, Err(Error::TimedOut)));
    /// drop((refused, guard));
    /// drop(other.lock_timeout(Duration::from_secs(5))?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lock_timeout(&mut self, timeout: Duration) -> Result<FileLockGuard<'_>, Error> {
        self.lock_with(Deadline::after(timeout))
    }

    /// As [`lock_timeout`](Self::lock_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`lock_timeout`](Self::lock_timeout).
    pub fn lock_until(&mut self, deadline: Instant) -> Result<FileLockGuard<'_>, Error> {
        self.lock_with(Deadline::at(deadline))
    }

    fn lock_with(&mut self, deadline: Deadline) -> Result<FileLockGuard<'_>, Error> {
        const LONGEST_PAUSE: Duration = Duration::from_millis(50);
        let mut pause = Duration::from_millis(1);
        self.refuse_inherited()?;
        loop {
            match self.call.try_lock(&self.file) {
                Ok(true) => return Ok(FileLockGuard { lock: self }),
                Ok(false) if deadline.has_passed() => return Err(Error::TimedOut),
                Ok(false) => deadline.min(Deadline::after(pause)).sleep(),
                Err(source) => return Err(self.failed(source)),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn is_inherited(&self) -> bool {
        // The thread may be one that was never asked who it is.
        current_thread().generation() != self.generation
    }

    fn refuse_inherited(&self) -> Result<(), Error> {
        if self.is_inherited() {
            return Err(Error::InheritedFileLock {
                path: self.path.clone(),
            });
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::os(
            format!("{} of {}", self.call.name(), self.path.display()),
            source,
        )
    }
}

/// The lock of a [`FileLock`], released when this is dropped.
///
/// A copy of it in a child that was forked meanwhile does nothing when it is dropped: the lock is the parent's. Another thread
/// than the one that locked may drop it.
///
/// Forgetting it ([`std::mem::forget`]) leaves the file locked until the handle is dropped; the handle itself may be locked
/// again meanwhile.
#[must_use = "if unused the FileLock will immediately unlock"]
#[derive(Debug)]
pub struct FileLockGuard<'a> {
    lock: &'a mut FileLock,
}

impl Drop for FileLockGuard<'_> {
    fn drop(&mut self) {
        // In a child, this would release the lock of the description that it shares with its parent.
        if !self.lock.is_inherited() {
            self.lock.call.unlock(&self.lock.file);
        }
    }
}

fn open_or_create(path: &Path) -> Result<File, Error> {
    let failed = |source| Error::os(format!("open of {}", path.display()), source);
    loop {
        match files::open_path(path) {
            Ok(found) => return reopen(&found, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(source)),
        }
        let directory = files::open_directory(files::directory_of(path)).map_err(failed)?;
        reject_remote_fs(&directory, path)?;
        match files::create_exclusive(path) {
            Ok(file) => {
                // The umask may have taken rights away.
                file.set_permissions(Permissions::from_mode(files::MODE))
                    .map_err(failed)?;
                return Ok(file);
            }
            // Somebody was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(failed(source)),
        }
    }
}

fn reopen(found: &File, path: &Path) -> Result<File, Error> {
    let metadata = found
        .metadata()
        .map_err(|source| Error::os(format!("stat of {}", path.display()), source))?;
    reject_irregular(metadata.file_type(), path)?;
    reject_remote_fs(found, path)?;
    files::reopen(found).map_err(|source| {
        Error::os(
            format!("open of {} by way of /proc/thread-self/fd", path.display()),
            source,
        )
    })
}

static_assertions::assert_impl_all!(FileLock: Send, Sync);
static_assertions::assert_impl_all!(FileLockGuard<'static>: Send, Sync);
static_assertions::assert_not_impl_any!(FileLock: crate::ShmSafe, crate::ShmData, Clone);
