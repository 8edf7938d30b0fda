//! A lock of the C library in a map, and the futex that replaces it before it is placed.

use crate::raw::outcome::WaitMode;
use crate::raw::strategies::futex::FutexWord;
use crate::sys::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

/// A lock that must be initialized, and must then stay at its address.
pub(crate) trait RawCLock {
    /// A lock that is not initialized. Its bytes are all zero.
    const NEW: Self;

    /// Initializes the lock, which is then free.
    ///
    /// # Safety
    ///
    /// No thread may use the lock during the call, and it must never move again.
    unsafe fn init(&self);

    /// Acquires the lock if it is free.
    ///
    /// # Safety
    ///
    /// The lock must be initialized.
    unsafe fn try_lock(&self) -> bool;

    /// Acquires the lock, and waits as long as `mode` allows. Returns false if the lock did not
    /// become free in that time.
    ///
    /// # Safety
    ///
    /// The lock must be initialized.
    unsafe fn lock(&self, mode: WaitMode) -> bool;

    /// Releases the lock.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock.
    unsafe fn unlock(&self);
}

/// A lock of the C library, or a futex in its place while it may still be moved and leaked
/// (`mem::forget`).
#[repr(C)]
#[derive(Debug)]
pub(crate) struct CLock<L> {
    placed: L,
    in_process: FutexWord,
    initialized: AtomicU32,
}

impl<L: RawCLock> CLock<L> {
    pub(crate) const fn new() -> Self {
        CLock {
            placed: L::NEW,
            in_process: FutexWord::new(),
            initialized: AtomicU32::new(0),
        }
    }

    /// Initializes the C library's lock, which is used from then on.
    ///
    /// # Safety
    ///
    /// As for [`RawCLock::init`].
    pub(crate) unsafe fn init(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.placed.init() };
        self.initialized.store(1, Relaxed);
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        match self.placed() {
            // SAFETY: `placed` returns a lock only if it was initialized.
            Some(placed) => unsafe { placed.try_lock() },
            None => self.in_process.try_lock(),
        }
    }

    pub(crate) fn lock(&self, mode: WaitMode) -> bool {
        match self.placed() {
            // SAFETY: `placed` returns a lock only if it was initialized.
            Some(placed) => unsafe { placed.lock(mode) },
            None => self.in_process.lock(mode),
        }
    }

    /// # Safety
    ///
    /// The calling thread must hold the lock.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: guaranteed by the caller; no lock is initialized while it is held, so this is the
        // lock that was acquired.
        unsafe {
            match self.placed() {
                Some(placed) => placed.unlock(),
                None => self.in_process.unlock(),
            }
        }
    }

    #[inline]
    fn placed(&self) -> Option<&L> {
        (self.initialized.load(Relaxed) != 0).then_some(&self.placed)
    }
}
