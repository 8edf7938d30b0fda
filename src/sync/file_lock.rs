//! [`FileLock`]: a lock on a separate file, kept by the kernel for the processes that have it open.

use crate::Error;
use crate::memory::{absolute, named_by, reject_irregular, reject_remote_fs, reopen};
use crate::sys::files::{self, Named};
use crate::sys::{Deadline, FileLockKind, current_thread};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A lock between processes on a separate file, for programs that share only a path. It uses
/// `flock(2)`, or `fcntl(2)` with `F_OFD_SETLK` (*open file description* locks).
///
/// It does not lie in a map. The lock belongs to the open file description that
/// [`flock`](Self::flock) or [`ofd`](Self::ofd) creates, and a `FileLock` is the handle to it. The
/// file's bytes are never read or written.
///
/// | | its locks exclude |
/// |---|---|
/// | [`flock`](Self::flock) | locks by `flock(2)`, also those of the program `flock(1)` |
/// | [`ofd`](Self::ofd) | locks by `fcntl(2)`, also POSIX record locks (`lockf(3)`, SQLite) |
///
/// Use the first if shell scripts take part, and the second if programs with record locks do.
///
/// The two kinds do not exclude each other. All users of a file must use the same kind.
///
/// # One handle for each thread and process
///
/// - Handles exclude each other, even two handles of one process. Threads that share a handle do
///   not exclude each other. So [`lock`](Self::lock) takes `&mut self`, and each thread opens its
///   own handle. There is no deadlock detection: a thread that waits for a lock that it holds
///   through another handle waits forever.
/// - **Open the file in each process, after the fork.** A child's copy of a handle is a second
///   descriptor of the same open file description, so parent and child would hold the lock at the
///   same time. Such a copy is refused with [`Error::InheritedFileLock`].
/// - A program may remove or rename the file **while it holds the lock**, as some programs do to
///   release it. Each lock call compares the file that it locked with the path. If the path names
///   another file or none, the call opens or creates the file there, and tries again. A waiter
///   notices the removal when the holder releases the lock. A removal by a program that does not
///   hold the lock puts the next locker beside the present holder.
/// - The path is made absolute when the handle is opened, and resolved again by each lock call. It
///   must name the same place after a `chroot`, and stay accessible after a change of the user.
/// - Every process that may open the file can hold the lock. A new file has mode 0600, so only its
///   owner can.
///
/// # Timeouts
///
/// Neither system call has a timeout: `flock(2)` and `F_OFD_SETLKW` wait forever.
/// [`lock_timeout`](Self::lock_timeout) and [`lock_until`](Self::lock_until) therefore try again
/// after pauses of up to 50 ms. They use CPU time while they wait, may notice a release late, and
/// are overtaken by every waiter inside [`lock`](Self::lock). An alarm signal does not help,
/// because any thread of the process may receive it.
///
/// If a wait with a timeout must be prompt, use
/// [`SharedMutex::lock_timeout`](crate::SharedMutex::lock_timeout) in a file
/// ([`Shared::open_or_create`](crate::Shared::open_or_create)), or
/// [`SysvSemaphore::acquire_timeout`](crate::SysvSemaphore::acquire_timeout).
///
/// # What a death does
///
/// The kernel closes the descriptors of a dead process. This releases the lock and wakes a waiter.
/// The next locker acquires the lock **silently**: no call reports that there was a death, or that
/// the protected data may be half written. If that matters, use
/// [`SharedMutex`](crate::SharedMutex), which reports it. A panic releases the lock silently too.
///
/// The lock is released when the *last* descriptor of the open file description is closed. **A
/// child that was forked while the handle was open has such a descriptor. It keeps the lock of a
/// dead parent held** until the child also ends or calls `exec`, which closes it (`O_CLOEXEC`).
/// This does not affect the drop of a guard: it unlocks the open file description, and with it
/// every descriptor.
///
/// An `exec` closes the handle and so releases the lock, unless a child has a copy. A reboot
/// releases every lock.
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
///     // The child opens its own handle, after the fork.
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
/// [flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html), and "Open file description
/// locks" in [F_OFD_SETLK(2const)](https://man7.org/linux/man-pages/man2/F_OFD_SETLK.2const.html).
#[derive(Debug)]
pub struct FileLock {
    file: File,
    call: FileLockKind,
    /// Absolute.
    path: PathBuf,
    /// The process that opened the file.
    generation: u64,
}

