//! [`SharedOnce`]: a one-time initialization that is shared between processes.

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmSafe};
use crate::raw::once::{Once, OnceState};
use crate::raw::outcome::{AcquireError, WaitMode};
use crate::sync::init_error::{InitError, unreachable_or_panic};
use crate::sys::{self, CurrentThread, Deadline};
use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, Instant};

/// A one-time initialization that several processes share, like [`std::sync::Once`].
///
/// One thread of all processes runs the initialization, and the others wait for it. Once the
/// initialization is completed, a call is one atomic load.
///
/// # What a death does
///
/// If the process that runs the initialization is killed, the next caller takes over: its own
/// closure runs, and [`SharedOnceState::initializer_died`] reports that a partial result may exist.
/// A waiting caller takes over at once, or within a second if the kernel could not mark the death.
///
/// After a reboot, a `SharedOnce` in a file behaves as if its initializer had died, whether it was
/// completed or not: its result may have reached the disk only in part.
///
/// # Panics
///
/// [`call_once`](Self::call_once) and [`call_once_force`](Self::call_once_force) panic in these
/// cases:
///
/// - The calling thread runs the initialization itself, so the call would wait for its own end.
/// - The thread that ran the initialization ended without a return or a panic, and its process
///   still runs. Only `unsafe` code can end a thread like this. Once that process has ended, the
///   next caller takes over.
/// - A child that was forked inside the initialization continues it. The initialization belongs to
///   the parent.
///
/// The forms that do not wait, or have a timeout or a deadline, return an error in the first two
/// cases, and panic in the third.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedCounter, SharedOnce, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct State { set_up: SharedOnce, times: SharedCounter }
///
/// let state = Shared::anonymous(State {
///     set_up: SharedOnce::new(),
///     times: SharedCounter::new(0),
/// })?;
/// let child = fork::spawn(|| state.set_up.call_once(|| _ = state.times.add(1)))?;
/// state.set_up.call_once(|| _ = state.times.add(1));
/// assert!(child.wait()?.success());
/// assert_eq!(state.times.get(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// The states are those of `std`'s `library/std/src/sys/sync/once/futex.rs`, with a robust lock
/// instead of the state "running".
#[repr(transparent)]
pub struct SharedOnce {
    raw: Once,
}

/// How earlier attempts ended. [`SharedOnce::call_once_force`] passes it to its closure.
#[derive(Debug)]
pub struct SharedOnceState {
    state: OnceState,
}

impl SharedOnceState {
    /// Returns whether an earlier initializer panicked.
    pub fn is_poisoned(&self) -> bool {
        self.state.panicked()
    }

    /// Returns whether an earlier initializer died during the initialization, so that a partial
    /// result may exist.
    pub fn initializer_died(&self) -> bool {
        self.state.died()
    }
}

impl SharedOnce {
    /// Creates an initialization that no thread has begun.
    pub const fn new() -> Self {
        SharedOnce { raw: Once::new() }
    }

    /// Runs `f` as the initialization if it is not completed, blocking the current thread while
    /// another call runs it.
    ///
    /// When this call returns, the initialization is completed, and the calling thread sees
    /// everything that its closure wrote.
    ///
    /// # Panics
    ///
    /// Panics if an earlier `f` panicked, and in the cases that [the type](Self#panics) lists.
    #[inline]
    pub fn call_once(&self, f: impl FnOnce()) {
        self.call_once_force(unless_poisoned(f));
    }

    /// Like [`call_once`](Self::call_once), but returns an error if another call runs the
    /// initialization. It does not wait, and `f` does not run.
    ///
    /// Returns `Ok` if the initialization is completed.
    ///
    /// # Errors
    ///
    /// - [`Error::WouldBlock`] if another call runs the initialization, also one of the calling
    ///   thread.
    /// - [`Error::HolderThreadEnded`] if the thread that ran the initialization ended without a
    ///   return or a panic, and its process still runs.
    ///
    /// # Panics
    ///
    /// Panics if an earlier `f` panicked, and in a child that continues its parent's
    /// initialization.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Error, Shared, SharedOnce};
    ///
    /// let once = Shared::anonymous(SharedOnce::new())?;
    /// once.call_once(|| {
    ///     let result = once.try_call_once(|| unreachable!("another call runs it"));
    ///     assert!(matches!(result, Err(Error::WouldBlock)));
    /// });
    /// once.try_call_once(|| unreachable!("it is completed"))?;
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn try_call_once(&self, f: impl FnOnce()) -> Result<(), Error> {
        self.try_call_once_force(unless_poisoned(f))
    }

