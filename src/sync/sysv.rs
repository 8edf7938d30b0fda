//! [`SysvSemaphore`]: a semaphore in the kernel, whose permits are released when a process dies.

use crate::Error;
use crate::sys::{Deadline, Errno, SEMAPHORE_SET_MAX, SemaphoreSet, SysError, current_thread};
use std::time::{Duration, Instant};

/// A System V semaphore: a counter in the kernel that processes find by a number. If a holder dies,
/// the kernel releases its permits (`SEM_UNDO`).
///
/// It does not lie in a map; this type is a handle. [`private`](Self::private) creates the
/// semaphore. Children that are forked afterwards use a copy of the handle. Other processes
/// [`attach`](Self::attach) to its [`id`](Self::id), which they must receive from the program.
///
/// # Removal
///
/// The kernel keeps a semaphore until it is removed or the machine stops. The handle that
/// [`private`](Self::private) returned removes it when that handle is dropped in the process that
/// created it. Copies in children and attached handles do not remove it. When the semaphore is
/// removed, its waiters receive [`Error::SemaphoreRemoved`].
///
/// **A creator that is killed, or that ends by [`exit`](std::process::exit), leaves the semaphore
/// behind.** `ipcs -s` lists it, and `ipcrm -s ID` or [`remove`](Self::remove) removes it.
///
/// An id is valid in one IPC namespace only, such as that of a container.
///
/// # What a death does
///
/// The kernel releases the permits of a dead process, and wakes waiters for them. The next holder
/// takes a permit **silently**: no call reports that there was a death, or that the protected data
/// may be half written. If that matters, use [`SharedMutex`](crate::SharedMutex), which reports it.
/// The kernel's rules are:
///
/// - It records permits for each *process*, not for each thread. A thread that ends after its
///   permit was leaked releases nothing.
/// - A child inherits none of them. The parent's permits stay with the parent, and are released
///   when the parent ends.
/// - **An `exec` does not count as a death.** The record stays, so a permit that was held across
///   the `exec` is released when the new program ends.
/// - `unshare(2)` with `CLONE_NEWIPC` or `CLONE_SYSVSEM` counts as a death. Do not call it while
///   you hold a permit.
/// - A `semctl(2)` call by another program that sets the value (`SETVAL`) erases the records of all
///   processes.
///
/// # Examples
///
/// ```
/// use pshared::{fork, SysvSemaphore};
///
/// let semaphore = SysvSemaphore::private(1)?;
/// let child = fork::spawn(|| {
///     std::mem::forget(semaphore.acquire().unwrap());
///     std::process::abort(); // while it holds the permit
/// })?;
/// assert!(!child.wait()?.success());
/// let _permit = semaphore.acquire()?; // the kernel has released it
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// [semop(2)](https://man7.org/linux/man-pages/man2/semop.2.html),
/// [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html),
/// [sysvipc(7)](https://man7.org/linux/man-pages/man7/sysvipc.7.html).
#[derive(Debug)]
pub struct SysvSemaphore {
    set: SemaphoreSet,
    /// The process that created the semaphore, if this handle removes it.
    maker: Option<u64>,
}

impl SysvSemaphore {
    /// The largest number of permits: `SEMVMX`, 32,767.
    pub const MAX: u32 = SEMAPHORE_SET_MAX;

    /// Creates a semaphore with `permits` permits: a set of one semaphore, without a key
    /// (`IPC_PRIVATE`), with mode 0600.
    ///
    /// Dropping this handle removes the semaphore; see [Removal](Self#removal).
    ///
    /// # Errors
    ///
    /// - [`Error::TooManyPermits`] if `permits` is more than [`MAX`](Self::MAX).
    /// - [`Error::SemaphoreLimit`] if a limit of the sysctl `kernel.sem` is reached (`ENOSPC`).
    /// - [`Error::Os`] if there is no memory, or if the kernel lacks System V IPC.
    pub fn private(permits: u32) -> Result<Self, Error> {
        if permits > Self::MAX {
            return Err(Error::TooManyPermits {
                asked: permits,
                max: Self::MAX,
            });
        }
        Ok(SysvSemaphore {
            set: SemaphoreSet::create(permits).map_err(|error| {
                match (error.call.as_str(), error.errno) {
                    ("semget", Errno::ENOSPC) => Error::SemaphoreLimit,
                    _ => error.into(),
                }
            })?,
            maker: Some(current_thread().generation()),
        })
    }

