//! Robust mutexes, condition variables, semaphores, events and counters in memory that several
//! processes map.
//!
//! The processes are the workers of a forking server, or unrelated programs that open the same
//! file. A process may be killed at any instruction. If it held a lock, the next locker acquires
//! the lock, receives an error that reports the death, and can repair the data. No waiter hangs, no
//! wake-up is lost, and torn data is never returned as valid. The cost is within some per cent of
//! [`std::sync::Mutex`]'s; see [the figures](guide::figures).
//!
//! # Example
//!
//! A parent and its child share a value, which is placed in memory before the fork.
//!
//! ```
//! use pshared::{fork, Shared, SharedCounter, SharedMutex, SharedSemaphore, ShmSafe};
//!
//! #[derive(ShmSafe)]
//! #[repr(C)]
//! struct State { count: SharedMutex<u64>, semaphore: SharedSemaphore, hits: SharedCounter }
//!
//! let state = Shared::anonymous(State {
//!     count: SharedMutex::new(0),
//!     semaphore: SharedSemaphore::new(1),
//!     hits: SharedCounter::new(0),
//! })?;
//! let child = fork::spawn(|| {
//!     *state.count.lock().unwrap() += 1;
//!     let _permit = state.semaphore.acquire().unwrap();
//!     state.hits.add(1);
//! })?;
//! assert!(child.wait()?.success());
//! # assert_eq!((*state.count.lock()?, state.semaphore.value(), state.hits.get()), (1, 1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Recovery from a death
//!
//! Plain data protected by a lock derives [`ShmData`]. A holder that is killed in its critical
//! section may leave the data half written. So the next locker receives the guard inside an error
//! that names the cause. It can reach the data by replacing it, by repairing it if any bytes are a
//! valid value ([`FromBytes`]), or by `unsafe`:
//!
//! ```
//! use pshared::{LockError, SharedMutex, ShmData, ShmSafe};
//! # use pshared::{fork, Cause, Shared};
//!
//! #[derive(ShmData, Default)]
//! #[repr(C)]
//! struct Table { rows: [u64; 16], used: u32 }
//!
//! #[derive(ShmSafe)]
//! #[repr(C)]
//! struct State { table: SharedMutex<Table> }
//!
//! # let state = Shared::anonymous(State { table: SharedMutex::new(Table::default()) })?;
//! # fork::spawn(|| {
//! #     let mut guard = state.table.lock().unwrap();
//! #     guard.used = 1;
//! #     std::process::abort();
//! # })?
//! # .wait()?;
//! # assert!(matches!(
//! #     state.table.lock(),
//! #     Err(LockError::Poisoned(p)) if p.cause() == Cause::Died
//! # ));
//! # fn repair(state: &State) -> Result<(), pshared::Error> {
//! let mut guard = match state.table.lock() {
//!     Ok(guard) => guard,
//!     Err(LockError::Poisoned(poisoned)) => {
//!         eprintln!("{:?}", poisoned.cause()); // Cause::Died or Cause::Panicked
//!         // Replaces the value, clears the poison and returns the guard. For data that is
//!         // `FromBytes`, `poisoned.into_guard()` returns the guard with the data as it is; after
//!         // the repair, `SharedMutexGuard::clear_poison(&guard)` clears the poison.
//!         poisoned.replace(Table::default())
//!     }
//!     // For example `Deadlock` or `HolderThreadEnded`. These errors hold no guard.
//!     Err(other) => return Err(other.into()),
//! };
//! # assert_eq!(guard.used, 0);
//! # guard.used = 2;
//! # Ok(())
//! # }
//! # repair(&state)?;
//! # assert_eq!(state.table.lock()?.used, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! **Memory.** [`Shared<T>`] is one `T` in a map. The map is anonymous memory for children, sealed
//! memory that has a descriptor, or a file that unrelated processes open by its path. A `Shared<T>`
//! dereferences to `&T`. A `Shared<[T]>` has a length known at run time. [`Map`] is memory as
//! bytes. [`Checked<T>`] notices that the file was removed or replaced.
//!
//! **Types in that memory.** A [`ShmSafe`] type may be placed in a map, and a [`ShmData`] type may
//! be protected by a lock. Both traits are derived. The derives reject types that are valid in one
//! process only, such as a `String`, and suggest a replacement.
//!
//! **Primitives:**
//!
//! | type | when a process dies |
//! |---|---|
//! | [`SharedMutex<T>`] | the next `lock` returns the guard inside an error |
//! | [`SharedReentrantLock<T>`] | as for `SharedMutex` |
//! | [`SharedCondvar`] | no wake-up is lost for longer than a second |
//! | [`SharedRwLock<T>`] | a reader's slot is freed; a writer is reported as by the mutex |
//! | [`SharedSemaphore`] | its permit is lost: a POSIX `sem_t` records no owner |
//! | [`SharedOnce`], [`SharedOnceLock<T>`] | the next caller takes over the initialization |
//! | [`SharedPermits<N>`](SharedPermits) | its permit is free again, and the next holder can tell |
//! | [`SharedRoster<T, N>`](SharedRoster) | its slot is abandoned, its data stays, watchers wake |
//! | [`SharedBarrier<N>`](SharedBarrier) | the other parties receive an error that names it |
//! | [`SharedEvent`] | it has no owner; waiters wait for the next set |
//! | [`SharedAutoResetEvent`] | it has no owner; a set that was not taken remains |
//! | [`SharedCounter`], [`SharedGauge`] | they have no owner; completed additions remain |
//! | [`ShardedCounter`] | as for `SharedCounter` |
//! | [`FileLock`], a handle | the kernel releases it, without a report |
//! | [`SysvSemaphore`], a handle | the kernel returns its permits, without a report |
//!
//! Every blocking call has a form with a timeout (`_timeout`) and one with a deadline (`_until`),
//! both on the monotonic clock. When the time has passed, they return an error; a wait on a
//! [`SharedCondvar`] returns a [`WaitTimeoutResult`]. Lock and acquire calls also have a form that
//! does not wait (`try_`). [`wait_any`] waits for any one of several events, permits and rosters.
//!
//! **Processes.** [`fork::spawn`] runs a closure in a child, if a fork is sound at that point. The
//! returned [`Child`](fork::Child) can be waited for and killed. Programs that fork by other means,
//! or not at all, can use all types too.
//!
//! **Guides:**
//!
//! - [Choosing a lock](guide::choosing): the strategies and their behavior when a holder dies
//! - [What a crash does](guide::crash), step by step
//! - [Platforms](guide::platforms): C libraries, kernels and processors
//! - [Forking servers](guide::forking): what to share, supervision, draining
//! - [Past one machine](guide::beyond): combining a local lock with a lock service
//! - [A tour](guide::tour) of the usual lessons on `mmap`
//! - [How it was checked](guide::checking) and [Figures](guide::figures), with commands
//! - [Glossary](guide::glossary)
//!
//! # Features
//!
//! - `arrayvec`: the fixed-capacity `ArrayString` and `ArrayVec` of the crate `arrayvec` are
//!   [`ShmData`].
//!
//! - `assume-kernel`: for tests. If the environment variable `PSHARED_ASSUME_KERNEL` holds a
//!   version such as `5.14`, the crate does without what later kernels introduced. A program's
//!   tests can so show how it behaves on an older kernel.
//!
//! # What is not supported
//!
//! - Systems other than Linux, 32-bit targets, and C libraries other than glibc and musl. The crate
//!   joins the robust list that glibc registers for each thread, or registers one itself
//!   [under musl](guide::crash#under-musl). It does not compile elsewhere.
//! - Kernels before 5.10. The guide on [platforms](guide::platforms) says what each kernel lacks.
//! - File systems that other machines may change (NFS, 9p, FUSE), because a futex reaches one
//!   machine. Opening a file on them returns [`Error::RemoteFileSystem`].
//! - Use of one value from several PID namespaces at the same time, because lock words hold thread
//!   ids.
//! - A security boundary. Every process that can write the memory is trusted.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "pshared needs Linux: it recovers locks of dead processes through the kernel's robust futex list"
);
#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "pshared needs a 64-bit target: a lock's place in the robust list is laid out as 64-bit glibc lays out its own mutexes"
);
#[cfg(not(any(target_env = "gnu", target_env = "musl")))]
compile_error!(
    "pshared needs glibc or musl: a thread has one robust futex list, and pshared must know whether the C library registers one, and how it lays it out"
);

