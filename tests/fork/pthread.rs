//! glibc's own robust mutexes, in the same maps and on the same robust lists as the crate's locks.

use pshared::ShmSafe;
use pshared::memory::{Layout, PrimitiveVisitor};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// A `pthread_mutex_t` that is robust and shared between processes. It is unlocked after
/// initialization.
#[repr(transparent)]
pub struct PthreadMutex(UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>);

// SAFETY: a mutex with PTHREAD_PROCESS_SHARED may be used by any thread of any process.
unsafe impl Sync for PthreadMutex {}

// SAFETY: glibc's mutex of this kind consists of bytes and atomics. Its links have a meaning only
// for the thread that owns it. It contains no primitive of this crate, so there is nothing to
// visit. Zero bytes are not a valid mutex of this kind, and it needs no drop.
unsafe impl ShmSafe for PthreadMutex {
    const ZERO_IS_VALID: bool = false;
    const HAS_PRIMITIVES: bool = false;

    fn describe(layout: &mut Layout) {
        layout.leaf::<Self>("pthread_mutex_t");
    }

    fn visit(&self, _: &mut PrimitiveVisitor<'_>) {}
}

/// Whether the owner inherits the priority of its waiters. glibc marks such mutexes on the robust
/// list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    None,
    Inherit,
}

impl PthreadMutex {
    /// Creates a mutex that must be initialized in its final place.
    pub const fn new() -> Self {
        PthreadMutex(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    /// Initializes the mutex. Must be called once, before any thread uses the mutex.
    pub fn init(&self, protocol: Protocol) {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the attributes are initialized before they are used, and the mutex is memory of
        // the right size.
        unsafe {
            assert_eq!(libc::pthread_mutexattr_init(attributes), 0);
            let shared = libc::PTHREAD_PROCESS_SHARED;
            assert_eq!(libc::pthread_mutexattr_setpshared(attributes, shared), 0);
            let robust = libc::PTHREAD_MUTEX_ROBUST;
            assert_eq!(libc::pthread_mutexattr_setrobust(attributes, robust), 0);
            if protocol == Protocol::Inherit {
                let inherit = libc::PTHREAD_PRIO_INHERIT;
                assert_eq!(libc::pthread_mutexattr_setprotocol(attributes, inherit), 0);
            }
            assert_eq!(libc::pthread_mutex_init(self.as_ptr(), attributes), 0);
            libc::pthread_mutexattr_destroy(attributes);
        }
    }

    fn as_ptr(&self) -> *mut libc::pthread_mutex_t {
        self.0.get().cast()
    }

    /// Calls `pthread_mutex_lock`. The error is the error number: after `EOWNERDEAD` the caller
    /// holds the lock, and its previous owner died.
    pub fn lock(&self) -> Result<(), i32> {
        // SAFETY: the mutex is initialized.
        answer(unsafe { libc::pthread_mutex_lock(self.as_ptr()) })
    }

    /// Calls `pthread_mutex_trylock`.
    pub fn try_lock(&self) -> Result<(), i32> {
        // SAFETY: the mutex is initialized.
        answer(unsafe { libc::pthread_mutex_trylock(self.as_ptr()) })
    }

    /// Calls `pthread_mutex_timedlock`.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<(), i32> {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let until = now + timeout;
        let until = libc::timespec {
            tv_sec: until.as_secs().cast_signed(),
            tv_nsec: until.subsec_nanos().into(),
        };
        // SAFETY: the mutex is initialized, and the timespec is valid.
        answer(unsafe { libc::pthread_mutex_timedlock(self.as_ptr(), &until) })
    }

    /// Returns the thread id in the lock word, or 0. Used in reports.
    pub fn holder(&self) -> u32 {
        // SAFETY: glibc's mutex starts with its lock word, which every user changes with atomic
        // instructions.
        let word = unsafe { AtomicU32::from_ptr(self.as_ptr().cast()) };
        word.load(Relaxed) & 0x3fff_ffff
    }

    /// Calls `pthread_mutex_consistent`. The caller must own the mutex and have received
    /// `EOWNERDEAD`.
    pub fn consistent(&self) {
        // SAFETY: the mutex is initialized.
        assert_eq!(unsafe { libc::pthread_mutex_consistent(self.as_ptr()) }, 0);
    }

    /// Calls `pthread_mutex_unlock`. The caller must own the mutex.
    pub fn unlock(&self) {
        // SAFETY: the mutex is initialized.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(self.as_ptr()) }, 0);
    }
}

fn answer(number: i32) -> Result<(), i32> {
    if number == 0 { Ok(()) } else { Err(number) }
}
