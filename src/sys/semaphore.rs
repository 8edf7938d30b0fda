//! `sem_t`, initialized in place by `sem_init(pshared = 1)`.

use super::timed_wait::wait_semaphore_until;
use super::timer_slack::ShortSlack;
use super::{Deadline, RecheckTimer};
use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;

/// The largest value of a semaphore: `SEM_VALUE_MAX`.
pub(crate) const SEMAPHORE_MAX: u32 = i32::MAX as u32;

/// A POSIX semaphore. It must not be used before [`init`](Self::init).
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Semaphore(UnsafeCell<MaybeUninit<libc::sem_t>>);

// SAFETY: once the semaphore is initialized with pshared = 1, any thread of any process may call
// sem_wait(3) and the related functions.
unsafe impl Sync for Semaphore {}
// SAFETY: the semaphore is moved only before it is initialized, when its bytes have no meaning yet.
unsafe impl Send for Semaphore {}

impl Semaphore {
    pub(crate) const fn new() -> Self {
        Semaphore(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    fn as_ptr(&self) -> *mut libc::sem_t {
        self.0.get().cast()
    }

    /// `sem_init(pshared = 1)`. `value` is at most [`SEMAPHORE_MAX`].
    ///
    /// # Safety
    ///
    /// No other code may use the semaphore yet, and it must never move again.
    pub(crate) unsafe fn init(&self, value: u32) {
        // SAFETY: the caller guarantees that no other code uses the semaphore; the memory is that
        // of a sem_t.
        let answer = unsafe { libc::sem_init(self.as_ptr(), 1, value) };
        assert_eq!(
            answer,
            0,
            "sem_init({value}): {}",
            io::Error::last_os_error()
        );
    }

    /// `sem_trywait`. Returns whether it took a permit.
    ///
    /// # Safety
    ///
    /// The semaphore must be initialized.
    #[inline]
    pub(crate) unsafe fn try_wait(&self) -> bool {
        loop {
            // SAFETY: guaranteed by the caller.
            if unsafe { libc::sem_trywait(self.as_ptr()) } == 0 {
                return true;
            }
            match errno() {
                libc::EAGAIN => return false,
                libc::EINTR => {}
                errno => impossible("sem_trywait", errno),
            }
        }
    }

    /// Waits by the monotonic clock, in slices of at most one second. A waiter
    /// that dies right after it was woken takes the wake with it, so the other waiters must check
    /// the semaphore again. Returns false if `deadline` passes first.
    ///
    /// # Safety
    ///
    /// The semaphore must be initialized.
    pub(crate) unsafe fn wait_in_slices(&self, deadline: Option<Deadline>) -> bool {
        let mut timer = RecheckTimer::new();
        loop {
            // SAFETY: guaranteed by the caller.
            if unsafe { self.wait_until(timer.next_deadline(deadline)) } {
                return true;
            }
            if deadline.is_some_and(Deadline::has_passed) {
                // SAFETY: as above.
                return unsafe { self.try_wait() };
            }
        }
    }

    /// Returns false if `until` or one second passes first, or on a signal (`EINTR`).
    ///
    /// # Safety
    ///
    /// The semaphore must be initialized.
    unsafe fn wait_until(&self, until: Deadline) -> bool {
        let _slack = ShortSlack::new();
        // SAFETY: guaranteed by the caller.
        if unsafe { wait_semaphore_until(self.as_ptr(), until) } == 0 {
            return true;
        }
        match errno() {
            libc::ETIMEDOUT | libc::EINTR => false,
            errno => impossible("the wait for a sem_t", errno),
        }
    }

    /// `sem_post`. Returns false if the value is at its maximum (`EOVERFLOW`).
    ///
    /// # Safety
    ///
    /// The semaphore must be initialized.
    #[inline]
    pub(crate) unsafe fn post(&self) -> bool {
        // SAFETY: guaranteed by the caller.
        if unsafe { libc::sem_post(self.as_ptr()) } == 0 {
            return true;
        }
        match errno() {
            libc::EOVERFLOW => false,
            errno => impossible("sem_post", errno),
        }
    }

    /// `sem_getvalue`. Returns the number of free permits.
    ///
    /// # Safety
    ///
    /// The semaphore must be initialized.
    pub(crate) unsafe fn value(&self) -> u32 {
        let mut value = 0;
        // SAFETY: the caller guarantees that the semaphore is initialized, and `value` is an int
        // that may be written.
        let answer = unsafe { libc::sem_getvalue(self.as_ptr(), &mut value) };
        assert_eq!(answer, 0, "sem_getvalue: {}", io::Error::last_os_error());
        // Linux returns 0 while there are waiters; POSIX would also allow the negated number of
        // waiters.
        value.max(0) as u32
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

#[cold]
fn impossible(call: &str, errno: i32) -> ! {
    panic!("{call}: {}", io::Error::from_raw_os_error(errno))
}
