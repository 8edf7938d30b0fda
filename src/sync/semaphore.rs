//! [`SharedSemaphore`]: a POSIX semaphore, with permits that are released when they are dropped.

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmSafe};
use crate::raw::futex_semaphore::FutexSemaphore;
use crate::sys::{AtomicU32, Deadline, SEMAPHORE_MAX, Semaphore, current_thread};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A counting semaphore in shared memory: a POSIX `sem_t`, initialized by `sem_init(pshared = 1)`
/// at its final address.
///
/// [`acquire`](Self::acquire) returns a [`SemaphorePermit`]. Dropping it releases the permit.
/// [`wait`](Self::wait) and [`post`](Self::post) are the plain operations, for permits that one
/// thread takes and another adds.
///
/// Before it is placed in a map, the semaphore counts for the threads of this process. It may be
/// moved, and the count moves with it.
///
/// # What a death does
///
/// As POSIX specifies, **the permit of a dead holder is lost**, because a semaphore does not record
/// its holders. If that matters, use [`SharedPermits`](crate::SharedPermits), or a
/// [`SysvSemaphore`](crate::SysvSemaphore), whose permits the kernel releases.
///
/// A waiter that dies when it is woken loses the wake-up. The other waiters notice the permit
/// within a second, because no wait here sleeps longer than a second without a check.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedSemaphore};
///
/// let ready = Shared::anonymous(SharedSemaphore::new(0))?;
/// let child = fork::spawn(|| ready.post().unwrap())?;
/// ready.wait()?; // returns once the child has posted
/// assert!(child.wait()?.success());
///
/// let semaphore = Shared::anonymous(SharedSemaphore::new(1))?;
/// {
///     let _permit = semaphore.acquire()?;
///     assert!(semaphore.try_acquire().is_err());
/// }
/// assert_eq!(semaphore.value(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// [sem_overview(7)](https://man7.org/linux/man-pages/man7/sem_overview.7.html).
#[repr(C)]
pub struct SharedSemaphore {
    semaphore: Semaphore,
    /// The permits while the semaphore is not placed; afterwards, its initial value.
    in_process: FutexSemaphore,
    initialized: AtomicU32,
}

impl SharedSemaphore {
    /// The largest number of permits: `SEM_VALUE_MAX`, 2^31 - 1.
    pub const MAX: u32 = SEMAPHORE_MAX;

    /// Creates a semaphore with `permits` permits.
    ///
    /// # Panics
    ///
    /// Panics if `permits` is more than [`MAX`](Self::MAX).
    pub const fn new(permits: u32) -> Self {
        assert!(
            permits <= Self::MAX,
            "a semaphore holds at most 2^31 - 1 permits"
        );
        SharedSemaphore {
            semaphore: Semaphore::new(),
            in_process: FutexSemaphore::new(permits),
            initialized: AtomicU32::new(0),
        }
    }

    /// Takes a permit, blocking until one is available. Dropping the guard releases it.
    ///
    /// # Errors
    ///
    /// Never returns an error today. The result type allows for a semaphore that can be closed.
    pub fn acquire(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.wait().map(|()| self.permit())
    }

