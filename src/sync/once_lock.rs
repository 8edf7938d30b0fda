//! [`SharedOnceLock`]: a cell that is initialized once, shared between processes.

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmData, ShmSafe};
use crate::raw::outcome::{AcquireError, WaitMode};
use crate::sync::init_error::{InitError, unreachable_or_panic};
use crate::sync::once::{SharedOnce, SharedOnceState};
use crate::sys::Deadline;
use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::fmt;
use std::mem::{MaybeUninit, offset_of};
use std::time::{Duration, Instant};

/// A cell that is initialized only once and that several processes share, like
/// [`std::sync::OnceLock`].
///
/// One thread of all processes initializes the value, and all threads can read it.
/// [`get`](Self::get) is one atomic load. The value never changes afterwards, so it is returned as
/// a `&T` that lives as long as the cell.
///
/// # What a death does
///
/// If the process that initializes the value is killed, before or during the write, the cell stays
/// empty. No thread reads the partly written value, and the next caller initializes it
/// ([`get_or_init_with`](Self::get_or_init_with) passes the reason to its closure). A panic leaves
/// the cell empty too, as in `std`.
///
/// After a reboot, a cell in a file is empty: its value may have reached the disk only in part.
///
/// # Panics
///
/// [`set`](Self::set), [`get_or_init`](Self::get_or_init) and their variants panic in the cases
/// that [`SharedOnce`](SharedOnce#panics) lists. The variants of `get_or_init` that do not wait, or
/// have a timeout or a deadline, return an error in the first two cases.
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
/// As for [`SharedOnce`].
#[repr(C)]
pub struct SharedOnceLock<T> {
    once: SharedOnce,
    /// Written by the thread that has the turn, before `once` is completed. Afterwards it is a
    /// valid `T`.
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: one thread writes the value, so it is sent. All threads read it through `&T` after the
// write happened before, so it is shared. `T` is `Sync`, and `ShmData` types are `Send`.
unsafe impl<T: ShmData + Sync> Sync for SharedOnceLock<T> {}

impl<T: ShmData + Sync> SharedOnceLock<T> {
    /// Creates an empty cell.
    pub const fn new() -> Self {
        SharedOnceLock {
            once: SharedOnce::new(),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Returns the value, or `None` if the cell is empty or being initialized.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: the cell is completed, as checked here.
        self.once.is_completed().then(|| unsafe { self.value() })
    }

    /// Initializes the cell with `value`, blocking the current thread while another call
    /// initializes it.
    ///
    /// # Errors
    ///
    /// Returns `value` if the cell has a value already.
    pub fn set(&self, value: T) -> Result<(), T> {
        self.set_with(WaitMode::Until(None), value)
    }

    /// Like [`set`](Self::set), but returns `value` if another call is initializing the cell. It
    /// does not wait.
    ///
    /// # Errors
    ///
    /// Returns `value` if the cell has a value already ([`get`](Self::get) then returns it), or if
    /// another call is initializing the cell.
    pub fn try_set(&self, value: T) -> Result<(), T> {
        self.set_with(WaitMode::Try, value)
    }

    /// Like [`set`](Self::set), but waits for another call that initializes the cell for at most
    /// `timeout`, measured on the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns `value` if the cell has a value already ([`get`](Self::get) then returns it), or if
    /// another call was still initializing the cell when the timeout expired.
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

    /// Like [`set_timeout`](Self::set_timeout), but waits until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`set_timeout`](Self::set_timeout).
    pub fn set_until(&self, value: T, deadline: Instant) -> Result<(), T> {
        self.set_with(WaitMode::Until(Some(Deadline::at(deadline))), value)
    }

    /// Returns the value, and initializes the cell with `f` if it is empty. Blocks the current
    /// thread while another call initializes the cell.
    #[inline]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        self.get_or_init_with(|_| f())
    }

    /// Like [`get_or_init`](Self::get_or_init), but returns an error if another call is
    /// initializing the cell. It does not wait, and `f` does not run.
    ///
    /// # Errors
    ///
    /// - [`Error::WouldBlock`] if another call initializes the cell, also one of the calling
    ///   thread.
    /// - [`Error::HolderThreadEnded`] if the thread that initialized the cell ended without a
    ///   return or a panic, and its process still runs.
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

