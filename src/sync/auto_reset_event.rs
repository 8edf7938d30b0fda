//! [`SharedAutoResetEvent`]: each set lets one waiter through.

use crate::Error;
use crate::raw::auto_reset_event::AutoResetEvent;
use crate::sync::primitive_macros::impl_ownerless_primitive;
use crate::sys::Deadline;
use std::time::{Duration, Instant};

/// An event in shared memory that resets itself: each [`set`](Self::set) lets one waiter through.
///
/// A set that nobody waits for is kept for the next one who does. Sets are not counted: two before anybody takes one are
/// one, as with the auto-reset events of other systems. Where every waiter is to see the news, use
/// [`SharedEvent`](crate::SharedEvent); where every set is to be taken, a [`SharedSemaphore`](crate::SharedSemaphore).
///
/// What was written before a `set` is seen by whoever takes it.
///
/// # What a death does
///
/// A waiter that is killed, asleep or as it was woken, has taken nothing: another one gets the set, within a second. One
/// that is killed after its wait has returned, or in the very step of it, has taken the set with it, as nothing is owned
/// here. A setter that dies in the middle of `set` has set the event or has not; where it died before it could wake a
/// sleeper, one sees it within a second.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedAutoResetEvent, SharedCounter, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Board { go: SharedAutoResetEvent, started: SharedCounter }
///
/// let board = Shared::anonymous(Board { go: SharedAutoResetEvent::new(), started: SharedCounter::new(0) })?;
/// let workers = [0, 1].map(|_| {
///     fork::spawn(|| {
///         board.go.wait();
///         board.started.add(1);
///         board.go.set(); // and the next one
///     })
/// });
/// board.go.set();
/// for worker in workers {
///     assert!(worker?.wait()?.success());
/// }
/// assert_eq!(board.started.get(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// A binary semaphore in a futex word, after Ulrich Drepper, *Futexes Are Tricky*; the announced sleepers and the wake that
/// clears them are those of the robust lock here.
#[repr(transparent)]
#[derive(Debug)]
pub struct SharedAutoResetEvent {
    raw: AutoResetEvent,
}

impl SharedAutoResetEvent {
    /// An event that is not set.
    pub const fn new() -> Self {
        SharedAutoResetEvent {
            raw: AutoResetEvent::new(),
        }
    }

    /// Sets the event, and wakes one who waits for it. Where it is set already, it stays so.
    #[inline]
    pub fn set(&self) {
        self.raw.set();
    }

    /// Takes the set away, and tells whether there was one: a wait that does not wait.
    #[inline]
    #[must_use = "a set may have been taken away"]
    pub fn try_wait(&self) -> bool {
        self.raw.take()
    }

    /// Takes the set away, and tells whether there was one.
    pub fn reset(&self) -> bool {
        self.raw.take()
    }

    /// Whether the event is set. The answer may be out of date when it is read.
    pub fn is_set(&self) -> bool {
        self.raw.is_set()
    }

    /// Waits until the event is set, and takes the set away.
    pub fn wait(&self) {
        self.raw.wait(None);
    }

    /// Waits as [`wait`](Self::wait), for at most `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if the event was not set in time. No set is consumed then.
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
}

impl Default for SharedAutoResetEvent {
    fn default() -> Self {
        SharedAutoResetEvent::new()
    }
}

impl_ownerless_primitive!(SharedAutoResetEvent, "auto_reset_event", has_primitives: true);
static_assertions::assert_eq_size!(SharedAutoResetEvent, u32);
