//! [`SysvSemaphore`]: a semaphore that lies in the kernel, whose permits come back when a process dies.

use crate::Error;
use crate::sys::{Deadline, Errno, SEMAPHORE_SET_MAX, SemaphoreSet, SysError, current_thread};
use std::time::{Duration, Instant};

/// A System V semaphore: a counter in the kernel, which processes find by a number, and whose permits the kernel gives back
/// when their holder dies (`SEM_UNDO`).
///
/// Nothing of it lies in a map; this is a handle. [`private`](Self::private) makes the semaphore. Children that were forked since
/// use a copy of the handle, other processes [`attach`](Self::attach) to its [`id`](Self::id), which somebody has to tell them.
///
/// # Who removes it
///
/// The kernel keeps a semaphore until somebody removes it, or the machine stops. The handle that
/// [`private`](Self::private) gave removes it when it is dropped, in the process that made it; a copy in a child does not, and
/// neither do handles that attached. Whoever waits then gets [`Error::SemaphoreRemoved`]. **A maker that is killed, or leaves by
/// [`exit`](std::process::exit), leaves it behind**: `ipcs -s` shows it, and `ipcrm -s ID` or [`remove`](Self::remove) removes it.
///
/// An id means something in one IPC namespace only, that of a container, say.
///
/// # What a death does
///
/// The kernel gives back the permits of a dead process, and wakes whom they are for. The next one gets them **silently**:
/// nobody is told that there was a death, or that what the semaphore guards may be half written. Where that matters use
/// [`SharedMutex`](crate::SharedMutex), which tells. What the kernel knows:
///
/// - It keeps the account a *process*, not a thread: a thread that ends with its permit forgotten gives nothing back.
/// - A child inherits none of it: its parent's permits stay its parent's, and come back when the parent ends.
/// - **An `exec` is no death here**: the account stays, so a permit that was held then comes back when the new program ends.
/// - `unshare(2)` with `CLONE_NEWIPC` or `CLONE_SYSVSEM` counts as one: do not call it while you hold a permit.
/// - A `semctl(2)` by another program that sets the value (`SETVAL`) erases every account.
///
/// # Examples
///
/// ```
/// use pshared::{fork, SysvSemaphore};
///
/// let gate = SysvSemaphore::private(1)?;
/// let child = fork::spawn(|| {
///     std::mem::forget(gate.acquire().unwrap());
///     std::process::abort(); // with the permit in its hands
/// })?;
/// assert!(!child.wait()?.success());
/// let _permit = gate.acquire()?; // the kernel has given it back
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
    /// The process that made it, for the handle that removes it.
    maker: Option<u64>,
}

impl SysvSemaphore {
    /// The largest number of permits: `SEMVMX`, 32,767.
    pub const MAX: u32 = SEMAPHORE_SET_MAX;

    /// Makes a semaphore with `permits` permits: a set of one, without a key (`IPC_PRIVATE`), with mode 0600. It is removed
    /// when this handle is dropped; see [above](Self#who-removes-it).
    ///
    /// # Errors
    ///
    /// [`Error::TooManyPermits`] beyond [`MAX`](Self::MAX); [`Error::SemaphoreLimit`] where a limit of the sysctl
    /// `kernel.sem` is reached (`ENOSPC`); [`Error::Os`] where there is no memory, or no System V IPC in the kernel.
    pub fn private(permits: u32) -> Result<Self, Error> {
        if permits > Self::MAX {
            return Err(Error::TooManyPermits {
                asked: permits,
                max: Self::MAX,
            });
        }
        Ok(SysvSemaphore {
            set: SemaphoreSet::create(permits).map_err(|error| match error.errno {
                Errno::ENOSPC => Error::SemaphoreLimit,
                _ => error.into(),
            })?,
            maker: Some(current_thread().generation()),
        })
    }

    /// A handle on the semaphore with this id, which [`private`](Self::private) made in another process.
    ///
    /// Ids are numbers that the kernel gives out again, though late: one that was kept for long may be another's by now.
    ///
    /// # Errors
    ///
    /// [`Error::SemaphoreRemoved`] where there is none; [`Error::SemaphoreSetMismatch`] where it is not one of this crate's;
    /// [`Error::Os`] where it is another user's (`EACCES`).
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
    /// drop(made); // which removes it
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

    /// The kernel's number of the semaphore, for [`attach`](Self::attach).
    pub fn id(&self) -> i32 {
        self.set.0
    }

    /// Removes the semaphore now, for everybody, whoever made it. Whoever waits gets [`Error::SemaphoreRemoved`].
    ///
    /// # Errors
    ///
    /// [`Error::SemaphoreRemoved`] where somebody was faster; [`Error::Os`] where it is another user's (`EPERM`).
    pub fn remove(mut self) -> Result<(), Error> {
        self.maker = None;
        self.set.remove().map_err(|error| self.named(error))
    }

    /// Takes a permit that comes back when it is dropped, or when the process dies, waiting for one as long as it takes. The
    /// order of waiters is the kernel's.
    ///
    /// # Errors
    ///
    /// [`Error::SemaphoreRemoved`] where somebody has removed it, also while this waits;
    /// [`Error::TooManyPermitsHeld`] where the process holds [`MAX`](Self::MAX) already (`ERANGE`); [`Error::Os`] where the
    /// kernel has no memory to note the permit, or another user may not take it.
    pub fn acquire(&self) -> Result<SysvPermit<'_>, Error> {
        self.set.take(None).map_err(|error| self.named(error))?;
        Ok(self.permit())
    }

    /// As [`acquire`](Self::acquire), without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] where there is none; as [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<SysvPermit<'_>, Error> {
        if self.set.try_take().map_err(|error| self.named(error))? {
            Ok(self.permit())
        } else {
            Err(Error::WouldBlock)
        }
    }

    /// As [`acquire`](Self::acquire), waiting no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`]; as [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<SysvPermit<'_>, Error> {
        let deadline = Some(Deadline::after(timeout));
        if self.set.take(deadline).map_err(|error| self.named(error))? {
            Ok(self.permit())
        } else {
            Err(Error::TimedOut)
        }
    }

    /// As [`acquire_timeout`](Self::acquire_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_until(&self, deadline: Instant) -> Result<SysvPermit<'_>, Error> {
        let deadline = Some(Deadline::at(deadline));
        if self.set.take(deadline).map_err(|error| self.named(error))? {
            Ok(self.permit())
        } else {
            Err(Error::TimedOut)
        }
    }

    /// The permits that are free: `semctl(GETVAL)`. The answer may be out of date when it is read.
    ///
    /// # Errors
    ///
    /// [`Error::SemaphoreRemoved`]; [`Error::Os`] where another user may not read it.
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

/// Gives the errors of semaphore operations their names.
fn named(set: SemaphoreSet, error: SysError) -> Error {
    let id = set.0;
    match error.errno {
        Errno::EIDRM | Errno::EINVAL => Error::SemaphoreRemoved { id },
        // The initial value of a semaphore was checked, so this is the count that one process holds.
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
        // The thread may be one that was never asked who it is.
        if self.maker == Some(current_thread().generation()) {
            // It is gone either way where somebody else has removed it.
            let _ = self.set.remove();
        }
    }
}

/// A permit of a [`SysvSemaphore`], given back when it is dropped, or when its process dies.
///
/// A copy of it in a child that was forked meanwhile does nothing when it is dropped: the permit is the parent's. Another
/// thread than the one that took it may drop it. Forgetting it ([`std::mem::forget`]) keeps the permit until the process ends.
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
