//! musl has only the functions of POSIX that wait by the settable clock (`CLOCK_REALTIME`).
//!
//! So a wait lasts at most a second, and the caller repeats it. musl passes the remaining time to
//! the kernel. So setting the clock matters only between two reads of it, right before the wait.

use crate::sys::{Deadline, clock};

/// `sem_timedwait`, until `until` or for a second. Returns 0, or -1 and sets `errno`.
///
/// # Safety
///
/// The semaphore must be initialized.
pub(in crate::sys) unsafe fn wait_semaphore_until(
    semaphore: *mut libc::sem_t,
    until: Deadline,
) -> libc::c_int {
    // SAFETY: the caller guarantees that the semaphore is initialized, and the time is a timespec.
    unsafe { libc::sem_timedwait(semaphore, &clock::realtime_slice(until)) }
}

/// `pthread_mutex_timedlock`, until `until` or for a second. Returns 0 or the error number.
///
/// # Safety
///
/// The mutex must be initialized.
pub(in crate::sys) unsafe fn lock_mutex_until(
    mutex: *mut libc::pthread_mutex_t,
    until: Deadline,
) -> libc::c_int {
    // SAFETY: the caller guarantees that the mutex is initialized, and the time is a timespec.
    unsafe { libc::pthread_mutex_timedlock(mutex, &clock::realtime_slice(until)) }
}
