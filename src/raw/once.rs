//! What is done once: a robust lock for whoever does it, and an event that says that it is done.
//!
//! | done | lock | meaning |
//! |---|---|---|
//! | set | any | done; what it made is whole |
//! | not set | held | somebody does it |
//! | not set | free | nobody has begun, or who did gave up |
//! | not set | marked | who did it died; the next one takes over |
//!
//! Who finds the event not set takes the [lock](crate::raw::robust), looks again, does it, sets the event, and releases the lock.
//! So a death at any step leaves either a set event, whose lock may be marked and tells nothing more, or one that is not
//! set, and a lock that the next one gets with the news. What the dead one made by half is never looked at, since only the
//! set event says that there is something.
//!
//! A thread that ended inside, in a process that lives, keeps the lock refused as that of any holder: it ended by other
//! means than a return or a panic, and nothing tells whether what it does goes on by itself.
//!
//! **Orderings.** The release by which the event is set synchronizes with the acquire load that finds it set.

use crate::raw::event::Event;
use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::Robust;
use crate::sys::{self, AtomicU32, CurrentThread, Deadline};
use core::sync::atomic::Ordering::Relaxed;

const PANICKED: u32 = 1;
const DIED: u32 = 2;

/// What is done once, without what it makes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Once {
    lock: Robust,
    done: Event,
    /// How earlier attempts ended. Written by the lock's holder alone.
    past: AtomicU32,
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
        /// Not done, and not placed yet.
        pub(crate) fn new() -> Self {
            Once {
                lock: Robust::new(),
                done: Event::new(),
                past: AtomicU32::new(0),
            }
        }
    }

    /// Makes the lock robust where it will stay. What was done is done.
    ///
    /// # Safety
    ///
    /// As for [`Robust::init`].
    pub(crate) unsafe fn init(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.lock.init() };
    }

    /// Whether it is done: one load.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.done.is_set()
    }

    /// Waits until it is done: false where `deadline` came first.
    pub(crate) fn wait(&self, deadline: Option<Deadline>) -> bool {
        self.done.wait(deadline)
    }

    /// The calling thread's turn to do it, which ends by [`complete`](Self::complete) or [`abandon`](Self::abandon). `None`
    /// where it is done, be it by somebody who was waited for.
    pub(crate) fn begin(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Option<OnceState>, AcquireError> {
        let acquired = match self.lock.try_acquire_fast(current) {
            true => Acquired::Released,
            false => match self.lock.acquire_slow(current, mode) {
                Ok(acquired) => acquired,
                // By whoever has the lock, which is released after that.
                Err(_) if self.is_done() => return Ok(None),
                Err(refused) => return Err(refused),
            },
        };
        if self.is_done() {
            // SAFETY: acquired just now.
            unsafe { self.lock.unlock(current) };
            return Ok(None);
        }
        if acquired == Acquired::OwnerDied {
            self.past.fetch_or(DIED, Relaxed);
        }
        Ok(Some(OnceState(self.past.load(Relaxed))))
    }

    /// It is done.
    ///
    /// # Safety
    ///
    /// It is the calling thread's turn.
    pub(crate) unsafe fn complete(&self, current: CurrentThread) {
        self.done.set();
        // SAFETY: whose turn it is holds the lock.
        unsafe { self.lock.unlock(current) };
    }

    /// It is not done, and somebody else's turn.
    ///
    /// # Safety
    ///
    /// It is the calling thread's turn.
    pub(crate) unsafe fn abandon(&self, current: CurrentThread, panicked: bool) {
        if panicked {
            self.past.fetch_or(PANICKED, Relaxed);
        }
        // SAFETY: whose turn it is holds the lock.
        unsafe { self.lock.unlock(current) };
    }

    /// Whether a thread of the calling process is at it.
    pub(crate) fn is_held_by_this_process(&self) -> bool {
        self.lock.is_held_by_this_process()
    }

    /// Whether a thread of the calling process ended at it.
    pub(crate) fn was_leaked_by_this_process(&self) -> bool {
        self.lock.was_leaked_by_this_process()
    }

    /// Marks the lock of one who was at it.
    ///
    /// # Safety
    ///
    /// As for [`Robust::reset`].
    pub(crate) unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.lock.reset() };
    }

    /// What was done may have reached the disk by half: it is to be done again.
    ///
    /// # Safety
    ///
    /// Nobody uses it.
    pub(crate) unsafe fn undo(&self) {
        self.done.reset();
        // SAFETY: the caller's promise.
        unsafe { self.lock.mark() };
    }
}
