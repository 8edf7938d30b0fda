//! [`SharedEvent`]: news for any number of waiters.

use crate::Error;
use crate::raw::event::Event;
use crate::sync::primitive_macros::impl_ownerless_primitive;
use crate::sys::Deadline;
use std::time::{Duration, Instant};

/// An event in shared memory: one sets it, any number wait for it. It stays set until it is reset.
///
/// Each [`set`](Self::set) also counts as a piece of news. A reader that wants every reader to see each of them, whatever
/// the others do, remembers the [`sequence`](Self::sequence) it has seen and waits for a later one with
/// [`wait_past`](Self::wait_past); nobody needs to reset then.
///
/// What was written before a `set` is seen by whoever wakes by it.
///
/// # What a death does
///
/// Nothing is owned, so a waiter's death concerns nobody. A setter that dies in the middle of `set` has set the event or
/// has not; where it died before it could wake the sleepers, they see it within a second.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedCounter, SharedEvent, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Board { news: SharedEvent, answer: SharedCounter }
///
/// let board = Shared::anonymous(Board { news: SharedEvent::new(), answer: SharedCounter::new(0) })?;
/// let child = fork::spawn(|| {
///     board.answer.add(42);
///     board.news.set();
/// })?;
/// board.news.wait();
/// assert_eq!(board.answer.get(), 42);
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// A sequence in a futex word, as in the event counts of Vyukov and of folly's `EventCount`.
#[repr(transparent)]
#[derive(Debug)]
pub struct SharedEvent {
    raw: Event,
}

impl SharedEvent {
    /// An event that is not set.
    pub const fn new() -> Self {
        SharedEvent { raw: Event::new() }
    }

    pub(super) fn raw(&self) -> &Event {
        &self.raw
    }

    /// Sets the event and wakes everybody who waits for it.
    pub fn set(&self) {
        self.raw.set();
    }

    /// Resets the event, and tells whether it was set. Whoever was woken by the last `set` still returns.
    pub fn reset(&self) -> bool {
        self.raw.reset()
    }

    /// Whether the event is set.
    pub fn is_set(&self) -> bool {
        self.raw.is_set()
    }

    /// Waits until the event is set. Returns at once where it is, and also where it was set and reset since the call.
    pub fn wait(&self) {
        self.raw.wait(None);
    }

    /// Waits until the event is set, for at most `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if the event was not set in time.
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

    /// How often the event was set, modulo 2^30: what a reader remembers to wait for later news.
    pub fn sequence(&self) -> u32 {
        self.raw.sequence()
    }

    /// Waits until there is later news than `seen`, and gives its sequence number.
    ///
    /// A reader that is slow sees several pieces of news as one; it never misses the last.
    ///
    /// ```
    /// use pshared::SharedEvent;
    ///
    /// let news = SharedEvent::new();
    /// let seen = news.sequence();
    /// news.set();
    /// assert_eq!(news.wait_past(seen), seen + 1);
    /// ```
    pub fn wait_past(&self, seen: u32) -> u32 {
        self.raw.wait_past(seen, None);
        self.raw.sequence()
    }

    /// Waits as [`wait_past`](Self::wait_past), for at most `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TimedOut`] if the event was not set in time.
    pub fn wait_past_timeout(&self, seen: u32, timeout: Duration) -> Result<u32, Error> {
        self.wait_past_with(seen, Deadline::after(timeout))
    }

    /// As [`wait_past_timeout`](Self::wait_past_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_past_timeout`](Self::wait_past_timeout).
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