    /// Like [`call_once`](Self::call_once), but waits for another call that runs the initialization
    /// for at most `timeout`, measured on the monotonic clock. If the timeout expires first, `f`
    /// does not run. The timeout does not limit `f` once it runs.
    ///
    /// If the process that runs the initialization dies meanwhile, `f` runs. Returns `Ok` if the
    /// initialization is completed.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`] if another call was still running the initialization when the timeout
    ///   expired. It may complete at any time afterwards.
    /// - [`Error::Deadlock`] if the calling thread runs the initialization.
    /// - [`Error::HolderThreadEnded`] as for [`try_call_once`](Self::try_call_once).
    ///
    /// # Panics
    ///
    /// Panics if an earlier `f` panicked, and in a child that continues its parent's
    /// initialization.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{fork, Error, Shared, SharedOnce};
    /// use std::time::{Duration, Instant};
    ///
    /// let once = Shared::anonymous(SharedOnce::new())?;
    /// // A child dies during the initialization: the next caller takes over.
    /// fork::spawn(|| once.call_once(|| std::process::abort()))?.wait()?;
    /// once.call_once_timeout(Duration::from_secs(5), || {
    ///     std::thread::scope(|scope| {
    ///         scope.spawn(|| {
    ///             let result =
    ///                 once.call_once_timeout(Duration::from_millis(20), || unreachable!());
    ///             assert!(matches!(result, Err(Error::TimedOut)));
    ///         });
    ///     });
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call_once_timeout(&self, timeout: Duration, f: impl FnOnce()) -> Result<(), Error> {
        self.call_once_force_timeout(timeout, unless_poisoned(f))
    }

    /// Like [`call_once_timeout`](Self::call_once_timeout), but waits until `deadline` at the
    /// latest.
    ///
    /// # Errors
    ///
    /// As for [`call_once_timeout`](Self::call_once_timeout).
    ///
    /// # Panics
    ///
    /// As for [`call_once_timeout`](Self::call_once_timeout).
    pub fn call_once_until(&self, deadline: Instant, f: impl FnOnce()) -> Result<(), Error> {
        self.call_once_force_until(deadline, unless_poisoned(f))
    }

    /// Like [`call_once`](Self::call_once), but also runs `f` if an earlier `f` panicked. `f`
    /// receives the outcome of earlier attempts.
    ///
    /// # Panics
    ///
    /// Panics in the cases that [the type](Self#panics) lists.
    #[inline]
    pub fn call_once_force(&self, f: impl FnOnce(&SharedOnceState)) {
        if !self.is_completed()
            && let Err(error) = self.run(WaitMode::Until(None), f)
        {
            unreachable_or_panic(error);
        }
    }

    /// Like [`try_call_once`](Self::try_call_once), but also runs `f` if an earlier `f` panicked.
    /// `f` receives the outcome of earlier attempts.
    ///
    /// # Errors
    ///
    /// As for [`try_call_once`](Self::try_call_once).
    ///
    /// # Panics
    ///
    /// Panics in a child that continues its parent's initialization.
    #[inline]
    pub fn try_call_once_force(&self, f: impl FnOnce(&SharedOnceState)) -> Result<(), Error> {
        if self.is_completed() {
            return Ok(());
        }
        self.run(WaitMode::Try, f).map_err(Error::from_acquire)
    }

    /// Like [`call_once_timeout`](Self::call_once_timeout), but also runs `f` if an earlier `f`
    /// panicked. `f` receives the outcome of earlier attempts.
    ///
    /// # Errors
    ///
    /// As for [`call_once_timeout`](Self::call_once_timeout).
    ///
    /// # Panics
    ///
    /// Panics in a child that continues its parent's initialization.
    pub fn call_once_force_timeout(
        &self,
        timeout: Duration,
        f: impl FnOnce(&SharedOnceState),
    ) -> Result<(), Error> {
        if self.is_completed() {
            return Ok(());
        }
        let mode = WaitMode::Until(Some(Deadline::after(timeout)));
        self.run(mode, f).map_err(Error::from_acquire)
    }

    /// Like [`call_once_force_timeout`](Self::call_once_force_timeout), but waits until `deadline`
    /// at the latest.
    ///
    /// # Errors
    ///
    /// As for [`call_once_force_timeout`](Self::call_once_force_timeout).
    ///
    /// # Panics
    ///
    /// As for [`call_once_force_timeout`](Self::call_once_force_timeout).
    pub fn call_once_force_until(
        &self,
        deadline: Instant,
        f: impl FnOnce(&SharedOnceState),
    ) -> Result<(), Error> {
        if self.is_completed() {
            return Ok(());
        }
        let mode = WaitMode::Until(Some(Deadline::at(deadline)));
        self.run(mode, f).map_err(Error::from_acquire)
    }

