//! [`SharedPermits`]: permits that are released when their holder dies.

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmSafe};
use crate::raw::Robust;
use crate::raw::multi::lock_set::LockSet;
use crate::raw::outcome::{Acquired, WaitMode};
use crate::sys::{self, CurrentThread, Deadline};
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// `N` permits in shared memory, numbered from 0 to `N - 1`: a counting semaphore that knows its
/// holders. `N` is 1 to 127.
///
/// [`acquire`](Self::acquire) returns a [`Permit`]. Dropping it releases the permit. Each permit is
/// a robust lock, so the kernel releases the permits of a killed process. Before they are placed in
/// a map, the permits work for the threads of this process, and the value may be moved and leaked.
///
/// Use the permits to limit how many threads work at once, or to assign `N` things of one kind: no
/// two permits that are held at the same time have the same [number](Permit::number).
///
/// # What a death does
///
/// If the holder of a permit dies, the permit is available again at once, and the kernel wakes a
/// waiter. The next holder can query this ([`Permit::previous_holder_died`]), and repair what the
/// dead holder left under that number. A waiter that dies, at any instruction, takes no permit and
/// causes no lost wake-up. If the kernel could not mark the permit of the dead thread, the waiters
/// detect the death within a second.
///
/// If the holder's *thread* ends after its guard was leaked, the permit stays taken while the
/// process lives.
///
/// # How it waits
///
/// Acquiring a free permit makes no system call, and neither does releasing a permit that no thread
/// waits for. The first waiter sleeps on all the permits by one call, and the other waiters queue
/// behind it. That call, `futex_waitv(2)`, needs Linux 5.16 or later. Without it, the first waiter
/// looks at the permits every two milliseconds. Permits are not assigned in the order of the calls.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedPermits};
///
/// let permits = Shared::anonymous(SharedPermits::<2>::new())?;
/// let child = fork::spawn(|| {
///     let _permit = permits.acquire().unwrap();
///     std::process::abort(); // without releasing it
/// })?;
/// child.wait()?;
///
/// let both = [permits.acquire()?, permits.acquire()?];
/// assert!(permits.try_acquire().is_err());
/// let after_the_dead = both.iter().filter(|permit| permit.previous_holder_died());
/// assert_eq!(after_the_dead.count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// Robust futexes as for [`SharedMutex`](crate::SharedMutex), and
/// [futex_waitv](https://docs.kernel.org/userspace-api/futex2.html) for the first waiter.
#[repr(C)]
pub struct SharedPermits<const N: usize> {
    queue_lock: Robust,
    permits: [PermitWord; N],
}

/// A permit, on its own cache line.
#[repr(C, align(64))]
pub(super) struct PermitWord(Robust);

impl AsRef<Robust> for PermitWord {
    fn as_ref(&self) -> &Robust {
        &self.0
    }
}

impl<const N: usize> SharedPermits<N> {
    /// Creates `N` free permits.
    ///
    /// `N` must be 1 to 127. Other values do not compile:
    ///
    /// ```compile_fail
    /// let no = pshared::SharedPermits::<128>::new();
    /// ```
    pub const fn new() -> Self {
        const {
            assert!(
                N >= 1 && N <= LockSet::<PermitWord>::MAX,
                "there may be 1 to 127 permits"
            )
        };
        SharedPermits {
            queue_lock: Robust::new(),
            permits: [const { PermitWord(Robust::new()) }; N],
        }
    }

    /// Acquires a permit, blocking until one is available.
    ///
    /// # Errors
    ///
    /// - [`Error::Deadlock`] if the calling thread holds all the permits.
    /// - [`Error::HolderThreadEnded`] if all the permits were held by threads that ended without
    ///   releasing them, and their processes still run.
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, Error> {
        self.acquire_with(WaitMode::Until(None))
    }

