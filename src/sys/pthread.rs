//! Process-shared `pthread_mutex_t`: the C library's own locks, for comparison. Only those of glibc
//! are used as robust ones.

use super::kernel::Feature;
use super::timed_wait::lock_mutex_until;
use super::timer_slack::ShortSlack;
use super::{AtomicU32, Deadline, clock};
use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::Relaxed;

/// What a `pthread_mutex_t` guarantees in addition to mutual exclusion between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PthreadKind {
    /// Nothing.
    Plain,
    /// `PTHREAD_MUTEX_ROBUST`.
    #[cfg_attr(target_env = "musl", allow(dead_code, reason = "for glibc"))]
    Robust,
    /// `PTHREAD_MUTEX_ROBUST` and `PTHREAD_PRIO_INHERIT`.
    #[cfg_attr(target_env = "musl", allow(dead_code, reason = "for glibc"))]
    RobustPi,
}

/// The result of a lock call of a `pthread_mutex_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PthreadLocked {
    /// The lock was acquired.
    Acquired,
    /// The lock was acquired after its owner had died (`EOWNERDEAD`), and was made consistent
    /// again.
    OwnerDied,
    /// The lock was not acquired: it is held (`EBUSY`), or the wait timed out (`ETIMEDOUT`).
    NotAcquired,
}

/// A process-shared mutex of the C library. It must not be used before [`init`](Self::init).
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct PthreadMutex(UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>);

// SAFETY: once the mutex is initialized as process-shared, any thread of any process may call
// pthread_mutex_lock(3) and the related functions.
unsafe impl Sync for PthreadMutex {}
// SAFETY: the mutex is moved only before it is initialized, when its bytes have no meaning yet.
unsafe impl Send for PthreadMutex {}

impl PthreadMutex {
    pub(crate) const fn new() -> Self {
        PthreadMutex(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    fn as_ptr(&self) -> *mut libc::pthread_mutex_t {
        self.0.get().cast()
    }

    /// `pthread_mutex_init`.
    ///
    /// # Safety
    ///
    /// No other code may use the mutex, and it must never move again.
    pub(crate) unsafe fn init(&self, kind: PthreadKind) {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the attributes are initialized before they are set, and destroyed last. The
        // caller guarantees that the memory of the mutex may be written.
        unsafe {
            check(
                "pthread_mutexattr_init",
                libc::pthread_mutexattr_init(attributes),
            );
            check(
                "pthread_mutexattr_setpshared",
                libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED),
            );
            if kind != PthreadKind::Plain {
                check(
                    "pthread_mutexattr_setrobust",
                    libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST),
                );
            }
            if kind == PthreadKind::RobustPi {
                check(
                    "pthread_mutexattr_setprotocol",
                    libc::pthread_mutexattr_setprotocol(attributes, libc::PTHREAD_PRIO_INHERIT),
                );
            }
            check(
                "pthread_mutex_init",
                libc::pthread_mutex_init(self.as_ptr(), attributes),
            );
            check(
                "pthread_mutexattr_destroy",
                libc::pthread_mutexattr_destroy(attributes),
            );
        }
    }

    /// `pthread_mutex_trylock`.
    ///
    /// # Safety
    ///
    /// The mutex must be initialized.
    #[inline]
    pub(crate) unsafe fn try_lock(&self) -> PthreadLocked {
        // SAFETY: guaranteed by the caller.
        let errno = unsafe { libc::pthread_mutex_trylock(self.as_ptr()) };
        self.locked("pthread_mutex_trylock", errno)
    }

    /// Returns whether the kernel has marked the mutex as one whose owner died: its first word is a
    /// robust futex.
    ///
    /// # Safety
    ///
    /// The mutex must be initialized as a robust one.
    #[cfg_attr(target_env = "musl", allow(dead_code, reason = "for glibc"))]
    pub(crate) unsafe fn is_marked(&self) -> bool {
        // SAFETY: the word lies there by glibc's ABI, and all code accesses it atomically.
        let word = unsafe { AtomicU32::from_ptr(self.as_ptr().cast()) };
        word.load(Relaxed) & libc::FUTEX_OWNER_DIED != 0
    }

    /// Waits for the lock by the monotonic clock. Under musl, a wait may end after one second. The
    /// caller tries to lock first, so that a lock without contention does not pay for the
    /// preparation of a sleep.
    ///
    /// # Safety
    ///
    /// The mutex must be initialized.
    pub(crate) unsafe fn lock_until(&self, until: Deadline) -> PthreadLocked {
        let _slack = ShortSlack::new();
        if !Feature::FutexLockPi2.is_hidden() {
            // SAFETY: guaranteed by the caller.
            let errno = unsafe { lock_mutex_until(self.as_ptr(), until) };
            if errno != libc::EINVAL {
                return self.locked("the wait for a pthread_mutex_t", errno);
            }
        }
        // Priority inheritance on the monotonic clock needs FUTEX_LOCK_PI2 (Linux 5.14). The older
        // operation uses the settable clock. So the wait is divided into slices: setting the clock
        // makes only one slice longer or shorter.
        loop {
            let time = clock::realtime_slice(until);
            // SAFETY: as above.
            let errno = unsafe { libc::pthread_mutex_timedlock(self.as_ptr(), &time) };
            let locked = self.locked("pthread_mutex_timedlock", errno);
            if locked != PthreadLocked::NotAcquired || until.has_passed() {
                return locked;
            }
        }
    }

    /// `pthread_mutex_unlock`.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the mutex.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: guaranteed by the caller.
        check("pthread_mutex_unlock", unsafe {
            libc::pthread_mutex_unlock(self.as_ptr())
        });
    }

    #[inline]
    fn locked(&self, call: &str, errno: libc::c_int) -> PthreadLocked {
        match errno {
            0 => PthreadLocked::Acquired,
            libc::EBUSY | libc::ETIMEDOUT => PthreadLocked::NotAcquired,
            libc::EOWNERDEAD => {
                // SAFETY: `EOWNERDEAD` means that the calling thread has acquired the mutex.
                check("pthread_mutex_consistent", unsafe {
                    libc::pthread_mutex_consistent(self.as_ptr())
                });
                PthreadLocked::OwnerDied
            }
            errno => impossible(call, errno),
        }
    }
}

#[inline]
fn check(call: &str, errno: libc::c_int) {
    if errno != 0 {
        impossible(call, errno);
    }
}

#[cold]
fn impossible(call: &str, errno: libc::c_int) -> ! {
    panic!("{call}: {}", io::Error::from_raw_os_error(errno))
}
