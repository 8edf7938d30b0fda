//! The lock strategies of a [`SharedMutex<T, R>`](crate::SharedMutex).
//!
//! [`Robust`] is the default, and the recommended strategy. The others exist for comparison, and
//! for the cases that they suit. [The guide on choosing](crate::guide::choosing) describes what
//! each strategy does when its holder is killed.
//!
//! ```
//! use pshared::{raw, Shared, SharedMutex};
//!
//! let turns = Shared::anonymous(SharedMutex::<u64, raw::Ticket>::with_strategy(0))?;
//! *turns.lock()? += 1;
//! # Ok::<(), pshared::Error>(())
//! ```

// Each file holds one word algorithm: memory orderings, no `T`, no system call.
//
// Apart from each other, the algorithms depend only on `crate::sys`. `tests/model` compiles the
// same files with its own `sys`. There, loom explores their interleavings, and a model of the
// kernel walks the robust lists of threads that die at every step. `strategies` is the interface to
// `sync`; its `plain` and `pthread` build strategies from the locks.

pub(crate) mod auto_reset_event;
pub(crate) mod condvar;
pub(crate) mod event;
pub(crate) mod futex_semaphore;
pub(crate) mod multi;
pub(crate) mod once;
pub(crate) mod outcome;
pub(crate) mod poison;
pub(crate) mod reentrant;
pub(crate) mod robust;
pub(crate) mod rwlock;
pub(crate) mod strategies;

pub use robust::Robust;
pub use strategies::{Futex, PosixSem, Pthread, RawLock, Spin, Ticket};
#[cfg(target_env = "gnu")]
pub use strategies::{PthreadPi, PthreadRobust};
