//! A robust lock that its owner may acquire again.
//!
//! The [robust lock](crate::raw::robust) has a record that shows a thread whether it owns the lock
//! itself. Next to it is the depth: how many times the owner has acquired the lock. Only the owner
//! accesses the depth. The next owner overwrites a depth that a dead owner left.
//!
//! **Orderings.** Those of the lock.

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::Robust;
use crate::sys::{self, AtomicU32, CurrentThread};
use core::sync::atomic::Ordering::Relaxed;

/// A reentrant robust lock without data.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Reentrant {
    lock: Robust,
    depth: AtomicU32,
}

impl Reentrant {
    sys::const_fn! {
        /// Creates a free lock that is not placed yet.
        pub(crate) fn new() -> Self {
            Reentrant {
                lock: Robust::new(),
                depth: AtomicU32::new(0),
            }
        }
    }

    /// Initializes the lock, free, at its final address, and makes it robust.
    ///
    /// # Safety
    ///
    /// As for [`Robust::init`].
    pub(crate) unsafe fn init(&self) {
        self.depth.store(0, Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { self.lock.init() };
    }

    /// Acquires the lock, or acquires it once more if the calling thread owns it.
    ///
    /// # Panics
    ///
    /// Panics if the calling thread has acquired it 2^32 - 1 times already.
    #[inline]
    pub(crate) fn acquire(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Acquired, AcquireError> {
        if self.lock.is_held_by(current) {
            let depth = self.depth.load(Relaxed).checked_add(1);
            let depth = depth.expect("a reentrant lock is held as often as can be counted");
            self.depth.store(depth, Relaxed);
            return Ok(Acquired::Released);
        }
        let acquired = match self.lock.try_acquire_fast(current) {
            true => Acquired::Released,
            false => self.lock.acquire_slow(current, mode)?,
        };
        self.depth.store(1, Relaxed);
        Ok(acquired)
    }

    /// Returns how many times the calling thread, which owns the lock, has acquired it.
    pub(crate) fn depth(&self) -> u32 {
        self.depth.load(Relaxed)
    }

    /// Takes back one acquisition, and releases the lock with the last.
    ///
    /// # Safety
    ///
    /// The calling thread must own the lock.
    #[inline]
    pub(crate) unsafe fn release(&self, current: CurrentThread) {
        let depth = self.depth.load(Relaxed) - 1;
        self.depth.store(depth, Relaxed);
        if depth == 0 {
            // SAFETY: guaranteed by the caller.
            unsafe { self.lock.unlock(current) };
        }
    }

    /// Returns the lock: for what it reports about its owner, and for calls that require that no
    /// thread uses it.
    pub(crate) fn lock(&self) -> &Robust {
        &self.lock
    }
}
