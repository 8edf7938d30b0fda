//! [`SharedSemaphore`]: a POSIX semaphore, and permits that come back by themselves.

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmSafe};
use crate::raw::futex_semaphore::FutexSemaphore;
use crate::sys::{AtomicU32, Deadline, SEMAPHORE_MAX, Semaphore, current_thread};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A counting semaphore in shared memory: a real `sem_t`, made by `sem_init(pshared = 1)` at the address where it stays.
///
/// [`acquire`](Self::acquire) gives a [`SemaphorePermit`] that comes back when it is dropped. [`wait`](Self::wait) and
/// [`post`](Self::post) are the bare operations, for permits that one takes and another gives.
///
/// Before it is placed it counts too, for the threads of this process, and may be moved; the count moves with it.
///
/// # What a death does
///
/// As POSIX has it, **the permit of a dead holder is lost**: a semaphore does not know its holders. Where that matters use
/// [`SharedPermits`](crate::SharedPermits) instead, or a [`SysvSemaphore`](crate::SysvSemaphore), whose permits the kernel gives
/// back. A waiter that dies just when it was woken takes the wake-up with it; the
/// others notice the permit within a second, which is as long as a sleep here lasts without a look.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedSemaphore};
///
/// let ready = Shared::anonymous(SharedSemaphore::new(0))?;
/// let child = fork::spawn(|| ready.post().unwrap())?;
/// ready.wait()?; // until the child has posted
/// assert!(child.wait()?.success());
///
/// let gate = Shared::anonymous(SharedSemaphore::new(1))?;
/// {
///     let _permit = gate.acquire()?;
///     assert!(gate.try_acquire().is_err());
/// }
/// assert_eq!(gate.value(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// [sem_overview(7)](https://man7.org/linux/man-pages/man7/sem_overview.7.html).
#[repr(C)]
pub struct SharedSemaphore {
    semaphore: Semaphore,
    /// The permits while the semaphore is not placed; what it starts with when it is.
    unarmed: FutexSemaphore,
    armed: AtomicU32,
}

impl SharedSemaphore {
    /// The largest number of permits: `SEM_VALUE_MAX`, 2^31 - 1.
    pub const MAX: u32 = SEMAPHORE_MAX;

    /// A semaphore with `permits` permits.
    ///
    /// # Panics
    ///
    /// Where `permits` is more than [`MAX`](Self::MAX).
    pub const fn new(permits: u32) -> Self {
        assert!(
            permits <= Self::MAX,
            "a semaphore holds at most 2^31 - 1 permits"
        );
        SharedSemaphore {
            semaphore: Semaphore::new(),
            unarmed: FutexSemaphore::new(permits),
            armed: AtomicU32::new(0),
        }
    }

    /// Takes a permit that comes back when it is dropped, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// None today; the result leaves room for a semaphore that can be closed.
    pub fn acquire(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.wait().map(|()| self.permit())
    }

    /// Takes a permit that comes back when it is dropped, without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] where there is none.
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.try_wait().map(|()| self.permit())
    }

    /// Takes a permit that comes back when it is dropped, waiting no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`].
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<SemaphorePermit<'_>, Error> {
        self.wait_timeout(timeout).map(|()| self.permit())
    }

    /// As [`acquire_timeout`](Self::acquire_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_until(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Error> {
        self.wait_until(deadline).map(|()| self.permit())
    }

    /// Takes a permit for good, waiting for one as long as it takes: `sem_wait`.
    ///
    /// # Errors
    ///
    /// None today.
    #[inline]
    pub fn wait(&self) -> Result<(), Error> {
        if !self.take() {
            self.wait_with(None);
        }
        Ok(())
    }

    /// Takes a permit for good, without waiting: `sem_trywait`.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] where there is none.
    #[inline]
    pub fn try_wait(&self) -> Result<(), Error> {
        if self.take() {
            Ok(())
        } else {
            Err(Error::WouldBlock)
        }
    }

    /// Takes a permit for good, waiting no longer than `timeout` of the monotonic clock: `sem_clockwait`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), Error> {
        if self.take() || self.wait_with(Some(Deadline::after(timeout))) {
            Ok(())
        } else {
            Err(Error::TimedOut)
        }
    }

    /// As [`wait_timeout`](Self::wait_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Self::wait_timeout).
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
    /// [`Error::SemaphoreFull`] where there are [`MAX`](Self::MAX) already (`EOVERFLOW`).
    #[inline]
    pub fn post(&self) -> Result<(), Error> {
        let posted = if self.is_initialized() {
            // SAFETY: an armed semaphore was initialized.
            unsafe { self.semaphore.post() }
        } else {
            self.unarmed.post(Self::MAX)
        };
        if posted {
            Ok(())
        } else {
            Err(Error::SemaphoreFull { max: Self::MAX })
        }
    }

    /// The permits that are free: `sem_getvalue`. The answer may be out of date when it is read.
    pub fn value(&self) -> u32 {
        if self.is_initialized() {
            // SAFETY: an armed semaphore was initialized.
            unsafe { self.semaphore.value() }
        } else {
            self.unarmed.value()
        }
    }

    #[inline]
    fn is_initialized(&self) -> bool {
        self.armed.load(Relaxed) != 0
    }

    #[inline]
    fn take(&self) -> bool {
        if self.is_initialized() {
            // SAFETY: an armed semaphore was initialized.
            unsafe { self.semaphore.try_wait() }
        } else {
            self.unarmed.try_wait()
        }
    }

    #[cold]
    fn wait_with(&self, deadline: Option<Deadline>) -> bool {
        if !self.is_initialized() {
            return self.unarmed.wait_until(deadline);
        }
        // SAFETY: an armed semaphore was initialized.
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

/// A permit of a [`SharedSemaphore`], given back when it is dropped.
///
/// A copy of it in a child that was forked meanwhile does nothing when it is dropped: the permit is the parent's. Forgetting
/// it ([`std::mem::forget`]) keeps the permit for good, as [`SharedSemaphore::wait`] does.
#[must_use = "if unused the permit goes back at once"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a SharedSemaphore,
    generation: u64,
    marker: PhantomData<&'a ()>,
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        // The thread may be another one than that which took the permit, and one that was never asked who it is.
        if current_thread().generation() == self.generation {
            // It fits, unless somebody has posted permits that were never taken.
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

// SAFETY: `repr(C)` over glibc's `sem_t` and two atomics; an initialized `sem_t` with pshared = 1 is made to be shared.
// Zero bytes are an unarmed semaphore without permits.
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
        // SAFETY: the caller's promise; the count is at most `MAX`, by `new` and `post`.
        unsafe { self.semaphore.init(self.unarmed.value()) };
        self.armed.store(1, Relaxed);
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        // A permit has no place in the map that the kernel would write to.
        false
    }

    unsafe fn reset(&self) {
        // The permits that are free stay free; a `sem_t` also counts its sleepers, who are gone.
        let free = self.value();
        // SAFETY: the caller's promise.
        unsafe { self.semaphore.init(free) };
    }
}

static_assertions::assert_eq_size!(SharedSemaphore, [u8; 40]);
static_assertions::assert_impl_all!(SharedSemaphore: Send, Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedSemaphore: crate::ShmData);
