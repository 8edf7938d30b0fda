//! Process-shared synchronization primitives that survive the death of their users.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "pshared needs Linux: it recovers locks of dead processes through the kernel's robust futex list"
);
#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "pshared needs a 64-bit target: a lock's place in the robust list is laid out as 64-bit glibc lays out its own mutexes"
);
#[cfg(not(target_env = "gnu"))]
compile_error!(
    "pshared needs glibc: a thread has one robust futex list and pshared joins the one that glibc registered; musl lays its list out differently"
);

mod error;
pub mod fork;
pub mod memory;
mod raw;
mod sync;
mod sys;

pub use error::Error;
pub use memory::{Map, MapOptions, Shared, ShmData, ShmSafe};
pub use sync::{
    Cause, Holder, LockError, MappedSharedMutexGuard, Permit, Poisoned, ShardedCounter, SharedCounter,
    SharedEvent, SharedGauge, SharedMutex, SharedMutexGuard, SharedSemaphore, TryLockError,
};
pub use pshared_derive::{ShmData, ShmSafe};
pub use zerocopy::{self, FromBytes};
