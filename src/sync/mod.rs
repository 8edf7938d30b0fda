//! What a user locks, waits on and counts with: a `T`, guards and docs, and no memory ordering but the counters'.

mod counter;
mod event;
mod file_lock;
mod guard;
mod lock_error;
mod mutex;
mod poison;
mod rwlock;
mod rwlock_error;
mod rwlock_guard;
mod semaphore;
mod sysv;

pub use counter::{ShardedCounter, SharedCounter, SharedGauge};
pub use event::SharedEvent;
pub use file_lock::{FileLock, FileLockGuard};
pub use guard::{MappedSharedMutexGuard, SharedMutexGuard};
pub use lock_error::{LockError, Poisoned, TryLockError};
pub use mutex::{Holder, SharedMutex};
pub use poison::Cause;
pub use rwlock::SharedRwLock;
pub use rwlock_error::{NotUpgraded, RwGuard, RwLockError, RwPoisoned};
pub use rwlock_guard::{
    SharedRwLockReadGuard, SharedRwLockUpgradableReadGuard, SharedRwLockWriteGuard,
};
pub use semaphore::{Permit, SharedSemaphore};
pub use sysv::{SysvPermit, SysvSemaphore};
