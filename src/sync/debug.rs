//! `Debug` for the locks. Formatting a lock does not change the reports of deaths: the next locker
//! receives the same report as without it.
//!
//! Formatting acquires a lock only if the lock is neither held nor marked. A glibc strategy may
//! detect the death of an owner only when it acquires the lock. Such a death is stored as
//! unreported, for the next locker. A death that a reset stored as unreported stays unreported,
//! too.

use super::{Cause, SharedMutex, SharedMutexGuard, SharedRwLock, SharedRwLockReadGuard};
use crate::memory::ShmData;
use crate::raw::RawLock;
use crate::raw::outcome::WaitMode;
use crate::sys;
use std::fmt;

/// The state of a lock that `Debug` shows. The guard keeps the lock acquired, and consumes no
/// report.
enum Snapshot<G> {
    Data(G),
    /// The lock was free, but is poisoned. The data is not shown.
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
                if acquired.owner_died() {
                    self.inner.poison.set_unreported_death();
                }
                // SAFETY: the lock was acquired above, for this guard.
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
        if self.inner.raw.is_marked() {
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
            Snapshot::Held => out.field("holder", &"a thread"),
        };
        out.finish_non_exhaustive()
    }
}

impl<T: ShmData + Sync, const N: usize> SharedRwLock<T, N> {
    fn peek(&self) -> Snapshot<SharedRwLockReadGuard<'_, T, N>> {
        let current = sys::current_thread();
        let report_death = |_| self.poison.set_unreported_death();
        let guard = match self
            .raw
            .read(current, WaitMode::TryIfReleased, &report_death)
        {
            Err(_) => return Snapshot::Held,
            // SAFETY: as above: the lock was acquired for this guard, at `position`.
            Ok(position) => unsafe {
                SharedRwLockReadGuard::new(self.raw_guard(current), position)
            },
        };
        self.poison
            .cause()
            .map_or(Snapshot::Data(guard), Snapshot::Poisoned)
    }
}

impl<T: ShmData + Sync + fmt::Debug, const N: usize> fmt::Debug for SharedRwLock<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("SharedRwLock");
        match self.peek() {
            Snapshot::Data(guard) => out.field("data", &&*guard),
            Snapshot::Poisoned(cause) => out.field("poisoned", &cause),
            Snapshot::Held => match self.poison.cause() {
                Some(cause) => out.field("poisoned", &cause),
                None => out.field("writer", &"a thread"),
            },
        };
        out.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LockError;
    use crate::raw::outcome::{AcquireError, Acquired};
    use crate::raw::robust::owner::OwnerRecord;
    use crate::raw::strategies::Strategy;
    use crate::raw::{Pthread, Robust};
    use crate::sys::CurrentThread;

    /// A strategy with an owner that dies after `Debug` has checked for an owner, and before
    /// `Debug` tries to acquire the lock. With a glibc strategy this can happen.
    struct DiesMeanwhile(Robust);

    impl Strategy for DiesMeanwhile {
        const NEW: Self = DiesMeanwhile(Robust::new());
        const KIND: &'static str = "test";

        unsafe fn init(&self) {
            // SAFETY: guaranteed by the caller.
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
                WaitMode::TryIfReleased => Acquired::OwnerDied(None),
                _ => acquired,
            })
        }

        unsafe fn release(&self, current: CurrentThread) {
            // SAFETY: guaranteed by the caller.
            unsafe { self.0.unlock(current) };
        }

        unsafe fn reset(&self) {
            // SAFETY: guaranteed by the caller.
            unsafe { self.0.reset() };
        }

        fn record(&self) -> &OwnerRecord {
            self.0.record()
        }
    }

    /// Returns the cause of poison that the next locker receives, and whether this is its first
    /// report.
    fn next_report<R: RawLock>(lock: &SharedMutex<u64, R>) -> Option<(Cause, bool)> {
        match lock.lock() {
            Ok(_) => None,
            Err(LockError::Poisoned(poisoned)) => {
                Some((poisoned.cause(), poisoned.is_first_report()))
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_death_that_debug_discovers_is_reported_to_the_next_locker() {
        let lock = SharedMutex::<u64, DiesMeanwhile>::with_strategy(7);
        let shown = format!("{lock:?}");
        assert!(shown.contains("poisoned: Died"), "{shown}");
        assert_eq!(next_report(&lock), Some((Cause::Died, true)));
        assert_eq!(next_report(&lock), Some((Cause::Died, false)));
    }

    #[test]
    fn a_death_that_a_reset_noted_is_reported_to_the_next_locker() {
        let lock = SharedMutex::<u64, Pthread>::with_strategy(7);
        lock.inner.poison.set_unreported_death();
        assert!(matches!(lock.peek(), Snapshot::Poisoned(Cause::Died)));
        assert_eq!(next_report(&lock), Some((Cause::Died, true)));
    }

    #[test]
    fn a_death_noted_before_a_peek_is_reported_to_the_next_reader() {
        let lock = SharedRwLock::new(7_u64);
        lock.poison.set_unreported_death();
        assert!(matches!(lock.peek(), Snapshot::Poisoned(Cause::Died)));
        let is_first_report = || match lock.read() {
            Err(LockError::Poisoned(poisoned)) => poisoned.is_first_report(),
            other => panic!("{other:?}"),
        };
        assert_eq!([is_first_report(), is_first_report()], [true, false]);
    }
}
