//! [`SharedOnceLock`]: what one thread of all processes makes, once.

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmData, ShmSafe};
use crate::raw::outcome::{AcquireError, WaitMode};
use crate::sync::once::{InitError, SharedOnce, SharedOnceState, unreachable_or_panic};
use crate::sys::Deadline;
use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::fmt;
use std::mem::{MaybeUninit, offset_of};
use std::time::{Duration, Instant};

/// A value that one thread of all processes makes, once, and all read, in the manner of [`std::sync::OnceLock`].
///
/// [`get`](Self::get) is one atomic load. As the value never changes again, it is given as `&T` for as long as the cell
/// lives.
///
/// # What a death does
///
/// Where whoever makes the value is killed, before or while it is written, the cell is as if it had not begun: nobody reads
/// what was written by half, and the next caller makes the value ([`get_or_init_with`](Self::get_or_init_with) tells it
/// why). A panic leaves the cell empty too, as in `std`.
///
/// After a restart of the machine, a cell in a file is empty: its value may have reached the disk by half.
///
/// # Panics
///
/// [`set`](Self::set), [`get_or_init`](Self::get_or_init) and their like panic in the cases that
/// [`SharedOnce`](SharedOnce#panics) names. Those that do not wait to the end, and do not give a value back, have an error for
/// the first two of them.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedOnceLock};
///
/// let port = Shared::anonymous(SharedOnceLock::<u16>::new())?;
/// assert_eq!(port.get(), None);
/// let child = fork::spawn(|| assert_eq!(*port.get_or_init(|| 8080), 8080))?;
/// assert_eq!(*port.wait(), 8080);
/// assert_eq!(port.set(80), Err(80));
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// As [`SharedOnce`].
#[repr(C)]
pub struct SharedOnceLock<T> {
    once: SharedOnce,
    /// Written in a turn, before that is completed; then a `T`.
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is written by one thread, and read through `&T` by all, once the write has happened before: so it is
// sent and shared. `ShmData` is `Send`.
unsafe impl<T: ShmData + Sync> Sync for SharedOnceLock<T> {}

impl<T: ShmData + Sync> SharedOnceLock<T> {
    /// An empty cell.
    pub const fn new() -> Self {
        SharedOnceLock {
            once: SharedOnce::new(),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// The value, if there is one.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: asked just now.
        self.once.is_completed().then(|| unsafe { self.value() })
    }

    /// Makes `value` the cell's.
    ///
    /// # Errors
    ///
    /// `value`, where there is one already. One that is being made just now is waited for.
    pub fn set(&self, value: T) -> Result<(), T> {
        self.set_with(WaitMode::Until(None), value)
    }

    /// As [`set`](Self::set), but does not wait for a value that is being made just now.
    ///
    /// # Errors
    ///
    /// `value`, where there is one already, which [`get`](Self::get) gives, or one is being made.
    pub fn try_set(&self, value: T) -> Result<(), T> {
        self.set_with(WaitMode::Try, value)
    }

    /// As [`set`](Self::set), but waits for a value that is being made just now no longer than `timeout` of the monotonic
    /// clock.
    ///
    /// # Errors
    ///
    /// `value`, where there is one already, which [`get`](Self::get) gives, or one was being made until then.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Shared, SharedOnceLock};
    /// use std::time::{Duration, Instant};
    ///
    /// let port = Shared::anonymous(SharedOnceLock::<u16>::new())?;
    /// assert_eq!(port.set_timeout(80, Duration::from_millis(20)), Ok(()));
    /// assert_eq!(port.try_set(8080), Err(8080));
    /// # Ok::<(), pshared::Error>(())
    /// ```
    pub fn set_timeout(&self, value: T, timeout: Duration) -> Result<(), T> {
        self.set_with(WaitMode::Until(Some(Deadline::after(timeout))), value)
    }

    /// As [`set_timeout`](Self::set_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`set_timeout`](Self::set_timeout).
    pub fn set_until(&self, value: T, deadline: Instant) -> Result<(), T> {
        self.set_with(WaitMode::Until(Some(Deadline::at(deadline))), value)
    }

    /// The value, made by `f` where there is none. One that is being made just now is waited for.
    #[inline]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        self.get_or_init_with(|_| f())
    }

    /// As [`get_or_init`](Self::get_or_init), but does not wait for a value that is being made just now. `f` does not run
    /// then.
    ///
    /// # Errors
    ///
    /// - [`Error::WouldBlock`]: one is being made, be it by the calling thread.
    /// - [`Error::HolderThreadEnded`]: the thread that made one ended, neither by a return nor by a panic, and its process
    ///   lives.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Error, Shared, SharedOnceLock};
    ///
    /// let port = Shared::anonymous(SharedOnceLock::<u16>::new())?;
    /// port.get_or_init(|| {
    ///     assert!(matches!(port.try_get_or_init(|| 80), Err(Error::WouldBlock)));
    ///     8080
    /// });
    /// assert_eq!(*port.try_get_or_init(|| 80)?, 8080);
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn try_get_or_init(&self, f: impl FnOnce() -> T) -> Result<&T, Error> {
        self.try_get_or_init_with(|_| f())
    }

