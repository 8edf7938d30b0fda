//! What a user locks, waits on and counts with: a `T`, guards and docs, and no memory ordering but the counters'.

mod counter;
mod event;
mod mutex;
mod poison;
mod semaphore;

pub use counter::{ShardedCounter, SharedCounter, SharedGauge};
pub use event::SharedEvent;
pub use mutex::{
    Holder, LockError, MappedSharedMutexGuard, Poisoned, SharedMutex, SharedMutexGuard, TryLockError,
};
pub use poison::Cause;
pub use semaphore::{Permit, SharedSemaphore};
