//! The public synchronization primitives: the data, the guards and the documentation around the
//! algorithms of [`raw`](crate::raw).
//!
//! The algorithms and their memory orderings are in `raw`. Only the counters and the semaphore use
//! atomics here, with relaxed accesses.

mod auto_reset_event;
mod barrier;
mod condvar;
mod counter;
mod debug;
mod event;
mod file_lock;
mod holder;
mod init_error;
mod lock_error;
mod mutex;
mod once;
mod once_lock;
mod permits;
mod primitive_macros;
mod reentrant;
mod roster;
mod rwlock;
mod semaphore;
mod sysv;
mod wait_any;

pub use crate::raw::poison::Cause;
pub use auto_reset_event::SharedAutoResetEvent;
pub use barrier::{BarrierParty, BarrierWaitResult, SharedBarrier};
pub use condvar::{SharedCondvar, WaitTimeoutResult};
pub use counter::{ShardedCounter, SharedCounter, SharedGauge};
pub use event::SharedEvent;
pub use file_lock::{FileLock, FileLockGuard};
pub use holder::Holder;
pub use lock_error::{LockError, LockGuard, LockResult, Poisoned, UpgradeError};
pub use mutex::SharedMutex;
pub use mutex::guard::{MappedSharedMutexGuard, SharedMutexGuard};
pub use once::{SharedOnce, SharedOnceState};
pub use once_lock::SharedOnceLock;
pub use permits::{Permit, SharedPermits};
pub use reentrant::{SharedReentrantLock, SharedReentrantLockGuard};
pub use roster::SharedRoster;
pub use roster::slot::{RosterSlot, SlotState, SlotView};
pub use rwlock::SharedRwLock;
pub use rwlock::guard::{
    SharedRwLockReadGuard, SharedRwLockUpgradableReadGuard, SharedRwLockWriteGuard,
};
pub use semaphore::{SemaphorePermit, SharedSemaphore};
pub use sysv::{SysvPermit, SysvSemaphore};
pub use wait_any::{Waitable, wait_any, wait_any_timeout, wait_any_until};