    /// As [`get_or_init`](Self::get_or_init), but waits for a value that is being made just now no longer than `timeout` of the
    /// monotonic clock. Once `f` has begun it takes as long as it takes; where the time was over before, it does not run.
    ///
    /// Where whoever makes the value dies meanwhile, `f` runs.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`]: a value was being made until then. It may be there at any time after.
    /// - [`Error::Deadlock`]: the calling thread makes one.
    /// - [`Error::HolderThreadEnded`] as for [`try_get_or_init`](Self::try_get_or_init).
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{fork, Shared, SharedOnceLock};
    /// use std::time::{Duration, Instant};
    ///
    /// let port = Shared::anonymous(SharedOnceLock::<u16>::new())?;
    /// // A child that dies while it makes the value: the next one makes it.
    /// let child = fork::spawn(|| _ = port.get_or_init(|| std::process::abort()))?;
    /// child.wait()?;
    /// assert_eq!(*port.get_or_init_timeout(Duration::from_secs(5), || 8080)?, 8080);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_or_init_timeout(
        &self,
        timeout: Duration,
        f: impl FnOnce() -> T,
    ) -> Result<&T, Error> {
        self.get_or_init_with_timeout(timeout, |_| f())
    }

    /// As [`get_or_init_timeout`](Self::get_or_init_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`get_or_init_timeout`](Self::get_or_init_timeout).
    pub fn get_or_init_until(&self, deadline: Instant, f: impl FnOnce() -> T) -> Result<&T, Error> {
        self.get_or_init_with_until(deadline, |_| f())
    }

    /// As [`get_or_init`](Self::get_or_init); and `f` is told how earlier attempts ended.
    #[inline]
    pub fn get_or_init_with(&self, f: impl FnOnce(&SharedOnceState) -> T) -> &T {
        let made = self.fill(WaitMode::Until(None), |state| -> Result<T, Infallible> {
            Ok(f(state))
        });
        let Ok(value) = made.map_err(InitError::failed);
        value
    }

    /// As [`try_get_or_init`](Self::try_get_or_init); and `f` is told how earlier attempts ended.
    ///
    /// # Errors
    ///
    /// As [`try_get_or_init`](Self::try_get_or_init).
    #[inline]
    pub fn try_get_or_init_with(&self, f: impl FnOnce(&SharedOnceState) -> T) -> Result<&T, Error> {
        self.fill(WaitMode::Try, |state| Ok(f(state)))
            .map_err(InitError::into_error)
    }

    /// As [`get_or_init_timeout`](Self::get_or_init_timeout); and `f` is told how earlier attempts ended.
    ///
    /// # Errors
    ///
    /// As [`get_or_init_timeout`](Self::get_or_init_timeout).
    pub fn get_or_init_with_timeout(
        &self,
        timeout: Duration,
        f: impl FnOnce(&SharedOnceState) -> T,
    ) -> Result<&T, Error> {
        self.fill_in_time(|| Deadline::after(timeout), |state| Ok(f(state)))
    }

    /// As [`get_or_init_with_timeout`](Self::get_or_init_with_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`get_or_init_with_timeout`](Self::get_or_init_with_timeout).
    pub fn get_or_init_with_until(
        &self,
        deadline: Instant,
        f: impl FnOnce(&SharedOnceState) -> T,
    ) -> Result<&T, Error> {
        self.fill_in_time(|| Deadline::at(deadline), |state| Ok(f(state)))
    }

