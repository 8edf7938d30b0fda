//! The lock strategies of a [`SharedMutex<T, R>`](crate::SharedMutex).
//!
//! [`Robust`] is the one that it has without being asked, and the one to use. The others are there to be compared with it, and
//! for what they are good at; [the guide on choosing](crate::guide::choosing) says what each does when its holder is killed.
//!
//! ```
//! use pshared::{raw, Shared, SharedMutex};
//!
//! let turns = Shared::anonymous(SharedMutex::<u64, raw::Ticket>::with_strategy(0))?;
//! *turns.lock()? += 1;
//! # Ok::<(), pshared::Error>(())
//! ```

// One word algorithm a file: memory orderings, no `T`, no system call.
//
// The files of algorithms name nothing outside `crate::sys`. `tests/model` compiles these very files against a `sys` of its
// own, where loom tries their interleavings and a model of the kernel walks the robust lists of threads that die at every
// step. `strategy` is the seam to `sync`; `plain` and `pthread` make strategies of what is below it.

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
pub use strategies::{Futex, PosixSem, Pthread, PthreadPi, PthreadRobust, RawLock, Spin, Ticket};
