//! The strategies that know no owner: a holder that dies holds them for ever.

use super::external::{External, ExternalLock};
use super::futex::FutexWord;
use super::outcome::{Acquired, Patience, Refused};
use super::record::Record;
use super::spin::SpinWord;
use super::strategy::Strategy;
use super::ticket::TicketWords;
use crate::sys::{Deadline, Me, Nap, PthreadKind, PthreadLocked, PthreadMutex, Semaphore};

/// Makes a strategy of a lock that answers yes or no.
macro_rules! strategy {
    ($(#[$meta:meta])* $name:ident by $lock:ty, $kind:literal) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug)]
        pub struct $name {
            lock: $lock,
            record: Record,
        }

        impl Strategy for $name {
            const NEW: Self = $name {
                lock: <$lock>::new(),
                record: Record::new(),
            };
            const KIND: &'static str = $kind;

            unsafe fn arm(&self) {
                self.record.clear();
                // SAFETY: the caller's promise.
                unsafe { self.lock.arm() };
            }

            #[inline]
            fn acquire_fast(&self, me: Me) -> bool {
                let acquired = self.lock.try_lock();
                if acquired {
                    self.record.write(me);
                }
                acquired
            }

            #[cold]
            fn acquire(&self, me: Me, patience: Patience) -> Result<Acquired, Refused> {
                let outcome = attempt(&self.record, me, patience, || self.lock.lock(patience));
                if outcome.is_ok() {
                    self.record.write(me);
                }
                outcome
            }

            #[inline]
            unsafe fn release(&self, _: Me) {
                self.record.clear();
                // SAFETY: the caller's promise.
                unsafe { self.lock.unlock() };
            }

            unsafe fn reset(&self) {
                // SAFETY: the caller's promise.
                unsafe { self.arm() };
            }

            fn record(&self) -> &Record {
                &self.record
            }
        }
    };
}

/// What comes of an attempt whose `lock` tells whether it acquired the lock.
fn attempt(
    record: &Record,
    me: Me,
    patience: Patience,
    lock: impl FnOnce() -> bool,
) -> Result<Acquired, Refused> {
    if record.is_mine(me) {
        return Err(patience.refusal_of_the_holder());
    }
    match lock() {
        true => Ok(Acquired::Released),
        false => Err(patience.refusal()),
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
    Pthread by External<PthreadMutex>, "mutex-pthread"
}

strategy! {
    /// A POSIX semaphore (`sem_t`, `sem_init` with pshared) of one permit. Not robust.
    ///
    /// # What a death does
    ///
    /// A holder that dies holds the lock for ever: `lock` hangs, `lock_timeout` times out.
    PosixSem by External<Semaphore>, "mutex-sem"
}

impl ExternalLock for PthreadMutex {
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

    unsafe fn lock(&self, patience: Patience) -> bool {
        let deadline = patience.deadline();
        let mut nap = Nap::first();
        loop {
            // A nap at a time: a waiter that dies just when it was woken takes the wake with it.
            // SAFETY: the caller's promise.
            let locked = unsafe { self.lock_until(nap.end(deadline)) };
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

impl ExternalLock for Semaphore {
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

    unsafe fn lock(&self, patience: Patience) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            match patience {
                Patience::None | Patience::IfReleased => self.try_wait(),
                Patience::Until(deadline) => self.wait_with_looks(Some(deadline)),
                Patience::Endless => self.wait_with_looks(None),
            }
        }
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: the caller's promise. The maximum is not reached: there is one permit, and the caller has it.
        unsafe { self.post() };
    }
}