    /// Takes a permit without waiting. Dropping the guard releases it.
    ///
    /// # Errors
    ///
    /// Returns [`Error::WouldBlock`] if no permit is available.
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.try_wait().map(|()| self.permit())
    }

    /// Takes a permit, waiting for at most `timeout` on the monotonic clock. Dropping the guard
    /// releases it.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if no permit was available in time.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<SemaphorePermit<'_>, Error> {
        self.wait_timeout(timeout).map(|()| self.permit())
    }

    /// Waits like [`acquire_timeout`](Self::acquire_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_until(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Error> {
        self.wait_until(deadline).map(|()| self.permit())
    }

    /// Takes a permit without a guard, blocking until one is available: `sem_wait`.
    ///
    /// # Errors
    ///
    /// Never returns an error today.
    #[inline]
    pub fn wait(&self) -> Result<(), Error> {
        if !self.take() {
            self.wait_with(None);
        }
        Ok(())
    }

    /// Takes a permit without a guard and without waiting: `sem_trywait`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::WouldBlock`] if no permit is available.
    #[inline]
    pub fn try_wait(&self) -> Result<(), Error> {
        if self.take() {
            Ok(())
        } else {
            Err(Error::WouldBlock)
        }
    }

    /// Takes a permit without a guard, waiting for at most `timeout` on the monotonic clock:
    /// `sem_clockwait`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if no permit was available in time.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), Error> {
        if self.take() || self.wait_with(Some(Deadline::after(timeout))) {
            Ok(())
        } else {
            Err(Error::TimedOut)
        }
    }

    /// Waits like [`wait_timeout`](Self::wait_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout`](Self::wait_timeout).
    pub fn wait_until(&self, deadline: Instant) -> Result<(), Error> {
        if self.take() || self.wait_with(Some(Deadline::at(deadline))) {
            Ok(())
        } else {
            Err(Error::TimedOut)
        }
    }

    /// Adds a permit and wakes a waiter: `sem_post`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::SemaphoreFull`] if there are [`MAX`](Self::MAX) permits already
    /// (`EOVERFLOW`).
    #[inline]
    pub fn post(&self) -> Result<(), Error> {
        let posted = if self.is_initialized() {
            // SAFETY: the semaphore is initialized.
            unsafe { self.semaphore.post() }
        } else {
            self.in_process.post(Self::MAX)
        };
        if posted {
            Ok(())
        } else {
            Err(Error::SemaphoreFull { max: Self::MAX })
        }
    }

    /// Returns the number of available permits: `sem_getvalue`. The result may be outdated when the
    /// caller reads it.
    pub fn value(&self) -> u32 {
        if self.is_initialized() {
            // SAFETY: the semaphore is initialized.
            unsafe { self.semaphore.value() }
        } else {
            self.in_process.value()
        }
    }

    #[inline]
    fn is_initialized(&self) -> bool {
        self.initialized.load(Relaxed) != 0
    }

    #[inline]
    fn take(&self) -> bool {
        if self.is_initialized() {
            // SAFETY: the semaphore is initialized.
            unsafe { self.semaphore.try_wait() }
        } else {
            self.in_process.try_wait()
        }
    }

    #[cold]
    fn wait_with(&self, deadline: Option<Deadline>) -> bool {
        if !self.is_initialized() {
            return self.in_process.wait_until(deadline);
        }
        // SAFETY: the semaphore is initialized.
        unsafe { self.semaphore.wait_in_slices(deadline) }
    }

    fn permit(&self) -> SemaphorePermit<'_> {
        SemaphorePermit {
            semaphore: self,
            generation: current_thread().generation(),
            marker: PhantomData,
        }
    }
}

/// A permit of a [`SharedSemaphore`]. Dropping it releases the permit.
///
/// A forked child's copy does nothing when it is dropped, because the permit belongs to the parent.
/// If the permit is leaked ([`std::mem::forget`]), it is never released, as after
/// [`SharedSemaphore::wait`].
#[must_use = "if unused the permit goes back at once"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a SharedSemaphore,
    generation: u64,
    marker: PhantomData<&'a ()>,
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        // The permit may be dropped in another thread than the one that took it. Not
        // `CurrentThread::of_generation`: this may be the first call in that thread, and its
        // identity is not cached then.
        if current_thread().generation() == self.generation {
            // This can only fail if permits were posted that had never been taken.
            let _ = self.semaphore.post();
        }
    }
}

impl fmt::Debug for SemaphorePermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphorePermit")
            .field("semaphore", self.semaphore)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SharedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSemaphore")
            .field("value", &self.value())
            .finish_non_exhaustive()
    }
}

const KIND: PrimitiveKind = PrimitiveKind("semaphore");

// SAFETY: `repr(C)` over glibc's `sem_t` and two atomics. A `sem_t` that was initialized with
// pshared = 1 may be shared. Zero bytes are a semaphore that is not initialized and has no permits.
#[diagnostic::do_not_recommend]
unsafe impl ShmSafe for SharedSemaphore {
    const ZERO_IS_VALID: bool = true;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(KIND);
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.primitive(self);
    }
}

impl Primitive for SharedSemaphore {
    fn kind(&self) -> PrimitiveKind {
        KIND
    }

    unsafe fn init(&self) -> Result<(), Error> {
        // SAFETY: guaranteed by the caller. The count is at most `MAX`, as `new` and `post` ensure.
        unsafe { self.semaphore.init(self.in_process.value()) };
        self.initialized.store(1, Relaxed);
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        // A holder of a permit is not recorded, so the kernel writes nothing to the map when it
        // dies.
        false
    }

    unsafe fn reset(&self) {
        // The available permits stay available. A `sem_t` also counts its waiters, which no longer
        // exist.
        let free = self.value();
        // SAFETY: guaranteed by the caller.
        unsafe { self.semaphore.init(free) };
    }
}

static_assertions::assert_eq_size!(SharedSemaphore, [u8; 40]);
static_assertions::assert_impl_all!(SharedSemaphore: Send, Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedSemaphore: crate::ShmData);
