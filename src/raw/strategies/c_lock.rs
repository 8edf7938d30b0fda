//! A lock of the C library's in a map, and what stands in for it before it is placed.

use crate::raw::outcome::WaitMode;
use crate::raw::strategies::futex::FutexWord;
use crate::sys::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

/// A lock that may be used only at one address, from its initialization on.
pub(crate) trait RawCLock {
    /// One that is not initialized. Its bytes are all zero.
    const NEW: Self;

    /// Initializes it, free.
    ///
    /// # Safety
    ///
    /// Nobody uses the lock, and it never moves again.
    unsafe fn init(&self);

    /// Acquires it if nobody holds it.
    ///
    /// # Safety
    ///
    /// It was initialized.
    unsafe fn try_lock(&self) -> bool;

    /// Acquires it, waiting as long as `mode` says. False where that was not long enough.
    ///
    /// # Safety
    ///
    /// It was initialized.
    unsafe fn lock(&self, mode: WaitMode) -> bool;

    /// Releases it.
    ///
    /// # Safety
    ///
    /// The calling thread holds it.
    unsafe fn unlock(&self);
}

/// Such a lock, or a futex in its stead while it may still be moved and forgotten.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct CLock<L> {
    placed: L,
    unplaced: FutexWord,
    armed: AtomicU32,
}

impl<L: RawCLock> CLock<L> {
    pub(crate) const fn new() -> Self {
        CLock {
            placed: L::NEW,
            unplaced: FutexWord::new(),
            armed: AtomicU32::new(0),
        }
    }

    /// # Safety
    ///
    /// As for [`RawCLock::init`].
    pub(crate) unsafe fn init(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.placed.init() };
        self.armed.store(1, Relaxed);
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        match self.placed() {
            // SAFETY: an armed lock was initialized.
            Some(placed) => unsafe { placed.try_lock() },
            None => self.unplaced.try_lock(),
        }
    }

    pub(crate) fn lock(&self, mode: WaitMode) -> bool {
        match self.placed() {
            // SAFETY: an armed lock was initialized.
            Some(placed) => unsafe { placed.lock(mode) },
            None => self.unplaced.lock(mode),
        }
    }

    /// # Safety
    ///
    /// The calling thread holds it.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: the caller's promise; a lock that is held is not armed meanwhile, so it is the one that was acquired.
        unsafe {
            match self.placed() {
                Some(placed) => placed.unlock(),
                None => self.unplaced.unlock(),
            }
        }
    }

    #[inline]
    fn placed(&self) -> Option<&L> {
        (self.armed.load(Relaxed) != 0).then_some(&self.placed)
    }
}