mod error;
pub mod fork;
pub mod guide;
pub mod memory;
pub mod raw;
mod sync;
mod sys;

pub use error::Error;
pub use memory::{Checked, Map, MapOptions, Shared, ShmData, ShmSafe};
pub use pshared_derive::{ShmData, ShmSafe};
pub use sync::{
    BarrierParty, BarrierWaitResult, Cause, FileLock, FileLockGuard, Holder, LockError, LockGuard,
    LockResult, MappedSharedMutexGuard, Permit, Poisoned, RosterSlot, SemaphorePermit,
    ShardedCounter, SharedAutoResetEvent, SharedBarrier, SharedCondvar, SharedCounter, SharedEvent,
    SharedGauge, SharedMutex, SharedMutexGuard, SharedOnce, SharedOnceLock, SharedOnceState,
    SharedPermits, SharedReentrantLock, SharedReentrantLockGuard, SharedRoster, SharedRwLock,
    SharedRwLockReadGuard, SharedRwLockUpgradableReadGuard, SharedRwLockWriteGuard,
    SharedSemaphore, SlotState, SlotView, SysvPermit, SysvSemaphore, UpgradeError,
    WaitTimeoutResult, Waitable, wait_any, wait_any_timeout, wait_any_until,
};
pub use zerocopy::{self, FromBytes};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
