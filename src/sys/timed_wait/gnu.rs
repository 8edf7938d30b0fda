//! glibc has functions that take a clock.

use crate::sys::Deadline;

unsafe extern "C" {
    // glibc 2.30; not in the libc crate.
    fn sem_clockwait(
        sem: *mut libc::sem_t,
        clock: libc::clockid_t,
        until: *const libc::timespec,
    ) -> libc::c_int;
    fn pthread_mutex_clocklock(
        mutex: *mut libc::pthread_mutex_t,
        clock: libc::clockid_t,
        until: *const libc::timespec,
    ) -> libc::c_int;
}

/// `sem_clockwait`. Returns 0, or -1 and sets `errno`.
///
/// # Safety
///
/// The semaphore must be initialized.
pub(in crate::sys) unsafe fn wait_semaphore_until(
    semaphore: *mut libc::sem_t,
    until: Deadline,
) -> libc::c_int {
    // SAFETY: the caller guarantees that the semaphore is initialized, and the time is a timespec.
    unsafe { sem_clockwait(semaphore, libc::CLOCK_MONOTONIC, &until.timespec()) }
}

/// `pthread_mutex_clocklock`. Returns 0 or the error number.
///
/// # Safety
///
/// The mutex must be initialized.
pub(in crate::sys) unsafe fn lock_mutex_until(
    mutex: *mut libc::pthread_mutex_t,
    until: Deadline,
) -> libc::c_int {
    // SAFETY: the caller guarantees that the mutex is initialized, and the time is a timespec.
    unsafe { pthread_mutex_clocklock(mutex, libc::CLOCK_MONOTONIC, &until.timespec()) }
}
