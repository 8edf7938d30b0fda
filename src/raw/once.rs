//! A one-time initialization: a robust lock for the thread that runs it, and an event that is set
//! when it is done.
//!
//! | done | lock | meaning |
//! |---|---|---|
//! | set | any | done; the result is complete |
//! | not set | held | a thread runs the initialization |
//! | not set | free | no thread has begun, or the last one gave up |
//! | not set | marked | the thread that ran it died; the next one takes over |
//!
//! A thread that finds the event not set acquires the [lock](crate::raw::robust) and checks the
//! event again. Then it runs the initialization, sets the event, and releases the lock. A death at
//! any step leaves one of two states. Either the event is set: then the lock may be marked, but the
//! mark has no further meaning. Or the event is not set: then the next thread acquires the lock
//! with the report of the death. A partial result of a dead thread is never read, because only the
//! set event shows that there is a result.
//!
//! If a thread ended during the initialization and its process lives, the lock stays unavailable,
//! as does any lock that an ended thread owned. The thread did not end by a return or a panic, and
//! nothing shows whether its work goes on without it.
//!
//! **Orderings.** The release by which the event is set synchronizes with the acquire load that
//! finds it set.

use crate::raw::event::Event;
use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::Robust;
use crate::sys::{self, AtomicU32, CurrentThread, Deadline};
use core::sync::atomic::Ordering::Relaxed;

const PANICKED: u32 = 1;
const DIED: u32 = 2;

/// A one-time initialization, without its result.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Once {
    lock: Robust,
    done: Event,
    /// How earlier attempts ended. Only the owner of the lock writes it.
    history: AtomicU32,
}

/// How earlier attempts ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OnceState(u32);

impl OnceState {
    pub(crate) fn panicked(self) -> bool {
        self.0 & PANICKED != 0
    }

    pub(crate) fn died(self) -> bool {
        self.0 & DIED != 0
    }
}

impl Once {
    sys::const_fn! {
        /// Creates an initialization that is neither done nor placed yet.
        pub(crate) fn new() -> Self {
            Once {
                lock: Robust::new(),
                done: Event::new(),
                history: AtomicU32::new(0),
            }
        }
    }

    /// Initializes the lock at its final address, and makes it robust. If the initialization is
    /// done, it stays done.
    ///
    /// # Safety
    ///
    /// As for [`Robust::init`].
    pub(crate) unsafe fn init(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.lock.init() };
    }

    /// Whether the initialization is done. This is one load.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.done.is_set()
    }

    /// Waits until the initialization is done. Returns false if `deadline` passed first.
    pub(crate) fn wait(&self, deadline: Option<Deadline>) -> bool {
        self.done.wait(deadline)
    }

    /// Begins the initialization: the calling thread's turn lasts until
    /// [`complete`](Self::complete) or [`abandon`](Self::abandon). Returns `None` if it is done,
    /// even if another thread completed it during the call.
    pub(crate) fn begin(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Option<OnceState>, AcquireError> {
        let acquired = match self.lock.try_acquire_fast(current) {
            true => Acquired::Released,
            false => match self.lock.acquire_slow(current, mode) {
                Ok(acquired) => acquired,
                // Done by the owner of the lock, which releases the lock only afterwards.
                Err(_) if self.is_done() => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        if self.is_done() {
            // SAFETY: the calling thread has just acquired the lock.
            unsafe { self.lock.unlock(current) };
            return Ok(None);
        }
        if acquired.owner_died() {
            self.history.fetch_or(DIED, Relaxed);
        }
        Ok(Some(OnceState(self.history.load(Relaxed))))
    }

    /// Ends the calling thread's turn: the initialization is done.
    ///
    /// # Safety
    ///
    /// It must be the calling thread's turn.
    pub(crate) unsafe fn complete(&self, current: CurrentThread) {
        self.done.set();
        // SAFETY: the caller guarantees that it is its turn, so it owns the lock.
        unsafe { self.lock.unlock(current) };
    }

    /// Ends the calling thread's turn without a result. The next thread may begin.
    ///
    /// # Safety
    ///
    /// It must be the calling thread's turn.
    pub(crate) unsafe fn abandon(&self, current: CurrentThread, panicked: bool) {
        if panicked {
            self.history.fetch_or(PANICKED, Relaxed);
        }
        // SAFETY: the caller guarantees that it is its turn, so it owns the lock.
        unsafe { self.lock.unlock(current) };
    }

    /// Whether a thread of the calling process runs the initialization.
    pub(crate) fn is_held_by_this_process(&self) -> bool {
        self.lock.is_held_by_this_process()
    }

    /// Returns the thread of the calling process that is recorded as running the initialization. It
    /// may have ended.
    pub(crate) fn owner_in_this_process(&self) -> Option<u32> {
        self.lock.owner_in_this_process()
    }

    /// Marks the lock as abandoned by a dead owner, if it appears owned.
    ///
    /// # Safety
    ///
    /// As for [`Robust::reset`].
    pub(crate) unsafe fn reset(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.lock.reset() };
    }

    /// Requires the initialization to run again: its result may have reached the disk only in part.
    ///
    /// # Safety
    ///
    /// No thread may use it during the call.
    pub(crate) unsafe fn undo(&self) {
        self.done.reset();
        // SAFETY: guaranteed by the caller.
        unsafe { self.lock.mark_after_reboot() };
    }
}
