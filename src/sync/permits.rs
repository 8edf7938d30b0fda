//! [`SharedPermits`]: permits that come back when their holder dies.

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmSafe};
use crate::raw::Robust;
use crate::raw::multi::lock_set::{LockSet, MultiError};
use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::sys::{self, CurrentThread, Deadline};
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// `N` permits in shared memory, numbered from 0 to `N - 1`: a counting semaphore that knows its holders. `N` is 1 to 127.
///
/// [`acquire`](Self::acquire) gives a [`Permit`], and dropping that gives the permit back. Each permit is a robust lock,
/// so the kernel gives back what a killed process held. Before it is placed in a map it works for the threads of this process,
/// and may be moved and forgotten.
///
/// Use it to bound how many are at work at once, or to hand out `N` things of a kind: the [number](Permit::number) of a
/// permit is nobody else's while it is held.
///
/// # What a death does
///
/// A permit whose holder dies is available again at once: one who waits is woken by the kernel. Whoever gets it can see that
/// ([`Permit::previous_holder_died`]), and put in order what the dead one left under that number. A waiter that dies, at
/// whichever instant, takes no permit and nobody's wake-up with it. Where the kernel could not mark the dead thread's permit,
/// the waiters find out within a second.
///
/// A permit whose holder's *thread* ended, with its guard forgotten, stays taken while that process lives.
///
/// # How it waits
///
/// Taking a free permit and giving one back that nobody waits for makes no system call. Of those who wait, the first one sleeps
/// on all the permits by one call, and the others in line behind it. That call, `futex_waitv(2)`, is in Linux 5.16 and later;
/// where it is missing, what would have to wait gives [`Error::FutexWaitvUnsupported`], and [`try_acquire`](Self::try_acquire) works. A
/// single permit does not need it. Permits are not handed out in the order in which they were asked for.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedPermits};
///
/// let gate = Shared::anonymous(SharedPermits::<2>::new())?;
/// let child = fork::spawn(|| {
///     let _permit = gate.acquire().unwrap();
///     std::process::abort(); // and never gives it back
/// })?;
/// child.wait()?;
///
/// let both = [gate.acquire()?, gate.acquire()?];
/// assert!(gate.try_acquire().is_err());
/// let after_the_dead = both.iter().filter(|permit| permit.previous_holder_died());
/// assert_eq!(after_the_dead.count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// Robust futexes as for [`SharedMutex`](crate::SharedMutex), and [futex_waitv](https://docs.kernel.org/userspace-api/futex2.html)
/// for the head of the line.
#[repr(C)]
pub struct SharedPermits<const N: usize> {
    queue_lock: Robust,
    permits: [PermitWord; N],
}

/// A permit, on a cache line of its own.
#[repr(C, align(64))]
pub(super) struct PermitWord(Robust);

impl AsRef<Robust> for PermitWord {
    fn as_ref(&self) -> &Robust {
        &self.0
    }
}

impl<const N: usize> SharedPermits<N> {
    /// `N` permits, all of them free.
    ///
    /// None, or more than 127, do not compile:
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

    /// Takes a permit, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// - [`Error::Deadlock`]: the calling thread holds all of them.
    /// - [`Error::HolderThreadEnded`]: all were held by threads that ended without giving them back, and their processes live.
    /// - [`Error::FutexWaitvUnsupported`]: none is free, and the kernel cannot wait for any of several.
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, Error> {
        self.acquire_with(WaitMode::Until(None))
    }