    /// Like [`get_or_init`](Self::get_or_init), but waits for another call that initializes the
    /// cell for at most `timeout`, measured on the monotonic clock. If the timeout expires first,
    /// `f` does not run. The timeout does not limit `f` once it runs.
    ///
    /// If the process that initializes the cell dies meanwhile, `f` runs.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`] if another call was still initializing the cell when the timeout
    ///   expired. The cell may receive its value at any time afterwards.
    /// - [`Error::Deadlock`] if the calling thread initializes the cell.
    /// - [`Error::HolderThreadEnded`] as for [`try_get_or_init`](Self::try_get_or_init).
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{fork, Shared, SharedOnceLock};
    /// use std::time::{Duration, Instant};
    ///
    /// let port = Shared::anonymous(SharedOnceLock::<u16>::new())?;
    /// // A child dies while it initializes the cell: the next caller initializes it.
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

    /// Like [`get_or_init_timeout`](Self::get_or_init_timeout), but waits until `deadline` at the
    /// latest.
    ///
    /// # Errors
    ///
    /// As for [`get_or_init_timeout`](Self::get_or_init_timeout).
    pub fn get_or_init_until(&self, deadline: Instant, f: impl FnOnce() -> T) -> Result<&T, Error> {
        self.get_or_init_with_until(deadline, |_| f())
    }

    /// Like [`get_or_init`](Self::get_or_init), but `f` receives the outcome of earlier attempts.
    #[inline]
    pub fn get_or_init_with(&self, f: impl FnOnce(&SharedOnceState) -> T) -> &T {
        let result = self.fill(WaitMode::Until(None), |state| -> Result<T, Infallible> {
            Ok(f(state))
        });
        let Ok(value) = result.map_err(InitError::failed);
        value
    }

    /// Like [`try_get_or_init`](Self::try_get_or_init), but `f` receives the outcome of earlier
    /// attempts.
    ///
    /// # Errors
    ///
    /// As for [`try_get_or_init`](Self::try_get_or_init).
    #[inline]
    pub fn try_get_or_init_with(&self, f: impl FnOnce(&SharedOnceState) -> T) -> Result<&T, Error> {
        self.fill(WaitMode::Try, |state| Ok(f(state)))
            .map_err(InitError::into_error)
    }

    /// Like [`get_or_init_timeout`](Self::get_or_init_timeout), but `f` receives the outcome of
    /// earlier attempts.
    ///
    /// # Errors
    ///
    /// As for [`get_or_init_timeout`](Self::get_or_init_timeout).
    pub fn get_or_init_with_timeout(
        &self,
        timeout: Duration,
        f: impl FnOnce(&SharedOnceState) -> T,
    ) -> Result<&T, Error> {
        self.fill_in_time(|| Deadline::after(timeout), |state| Ok(f(state)))
    }

    /// Like [`get_or_init_with_timeout`](Self::get_or_init_with_timeout), but waits until
    /// `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`get_or_init_with_timeout`](Self::get_or_init_with_timeout).
    pub fn get_or_init_with_until(
        &self,
        deadline: Instant,
        f: impl FnOnce(&SharedOnceState) -> T,
    ) -> Result<&T, Error> {
        self.fill_in_time(|| Deadline::at(deadline), |state| Ok(f(state)))
    }

    /// Like [`get_or_init`](Self::get_or_init), but `f` may fail.
    ///
    /// # Errors
    ///
    /// Returns the error of `f`. The cell then stays empty.
    #[inline]
    pub fn get_or_try_init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        self.fill(WaitMode::Until(None), |_| f())
            .map_err(InitError::failed)
    }

    /// Like [`try_get_or_init`](Self::try_get_or_init), but `f` may fail.
    ///
    /// # Errors
    ///
    /// As for [`try_get_or_init`](Self::try_get_or_init), and the error of `f`. The cell then stays
    /// empty.
    #[inline]
    pub fn try_get_or_try_init<E: From<Error>>(
        &self,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        self.fill(WaitMode::Try, |_| f())
            .map_err(InitError::into_error)
    }

    /// Like [`get_or_init_timeout`](Self::get_or_init_timeout), but `f` may fail.
    ///
    /// # Errors
    ///
    /// As for [`get_or_init_timeout`](Self::get_or_init_timeout), and the error of `f`. The cell
    /// then stays empty.
    pub fn get_or_try_init_timeout<E: From<Error>>(
        &self,
        timeout: Duration,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        self.fill_in_time(|| Deadline::after(timeout), |_| f())
    }

