//! glibc's own robust mutexes, in the same maps and on the same robust lists.

use pshared::ShmSafe;
use pshared::memory::{Layout, PrimitiveVisitor};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// A `pthread_mutex_t`, robust and shared between processes. Free once it is initialized.
#[repr(transparent)]
pub struct PthreadMutex(UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>);

// SAFETY: a mutex with PTHREAD_PROCESS_SHARED is made to be used by any thread of any process.
unsafe impl Sync for PthreadMutex {}

// SAFETY: glibc's mutex of that kind is bytes and atomics; its links mean something to its holder's thread alone. Nothing in
// it is this crate's, so there is nothing to visit; zero bytes are no such mutex, and no drop is needed.
unsafe impl ShmSafe for PthreadMutex {
    const ZERO_IS_VALID: bool = false;
    const HAS_PRIMITIVES: bool = false;

    fn describe(layout: &mut Layout) {
        layout.leaf::<Self>("pthread_mutex_t");
    }

    fn visit(&self, _: &mut PrimitiveVisitor<'_>) {}
}

/// Whether waiters lend their holder their priority. glibc marks such mutexes in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    None,
    Inherit,
}

impl PthreadMutex {
    /// A mutex that is yet to be initialized where it stays.
    pub const fn new() -> Self {
        PthreadMutex(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    /// Initializes the mutex. Before anybody uses it, and once.
    pub fn init(&self, protocol: Protocol) {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the attributes are initialized before they are used, and the mutex is memory of the right size.
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

    /// `pthread_mutex_lock`, or the error number: `EOWNERDEAD` is the lock with the news of a death.
    pub fn lock(&self) -> Result<(), i32> {
        // SAFETY: an initialized mutex.
        answer(unsafe { libc::pthread_mutex_lock(self.as_ptr()) })
    }

    /// `pthread_mutex_trylock`.
    pub fn try_lock(&self) -> Result<(), i32> {
        // SAFETY: an initialized mutex.
        answer(unsafe { libc::pthread_mutex_trylock(self.as_ptr()) })
    }

    /// `pthread_mutex_timedlock`.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<(), i32> {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let until = now + timeout;
        let until = libc::timespec {
            tv_sec: until.as_secs().cast_signed(),
            tv_nsec: until.subsec_nanos().into(),
        };
        // SAFETY: an initialized mutex, and a timespec.
        answer(unsafe { libc::pthread_mutex_timedlock(self.as_ptr(), &until) })
    }

    /// The thread whose id the lock word names, or 0; for reports.
    pub fn holder(&self) -> u32 {
        // SAFETY: glibc's mutex starts with its lock word, which every user changes by atomic instructions.
        let word = unsafe { AtomicU32::from_ptr(self.as_ptr().cast()) };
        word.load(Relaxed) & 0x3fff_ffff
    }

    /// `pthread_mutex_consistent`. By the holder, who was told of a death.
    pub fn consistent(&self) {
        // SAFETY: an initialized mutex.
        assert_eq!(unsafe { libc::pthread_mutex_consistent(self.as_ptr()) }, 0);
    }

    /// `pthread_mutex_unlock`. By the holder.
    pub fn unlock(&self) {
        // SAFETY: an initialized mutex.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(self.as_ptr()) }, 0);
    }
}

fn answer(number: i32) -> Result<(), i32> {
    if number == 0 { Ok(()) } else { Err(number) }
}
