//! [`SharedOnce`]: what one thread of all processes does, once.

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmSafe};
use crate::raw::multi::lock_set::MultiError;
use crate::raw::once::{Once, OnceState};
use crate::raw::outcome::{AcquireError, WaitMode};
use crate::sys::{self, CurrentThread, Deadline};
use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, Instant};

/// An initialization that one thread of all processes makes, once, in the manner of [`std::sync::Once`].
///
/// Whoever comes while it is made waits for it. Once it is made, a call is one atomic load.
///
/// # What a death does
///
/// Where whoever initializes is killed in the middle of it, the next caller takes over: its own closure runs, and
/// [`SharedOnceState::initializer_died`] tells that something may lie there by half. A caller that waits takes over at once,
/// or within a second where the kernel could not mark the death.
///
/// After a restart of the machine, a `SharedOnce` in a file counts as one whose initializer died, completed or not: what it
/// made may have reached the disk by half.
///
/// # Panics
///
/// [`call_once`](Self::call_once) and [`call_once_force`](Self::call_once_force) panic
///
/// - inside the initialization itself, which would wait for its own end;
/// - where the thread that initialized has ended, neither by a return nor by a panic, and its process lives. It takes
///   `unsafe` code to end a thread so. When that process is gone, the next caller takes over;
/// - in a child that was forked inside the initialization and goes on in it: the turn is the parent's.
///
/// The forms that do not wait to the end have an error for the first two, and panic in the third.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedCounter, SharedOnce, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Board { set_up: SharedOnce, times: SharedCounter }
///
/// let board = Shared::anonymous(Board { set_up: SharedOnce::new(), times: SharedCounter::new(0) })?;
/// let child = fork::spawn(|| board.set_up.call_once(|| _ = board.times.add(1)))?;
/// board.set_up.call_once(|| _ = board.times.add(1));
/// assert!(child.wait()?.success());
/// assert_eq!(board.times.get(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// The states are those of `std`'s `library/std/src/sys/sync/once/futex.rs`, with a robust lock in the place of "running".
#[repr(transparent)]
pub struct SharedOnce {
    raw: Once,
}

/// How earlier attempts ended; what [`SharedOnce::call_once_force`] tells its closure.
#[derive(Debug)]
pub struct SharedOnceState {
    past: OnceState,
}

impl SharedOnceState {
    /// Whether an earlier initializer panicked.
    pub fn is_poisoned(&self) -> bool {
        self.past.panicked()
    }

    /// Whether an earlier initializer died in the middle of it, so that something may lie there by half.
    pub fn initializer_died(&self) -> bool {
        self.past.died()
    }
}

impl SharedOnce {
    /// An initialization that nobody has made.
    pub const fn new() -> Self {
        SharedOnce { raw: Once::new() }
    }

    /// Initializes by `f`, if nobody has, and waits for whoever is at it. What `f` wrote is seen by all whose call returns.
    ///
    /// # Panics
    ///
    /// Where an earlier `f` panicked, and in the cases that [the type](Self#panics) names.
    #[inline]
    pub fn call_once(&self, f: impl FnOnce()) {
        self.call_once_force(unless_poisoned(f));
    }

    /// As [`call_once`](Self::call_once), but does not wait for whoever is at it. `f` does not run then.
    ///
    /// `Ok` says that it is initialized.
    ///
    /// # Errors
    ///
    /// - [`Error::WouldBlock`]: somebody is at it, be it the calling thread.
    /// - [`Error::HolderThreadEnded`]: the thread that was at it ended, neither by a return nor by a panic, and its process
    ///   lives.
    ///
    /// # Panics
    ///
    /// Where an earlier `f` panicked, and in a child that goes on with its parent's initialization.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Error, Shared, SharedOnce};
    ///
    /// let once = Shared::anonymous(SharedOnce::new())?;
    /// once.call_once(|| {
    ///     let refused = once.try_call_once(|| unreachable!("somebody is at it"));
    ///     assert!(matches!(refused, Err(Error::WouldBlock)));
    /// });
    /// once.try_call_once(|| unreachable!("it is completed"))?;
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn try_call_once(&self, f: impl FnOnce()) -> Result<(), Error> {
        self.try_call_once_force(unless_poisoned(f))
    }

