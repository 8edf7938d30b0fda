//! [`SharedAutoResetEvent`]: an event that releases one waiter for each set.

use crate::Error;
use crate::raw::auto_reset_event::AutoResetEvent;
use crate::sync::primitive_macros::impl_ownerless_primitive;
use crate::sys::Deadline;
use std::time::{Duration, Instant};

/// An event in shared memory that resets itself: each [`set`](Self::set) releases one waiter.
///
/// If no thread waits, the set remains until the next wait takes it. Sets are not counted: two sets
/// before the first is taken count as one, as with auto-reset events of other systems. To release
/// every waiter, use [`SharedEvent`](crate::SharedEvent). To count the sets, use a
/// [`SharedSemaphore`](crate::SharedSemaphore).
///
/// Writes before a `set` are visible to the thread that takes the set.
///
/// # What a death does
///
/// A waiter that is killed before it takes the set, while it sleeps or while it wakes up, does not
/// consume the set: another waiter takes it within a second. A waiter that is killed after its wait
/// has returned, or at the instruction that takes the set, has consumed it, because the event
/// records no owner.
///
/// If a setter is killed inside `set`, the event is either set or not. If it is killed before it
/// can wake a waiter, a waiter sees the set within a second.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedAutoResetEvent, SharedCounter, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct State { go: SharedAutoResetEvent, started: SharedCounter }
///
/// let state = Shared::anonymous(State {
///     go: SharedAutoResetEvent::new(),
///     started: SharedCounter::new(0),
/// })?;
/// let workers = [0, 1].map(|_| {
///     fork::spawn(|| {
///         state.go.wait();
///         state.started.add(1);
///         state.go.set(); // releases the next worker
///     })
/// });
/// state.go.set();
/// for worker in workers {
///     assert!(worker?.wait()?.success());
/// }
/// assert_eq!(state.started.get(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// A binary semaphore in a futex word, after Ulrich Drepper, *Futexes Are Tricky*. The waiters bit,
/// and the wake that clears it, are those of this crate's robust lock.
#[repr(transparent)]
#[derive(Debug)]
pub struct SharedAutoResetEvent {
    raw: AutoResetEvent,
}

impl SharedAutoResetEvent {
    /// Creates an event that is not set.
    pub const fn new() -> Self {
        SharedAutoResetEvent {
            raw: AutoResetEvent::new(),
        }
    }

    /// Sets the event and wakes one waiter. If the event is already set, it stays set.
    #[inline]
    pub fn set(&self) {
        self.raw.set();
    }

    /// Takes the set if the event is set, without waiting. Returns whether it was set.
    #[inline]
    #[must_use = "a set may have been taken away"]
    pub fn try_wait(&self) -> bool {
        self.raw.take()
    }

    /// Clears the event. Returns whether it was set.
    pub fn reset(&self) -> bool {
        self.raw.take()
    }

    /// Returns whether the event is set. The result may be outdated when the caller reads it.
    pub fn is_set(&self) -> bool {
        self.raw.is_set()
    }

    /// Waits until the event is set, and takes the set.
    pub fn wait(&self) {
        self.raw.wait(None);
    }

    /// Waits until the event is set, for at most `timeout` on the monotonic clock, and takes the
    /// set.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if the event was not set in time. No set is consumed then.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), Error> {
        self.wait_with(Deadline::after(timeout))
    }

    /// Waits like [`wait_timeout`](Self::wait_timeout), but until `deadline`.
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
}

impl Default for SharedAutoResetEvent {
    fn default() -> Self {
        SharedAutoResetEvent::new()
    }
}

impl_ownerless_primitive!(SharedAutoResetEvent, "auto_reset_event", has_primitives: true);
static_assertions::assert_eq_size!(SharedAutoResetEvent, u32);
