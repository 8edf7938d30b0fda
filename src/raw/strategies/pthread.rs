//! The strategies that are glibc's robust mutexes.
//!
//! glibc tells the next locker that a thread ended with the lock (`EOWNERDEAD`). That is not yet a death of the process: a
//! thread may end while its guard is forgotten and the data handed on. So the holder is [recorded](crate::raw::robust::owner), and an
//! acquirer that finds somebody's record examines it with the lock in its hands. While that process lives, the lock is given
//! back as it was; everybody who comes finds the record again.

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::list_op::flush_pending;
use crate::raw::robust::owner::OwnerRecord;
use crate::raw::strategies::Strategy;
use crate::raw::strategies::futex::FutexWord;
use crate::sys::{
    self, AtomicU32, CurrentThread, Deadline, ProcessState, PthreadKind, PthreadLocked,
    PthreadMutex, RecheckTimer,
};
use core::sync::atomic::Ordering::Relaxed;

/// A robust `pthread_mutex_t`, and a futex in its stead while it may still be moved and forgotten.
#[repr(C)]
#[derive(Debug)]
struct RobustCLock {
    placed: PthreadMutex,
    unplaced: FutexWord,
    armed: AtomicU32,
    record: OwnerRecord,
}

impl RobustCLock {
    const fn new() -> Self {
        RobustCLock {
            placed: PthreadMutex::new(),
            unplaced: FutexWord::new(),
            armed: AtomicU32::new(0),
            record: OwnerRecord::new(),
        }
    }

    /// # Safety
    ///
    /// As for [`Strategy::init`].
    unsafe fn init(&self, kind: PthreadKind) {
        self.record.clear();
        // SAFETY: the caller's promise.
        unsafe { self.placed.init(kind) };
        self.armed.store(1, Relaxed);
    }

    #[inline]
    fn is_initialized(&self) -> bool {
        self.armed.load(Relaxed) != 0
    }

