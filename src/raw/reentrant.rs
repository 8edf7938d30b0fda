//! A robust lock that its holder may acquire again.
//!
//! Beside the [robust lock](crate::raw::robust), whose record tells a thread whether it holds the lock itself, lies how often it
//! does. That number is its holder's alone. One that a dead holder left is overwritten by the next.
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
        /// A free lock that is not placed yet.
        pub(crate) fn new() -> Self {
            Reentrant {
                lock: Robust::new(),
                depth: AtomicU32::new(0),
            }
        }
    }

    /// Makes the lock robust at the address where it will stay, and free.
    ///
    /// # Safety
    ///
    /// As for [`Robust::init`].
    pub(crate) unsafe fn init(&self) {
        self.depth.store(0, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.lock.init() };
    }

    /// Acquires the lock, once more where the calling thread holds it.
    ///
    /// # Panics
    ///
    /// Where it holds it 2^32 - 1 times.
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

    /// How often the calling thread, which holds the lock, has acquired it.
    pub(crate) fn depth(&self) -> u32 {
        self.depth.load(Relaxed)
    }

    /// Takes one acquisition back, and releases the lock with the last.
    ///
    /// # Safety
    ///
    /// The calling thread holds the lock.
    #[inline]
    pub(crate) unsafe fn release(&self, current: CurrentThread) {
        let depth = self.depth.load(Relaxed) - 1;
        self.depth.store(depth, Relaxed);
        if depth == 0 {
            // SAFETY: the caller's promise.
            unsafe { self.lock.unlock(current) };
        }
    }

    /// The lock, for what it tells of its holder, and for what is done when nobody uses it.
    pub(crate) fn lock(&self) -> &Robust {
        &self.lock
    }
}