    /// Takes a permit if one is free, without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] where there is none, and [`Error::HolderThreadEnded`] as for [`acquire`](Self::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Error> {
        self.acquire_with(WaitMode::Try)
    }

    /// Takes a permit, waiting for one no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), and [`Error::TimedOut`].
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, Error> {
        self.acquire_with(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// As [`acquire_timeout`](Self::acquire_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_until(&self, deadline: Instant) -> Result<Permit<'_>, Error> {
        self.acquire_with(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// How many permits can be had just now, those of the dead included. The answer may be out of date when it is read.
    pub fn available(&self) -> usize {
        let free = |permit: &&PermitWord| permit.0.is_available();
        self.permits.iter().filter(free).count()
    }

    #[inline]
    fn acquire_with(&self, mode: WaitMode) -> Result<Permit<'_>, Error> {
        let current = sys::current_thread();
        // Threads begin at different permits, so that they do not meet where there are enough.
        let first = current.tid() as usize % N;
        if self.permits[first].0.try_acquire_fast(current) {
            return Ok(self.guard(current, first, Acquired::Released));
        }
        let (number, acquired) = self
            .lock_set()
            .acquire(current, first, mode)
            .map_err(Error::from_missed)?;
        Ok(self.guard(current, number, acquired))
    }

    pub(super) fn lock_set(&self) -> LockSet<'_, PermitWord> {
        LockSet {
            words: &self.permits,
            queue_lock: &self.queue_lock,
        }
    }

    /// The guard of a permit that the thread has just acquired.
    #[inline]
    fn guard(&self, current: CurrentThread, number: usize, acquired: Acquired) -> Permit<'_> {
        Permit {
            permit: &self.permits[number].0,
            number: number as u32,
            after_a_death: acquired == Acquired::OwnerDied,
            generation: current.generation(),
            not_send: PhantomData,
        }
    }

    fn words(&self) -> impl Iterator<Item = &Robust> {
        let permits = self.permits.iter().map(|permit| &permit.0);
        permits.chain([&self.queue_lock])
    }
}

impl Error {
    pub(super) fn from_missed(missed: MultiError) -> Self {
        match missed {
            MultiError::WaitvUnsupported => Error::FutexWaitvUnsupported,
            MultiError::Acquire(AcquireError::WouldBlock) => Error::WouldBlock,
            MultiError::Acquire(AcquireError::TimedOut) => Error::TimedOut,
            MultiError::Acquire(AcquireError::Deadlock) => Error::Deadlock,
            MultiError::Acquire(AcquireError::HolderThreadEnded) => Error::HolderThreadEnded,
        }
    }
}

/// A permit of [`SharedPermits`], given back when it is dropped.
///
/// It stays in its thread: it is neither `Send` nor `Sync`. One that crosses a `fork` is the parent's; the child's copy does
/// nothing when it is dropped. Forgetting it keeps the permit for as long as the process lives.
#[must_use = "if unused the permit goes back at once"]
pub struct Permit<'a> {
    permit: &'a Robust,
    number: u32,
    after_a_death: bool,
    /// The process that acquired it.
    generation: u64,
    /// The word and the robust list name the acquiring thread.
    not_send: PhantomData<*mut ()>,
}

impl Permit<'_> {
    /// Which permit it is, from 0 on. No other guard has the same number at the same time.
    pub fn number(&self) -> usize {
        self.number as usize
    }

    /// Whether the last holder of this permit died with it. Exactly one guard is told of each death.
    pub fn previous_holder_died(&self) -> bool {
        self.after_a_death
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(current) = CurrentThread::of_generation(self.generation) else {
            return;
        };
        // SAFETY: this thread acquired the permit in this process, and nothing but this drop releases it.
        unsafe { self.permit.unlock(current) };
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("number", &self.number)
            .field("previous_holder_died", &self.after_a_death)
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

// SAFETY: `repr(C)` over atomics; the links mean something only to the thread that holds a permit. The whole state is told, and
// visited as one primitive. Zero bytes are free, unarmed permits.
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
        sys::check_robust_list()?;
        for word in self.words() {
            // SAFETY: the caller's promise.
            unsafe { word.init() };
        }
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        self.words().any(Robust::is_held_by_this_process)
    }

    fn was_leaked_by_this_process(&self) -> bool {
        self.words().any(Robust::was_leaked_by_this_process)
    }

    unsafe fn reset(&self) {
        for word in self.words() {
            // SAFETY: the caller's promise.
            unsafe { word.reset() };
        }
    }

    unsafe fn mark_inconsistent(&self) {
        for permit in &self.permits {
            // SAFETY: the caller's promise.
            unsafe { permit.0.mark() };
        }
    }
}

static_assertions::assert_eq_size!(SharedPermits<1>, [u8; 128]);
static_assertions::assert_eq_size!(SharedPermits<127>, [u8; 64 * 128]);
static_assertions::const_assert_eq!(std::mem::offset_of!(SharedPermits<2>, permits), 64);
static_assertions::assert_impl_all!(SharedPermits<2>: Send, Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedPermits<2>: crate::ShmData);
static_assertions::assert_not_impl_any!(Permit<'static>: Send, Sync);
