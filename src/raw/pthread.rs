//! The strategies that are glibc's robust mutexes.
//!
//! glibc tells the next locker that a thread ended with the lock (`EOWNERDEAD`). That is not yet a death of the process: a
//! thread may end while its guard is forgotten and the data handed on. So the holder is [recorded](super::record), and an
//! acquirer that finds somebody's record examines it with the lock in its hands. While that process lives, the lock is given
//! back as it was; everybody who comes finds the record again.

use super::futex::FutexWord;
use super::outcome::{Acquired, Patience, Refused};
use super::record::Record;
use super::slot::make_room;
use super::strategy::Strategy;
use crate::sys::{self, AtomicU32, Deadline, Me, Nap, PthreadKind, PthreadLocked, PthreadMutex};
use core::sync::atomic::Ordering::Relaxed;

/// A robust `pthread_mutex_t`, and a futex in its stead while it may still be moved and forgotten.
#[repr(C)]
#[derive(Debug)]
struct RobustPthread {
    placed: PthreadMutex,
    unplaced: FutexWord,
    armed: AtomicU32,
    record: Record,
}

impl RobustPthread {
    const fn new() -> Self {
        RobustPthread {
            placed: PthreadMutex::new(),
            unplaced: FutexWord::new(),
            armed: AtomicU32::new(0),
            record: Record::new(),
        }
    }

    /// # Safety
    ///
    /// As for [`Strategy::arm`].
    unsafe fn arm(&self, kind: PthreadKind) {
        self.record.clear();
        // SAFETY: the caller's promise.
        unsafe { self.placed.init(kind) };
        self.armed.store(1, Relaxed);
    }

    #[inline]
    fn is_armed(&self) -> bool {
        self.armed.load(Relaxed) != 0
    }

    fn acquire(&self, me: Me, patience: Patience) -> Result<Acquired, Refused> {
        if self.record.is_mine(me) {
            return Err(patience.refusal_of_the_holder());
        }
        if !self.is_armed() {
            if !self.unplaced.lock(patience) {
                return Err(patience.refusal());
            }
            self.record.write(me);
            return Ok(Acquired::Released);
        }
        let look = matches!(patience, Patience::IfReleased);
        if look && (self.record.who() != 0 || self.owner_died()) {
            // Held, or its holder died.
            return Err(patience.refusal());
        }
        make_room(me);
        // SAFETY: an armed lock was initialized.
        let locked = unsafe {
            match patience {
                Patience::None | Patience::IfReleased => self.placed.try_lock(),
                Patience::Until(deadline) => self.lock_in_naps(me, Some(deadline)),
                Patience::Endless => self.lock_in_naps(me, None),
            }
        };
        if locked == PthreadLocked::Refused {
            return Err(patience.refusal());
        }
        match self.examine(locked, patience) {
            Ok(acquired) => {
                self.record.write(me);
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
    unsafe fn lock_in_naps(&self, me: Me, deadline: Option<Deadline>) -> PthreadLocked {
        let mut nap = Nap::first();
        loop {
            // SAFETY: the caller's promise.
            let locked = unsafe { self.placed.lock_until(nap.end(deadline)) };
            if locked != PthreadLocked::Refused {
                return locked;
            }
            // glibc leaves a lock that it did not acquire in the slot, where the kernel looks when the thread ends: at memory
            // that may be another's by then.
            me.list().clear_pending();
            if deadline.is_some_and(Deadline::has_passed) {
                return locked;
            }
        }
    }

    /// Whether the kernel has marked the lock, and nobody has taken it since.
    fn owner_died(&self) -> bool {
        // SAFETY: an armed lock was initialized.
        self.is_armed() && unsafe { self.placed.is_marked() }
    }

    /// What it means that the lock was acquired so.
    fn examine(&self, locked: PthreadLocked, patience: Patience) -> Result<Acquired, Refused> {
        let deadline = patience.deadline();
        let (who, image) = self.record.read();
        if who == 0 {
            // A holder that died had not handed the data out yet, or had them back.
            return Ok(match locked {
                PthreadLocked::OwnerDied => Acquired::OwnerDied,
                _ => Acquired::Released,
            });
        }
        match sys::process_lives(who, image, deadline) {
            Some(false) => Ok(Acquired::OwnerDied),
            Some(true) => Err(Refused::HolderThreadEnded),
            None => Err(patience.refusal()),
        }
    }

    /// # Safety
    ///
    /// The calling thread holds the lock.
    #[inline]
    unsafe fn release(&self, me: Me) {
        self.record.clear();
        // SAFETY: the caller's promise; a lock that is held is not armed meanwhile, so it is the one that was acquired.
        unsafe {
            if self.is_armed() {
                make_room(me);
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
        pub struct $name(RobustPthread);

        impl Strategy for $name {
            const NEW: Self = $name(RobustPthread::new());
            const KIND: &'static str = $kind;

            unsafe fn arm(&self) {
                // SAFETY: the caller's promise.
                unsafe { self.0.arm($pthread) };
            }

            /// What a death left can only be told by the slow path, and glibc's own call has a fast one.
            #[inline]
            fn acquire_fast(&self, _: Me) -> bool {
                false
            }

            fn acquire(&self, me: Me, patience: Patience) -> Result<Acquired, Refused> {
                self.0.acquire(me, patience)
            }

            #[inline]
            unsafe fn release(&self, me: Me) {
                // SAFETY: the caller's promise.
                unsafe { self.0.release(me) };
            }

            fn owner_died(&self) -> bool {
                self.0.owner_died()
            }

            /// Who examined a mark took it away, and left the record.
            fn owner_is_found_dead(&self) -> bool {
                let holder = self.0.record.read_whole();
                self.0.owner_died()
                    || holder.is_some_and(|(who, image)| who != 0 && sys::owner_is_gone(who, image))
            }

            unsafe fn reset(&self) {
                // SAFETY: the caller's promise.
                unsafe { self.arm() };
            }

            fn record(&self) -> &Record {
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
