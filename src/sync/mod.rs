//! What a user locks, waits on and counts with: a `T`, guards and docs, and no memory ordering but the counters'.

mod barrier;
mod counter;
mod event;
mod file_lock;
mod guard;
mod lock_error;
mod mutex;
mod permits;
mod poison;
mod roster;
mod roster_seat;
mod semaphore;
mod sysv;
mod wait_any;

pub use barrier::{BarrierParty, BarrierWaitResult, SharedBarrier};
pub use counter::{ShardedCounter, SharedCounter, SharedGauge};
pub use event::SharedEvent;
pub use file_lock::{FileLock, FileLockGuard};
pub use guard::{MappedSharedMutexGuard, SharedMutexGuard};
pub use lock_error::{LockError, Poisoned, TryLockError};
pub use mutex::{Holder, SharedMutex};
pub use permits::{PermitGuard, SharedPermits};
pub use poison::Cause;
pub use roster::SharedRoster;
pub use roster_seat::{RosterSeat, SeatState, SeatView};
pub use semaphore::{Permit, SharedSemaphore};
pub use sysv::{SysvPermit, SysvSemaphore};
pub use wait_any::{Waitable, wait_any, wait_any_timeout};
