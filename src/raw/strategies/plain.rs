//! The strategies that are not robust: if a holder dies, the lock stays held for ever.

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::owner::OwnerRecord;
use crate::raw::strategies::Strategy;
use crate::raw::strategies::c_lock::{CLock, RawCLock};
use crate::raw::strategies::futex::FutexWord;
use crate::raw::strategies::spin::SpinWord;
use crate::raw::strategies::ticket::TicketWords;
use crate::sys::{
    AtomicU32, CurrentThread, Deadline, PthreadKind, PthreadLocked, PthreadMutex, RecheckTimer,
    Semaphore,
};
use core::sync::atomic::Ordering::Relaxed;

/// Defines a strategy from a lock type that reports only whether an attempt acquired the lock.
macro_rules! strategy {
    ($(#[$meta:meta])* $name:ident by $lock:ty, $kind:literal) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug)]
        pub struct $name {
            lock: $lock,
            /// 1 until the lock is placed.
            is_unplaced: AtomicU32,
            record: OwnerRecord,
        }

        impl $name {
            /// Records the calling thread, which has acquired the lock.
            #[inline]
            fn record_owner(&self, current: CurrentThread) {
                match self.is_unplaced.load(Relaxed) {
                    0 => self.record.write(current),
                    _ => self.record.write_unplaced(current),
                }
            }
        }

        impl Strategy for $name {
            const NEW: Self = $name {
                lock: <$lock>::new(),
                is_unplaced: AtomicU32::new(1),
                record: OwnerRecord::new(),
            };
            const KIND: &'static str = $kind;

            unsafe fn init(&self) {
                self.record.clear_placed();
                self.is_unplaced.store(0, Relaxed);
                // SAFETY: guaranteed by the caller.
                unsafe { self.lock.init() };
            }

            #[inline]
            fn try_acquire_fast(&self, current: CurrentThread) -> bool {
                let acquired = self.lock.try_lock();
                if acquired {
                    self.record_owner(current);
                }
                acquired
            }

            #[cold]
            fn acquire_slow(&self, current: CurrentThread, mode: WaitMode) -> Result<Acquired, AcquireError> {
                let outcome = attempt(&self.record, current, mode, || self.lock.lock(mode));
                if outcome.is_ok() {
                    self.record_owner(current);
                }
                outcome
            }

            #[inline]
            unsafe fn release(&self, current: CurrentThread) {
                match self.is_unplaced.load(Relaxed) {
                    0 => self.record.clear(),
                    _ => self.record.clear_unplaced(current),
                }
                // SAFETY: guaranteed by the caller.
                unsafe { self.lock.unlock() };
            }

            unsafe fn reset(&self) {
                // SAFETY: guaranteed by the caller.
                unsafe { self.init() };
            }

            fn record(&self) -> &OwnerRecord {
                &self.record
            }
        }
    };
}

/// Makes an attempt by `lock`, which returns whether it acquired the lock.
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
    /// A plain futex, as in the mutex of `std`: a waiter spins briefly, then sleeps. Not robust.
    ///
    /// # What a death does
    ///
    /// If a holder dies, the lock stays held for ever: `lock` hangs, `lock_timeout` times out.
    Futex by FutexWord, "mutex-futex"
}

strategy! {
    /// A spin lock: a waiter keeps its CPU busy. After some checks of the lock, it yields the CPU
    /// between two checks. No thread sleeps. Not robust.
    ///
    /// # What a death does
    ///
    /// If a holder dies, the lock stays held for ever: `lock` spins for ever, `lock_timeout` times
    /// out.
    Spin by SpinWord, "mutex-spin"
}

strategy! {
    /// A ticket lock: a spin lock that serves threads in the order of arrival. Not robust.
    ///
    /// `lock_timeout` and `try_lock` draw no ticket. They take the lock when no thread has a
    /// ticket, and other threads may overtake them without limit.
    ///
    /// # What a death does
    ///
    /// If a holder dies, the lock stays held for ever: `lock` spins for ever, `lock_timeout` times
    /// out. The same happens if a thread dies while it waits in `lock`, as soon as its ticket is
    /// served.
    Ticket by TicketWords, "mutex-ticket"
}

strategy! {
    /// The C library's `pthread_mutex_t` with `PTHREAD_PROCESS_SHARED`. Not robust.
    ///
    /// # What a death does
    ///
    /// If a holder dies, the lock stays held for ever: `lock` hangs, `lock_timeout` times out.
    Pthread by CLock<PthreadMutex>, "mutex-pthread"
}

strategy! {
    /// A POSIX semaphore (`sem_t`, `sem_init` with pshared) of one permit. Not robust.
    ///
    /// # What a death does
    ///
    /// If a holder dies, the lock stays held for ever: `lock` hangs, `lock_timeout` times out.
    PosixSem by CLock<Semaphore>, "mutex-sem"
}

impl RawCLock for PthreadMutex {
    const NEW: Self = PthreadMutex::new();

    unsafe fn init(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.init(PthreadKind::Plain) };
    }

    #[inline]
    unsafe fn try_lock(&self) -> bool {
        // SAFETY: guaranteed by the caller.
        unsafe { self.try_lock() == PthreadLocked::Acquired }
    }

    unsafe fn lock(&self, mode: WaitMode) -> bool {
        let deadline = mode.deadline();
        let mut timer = RecheckTimer::new();
        loop {
            // Each wait lasts one recheck interval: a waiter that dies after it was woken takes the
            // wake with it.
            // SAFETY: guaranteed by the caller.
            let locked = unsafe { self.lock_until(timer.next_deadline(deadline)) };
            if locked == PthreadLocked::Acquired || deadline.is_some_and(Deadline::has_passed) {
                return locked == PthreadLocked::Acquired;
            }
        }
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.unlock() };
    }
}

impl RawCLock for Semaphore {
    const NEW: Self = Semaphore::new();

    unsafe fn init(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.init(1) };
    }

    #[inline]
    unsafe fn try_lock(&self) -> bool {
        // SAFETY: guaranteed by the caller.
        unsafe { self.try_wait() }
    }

    unsafe fn lock(&self, mode: WaitMode) -> bool {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match mode {
                WaitMode::Try | WaitMode::TryIfReleased => self.try_wait(),
                WaitMode::Until(deadline) => self.wait_in_slices(deadline),
            }
        }
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: guaranteed by the caller. The maximum is not reached: there is one permit, and
        // the caller holds it.
        unsafe { self.post() };
    }
}
