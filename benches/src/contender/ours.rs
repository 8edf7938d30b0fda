//! The crate's locks with their state in the map.

use super::{Contender, DeathReport, Failed, Handle};
use pshared::raw::RawLock;
use pshared::{Cause, LockError, Shared, SharedMutex, SharedMutexGuard, ShmSafe};

/// A lock of the crate.
pub trait Lock: ShmSafe {
    fn new() -> Self;
    fn with(&self, body: impl FnOnce(DeathReport)) -> Result<(), Failed>;
}

impl<R: RawLock> Lock for SharedMutex<(), R> {
    fn new() -> Self {
        SharedMutex::with_strategy(())
    }

    #[inline]
    fn with(&self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        match self.lock() {
            Ok(_guard) => {
                body(DeathReport::None);
                Ok(())
            }
            Err(LockError::Poisoned(poisoned)) if poisoned.cause() == Cause::Died => {
                let guard = poisoned.into_guard();
                body(DeathReport::Died);
                // Last: if this process dies before it, the next locker repairs the data.
                SharedMutexGuard::clear_poison(&guard);
                Ok(())
            }
            Err(LockError::Deadlock) => Err(Failed::by("lock", libc::EDEADLK)),
            Err(_) => Err(Failed::at("lock")),
        }
    }
}

#[derive(ShmSafe)]
#[repr(C, align(128))]
struct Place<L: ShmSafe> {
    lock: L,
}

/// Locks in a map that the crate creates.
pub struct Ours<L: ShmSafe>(Shared<[Place<L>]>);

impl<L: Lock> Contender for Ours<L> {
    type Handle<'a> = Attached<'a, L>;

    fn prepare(locks: usize) -> Result<Self, Failed> {
        Shared::<[Place<L>]>::anonymous_from_fn(locks, |_| Place { lock: L::new() })
            .map(Ours)
            .map_err(|_| Failed::last("Shared::anonymous_from_fn"))
    }

    fn attach(&self, lock: usize) -> Result<Attached<'_, L>, Failed> {
        Ok(Attached(&self.0[lock].lock))
    }
}

/// The handle of a lock in the map: its address suffices.
pub struct Attached<'a, L>(&'a L);

impl<L: Lock> Handle for Attached<'_, L> {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        self.0.with(body)
    }
}
