//! What a user locks, waits on and counts with: a `T`, guards and docs, and no memory ordering but the counters'.

mod auto_event;
mod barrier;
mod condvar;
mod counter;
mod event;
mod file_lock;
mod guard;
mod lock_error;
mod look;
mod mutex;
mod once;
mod once_cell;
mod one_word;
mod permits;
mod reentrant;
mod reentrant_error;
mod roster;
mod roster_seat;
mod rwlock;
mod rwlock_error;
mod rwlock_guard;
mod semaphore;
mod sysv;
mod wait_any;

pub use crate::raw::poison::Cause;
pub use auto_event::SharedAutoEvent;
pub use barrier::{BarrierParty, BarrierWaitResult, SharedBarrier};
pub use condvar::{SharedCondvar, WaitTimeoutResult};
pub use counter::{ShardedCounter, SharedCounter, SharedGauge};
pub use event::SharedEvent;
pub use file_lock::{FileLock, FileLockGuard};
pub use guard::{MappedSharedMutexGuard, SharedMutexGuard};
pub use lock_error::{LockError, Poisoned, TryLockError};
pub use mutex::{Holder, SharedMutex};
pub use once::{SharedOnce, SharedOnceState};
pub use once_cell::SharedOnceCell;
pub use permits::{PermitGuard, SharedPermits};
pub use reentrant::{SharedReentrantMutex, SharedReentrantMutexGuard};
pub use reentrant_error::{ReentrantLockError, ReentrantPoisoned};
pub use roster::SharedRoster;
pub use roster_seat::{RosterSeat, SeatState, SeatView};
pub use rwlock::SharedRwLock;
pub use rwlock_error::{NotUpgraded, RwGuard, RwLockError, RwPoisoned};
pub use rwlock_guard::{
    SharedRwLockReadGuard, SharedRwLockUpgradableReadGuard, SharedRwLockWriteGuard,
};
pub use semaphore::{Permit, SharedSemaphore};
pub use sysv::{SysvPermit, SysvSemaphore};
pub use wait_any::{Waitable, wait_any, wait_any_timeout};