    /// As [`call_once`](Self::call_once), but waits for whoever is at it no longer than `timeout` of the monotonic clock. Once
    /// `f` has begun it takes as long as it takes; where the time was over before, it does not run.
    ///
    /// Where whoever is at it dies meanwhile, `f` runs. `Ok` says that it is initialized.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`]: somebody was at it until then. It may be completed at any time after.
    /// - [`Error::Deadlock`]: the calling thread is at it.
    /// - [`Error::HolderThreadEnded`] as for [`try_call_once`](Self::try_call_once).
    ///
    /// # Panics
    ///
    /// Where an earlier `f` panicked, and in a child that goes on with its parent's initialization.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{fork, Error, Shared, SharedOnce};
    /// use std::time::{Duration, Instant};
    ///
    /// let once = Shared::anonymous(SharedOnce::new())?;
    /// // A child that dies at it: the next one takes over.
    /// fork::spawn(|| once.call_once(|| std::process::abort()))?.wait()?;
    /// once.call_once_timeout(Duration::from_secs(5), || {
    ///     std::thread::scope(|scope| {
    ///         scope.spawn(|| {
    ///             let waits = once.call_once_timeout(Duration::from_millis(20), || unreachable!());
    ///             assert!(matches!(waits, Err(Error::TimedOut)));
    ///         });
    ///     });
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call_once_timeout(&self, timeout: Duration, f: impl FnOnce()) -> Result<(), Error> {
        self.call_once_force_timeout(timeout, unless_poisoned(f))
    }

    /// As [`call_once_timeout`](Self::call_once_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`call_once_timeout`](Self::call_once_timeout).
    ///
    /// # Panics
    ///
    /// As [`call_once_timeout`](Self::call_once_timeout).
    pub fn call_once_until(&self, deadline: Instant, f: impl FnOnce()) -> Result<(), Error> {
        self.call_once_force_until(deadline, unless_poisoned(f))
    }

    /// As [`call_once`](Self::call_once), also where an earlier `f` panicked: `f` is told.
    ///
    /// # Panics
    ///
    /// In the cases that [the type](Self#panics) names.
    #[inline]
    pub fn call_once_force(&self, f: impl FnOnce(&SharedOnceState)) {
        if !self.is_completed()
            && let Err(refused) = self.run(WaitMode::Until(None), f)
        {
            unreachable_or_panic(refused);
        }
    }

    /// As [`try_call_once`](Self::try_call_once), also where an earlier `f` panicked: `f` is told.
    ///
    /// # Errors
    ///
    /// As [`try_call_once`](Self::try_call_once).
    ///
    /// # Panics
    ///
    /// In a child that goes on with its parent's initialization.
    #[inline]
    pub fn try_call_once_force(&self, f: impl FnOnce(&SharedOnceState)) -> Result<(), Error> {
        if self.is_completed() {
            return Ok(());
        }
        self.run(WaitMode::Try, f).map_err(into_error)
    }

    /// As [`call_once_timeout`](Self::call_once_timeout), also where an earlier `f` panicked: `f` is told.
    ///
    /// # Errors
    ///
    /// As [`call_once_timeout`](Self::call_once_timeout).
    ///
    /// # Panics
    ///
    /// In a child that goes on with its parent's initialization.
    pub fn call_once_force_timeout(
        &self,
        timeout: Duration,
        f: impl FnOnce(&SharedOnceState),
    ) -> Result<(), Error> {
        if self.is_completed() {
            return Ok(());
        }
        let mode = WaitMode::Until(Some(Deadline::after(timeout)));
        self.run(mode, f).map_err(into_error)
    }

    /// As [`call_once_force_timeout`](Self::call_once_force_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`call_once_force_timeout`](Self::call_once_force_timeout).
    ///
    /// # Panics
    ///
    /// As [`call_once_force_timeout`](Self::call_once_force_timeout).
    pub fn call_once_force_until(
        &self,
        deadline: Instant,
        f: impl FnOnce(&SharedOnceState),
    ) -> Result<(), Error> {
        if self.is_completed() {
            return Ok(());
        }
        let mode = WaitMode::Until(Some(Deadline::at(deadline)));
        self.run(mode, f).map_err(into_error)
    }