    /// As [`get_or_init`](Self::get_or_init), by an `f` that may fail.
    ///
    /// # Errors
    ///
    /// That of `f`. The cell stays empty then.
    #[inline]
    pub fn get_or_try_init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        self.fill(WaitMode::Until(None), |_| f())
            .map_err(InitError::failed)
    }

    /// As [`try_get_or_init`](Self::try_get_or_init), by an `f` that may fail.
    ///
    /// # Errors
    ///
    /// As [`try_get_or_init`](Self::try_get_or_init), and that of `f`. The cell stays empty then.
    #[inline]
    pub fn try_get_or_try_init<E: From<Error>>(
        &self,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        self.fill(WaitMode::Try, |_| f())
            .map_err(InitError::into_error)
    }

    /// As [`get_or_init_timeout`](Self::get_or_init_timeout), by an `f` that may fail.
    ///
    /// # Errors
    ///
    /// As [`get_or_init_timeout`](Self::get_or_init_timeout), and that of `f`. The cell stays empty then.
    pub fn get_or_try_init_timeout<E: From<Error>>(
        &self,
        timeout: Duration,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        self.fill_in_time(|| Deadline::after(timeout), |_| f())
    }

    /// As [`get_or_try_init_timeout`](Self::get_or_try_init_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`get_or_try_init_timeout`](Self::get_or_try_init_timeout).
    pub fn get_or_try_init_until<E: From<Error>>(
        &self,
        deadline: Instant,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        self.fill_in_time(|| Deadline::at(deadline), |_| f())
    }

    /// Waits until somebody has made the value. It does not make it.
    pub fn wait(&self) -> &T {
        self.once.wait();
        // SAFETY: waited for just now.
        unsafe { self.value() }
    }

    /// Waits as [`wait`](Self::wait), for at most `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if no value was set in time.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<&T, Error> {
        self.once.wait_timeout(timeout)?;
        // SAFETY: the wait has ended because the value is there.
        Ok(unsafe { self.value() })
    }

    /// As [`wait_timeout`](Self::wait_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Self::wait_timeout).
    pub fn wait_until(&self, deadline: Instant) -> Result<&T, Error> {
        self.once.wait_until(deadline)?;
        // SAFETY: the wait has ended because the value is there.
        Ok(unsafe { self.value() })
    }

    /// The value, through the exclusive borrow that only a cell which is not placed can give.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        // SAFETY: whole, as for `get`; and nobody else borrows it.
        (self.once.is_completed()).then(|| unsafe { self.value.get_mut().assume_init_mut() })
    }

    /// The value of a cell that is not placed.
    pub fn into_inner(self) -> Option<T> {
        // SAFETY: whole, as for `get`.
        (self.once.is_completed()).then(|| unsafe { self.value.into_inner().assume_init() })
    }

    fn set_with(&self, mode: WaitMode, value: T) -> Result<(), T> {
        let mut value = Some(value);
        let made = self.fill(mode, |_| -> Result<T, Infallible> {
            Ok(value.take().expect("a closure that runs once"))
        });
        match made {
            Ok(_) | Err(InitError::Acquire(AcquireError::WouldBlock | AcquireError::TimedOut)) => {}
            Err(InitError::Acquire(refused)) => unreachable_or_panic(refused),
        }
        value.map_or(Ok(()), Err)
    }

    fn fill_in_time<E: From<Error>>(
        &self,
        deadline: impl FnOnce() -> Deadline,
        make: impl FnOnce(&SharedOnceState) -> Result<T, E>,
    ) -> Result<&T, E> {
        // One that is there costs no look at the clock.
        match self.get() {
            Some(value) => Ok(value),
            None => self
                .fill(WaitMode::Until(Some(deadline())), make)
                .map_err(InitError::into_error),
        }
    }

    #[inline]
    fn fill<E>(
        &self,
        mode: WaitMode,
        make: impl FnOnce(&SharedOnceState) -> Result<T, E>,
    ) -> Result<&T, InitError<E>> {
        if !self.once.is_completed() {
            self.once.initialize(mode, make, |value| {
                // SAFETY: it is this thread's turn, and nobody reads before that is completed. What lay there has nothing
                // to drop.
                unsafe { (*self.value.get()).write(value) };
            })?;
        }
        // SAFETY: filled just now, if not before.
        Ok(unsafe { self.value() })
    }

    /// The value.
    ///
    /// # Safety
    ///
    /// The cell was seen completed.
    #[inline]
    unsafe fn value(&self) -> &T {
        // SAFETY: it was written before it was completed, which was seen, and nobody writes after.
        unsafe { (*self.value.get()).assume_init_ref() }
    }
}

impl<T: ShmData + Sync> Default for SharedOnceLock<T> {
    fn default() -> Self {
        SharedOnceLock::new()
    }
}

impl<T: ShmData + Sync> From<T> for SharedOnceLock<T> {
    fn from(value: T) -> Self {
        let cell = SharedOnceLock::new();
        assert!(cell.set(value).is_ok(), "a new cell is empty");
        cell
    }
}

impl<T: ShmData + Sync + fmt::Debug> fmt::Debug for SharedOnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_tuple("SharedOnceLock");
        match self.get() {
            Some(value) => out.field(value),
            None => out.field(&format_args!("<empty>")),
        };
        out.finish()
    }
}

const KIND: PrimitiveKind = PrimitiveKind("once_lock");

// SAFETY: `repr(C)` over a `SharedOnce` and a `ShmData`, which is told. The one primitive is visited. Zero bytes are an
// empty cell, whatever `T` is.
#[diagnostic::do_not_recommend]
unsafe impl<T: ShmData + Sync> ShmSafe for SharedOnceLock<T> {
    const ZERO_IS_VALID: bool = true;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(KIND);
        layout.field("value", offset_of!(Self, value), T::describe);
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.primitive(self);
    }
}

impl<T: ShmData + Sync> Primitive for SharedOnceLock<T> {
    fn kind(&self) -> PrimitiveKind {
        KIND
    }

    unsafe fn init(&self) -> Result<(), Error> {
        // SAFETY: the caller's promise.
        unsafe { self.once.init() }
    }

    fn is_held_by_this_process(&self) -> bool {
        self.once.is_held_by_this_process()
    }

    fn was_leaked_by_this_process(&self) -> bool {
        self.once.was_leaked_by_this_process()
    }

    unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.once.reset() };
    }

    unsafe fn mark_inconsistent(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.once.mark_inconsistent() };
    }
}

static_assertions::assert_eq_size!(SharedOnceLock<u64>, [u8; 56]);
static_assertions::assert_impl_all!(SharedOnceLock<u64>: Send, Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedOnceLock<std::cell::Cell<u64>>: Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedOnceLock<u64>: ShmData);