    /// Acquires a permit if one is free, without waiting.
    ///
    /// # Errors
    ///
    /// Returns [`Error::WouldBlock`] if no permit is free, and [`Error::HolderThreadEnded`] as for
    /// [`acquire`](Self::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Error> {
        self.acquire_with(WaitMode::Try)
    }

    /// Acquires a permit, waiting for at most `timeout` on the monotonic clock.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire), and [`Error::TimedOut`] if no permit was available in
    /// time.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, Error> {
        self.acquire_with(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// Waits like [`acquire_timeout`](Self::acquire_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_until(&self, deadline: Instant) -> Result<Permit<'_>, Error> {
        self.acquire_with(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Returns how many permits are available, including those of dead holders. The result may be
    /// outdated when the caller reads it.
    pub fn available(&self) -> usize {
        let free = |permit: &&PermitWord| permit.0.is_unowned();
        self.permits.iter().filter(free).count()
    }

    #[inline]
    fn acquire_with(&self, mode: WaitMode) -> Result<Permit<'_>, Error> {
        let current = sys::current_thread();
        // Threads start at different permits, so they do not contend for one while others are free.
        let first = current.tid() as usize % N;
        if self.permits[first].0.try_acquire_fast(current) {
            return Ok(self.guard(current, first, Acquired::Released));
        }
        let (number, acquired) = self
            .lock_set()
            .acquire(current, first, mode)
            .map_err(Error::from_acquire)?;
        Ok(self.guard(current, number, acquired))
    }

    pub(super) fn lock_set(&self) -> LockSet<'_, PermitWord> {
        LockSet {
            words: &self.permits,
            queue_lock: &self.queue_lock,
        }
    }

    /// Returns the guard of a permit that the calling thread has just acquired.
    #[inline]
    fn guard(&self, current: CurrentThread, number: usize, acquired: Acquired) -> Permit<'_> {
        Permit {
            permit: &self.permits[number].0,
            number: number as u32,
            previous_holder_died: acquired.owner_died(),
            generation: current.generation(),
            not_send: PhantomData,
        }
    }

    fn words(&self) -> impl Iterator<Item = &Robust> {
        let permits = self.permits.iter().map(|permit| &permit.0);
        permits.chain([&self.queue_lock])
    }
}

/// A permit of [`SharedPermits`]. Dropping it releases the permit.
///
/// It is neither `Send` nor `Sync`, because the permit belongs to the thread that acquired it.
/// After a `fork` it belongs to the parent, and dropping the child's copy does nothing. If the
/// guard is leaked, the permit stays taken while the process lives.
#[must_use = "if unused the permit goes back at once"]
pub struct Permit<'a> {
    permit: &'a Robust,
    number: u32,
    previous_holder_died: bool,
    /// The process that acquired it.
    generation: u64,
    /// The word holds the id of the thread that acquired the permit, and that thread's robust list
    /// or `list_op_pending` names the permit.
    not_send: PhantomData<*mut ()>,
}

impl Permit<'_> {
    /// Returns the number of the permit, from 0. No other guard has the same number at the same
    /// time.
    pub fn number(&self) -> usize {
        self.number as usize
    }

    /// Returns whether the last holder of this permit died while it held the permit. Exactly one
    /// guard reports each death.
    pub fn previous_holder_died(&self) -> bool {
        self.previous_holder_died
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(current) = CurrentThread::of_generation(self.generation) else {
            return;
        };
        // SAFETY: this thread acquired the permit in this process, and only this drop releases it.
        unsafe { self.permit.unlock(current) };
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("number", &self.number)
            .field("previous_holder_died", &self.previous_holder_died)
            .finish_non_exhaustive()
    }
}

impl<const N: usize> Default for SharedPermits<N> {
    fn default() -> Self {
        SharedPermits::new()
    }
}

impl<const N: usize> fmt::Debug for SharedPermits<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPermits")
            .field("permits", &N)
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

const KIND: PrimitiveKind = PrimitiveKind("permits");

// SAFETY: `repr(C)` over atomics. The links in a permit are meaningful only to the thread that
// holds it. The description covers the whole state, and the visit reaches it as one primitive. Zero
// bytes are free permits that are not initialized.
#[diagnostic::do_not_recommend]
unsafe impl<const N: usize> ShmSafe for SharedPermits<N> {
    const ZERO_IS_VALID: bool = true;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(KIND);
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.primitive(self);
    }
}

impl<const N: usize> Primitive for SharedPermits<N> {
    fn kind(&self) -> PrimitiveKind {
        KIND
    }

    unsafe fn init(&self) -> Result<(), Error> {
        sys::check_robust()?;
        for word in self.words() {
            // SAFETY: guaranteed by the caller.
            unsafe { word.init() };
        }
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        self.words().any(Robust::is_held_by_this_process)
    }

    fn owners_in_this_process(&self, each: &mut dyn FnMut(u32)) {
        self.words()
            .filter_map(Robust::owner_in_this_process)
            .for_each(each);
    }

    unsafe fn reset(&self) {
        for word in self.words() {
            // SAFETY: guaranteed by the caller.
            unsafe { word.reset() };
        }
    }

    unsafe fn mark_inconsistent(&self) {
        for permit in &self.permits {
            // SAFETY: guaranteed by the caller.
            unsafe { permit.0.mark_after_reboot() };
        }
    }
}

static_assertions::assert_eq_size!(SharedPermits<1>, [u8; 128]);
static_assertions::assert_eq_size!(SharedPermits<127>, [u8; 64 * 128]);
static_assertions::const_assert_eq!(std::mem::offset_of!(SharedPermits<2>, permits), 64);
static_assertions::assert_impl_all!(SharedPermits<2>: Send, Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedPermits<2>: crate::ShmData);
static_assertions::assert_not_impl_any!(Permit<'static>: Send, Sync);