    /// Whether it is initialized.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.raw.is_done()
    }

    /// Waits until it is initialized, by whomever. It does not take over.
    pub fn wait(&self) {
        self.raw.wait(None);
    }

    /// Waits as [`wait`](Self::wait), for at most `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if it was not initialized in time.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), Error> {
        self.wait_with(Deadline::after(timeout))
    }

    /// As [`wait_timeout`](Self::wait_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Self::wait_timeout).
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
        self.initialize(mode, f, |()| ()).map_err(|unmade| {
            let InitError::Acquire(refused) = unmade;
            refused
        })
    }

    /// Initializes, if nobody has, by the making of a value and the storing of it. Whoever is at it is waited for as long as
    /// `mode` says.
    #[cold]
    pub(super) fn initialize<V, E>(
        &self,
        mode: WaitMode,
        make: impl FnOnce(&SharedOnceState) -> Result<V, E>,
        store: impl FnOnce(V),
    ) -> Result<(), InitError<E>> {
        let current = sys::current_thread();
        let past = match self.raw.begin(current, mode) {
            Ok(Some(past)) => past,
            Ok(None) => return Ok(()),
            Err(refused) => return Err(InitError::Acquire(refused)),
        };
        let mut guard = InitGuard {
            raw: &self.raw,
            generation: current.generation(),
            outcome: InitOutcome::Panicked,
        };
        match make(&SharedOnceState { past }) {
            Ok(value) => {
                assert!(
                    CurrentThread::of_generation(guard.generation).is_some(),
                    "a process that was forked inside a shared initialization went on with it, which is its parent's"
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

/// Why nothing was made.
pub(super) enum InitError<E> {
    /// It was nobody's turn here.
    Acquire(AcquireError),
    /// The making failed.
    Failed(E),
}

impl<E> InitError<E> {
    /// What failed, of a call that waits to the end.
    pub(super) fn failed(self) -> E {
        match self {
            InitError::Acquire(refused) => unreachable_or_panic(refused),
            InitError::Failed(error) => error,
        }
    }

    /// What a call tells that does not wait to the end.
    pub(super) fn into_error(self) -> E
    where
        E: From<Error>,
    {
        match self {
            InitError::Acquire(refused) => into_error(refused).into(),
            InitError::Failed(error) => error,
        }
    }
}

/// The end of a call that waits to the end, and cannot have its guard.
#[cold]
pub(super) fn unreachable_or_panic(refused: AcquireError) -> ! {
    match refused {
        AcquireError::Deadlock => panic!(
            "a shared initialization was asked for inside itself, by the thread that makes it"
        ),
        AcquireError::HolderThreadEnded => panic!(
            "the thread that made a shared initialization ended in the middle of it, without a panic, and its process lives"
        ),
        AcquireError::WouldBlock | AcquireError::TimedOut => {
            unreachable!("a wait without an end has timed out")
        }
    }
}

fn into_error(refused: AcquireError) -> Error {
    Error::from_missed(MultiError::Acquire(refused))
}

/// An initialization that nobody makes where an earlier one panicked.
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

/// The calling thread's turn to initialize.
struct InitGuard<'a> {
    raw: &'a Once,
    /// The process whose turn it is. In a child of that process this is a copy.
    generation: u64,
    outcome: InitOutcome,
}

impl Drop for InitGuard<'_> {
    fn drop(&mut self) {
        let Some(current) = CurrentThread::of_generation(self.generation) else {
            return;
        };
        // SAFETY: this thread began the turn in this process, and nothing but this drop ends it.
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

// SAFETY: `repr(transparent)` over `repr(C)` atomics and the links of a lock, which mean something only to the thread that
// holds it. Zero bytes are an initialization that nobody has begun, with a free lock.
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
        sys::check_robust_list()?;
        // SAFETY: the caller's promise.
        unsafe { self.raw.init() };
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        self.raw.is_held_by_this_process()
    }

    fn was_leaked_by_this_process(&self) -> bool {
        self.raw.was_leaked_by_this_process()
    }

    unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.raw.reset() };
    }

    unsafe fn mark_inconsistent(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.raw.undo() };
    }
}

static_assertions::assert_eq_size!(SharedOnce, [u8; 48]);
static_assertions::assert_impl_all!(SharedOnce: Send, Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedOnce: crate::ShmData);