    /// Returns whether the initialization is completed.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.raw.is_done()
    }

    /// Blocks the current thread until the initialization is completed, by any thread.
    ///
    /// This call never runs the initialization itself, also if the thread that ran it dies.
    pub fn wait(&self) {
        self.raw.wait(None);
    }

    /// Like [`wait`](Self::wait), but waits for at most `timeout`, measured on the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if the initialization was not completed in time.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), Error> {
        self.wait_with(Deadline::after(timeout))
    }

    /// Like [`wait_timeout`](Self::wait_timeout), but waits until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout`](Self::wait_timeout).
    pub fn wait_until(&self, deadline: Instant) -> Result<(), Error> {
        self.wait_with(Deadline::at(deadline))
    }

    fn wait_with(&self, deadline: Deadline) -> Result<(), Error> {
        match self.raw.wait(Some(deadline)) {
            true => Ok(()),
            false => Err(Error::TimedOut),
        }
    }

    fn run(&self, mode: WaitMode, f: impl FnOnce(&SharedOnceState)) -> Result<(), AcquireError> {
        let f = |state: &SharedOnceState| -> Result<(), Infallible> {
            f(state);
            Ok(())
        };
        self.initialize(mode, f, |()| ()).map_err(|error| {
            let InitError::Acquire(error) = error;
            error
        })
    }

    /// Runs the initialization if it is not completed: makes a value by `make` and passes it to
    /// `store`. If another thread runs it, waits as long as `mode` allows.
    #[cold]
    pub(super) fn initialize<V, E>(
        &self,
        mode: WaitMode,
        make: impl FnOnce(&SharedOnceState) -> Result<V, E>,
        store: impl FnOnce(V),
    ) -> Result<(), InitError<E>> {
        let current = sys::current_thread();
        let state = match self.raw.begin(current, mode) {
            Ok(Some(state)) => state,
            Ok(None) => return Ok(()),
            Err(error) => return Err(InitError::Acquire(error)),
        };
        let mut guard = InitGuard {
            raw: &self.raw,
            generation: current.generation(),
            outcome: InitOutcome::Panicked,
        };
        match make(&SharedOnceState { state }) {
            Ok(value) => {
                assert!(
                    CurrentThread::of_generation(guard.generation).is_some(),
                    "a forked child continued the shared initialization of its parent"
                );
                store(value);
                guard.outcome = InitOutcome::Completed;
                Ok(())
            }
            Err(error) => {
                guard.outcome = InitOutcome::Failed;
                Err(InitError::Failed(error))
            }
        }
    }
}

/// Wraps `f` so that it panics if an earlier initializer panicked.
fn unless_poisoned(f: impl FnOnce()) -> impl FnOnce(&SharedOnceState) {
    |state| {
        assert!(
            !state.is_poisoned(),
            "an earlier initializer of this SharedOnce panicked: use call_once_force to try again"
        );
        f();
    }
}

enum InitOutcome {
    Completed,
    Failed,
    Panicked,
}

/// The calling thread's turn to initialize. Dropping it ends the turn.
struct InitGuard<'a> {
    raw: &'a Once,
    /// The process that has the turn. In a child of that process this guard is a copy.
    generation: u64,
    outcome: InitOutcome,
}

impl Drop for InitGuard<'_> {
    fn drop(&mut self) {
        let Some(current) = CurrentThread::of_generation(self.generation) else {
            return;
        };
        // SAFETY: this thread began its turn in this process, and only this drop ends it.
        unsafe {
            match self.outcome {
                InitOutcome::Completed => self.raw.complete(current),
                InitOutcome::Failed => self.raw.abandon(current, false),
                InitOutcome::Panicked => self.raw.abandon(current, true),
            }
        }
    }
}

impl Default for SharedOnce {
    fn default() -> Self {
        SharedOnce::new()
    }
}

impl fmt::Debug for SharedOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedOnce")
            .field("completed", &self.is_completed())
            .finish_non_exhaustive()
    }
}

const KIND: PrimitiveKind = PrimitiveKind("once");

// SAFETY: the type is `repr(transparent)` over `repr(C)` atomics and the links of a lock, which
// have a meaning only for the thread that holds the lock. Zero bytes are an initialization that no
// thread has begun, with a free lock.
#[diagnostic::do_not_recommend]
unsafe impl ShmSafe for SharedOnce {
    const ZERO_IS_VALID: bool = true;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(KIND);
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.primitive(self);
    }
}

impl Primitive for SharedOnce {
    fn kind(&self) -> PrimitiveKind {
        KIND
    }

    unsafe fn init(&self) -> Result<(), Error> {
        sys::check_robust()?;
        // SAFETY: guaranteed by the caller.
        unsafe { self.raw.init() };
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        self.raw.is_held_by_this_process()
    }

    fn owners_in_this_process(&self, each: &mut dyn FnMut(u32)) {
        self.raw.owner_in_this_process().into_iter().for_each(each);
    }

    unsafe fn reset(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.raw.reset() };
    }

    unsafe fn mark_inconsistent(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.raw.undo() };
    }
}

static_assertions::assert_eq_size!(SharedOnce, [u8; 48]);
static_assertions::assert_impl_all!(SharedOnce: Send, Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedOnce: crate::ShmData);