impl FileLock {
    /// Opens the file `path`, to lock it by `flock(2)`. Creates the file with mode 0600 if it does
    /// not exist.
    ///
    /// The file is opened for reading and writing, and is not locked yet.
    ///
    /// # Errors
    ///
    /// - [`Error::SymbolicLink`] or [`Error::NotARegularFile`] if the path does not name a regular
    ///   file. Nothing is opened then.
    /// - [`Error::RemoteFileSystem`] if the file lies on NFS, 9p, FUSE or a similar file system. A
    ///   server keeps the lock there, and may lose it or limit it to one machine.
    /// - [`Error::NoDescriptors`] if fewer than two descriptors are left.
    /// - [`Error::Os`] if the kernel refuses, for example if a permission or the directory is
    ///   missing.
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

    /// Opens the file like [`flock`](Self::flock), to lock it by `fcntl(2)` with `F_OFD_SETLK`.
    ///
    /// A lock covers the file from its first byte to its end, even if the file grows.
    ///
    /// # Errors
    ///
    /// As for [`flock`](Self::flock).
    pub fn ofd(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open(path.as_ref(), FileLockKind::Ofd)
    }

    fn open(path: &Path, call: FileLockKind) -> Result<Self, Error> {
        Ok(FileLock {
            file: open_or_create(path, files::MODE)?,
            call,
            path: absolute(path)?,
            generation: current_thread().generation(),
        })
    }

