//! The strategies that know no owner: a holder that dies holds them for ever.

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::owner::OwnerRecord;
use crate::raw::strategies::Strategy;
use crate::raw::strategies::c_lock::{CLock, RawCLock};
use crate::raw::strategies::futex::FutexWord;
use crate::raw::strategies::spin::SpinWord;
use crate::raw::strategies::ticket::TicketWords;
use crate::sys::{
    CurrentThread, Deadline, PthreadKind, PthreadLocked, PthreadMutex, RecheckTimer, Semaphore,
};

/// Makes a strategy of a lock that answers yes or no.
macro_rules! strategy {
    ($(#[$meta:meta])* $name:ident by $lock:ty, $kind:literal) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug)]
        pub struct $name {
            lock: $lock,
            record: OwnerRecord,
        }

        impl Strategy for $name {
            const NEW: Self = $name {
                lock: <$lock>::new(),
                record: OwnerRecord::new(),
            };
            const KIND: &'static str = $kind;

            unsafe fn init(&self) {
                self.record.clear();
                // SAFETY: the caller's promise.
                unsafe { self.lock.init() };
            }

            #[inline]
            fn try_acquire_fast(&self, current: CurrentThread) -> bool {
                let acquired = self.lock.try_lock();
                if acquired {
                    self.record.write(current);
                }
                acquired
            }

            #[cold]
            fn acquire_slow(&self, current: CurrentThread, mode: WaitMode) -> Result<Acquired, AcquireError> {
                let outcome = attempt(&self.record, current, mode, || self.lock.lock(mode));
                if outcome.is_ok() {
                    self.record.write(current);
                }
                outcome
            }

            #[inline]
            unsafe fn release(&self, _: CurrentThread) {
                self.record.clear();
                // SAFETY: the caller's promise.
                unsafe { self.lock.unlock() };
            }

            unsafe fn reset(&self) {
                // SAFETY: the caller's promise.
                unsafe { self.init() };
            }

            fn record(&self) -> &OwnerRecord {
                &self.record
            }
        }
    };
}

/// What comes of an attempt whose `lock` tells whether it acquired the lock.
fn attempt(
    record: &OwnerRecord,
    current: CurrentThread,
    mode: WaitMode,
    lock: impl FnOnce() -> bool,
) -> Result<Acquired, AcquireError> {
    if record.is_current_thread(current) {
        return Err(mode.on_relock());
    }
    match lock() {
        true => Ok(Acquired::Released),
        false => Err(mode.on_timeout()),
    }
}

strategy! {
    /// A plain futex, as `std`'s mutex is: it spins for a moment, then sleeps. Not robust.
    ///
    /// # What a death does
    ///
    /// A holder that dies holds the lock for ever: `lock` hangs, `lock_timeout` times out.
    Futex by FutexWord, "mutex-futex"
}

strategy! {
    /// A spin lock: who waits burns its CPU, and gives it away between two looks after some. Nobody sleeps. Not robust.
    ///
    /// # What a death does
    ///
    /// A holder that dies holds the lock for ever: `lock` spins for ever, `lock_timeout` times out.
    Spin by SpinWord, "mutex-spin"
}

strategy! {
    /// A ticket lock: a spin lock that serves in the order of arrival. Not robust.
    ///
    /// `lock_timeout` and `try_lock` draw no ticket; they take the lock when nobody has one, and may be overtaken without
    /// end.
    ///
    /// # What a death does
    ///
    /// A holder that dies holds the lock for ever: `lock` spins for ever, `lock_timeout` times out. So does one that dies
    /// while it waits in `lock`, from its turn on.
    Ticket by TicketWords, "mutex-ticket"
}

strategy! {
    /// glibc's `pthread_mutex_t` with `PTHREAD_PROCESS_SHARED`. Not robust.
    ///
    /// # What a death does
    ///
    /// A holder that dies holds the lock for ever: `lock` hangs, `lock_timeout` times out.
    Pthread by CLock<PthreadMutex>, "mutex-pthread"
}

strategy! {
    /// A POSIX semaphore (`sem_t`, `sem_init` with pshared) of one permit. Not robust.
    ///
    /// # What a death does
    ///
    /// A holder that dies holds the lock for ever: `lock` hangs, `lock_timeout` times out.
    PosixSem by CLock<Semaphore>, "mutex-sem"
}

impl RawCLock for PthreadMutex {
    const NEW: Self = PthreadMutex::new();

    unsafe fn init(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.init(PthreadKind::Plain) };
    }

    #[inline]
    unsafe fn try_lock(&self) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.try_lock() == PthreadLocked::Acquired }
    }

    unsafe fn lock(&self, mode: WaitMode) -> bool {
        let deadline = mode.deadline();
        let mut timer = RecheckTimer::new();
        loop {
            // A timer at a time: a waiter that dies just when it was woken takes the wake with it.
            // SAFETY: the caller's promise.
            let locked = unsafe { self.lock_until(timer.next_deadline(deadline)) };
            if locked == PthreadLocked::Acquired || deadline.is_some_and(Deadline::has_passed) {
                return locked == PthreadLocked::Acquired;
            }
        }
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.unlock() };
    }
}

impl RawCLock for Semaphore {
    const NEW: Self = Semaphore::new();

    unsafe fn init(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.init(1) };
    }

    #[inline]
    unsafe fn try_lock(&self) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.try_wait() }
    }

    unsafe fn lock(&self, mode: WaitMode) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            match mode {
                WaitMode::Try | WaitMode::TryIfReleased => self.try_wait(),
                WaitMode::Until(deadline) => self.wait_in_slices(deadline),
            }
        }
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: the caller's promise. The maximum is not reached: there is one permit, and the caller has it.
        unsafe { self.post() };
    }
}
