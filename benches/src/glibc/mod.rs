//! glibc's process-shared primitives in anonymous shared memory, as a reference for the figures.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// Maps memory that children share. It stays mapped until the process ends.
fn shared<T>() -> io::Result<NonNull<T>> {
    // SAFETY: a new anonymous map at an address that the kernel chooses.
    let map = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size_of::<T>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if map == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(map.cast()).ok_or_else(|| io::Error::other("mmap returned address 0"))
}

fn check(errno: i32) -> io::Result<()> {
    if errno == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(errno))
    }
}

/// The kinds of `pthread_mutex_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `PTHREAD_PROCESS_SHARED`.
    Shared,
    /// As `Shared`, with `PTHREAD_MUTEX_ROBUST`.
    SharedRobust,
}

#[repr(C)]
struct Placed {
    mutex: UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>,
    count: UnsafeCell<u64>,
}

/// A `pthread_mutex_t` with a number that it protects.
#[derive(Debug)]
pub struct Mutex(NonNull<Placed>);

impl Mutex {
    /// Creates a free mutex of a kind.
    ///
    /// # Errors
    ///
    /// Returns the error of glibc or of the kernel.
    pub fn new(kind: Kind) -> io::Result<Self> {
        let placed = shared::<Placed>()?;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the attributes are initialized first. The mutex lies in zeroed memory that no
        // other process has a pointer to.
        unsafe {
            check(libc::pthread_mutexattr_init(attributes.as_mut_ptr()))?;
            let attributes = attributes.as_mut_ptr();
            check(libc::pthread_mutexattr_setpshared(
                attributes,
                libc::PTHREAD_PROCESS_SHARED,
            ))?;
            if kind == Kind::SharedRobust {
                check(libc::pthread_mutexattr_setrobust(
                    attributes,
                    libc::PTHREAD_MUTEX_ROBUST,
                ))?;
            }
            check(libc::pthread_mutex_init(
                placed.as_ref().mutex.get().cast(),
                attributes,
            ))?;
        }
        Ok(Mutex(placed))
    }

    /// Runs `body` with the number, under the lock.
    ///
    /// # Panics
    ///
    /// Panics if glibc reports an error.
    #[inline]
    pub fn with(&self, body: impl FnOnce(&mut u64)) {
        // SAFETY: the memory is never unmapped, and the number is accessed only under the lock.
        unsafe {
            let placed = self.0.as_ref();
            let mutex = placed.mutex.get().cast();
            assert_eq!(libc::pthread_mutex_lock(mutex), 0);
            body(&mut *placed.count.get());
            assert_eq!(libc::pthread_mutex_unlock(mutex), 0);
        }
    }
}

#[repr(C)]
struct PlacedRwLock {
    lock: UnsafeCell<MaybeUninit<libc::pthread_rwlock_t>>,
    count: UnsafeCell<u64>,
}

/// A `pthread_rwlock_t` with `PTHREAD_PROCESS_SHARED`, and a number that it protects.
#[derive(Debug)]
pub struct RwLock(NonNull<PlacedRwLock>);

impl RwLock {
    /// Creates a free lock.
    ///
    /// # Errors
    ///
    /// Returns the error of glibc or of the kernel.
    pub fn new() -> io::Result<Self> {
        let placed = shared::<PlacedRwLock>()?;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the attributes are initialized first. The lock lies in zeroed memory that no
        // other process has a pointer to.
        unsafe {
            check(libc::pthread_rwlockattr_init(attributes.as_mut_ptr()))?;
            let attributes = attributes.as_mut_ptr();
            check(libc::pthread_rwlockattr_setpshared(
                attributes,
                libc::PTHREAD_PROCESS_SHARED,
            ))?;
            check(libc::pthread_rwlock_init(
                placed.as_ref().lock.get().cast(),
                attributes,
            ))?;
        }
        Ok(RwLock(placed))
    }

    /// Returns the number, read under the lock.
    ///
    /// # Panics
    ///
    /// Panics if glibc reports an error.
    #[inline]
    pub fn read(&self) -> u64 {
        // SAFETY: the memory is never unmapped, and the number is read only under the lock.
        unsafe {
            let placed = self.0.as_ref();
            let lock = placed.lock.get().cast();
            assert_eq!(libc::pthread_rwlock_rdlock(lock), 0);
            let count = *placed.count.get();
            assert_eq!(libc::pthread_rwlock_unlock(lock), 0);
            count
        }
    }

    /// Adds one to the number, under the lock.
    ///
    /// # Panics
    ///
    /// Panics if glibc reports an error.
    #[inline]
    pub fn write(&self) {
        // SAFETY: the memory is never unmapped, and the number is accessed only under the lock.
        unsafe {
            let placed = self.0.as_ref();
            let lock = placed.lock.get().cast();
            assert_eq!(libc::pthread_rwlock_wrlock(lock), 0);
            *placed.count.get() += 1;
            assert_eq!(libc::pthread_rwlock_unlock(lock), 0);
        }
    }
}

/// A `sem_t` with `pshared = 1`.
#[derive(Debug)]
pub struct Semaphore(NonNull<libc::sem_t>);

impl Semaphore {
    /// Creates a semaphore with `permits` permits.
    ///
    /// # Errors
    ///
    /// Returns the error of glibc or of the kernel.
    pub fn new(permits: u32) -> io::Result<Self> {
        let placed = shared::<libc::sem_t>()?;
        // SAFETY: zeroed memory of the size of a `sem_t` that no other process has a pointer to.
        match unsafe { libc::sem_init(placed.as_ptr(), 1, permits) } {
            0 => Ok(Semaphore(placed)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Calls `sem_wait`.
    ///
    /// # Panics
    ///
    /// Panics if glibc reports an error.
    #[inline]
    pub fn wait(&self) {
        // SAFETY: the semaphore is initialized, and its memory is never unmapped.
        assert_eq!(unsafe { libc::sem_wait(self.0.as_ptr()) }, 0);
    }

    /// Calls `sem_post`.
    ///
    /// # Panics
    ///
    /// Panics if glibc reports an error.
    #[inline]
    pub fn post(&self) {
        // SAFETY: the semaphore is initialized, and its memory is never unmapped.
        assert_eq!(unsafe { libc::sem_post(self.0.as_ptr()) }, 0);
    }
}
