//! The strategies that use glibc's robust mutexes.
//!
//! glibc reports to the next locker that a thread ended while it held the lock (`EOWNERDEAD`). That
//! is not yet a death of the process: a thread may leak its guard, pass its access to the data to
//! another thread, and end. So the owner is [recorded](crate::raw::robust::owner). An acquirer that
//! finds a record checks the recorded process while it holds the lock. If that process is alive,
//! the acquirer releases the lock and leaves the record, so each later acquirer finds the record
//! again.

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

/// A robust `pthread_mutex_t`, or a futex in its place while it may still be moved and leaked
/// (`mem::forget`).
#[repr(C)]
#[derive(Debug)]
struct RobustCLock {
    placed: PthreadMutex,
    in_process: FutexWord,
    initialized: AtomicU32,
    record: OwnerRecord,
}

impl RobustCLock {
    const fn new() -> Self {
        RobustCLock {
            placed: PthreadMutex::new(),
            in_process: FutexWord::new(),
            initialized: AtomicU32::new(0),
            record: OwnerRecord::new(),
        }
    }

    /// Initializes the `pthread_mutex_t`, which is used from then on.
    ///
    /// # Safety
    ///
    /// As for [`Strategy::init`].
    unsafe fn init(&self, kind: PthreadKind) {
        self.record.clear_placed();
        // SAFETY: guaranteed by the caller.
        unsafe { self.placed.init(kind) };
        self.initialized.store(1, Relaxed);
    }

    #[inline]
    fn is_initialized(&self) -> bool {
        self.initialized.load(Relaxed) != 0
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
            if !self.in_process.lock(mode) {
                return Err(mode.on_timeout());
            }
            self.record.write_unplaced(current);
            return Ok(Acquired::Released);
        }
        let only_if_released = matches!(mode, WaitMode::TryIfReleased);
        if only_if_released && (self.record.id().is_some() || self.is_marked()) {
            // The lock is held, or its owner died.
            return Err(mode.on_timeout());
        }
        flush_pending(current);
        // SAFETY: the lock was initialized, as checked above.
        let locked = unsafe {
            match mode {
                WaitMode::Try | WaitMode::TryIfReleased => self.placed.try_lock(),
                WaitMode::Until(deadline) => match self.placed.try_lock() {
                    PthreadLocked::NotAcquired => self.lock_in_slices(current, deadline),
                    locked => locked,
                },
            }
        };
        if locked == PthreadLocked::NotAcquired {
            return Err(mode.on_timeout_of(&self.record));
        }
        match self.recover(locked, mode) {
            Ok(acquired) => {
                self.record.write(current);
                Ok(acquired)
            }
            Err(error) => {
                // The record stays as it is, for the next acquirer.
                // SAFETY: acquired above; `list_op_pending` is still empty.
                unsafe { self.placed.unlock() };
                Err(error)
            }
        }
    }

    /// Acquires the lock by waits of at most one second each. If the kernel has detected a cycle of
    /// waiters for locks with priority inheritance, glibc sleeps until the end of the call, even if
    /// the cycle has ended before.
    ///
    /// # Safety
    ///
    /// The lock must be initialized.
    unsafe fn lock_in_slices(
        &self,
        current: CurrentThread,
        deadline: Option<Deadline>,
    ) -> PthreadLocked {
        let mut timer = RecheckTimer::new();
        loop {
            // SAFETY: guaranteed by the caller.
            let locked = unsafe { self.placed.lock_until(timer.next_deadline(deadline)) };
            if locked != PthreadLocked::NotAcquired {
                return locked;
            }
            // glibc leaves a lock that it did not acquire in `list_op_pending`. The kernel reads
            // that field when the thread ends, and the memory may then belong to something else.
            current.list().clear_pending();
            if deadline.is_some_and(Deadline::has_passed) {
                return locked;
            }
        }
    }

    /// Returns whether the kernel has marked the lock, and no thread has acquired it since.
    fn is_marked(&self) -> bool {
        // SAFETY: the lock was initialized, as a robust one.
        self.is_initialized() && unsafe { self.placed.is_marked() }
    }

    /// Determines the result of an acquisition that glibc reported as `locked`.
    fn recover(&self, locked: PthreadLocked, mode: WaitMode) -> Result<Acquired, AcquireError> {
        let deadline = mode.deadline();
        let Some(owner) = self.record.load() else {
            // An owner that died did so before it could access the data, or after its last access.
            return Ok(match locked {
                PthreadLocked::OwnerDied => Acquired::OwnerDied(None),
                _ => Acquired::Released,
            });
        };
        match sys::process_state(owner, deadline) {
            ProcessState::Dead => Ok(Acquired::OwnerDied(Some(owner))),
            ProcessState::Alive => Err(AcquireError::HolderThreadEnded),
            ProcessState::Undecided => Err(mode.on_timeout()),
        }
    }

    /// # Safety
    ///
    /// The calling thread must hold the lock.
    #[inline]
    unsafe fn release(&self, current: CurrentThread) {
        if !self.is_initialized() {
            self.record.clear_unplaced(current);
            // SAFETY: guaranteed by the caller; no lock is initialized while it is held, so this is
            // the lock that was acquired.
            return unsafe { self.in_process.unlock() };
        }
        self.record.clear();
        flush_pending(current);
        // SAFETY: as above.
        unsafe { self.placed.unlock() };
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
                // SAFETY: guaranteed by the caller.
                unsafe { self.0.init($pthread) };
            }

            /// Always returns false. Only the slow path detects what a death has left, and glibc's
            /// function has its own fast path.
            #[inline]
            fn try_acquire_fast(&self, _: CurrentThread) -> bool {
                false
            }

            fn acquire_slow(&self, current: CurrentThread, mode: WaitMode) -> Result<Acquired, AcquireError> {
                self.0.acquire_slow(current, mode)
            }

            #[inline]
            unsafe fn release(&self, current: CurrentThread) {
                // SAFETY: guaranteed by the caller.
                unsafe { self.0.release(current) };
            }

            fn is_marked(&self) -> bool {
                self.0.is_marked()
            }

            /// Also checks the record: an acquirer that checked a marked lock has removed the mark
            /// and left the record.
            fn check_owner_died(&self) -> bool {
                let owner = self.0.record.load_consistent();
                self.0.is_marked()
                    || owner.is_some_and(sys::thread_is_gone)
            }

            unsafe fn reset(&self) {
                // SAFETY: guaranteed by the caller.
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
    /// If the kernel has marked the lock, the next locker receives an error, as with
    /// [`Robust`](super::Robust). glibc has no liveness check for the other cases. If a thread
    /// other than the first one of its process calls `exec` in its critical section, or a thread
    /// dies with more than 2,048 locks, the lock stays held for ever.
    ///
    /// A process that checks whether a holder is still alive holds the lock during the check: for a
    /// quarter of a second, or until the holder's process has died.
    PthreadRobust by PthreadKind::Robust, "mutex-pthread-robust"
}

strategy! {
    /// Like [`PthreadRobust`], with priority inheritance (`PTHREAD_PRIO_INHERIT`): a waiter lends
    /// the holder its priority, and the kernel passes the lock on in the order of priority.
    ///
    /// It is robust too. glibc's mutexes with priority inheritance that are not robust fail an
    /// assertion in a waiter if the holder dies.
    ///
    /// # What a death does
    ///
    /// As for [`PthreadRobust`]. But if the kernel has not marked the lock, glibc **aborts each
    /// process that waits** for it, by an assertion (`e != ESRCH || !robust`).
    PthreadPi by PthreadKind::RobustPi, "mutex-pthread-pi"
}