    fn acquire_slow(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Acquired, AcquireError> {
        if self.record.is_current_thread(current) {
            return Err(mode.on_relock());
        }
        if !self.is_initialized() {
            if !self.unplaced.lock(mode) {
                return Err(mode.on_timeout());
            }
            self.record.write(current);
            return Ok(Acquired::Released);
        }
        let look = matches!(mode, WaitMode::TryIfReleased);
        if look && (self.record.id().is_some() || self.owner_died()) {
            // Held, or its holder died.
            return Err(mode.on_timeout());
        }
        flush_pending(current);
        // SAFETY: an armed lock was initialized.
        let locked = unsafe {
            match mode {
                WaitMode::Try | WaitMode::TryIfReleased => self.placed.try_lock(),
                WaitMode::Until(deadline) => self.lock_in_naps(current, deadline),
            }
        };
        if locked == PthreadLocked::AcquireError {
            return Err(mode.on_timeout());
        }
        match self.recover(locked, mode) {
            Ok(acquired) => {
                self.record.write(current);
                Ok(acquired)
            }
            Err(refused) => {
                // SAFETY: acquired above. The record stays as it is, for the next one. The slot is as empty as it was then.
                unsafe { self.placed.unlock() };
                Err(refused)
            }
        }
    }

    /// Waits a second at most at a time: where the kernel has seen a cycle of waiters for locks with priority inheritance, glibc
    /// sleeps to the end of the call, also when the cycle is none any more.
    ///
    /// # Safety
    ///
    /// The lock was initialized.
    unsafe fn lock_in_naps(
        &self,
        current: CurrentThread,
        deadline: Option<Deadline>,
    ) -> PthreadLocked {
        let mut timer = RecheckTimer::new();
        loop {
            // SAFETY: the caller's promise.
            let locked = unsafe { self.placed.lock_until(timer.next_deadline(deadline)) };
            if locked != PthreadLocked::AcquireError {
                return locked;
            }
            // glibc leaves a lock that it did not acquire in the slot, where the kernel looks when the thread ends: at memory
            // that may be another's by then.
            current.list().clear_pending();
            if deadline.is_some_and(Deadline::has_passed) {
                return locked;
            }
        }
    }

    /// Whether the kernel has marked the lock, and nobody has taken it since.
    fn owner_died(&self) -> bool {
        // SAFETY: an armed lock was initialized.
        self.is_initialized() && unsafe { self.placed.is_marked() }
    }

    /// What it means that the lock was acquired so.
    fn recover(&self, locked: PthreadLocked, mode: WaitMode) -> Result<Acquired, AcquireError> {
        let deadline = mode.deadline();
        let Some(owner) = self.record.load() else {
            // A holder that died had not handed the data out yet, or had them back.
            return Ok(match locked {
                PthreadLocked::OwnerDied => Acquired::OwnerDied,
                _ => Acquired::Released,
            });
        };
        match sys::process_state(owner, deadline) {
            ProcessState::Dead => Ok(Acquired::OwnerDied),
            ProcessState::Alive => Err(AcquireError::HolderThreadEnded),
            ProcessState::Undecided => Err(mode.on_timeout()),
        }
    }

    /// # Safety
    ///
    /// The calling thread holds the lock.
    #[inline]
    unsafe fn release(&self, current: CurrentThread) {
        self.record.clear();
        // SAFETY: the caller's promise; a lock that is held is not armed meanwhile, so it is the one that was acquired.
        unsafe {
            if self.is_initialized() {
                flush_pending(current);
                self.placed.unlock();
            } else {
                self.unplaced.unlock();
            }
        }
    }
}

macro_rules! strategy {
    ($(#[$meta:meta])* $name:ident by $pthread:expr, $kind:literal) => {
        $(#[$meta])*
        #[repr(transparent)]
        #[derive(Debug)]
        pub struct $name(RobustCLock);

        impl Strategy for $name {
            const NEW: Self = $name(RobustCLock::new());
            const KIND: &'static str = $kind;

            unsafe fn init(&self) {
                // SAFETY: the caller's promise.
                unsafe { self.0.init($pthread) };
            }

            /// What a death left can only be told by the slow path, and glibc's own call has a fast one.
            #[inline]
            fn try_acquire_fast(&self, _: CurrentThread) -> bool {
                false
            }

            fn acquire_slow(&self, current: CurrentThread, mode: WaitMode) -> Result<Acquired, AcquireError> {
                self.0.acquire_slow(current, mode)
            }

            #[inline]
            unsafe fn release(&self, current: CurrentThread) {
                // SAFETY: the caller's promise.
                unsafe { self.0.release(current) };
            }

            fn owner_died(&self) -> bool {
                self.0.owner_died()
            }

            /// Who examined a mark took it away, and left the record.
            fn owner_is_dead(&self) -> bool {
                let owner = self.0.record.load_consistent();
                self.0.owner_died()
                    || owner.is_some_and(sys::owner_is_dead)
            }

            unsafe fn reset(&self) {
                // SAFETY: the caller's promise.
                unsafe { self.init() };
            }

            fn record(&self) -> &OwnerRecord {
                &self.0.record
            }
        }
    };
}

strategy! {
    /// glibc's `pthread_mutex_t` with `PTHREAD_PROCESS_SHARED` and `PTHREAD_MUTEX_ROBUST`.
    ///
    /// # What a death does
    ///
    /// The next locker is told, as with [`Robust`](super::Robust), where the kernel has marked the lock. glibc has no net for the
    /// rest: where a thread that is not its process's first calls `exec` in its section, or dies with more than 2,048 locks, the lock
    /// stays held for ever.
    ///
    /// A process that examines whether a holder still lives has the lock meanwhile: for a quarter of a second, or as long as the
    /// other takes to die.
    PthreadRobust by PthreadKind::Robust, "mutex-pthread-robust"
}

strategy! {
    /// The same with priority inheritance (`PTHREAD_PRIO_INHERIT`): a waiter lends the holder its priority, and the kernel
    /// hands the lock over in the order of priority.
    ///
    /// It is robust too: of glibc's mutexes with priority inheritance, those that are not fail an assertion in a waiter whose
    /// holder dies.
    ///
    /// # What a death does
    ///
    /// As for [`PthreadRobust`]; but where the kernel has not marked the lock, glibc **aborts whoever waits** for it, by an
    /// assertion (`e != ESRCH || !robust`).
    PthreadPi by PthreadKind::RobustPi, "mutex-pthread-pi"
}