    /// Like [`get_or_try_init_timeout`](Self::get_or_try_init_timeout), but waits until `deadline`
    /// at the latest.
    ///
    /// # Errors
    ///
    /// As for [`get_or_try_init_timeout`](Self::get_or_try_init_timeout).
    pub fn get_or_try_init_until<E: From<Error>>(
        &self,
        deadline: Instant,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        self.fill_in_time(|| Deadline::at(deadline), |_| f())
    }

    /// Blocks the current thread until the cell is initialized, by any thread, and returns the
    /// value.
    ///
    /// This call never initializes the cell itself.
    pub fn wait(&self) -> &T {
        self.once.wait();
        // SAFETY: the wait ended because the cell is completed.
        unsafe { self.value() }
    }

    /// Like [`wait`](Self::wait), but waits for at most `timeout`, measured on the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if the cell was not initialized in time.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<&T, Error> {
        self.once.wait_timeout(timeout)?;
        // SAFETY: the wait succeeded, so the cell is completed.
        Ok(unsafe { self.value() })
    }

    /// Like [`wait_timeout`](Self::wait_timeout), but waits until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout`](Self::wait_timeout).
    pub fn wait_until(&self, deadline: Instant) -> Result<&T, Error> {
        self.once.wait_until(deadline)?;
        // SAFETY: the wait succeeded, so the cell is completed.
        Ok(unsafe { self.value() })
    }

    /// Returns a mutable reference to the value, or `None` if the cell is empty. Only a cell that
    /// is not placed can be borrowed exclusively.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        // SAFETY: the cell is completed, so the value is a valid `T`, and the exclusive borrow
        // excludes other references.
        (self.once.is_completed()).then(|| unsafe { self.value.get_mut().assume_init_mut() })
    }

    /// Consumes the cell, which is not placed, and returns the value, or `None` if the cell is
    /// empty.
    pub fn into_inner(self) -> Option<T> {
        // SAFETY: the cell is completed, so the value is a valid `T`.
        (self.once.is_completed()).then(|| unsafe { self.value.into_inner().assume_init() })
    }

    fn set_with(&self, mode: WaitMode, value: T) -> Result<(), T> {
        let mut value = Some(value);
        let result = self.fill(mode, |_| -> Result<T, Infallible> {
            Ok(value.take().expect("the closure runs once"))
        });
        match result {
            Ok(_)
            | Err(InitError::Acquire(
                AcquireError::WouldBlock | AcquireError::TimedOut | AcquireError::HolderDumpsCore,
            )) => {}
            Err(InitError::Acquire(error)) => unreachable_or_panic(error),
        }
        value.map_or(Ok(()), Err)
    }

    fn fill_in_time<E: From<Error>>(
        &self,
        deadline: impl FnOnce() -> Deadline,
        make: impl FnOnce(&SharedOnceState) -> Result<T, E>,
    ) -> Result<&T, E> {
        // If the cell has a value, the clock is not read.
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
                // SAFETY: this thread has the turn, and no thread reads the value before the turn
                // is completed. The old bytes have no drop glue.
                unsafe { (*self.value.get()).write(value) };
            })?;
        }
        // SAFETY: the cell is completed, by the initialization above or before.
        Ok(unsafe { self.value() })
    }

    /// Returns the value.
    ///
    /// # Safety
    ///
    /// The caller must have seen that the cell is completed.
    #[inline]
    unsafe fn value(&self) -> &T {
        // SAFETY: the value was written before the cell was completed, the caller saw it completed,
        // and no thread writes it afterwards.
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

// SAFETY: the type is `repr(C)` over a `SharedOnce` and a `ShmData`, which is described. The only
// primitive is visited. Zero bytes are an empty cell for every `T`.
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
        // SAFETY: guaranteed by the caller.
        unsafe { self.once.init() }
    }

    fn is_held_by_this_process(&self) -> bool {
        self.once.is_held_by_this_process()
    }

    fn owners_in_this_process(&self, each: &mut dyn FnMut(u32)) {
        self.once.owners_in_this_process(each);
    }

    unsafe fn reset(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.once.reset() };
    }

    unsafe fn mark_inconsistent(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.once.mark_inconsistent() };
    }
}

static_assertions::assert_eq_size!(SharedOnceLock<u64>, [u8; 56]);
static_assertions::assert_impl_all!(SharedOnceLock<u64>: Send, Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedOnceLock<std::cell::Cell<u64>>: Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedOnceLock<u64>: ShmData);
