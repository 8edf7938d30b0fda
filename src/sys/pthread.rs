//! `pthread_mutex_t`, shared between processes: glibc's own locks, for comparison.

use super::{AtomicU32, Deadline, clock};
use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::Relaxed;

unsafe extern "C" {
    // glibc 2.30; not in the libc crate.
    fn pthread_mutex_clocklock(
        mutex: *mut libc::pthread_mutex_t,
        clock: libc::clockid_t,
        until: *const libc::timespec,
    ) -> libc::c_int;
}

/// What a `pthread_mutex_t` promises beyond exclusion between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PthreadKind {
    /// Nothing.
    Plain,
    /// `PTHREAD_MUTEX_ROBUST`.
    Robust,
    /// The same, and `PTHREAD_PRIO_INHERIT`.
    RobustPi,
}

/// What a lock call of a `pthread_mutex_t` answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PthreadLocked {
    /// The lock was acquired.
    Acquired,
    /// It was acquired, its owner died with it (`EOWNERDEAD`), and it was made consistent again.
    OwnerDied,
    /// It was not: somebody has it (`EBUSY`), or had it for too long (`ETIMEDOUT`).
    AcquireError,
}

/// A process-shared mutex of glibc's. Used only after [`init`](Self::init).
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct PthreadMutex(UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>);

// SAFETY: once initialized as process-shared, pthread_mutex_lock(3) and its kin may be called by any thread of any process.
unsafe impl Sync for PthreadMutex {}
// SAFETY: it is moved only before it is initialized, while it is bytes without a meaning.
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
    /// Nobody uses the mutex, and it never moves again.
    pub(crate) unsafe fn init(&self, kind: PthreadKind) {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the attributes are initialized before they are set, and destroyed last; by the caller's promise the memory of
        // the mutex may be written.
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
    /// The mutex was initialized.
    #[inline]
    pub(crate) unsafe fn try_lock(&self) -> PthreadLocked {
        // SAFETY: the caller's promise.
        let errno = unsafe { libc::pthread_mutex_trylock(self.as_ptr()) };
        self.locked("pthread_mutex_trylock", errno)
    }

    /// Whether the kernel has marked the mutex as one whose owner died: its first word is a robust futex.
    ///
    /// # Safety
    ///
    /// The mutex was initialized as a robust one.
    pub(crate) unsafe fn is_marked(&self) -> bool {
        // SAFETY: the word lies there by glibc's ABI, and everybody accesses it atomically.
        let word = unsafe { AtomicU32::from_ptr(self.as_ptr().cast()) };
        word.load(Relaxed) & libc::FUTEX_OWNER_DIED != 0
    }

    /// `pthread_mutex_clocklock` on the monotonic clock.
    ///
    /// # Safety
    ///
    /// The mutex was initialized.
    pub(crate) unsafe fn lock_until(&self, until: Deadline) -> PthreadLocked {
        let time = until.timespec();
        // SAFETY: the caller's promise, and a timespec.
        let errno = unsafe { pthread_mutex_clocklock(self.as_ptr(), libc::CLOCK_MONOTONIC, &time) };
        if errno != libc::EINVAL {
            return self.locked("pthread_mutex_clocklock", errno);
        }
        // Priority inheritance on the monotonic clock needs FUTEX_LOCK_PI2 (Linux 5.14). The older operation has the clock
        // that people set; so the wait is cut into pieces, and a clock that is set makes one of them longer or shorter.
        loop {
            let time = clock::realtime_slice(until);
            // SAFETY: as above.
            let errno = unsafe { libc::pthread_mutex_timedlock(self.as_ptr(), &time) };
            let locked = self.locked("pthread_mutex_timedlock", errno);
            if locked != PthreadLocked::AcquireError || until.has_passed() {
                return locked;
            }
        }
    }

    /// `pthread_mutex_unlock`.
    ///
    /// # Safety
    ///
    /// The calling thread holds the mutex.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: the caller's promise.
        check("pthread_mutex_unlock", unsafe {
            libc::pthread_mutex_unlock(self.as_ptr())
        });
    }

    #[inline]
    fn locked(&self, call: &str, errno: libc::c_int) -> PthreadLocked {
        match errno {
            0 => PthreadLocked::Acquired,
            libc::EBUSY | libc::ETIMEDOUT => PthreadLocked::AcquireError,
            libc::EOWNERDEAD => {
                // SAFETY: `EOWNERDEAD` says that the calling thread has acquired the mutex.
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
