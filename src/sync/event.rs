//! [`SharedEvent`]: a notification for any number of waiters.

use crate::Error;
use crate::raw::event::Event;
use crate::sync::primitive_macros::impl_ownerless_primitive;
use crate::sys::Deadline;
use std::time::{Duration, Instant};

/// An event in shared memory: one thread sets it, and any number of threads wait for it. It stays
/// set until it is reset.
///
/// Each [`set`](Self::set) also advances a sequence number. A reader can wait for new sets
/// independently of other readers: it remembers the [`sequence`](Self::sequence) that it has seen,
/// and waits for a later one with [`wait_past`](Self::wait_past). The event then needs no reset.
///
/// Writes before a `set` are visible to every thread whose wait ends because of that `set`.
///
/// # What a death does
///
/// An event has no owner, so the death of a waiter affects no other thread. If a setter is killed
/// inside `set`, the event is either set or not. If it is killed before it can wake the waiters,
/// they see the set within a second.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedCounter, SharedEvent, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct State { ready: SharedEvent, answer: SharedCounter }
///
/// let state = Shared::anonymous(State {
///     ready: SharedEvent::new(),
///     answer: SharedCounter::new(0),
/// })?;
/// let child = fork::spawn(|| {
///     state.answer.add(42);
///     state.ready.set();
/// })?;
/// state.ready.wait();
/// assert_eq!(state.answer.get(), 42);
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// A sequence number in a futex word, as in the event counts of Vyukov and in folly's `EventCount`.
#[repr(transparent)]
#[derive(Debug)]
pub struct SharedEvent {
    raw: Event,
}

impl SharedEvent {
    /// Creates an event that is not set.
    pub const fn new() -> Self {
        SharedEvent { raw: Event::new() }
    }

    pub(super) fn raw(&self) -> &Event {
        &self.raw
    }

    /// Sets the event and wakes all waiters.
    pub fn set(&self) {
        self.raw.set();
    }

    /// Resets the event. Returns whether it was set. Threads that waited during the last `set`
    /// still return.
    pub fn reset(&self) -> bool {
        self.raw.reset()
    }

    /// Returns whether the event is set.
    pub fn is_set(&self) -> bool {
        self.raw.is_set()
    }

    /// Waits until the event is set. Returns at once if it is set already, and also returns if it
    /// was set and reset again during the call.
    pub fn wait(&self) {
        self.raw.wait(None);
    }

    /// Waits until the event is set, for at most `timeout` on the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if the event was not set in time.
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

    /// Returns how often the event was set, modulo 2^30. Pass it to [`wait_past`](Self::wait_past)
    /// to wait for a later set.
    pub fn sequence(&self) -> u32 {
        self.raw.sequence()
    }

    /// Waits until the sequence number differs from `seen`, and returns the new one.
    ///
    /// A slow reader sees several sets as one, but it never misses the last one.
    ///
    /// ```
    /// use pshared::SharedEvent;
    ///
    /// let ready = SharedEvent::new();
    /// let seen = ready.sequence();
    /// ready.set();
    /// assert_eq!(ready.wait_past(seen), seen + 1);
    /// ```
    pub fn wait_past(&self, seen: u32) -> u32 {
        self.raw.wait_past(seen, None);
        self.raw.sequence()
    }

    /// Waits like [`wait_past`](Self::wait_past), for at most `timeout` on the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if the event was not set in time.
    pub fn wait_past_timeout(&self, seen: u32, timeout: Duration) -> Result<u32, Error> {
        self.wait_past_with(seen, Deadline::after(timeout))
    }

    /// Waits like [`wait_past_timeout`](Self::wait_past_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`wait_past_timeout`](Self::wait_past_timeout).
    pub fn wait_past_until(&self, seen: u32, deadline: Instant) -> Result<u32, Error> {
        self.wait_past_with(seen, Deadline::at(deadline))
    }

    fn wait_with(&self, deadline: Deadline) -> Result<(), Error> {
        match self.raw.wait(Some(deadline)) {
            true => Ok(()),
            false => Err(Error::TimedOut),
        }
    }

    fn wait_past_with(&self, seen: u32, deadline: Deadline) -> Result<u32, Error> {
        match self.raw.wait_past(seen, Some(deadline)) {
            true => Ok(self.raw.sequence()),
            false => Err(Error::TimedOut),
        }
    }
}

impl Default for SharedEvent {
    fn default() -> Self {
        SharedEvent::new()
    }
}

impl_ownerless_primitive!(SharedEvent, "event", has_primitives: true);
static_assertions::assert_eq_size!(SharedEvent, u32);
