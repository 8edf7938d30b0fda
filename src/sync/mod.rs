//! What a user locks, waits on and counts with: a `T`, guards and docs, and no memory ordering but the counters'.

mod auto_event;
mod condvar;
mod counter;
mod event;
mod file_lock;
mod guard;
mod lock_error;
mod mutex;
mod once;
mod once_cell;
mod poison;
mod reentrant;
mod reentrant_error;
mod semaphore;
mod sysv;

pub use auto_event::SharedAutoEvent;
pub use condvar::{SharedCondvar, WaitTimeoutResult};
pub use counter::{ShardedCounter, SharedCounter, SharedGauge};
pub use event::SharedEvent;
pub use file_lock::{FileLock, FileLockGuard};
pub use guard::{MappedSharedMutexGuard, SharedMutexGuard};
pub use lock_error::{LockError, Poisoned, TryLockError};
pub use mutex::{Holder, SharedMutex};
pub use once::{SharedOnce, SharedOnceState};
pub use once_cell::SharedOnceCell;
pub use poison::Cause;
pub use reentrant::{SharedReentrantMutex, SharedReentrantMutexGuard};
pub use reentrant_error::{ReentrantLockError, ReentrantPoisoned};
pub use semaphore::{Permit, SharedSemaphore};
pub use sysv::{SysvPermit, SysvSemaphore};