    /// Locks the file, blocking until the lock is acquired. The kernel chooses the order of
    /// waiters.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InheritedFileLock`] in any process other than the one that opened the file.
    /// Returns [`Error::Os`] if the kernel has no memory for the lock (`ENOLCK`), or if a security
    /// module refuses it. If the file was removed or replaced, also returns the errors of
    /// [`flock`](Self::flock); no lock is held then.
    pub fn lock(&mut self) -> Result<FileLockGuard<'_>, Error> {
        self.refuse_inherited()?;
        loop {
            let outcome = self.call.lock(&self.file);
            outcome.map_err(|source| self.failed(source))?;
            if self.keep_if_current()? {
                return Ok(FileLockGuard { lock: self });
            }
        }
    }

    /// Locks the file, without waiting.
    ///
    /// # Errors
    ///
    /// Returns [`Error::WouldBlock`] if another handle holds the lock, and the errors of
    /// [`lock`](Self::lock).
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
        while self.try_call()? {
            if self.keep_if_current()? {
                return Ok(FileLockGuard { lock: self });
            }
        }
        Err(Error::WouldBlock)
    }

    /// Locks the file, waiting for at most `timeout` on the monotonic clock.
    ///
    /// Neither system call has a timeout, so this method tries again after pauses of 1 to 50 ms.
    /// Waiters inside [`lock`](Self::lock) are served first.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if another handle held the lock until the timeout expired, and
    /// the errors of [`lock`](Self::lock).
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

    /// Waits like [`lock_timeout`](Self::lock_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`lock_timeout`](Self::lock_timeout).
    pub fn lock_until(&mut self, deadline: Instant) -> Result<FileLockGuard<'_>, Error> {
        self.lock_with(Deadline::at(deadline))
    }

    fn lock_with(&mut self, deadline: Deadline) -> Result<FileLockGuard<'_>, Error> {
        const LONGEST_PAUSE: Duration = Duration::from_millis(50);
        let mut pause = Duration::from_millis(1);
        self.refuse_inherited()?;
        loop {
            let acquired = self.try_call()?;
            if acquired && self.keep_if_current()? {
                return Ok(FileLockGuard { lock: self });
            }
            if acquired {
                continue;
            }
            if deadline.has_passed() {
                return Err(Error::TimedOut);
            }
            deadline.min(Deadline::after(pause)).sleep();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn try_call(&self) -> Result<bool, Error> {
        let outcome = self.call.try_lock(&self.file);
        outcome.map_err(|source| self.failed(source))
    }

    /// Keeps the lock that was just acquired, if the path still names the locked file. Otherwise
    /// releases it and opens the file that the path names now, or creates it.
    ///
    /// A holder may have removed the file before it released the lock. Lockers that open the path
    /// later lock another file, so this lock would not exclude them.
    fn keep_if_current(&mut self) -> Result<bool, Error> {
        let successor = named_by(&self.path, &self.file).and_then(|named| match named {
            Named::ThisFile => Ok(None),
            Named::AnotherFile | Named::Nothing => self.successor().map(Some),
        });
        if !matches!(successor, Ok(None)) {
            self.call.unlock(&self.file);
        }
        match successor? {
            None => Ok(true),
            Some(successor) => {
                self.file = successor;
                Ok(false)
            }
        }
    }

    /// Opens the file that the path names now, or creates it with the mode of the one that was
    /// removed.
    fn successor(&self) -> Result<File, Error> {
        let metadata = self.file.metadata().map_err(|source| self.failed(source))?;
        open_or_create(&self.path, metadata.mode() & 0o777)
    }

    fn is_inherited(&self) -> bool {
        // Not `CurrentThread::of_generation`: this may be the first call in the calling thread, and
        // its identity is not cached then.
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

/// The lock of a [`FileLock`]. Dropping it releases the lock.
///
/// A forked child's copy of the guard does nothing when it is dropped, because the lock belongs to
/// the parent. The guard may be dropped in another thread than the one that locked the file.
///
/// If the guard is leaked ([`std::mem::forget`]), the file stays locked until the handle is
/// dropped. In the meantime the handle itself can be locked again.
#[must_use = "if unused the FileLock will immediately unlock"]
#[derive(Debug)]
pub struct FileLockGuard<'a> {
    lock: &'a mut FileLock,
}

impl Drop for FileLockGuard<'_> {
    fn drop(&mut self) {
        // A child shares the open file description with its parent, so an unlock in the child would
        // release the parent's lock.
        if !self.lock.is_inherited() {
            self.lock.call.unlock(&self.lock.file);
        }
    }
}

fn open_or_create(path: &Path, mode: u32) -> Result<File, Error> {
    let failed = |source| Error::os(format!("open of {}", path.display()), source);
    loop {
        match files::open_path(path) {
            Ok(found) => return open_checked(&found, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(source)),
        }
        let directory = files::open_directory(files::directory_of(path)).map_err(failed)?;
        reject_remote_fs(&directory, path)?;
        match files::create_exclusive(path) {
            Ok(file) => {
                // The umask may have removed permissions.
                file.set_permissions(Permissions::from_mode(mode))
                    .map_err(failed)?;
                return Ok(file);
            }
            // Another process created the file first.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(failed(source)),
        }
    }
}

fn open_checked(found: &File, path: &Path) -> Result<File, Error> {
    let metadata = found
        .metadata()
        .map_err(|source| Error::os(format!("stat of {}", path.display()), source))?;
    reject_irregular(metadata.file_type(), path)?;
    reject_remote_fs(found, path)?;
    reopen(found, path)
}

static_assertions::assert_impl_all!(FileLock: Send, Sync);
static_assertions::assert_impl_all!(FileLockGuard<'static>: Send, Sync);
static_assertions::assert_not_impl_any!(FileLock: crate::ShmSafe, crate::ShmData, Clone);