    /// Returns a handle to the semaphore with this id, which [`private`](Self::private) created in
    /// another process.
    ///
    /// The kernel reuses ids, although not soon: an id that was kept for a long time may refer to
    /// another semaphore.
    ///
    /// # Errors
    ///
    /// - [`Error::SemaphoreRemoved`] if there is no such semaphore.
    /// - [`Error::SemaphoreSetMismatch`] if its set has other than one semaphore: another program
    ///   created it.
    /// - [`Error::Os`] if it belongs to another user (`EACCES`).
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Error, SysvSemaphore};
    ///
    /// let made = SysvSemaphore::private(2)?;
    /// let attached = SysvSemaphore::attach(made.id())?;
    /// let permit = attached.acquire()?;
    /// assert_eq!(made.value()?, 1);
    /// drop(permit);
    /// drop(made); // removes the semaphore
    /// assert!(matches!(attached.value(), Err(Error::SemaphoreRemoved { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn attach(id: i32) -> Result<Self, Error> {
        let set = SemaphoreSet(id);
        match set.size().map_err(|error| named(set, error))? {
            1 => Ok(SysvSemaphore { set, maker: None }),
            found => Err(Error::SemaphoreSetMismatch { id, found }),
        }
    }

    /// Returns the kernel's id of the semaphore, for [`attach`](Self::attach).
    pub fn id(&self) -> i32 {
        self.set.0
    }

    /// Removes the semaphore, whichever process created it. Its waiters receive
    /// [`Error::SemaphoreRemoved`].
    ///
    /// # Errors
    ///
    /// Returns [`Error::SemaphoreRemoved`] if it was removed already, and [`Error::Os`] if it
    /// belongs to another user (`EPERM`).
    pub fn remove(mut self) -> Result<(), Error> {
        self.maker = None;
        self.set.remove().map_err(|error| self.named(error))
    }

    /// Takes a permit, blocking until one is available. The permit is released when the guard is
    /// dropped or the process dies. The kernel chooses the order of waiters.
    ///
    /// # Errors
    ///
    /// - [`Error::SemaphoreRemoved`] if the semaphore was removed, also during the wait.
    /// - [`Error::TooManyPermitsHeld`] if the process holds [`MAX`](Self::MAX) permits already
    ///   (`ERANGE`).
    /// - [`Error::Os`] if the kernel has no memory to record the permit, or if the semaphore
    ///   belongs to another user.
    pub fn acquire(&self) -> Result<SysvPermit<'_>, Error> {
        self.set.take(None).map_err(|error| self.named(error))?;
        Ok(self.permit())
    }

    /// Takes a permit like [`acquire`](Self::acquire), without waiting.
    ///
    /// # Errors
    ///
    /// Returns [`Error::WouldBlock`] if no permit is available, and the errors of
    /// [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<SysvPermit<'_>, Error> {
        if self.set.try_take().map_err(|error| self.named(error))? {
            Ok(self.permit())
        } else {
            Err(Error::WouldBlock)
        }
    }

    /// Takes a permit like [`acquire`](Self::acquire), but waits for at most `timeout` on the
    /// monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if no permit was available in time, and the errors of
    /// [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<SysvPermit<'_>, Error> {
        let deadline = Some(Deadline::after(timeout));
        if self.set.take(deadline).map_err(|error| self.named(error))? {
            Ok(self.permit())
        } else {
            Err(Error::TimedOut)
        }
    }

    /// Waits like [`acquire_timeout`](Self::acquire_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_until(&self, deadline: Instant) -> Result<SysvPermit<'_>, Error> {
        let deadline = Some(Deadline::at(deadline));
        if self.set.take(deadline).map_err(|error| self.named(error))? {
            Ok(self.permit())
        } else {
            Err(Error::TimedOut)
        }
    }

    /// Returns the number of available permits: `semctl(GETVAL)`. The result may be outdated when
    /// the caller reads it.
    ///
    /// # Errors
    ///
    /// Returns [`Error::SemaphoreRemoved`] if the semaphore was removed, and [`Error::Os`] if
    /// another user's semaphore may not be read.
    pub fn value(&self) -> Result<u32, Error> {
        self.set.value().map_err(|error| self.named(error))
    }

    fn named(&self, error: SysError) -> Error {
        named(self.set, error)
    }

    fn permit(&self) -> SysvPermit<'_> {
        SysvPermit {
            semaphore: self,
            generation: current_thread().generation(),
        }
    }
}

/// Converts the error of a semaphore operation to the variant for it.
fn named(set: SemaphoreSet, error: SysError) -> Error {
    let id = set.0;
    match error.errno {
        Errno::EIDRM | Errno::EINVAL => Error::SemaphoreRemoved { id },
        // The initial value was checked, so the limit that was exceeded is that of one process.
        Errno::ERANGE => Error::TooManyPermitsHeld {
            id,
            max: SEMAPHORE_SET_MAX,
        },
        // EACCES and EPERM (another user's semaphore), ENOMEM, ENOSYS.
        _ => error.into(),
    }
}

impl Drop for SysvSemaphore {
    fn drop(&mut self) {
        // Not `CurrentThread::of_generation`: this may be the first call in the calling thread, and
        // its identity is not cached then.
        if self.maker == Some(current_thread().generation()) {
            // If this fails because the semaphore was removed already, there is nothing left to do.
            let _ = self.set.remove();
        }
    }
}

/// A permit of a [`SysvSemaphore`]. It is released when it is dropped or its process dies.
///
/// A forked child's copy does nothing when it is dropped, because the permit belongs to the parent.
/// The permit may be dropped in another thread than the one that took it. If it is leaked
/// ([`std::mem::forget`]), it is released when the process ends.
#[must_use = "if unused the permit goes back at once"]
#[derive(Debug)]
pub struct SysvPermit<'a> {
    semaphore: &'a SysvSemaphore,
    generation: u64,
}

impl Drop for SysvPermit<'_> {
    fn drop(&mut self) {
        if current_thread().generation() == self.generation {
            self.semaphore.set.give();
        }
    }
}

static_assertions::assert_impl_all!(SysvSemaphore: Send, Sync);
static_assertions::assert_impl_all!(SysvPermit<'static>: Send, Sync);
static_assertions::assert_not_impl_any!(SysvSemaphore: crate::ShmSafe, crate::ShmData, Clone);
