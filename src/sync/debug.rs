//! What `Debug` shows of a lock, and how it looks: whatever died or dies meanwhile, whoever locks next is told as if nobody had
//! looked.
//!
//! Nothing is acquired that is held or marked. A strategy of glibc's may find out that a holder died only by acquiring the lock, and
//! what a reset noted is there for who acquires: the look notes the one for the next locker, and leaves him the other.

use super::{Cause, SharedMutex, SharedMutexGuard, SharedRwLock, SharedRwLockReadGuard};
use crate::memory::ShmData;
use crate::raw::RawLock;
use crate::raw::outcome::{Acquired, WaitMode};
use crate::sys;
use std::fmt;

/// A look at the data of a lock that was free. The guard keeps it so, and gives no news away.
enum Snapshot<G> {
    Data(G),
    /// It is not shown.
    Poisoned(Cause),
    Held,
}

impl<T: ShmData, R: RawLock> SharedMutex<T, R> {
    fn peek(&self) -> Snapshot<SharedMutexGuard<'_, T, R>> {
        let current = sys::current_thread();
        let guard = match self
            .inner
            .raw
            .acquire_slow(current, WaitMode::TryIfReleased)
        {
            Err(_) => return Snapshot::Held,
            Ok(acquired) => {
                if acquired == Acquired::OwnerDied {
                    self.inner.poison.set_unreported_death();
                }
                // SAFETY: acquired just now, for this guard.
                unsafe { SharedMutexGuard::new(&self.inner, current) }
            }
        };
        self.inner
            .poison
            .cause()
            .map_or(Snapshot::Data(guard), Snapshot::Poisoned)
    }
}

impl<T: ShmData + fmt::Debug, R: RawLock> fmt::Debug for SharedMutex<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("SharedMutex");
        if self.inner.raw.owner_died() {
            out.field("holder", &"died");
            return out.finish_non_exhaustive();
        }
        if let Some(holder) = self.holder() {
            out.field("holder", &holder);
            return out.finish_non_exhaustive();
        }
        match self.peek() {
            Snapshot::Data(guard) => out.field("data", &&*guard),
            Snapshot::Poisoned(cause) => out.field("poisoned", &cause),
            Snapshot::Held => out.field("holder", &"somebody"),
        };
        out.finish_non_exhaustive()
    }
}

impl<T: ShmData + Sync> SharedRwLock<T> {
    fn peek(&self) -> Snapshot<SharedRwLockReadGuard<'_, T>> {
        let current = sys::current_thread();
        let report_death = || self.poison.set_unreported_death();
        let guard = match self
            .raw
            .read(current, WaitMode::TryIfReleased, &report_death)
        {
            Err(_) => return Snapshot::Held,
            // SAFETY: acquired just now, for this guard.
            Ok(position) => unsafe {
                SharedRwLockReadGuard::new(self.raw_guard(current), position)
            },
        };
        self.poison
            .cause()
            .map_or(Snapshot::Data(guard), Snapshot::Poisoned)
    }
}

impl<T: ShmData + Sync + fmt::Debug> fmt::Debug for SharedRwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("SharedRwLock");
        match self.peek() {
            Snapshot::Data(guard) => out.field("data", &&*guard),
            Snapshot::Poisoned(cause) => out.field("poisoned", &cause),
            Snapshot::Held => match self.poison.cause() {
                Some(cause) => out.field("poisoned", &cause),
                None => out.field("writer", &"somebody"),
            },
        };
        out.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LockError;
    use crate::raw::outcome::AcquireError;
    use crate::raw::robust::owner::OwnerRecord;
    use crate::raw::strategies::Strategy;
    use crate::raw::{Pthread, Robust};
    use crate::sys::CurrentThread;

    /// A strategy whose holder dies between the first question of a look and its attempt, as one of glibc's may.
    struct DiesMeanwhile(Robust);

    impl Strategy for DiesMeanwhile {
        const NEW: Self = DiesMeanwhile(Robust::new());
        const KIND: &'static str = "test";

        unsafe fn init(&self) {
            // SAFETY: the caller's promise.
            unsafe { self.0.init() };
        }

        fn try_acquire_fast(&self, _: CurrentThread) -> bool {
            false
        }

        fn acquire_slow(
            &self,
            current: CurrentThread,
            mode: WaitMode,
        ) -> Result<Acquired, AcquireError> {
            let acquired = self.0.acquire_slow(current, mode)?;
            Ok(match mode {
                WaitMode::TryIfReleased => Acquired::OwnerDied,
                _ => acquired,
            })
        }

        unsafe fn release(&self, current: CurrentThread) {
            // SAFETY: the caller's promise.
            unsafe { self.0.unlock(current) };
        }

        unsafe fn reset(&self) {
            // SAFETY: the caller's promise.
            unsafe { self.0.reset() };
        }

        fn record(&self) -> &OwnerRecord {
            self.0.record()
        }
    }

    /// What is told to the next locker, and whether it is fresh.
    fn told<R: RawLock>(lock: &SharedMutex<u64, R>) -> Option<(Cause, bool)> {
        match lock.lock() {
            Ok(_) => None,
            Err(LockError::Poisoned(poisoned)) => {
                Some((poisoned.cause(), poisoned.is_first_report()))
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_death_that_a_look_comes_upon_is_told_to_the_next_locker() {
        let lock = SharedMutex::<u64, DiesMeanwhile>::with_strategy(7);
        let shown = format!("{lock:?}");
        assert!(shown.contains("poisoned: Died"), "{shown}");
        assert_eq!(told(&lock), Some((Cause::Died, true)));
        assert_eq!(told(&lock), Some((Cause::Died, false)));
    }

    #[test]
    fn a_death_that_a_reset_noted_is_told_to_the_next_locker() {
        let lock = SharedMutex::<u64, Pthread>::with_strategy(7);
        lock.inner.poison.set_unreported_death();
        assert!(matches!(lock.peek(), Snapshot::Poisoned(Cause::Died)));
        assert_eq!(told(&lock), Some((Cause::Died, true)));
    }

    #[test]
    fn a_death_that_is_noted_as_one_looks_is_told_to_the_next_reader() {
        let lock = SharedRwLock::new(7_u64);
        lock.poison.set_unreported_death();
        assert!(matches!(lock.peek(), Snapshot::Poisoned(Cause::Died)));
        let told = || match lock.read() {
            Err(LockError::Poisoned(poisoned)) => poisoned.is_first_report(),
            other => panic!("{other:?}"),
        };
        assert_eq!([told(), told()], [true, false]);
    }
}
