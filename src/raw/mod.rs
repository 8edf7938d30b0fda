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

pub(crate) mod any;
pub(crate) mod auto_event;
pub(crate) mod barrier;
pub(crate) mod condvar;
pub(crate) mod count;
mod death;
pub(crate) mod event;
mod external;
mod futex;
mod local;
pub(crate) mod once;
pub(crate) mod outcome;
mod pace;
mod plain;
pub(crate) mod poison;
mod pthread;
mod reader_seat;
pub(crate) mod record;
pub(crate) mod reentrant;
mod robust;
pub(crate) mod row;
pub(crate) mod rwlock;
mod rwlock_read;
mod rwlock_write;
pub(crate) mod seat;
mod slot;
mod spin;
pub(crate) mod strategy;
mod ticket;
mod unplaced;
mod watch;

pub use plain::{Futex, PosixSem, Pthread, Spin, Ticket};
pub use pthread::{PthreadPi, PthreadRobust};
pub use robust::Robust;
pub use strategy::RawLock;
