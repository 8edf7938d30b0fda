//! Mutexes, condition variables, semaphores, events and counters in memory that several processes map: a forking server's
//! workers, or programs that know nothing of each other but a path.
//!
//! A process may be killed at any instruction. Whoever waits gets the lock, learns what happened, and can repair the data.
//! No waiter hangs, no wake-up is lost, and no torn value is read as if it were whole. The price is within
//! some per cent of [`std::sync::Mutex`]'s.
//!
//! # Example
//!
//! A parent and its child share a board, which is placed in memory before the fork.
//!
//! ```
//! use pshared::{fork, Shared, SharedCounter, SharedMutex, SharedSemaphore, ShmSafe};
//!
//! #[derive(ShmSafe)]
//! #[repr(C)]
//! struct Board { count: SharedMutex<u64>, gate: SharedSemaphore, hits: SharedCounter }
//!
//! let board = Shared::anonymous(Board {
//!     count: SharedMutex::new(0),
//!     gate: SharedSemaphore::new(1),
//!     hits: SharedCounter::new(0),
//! })?;
//! let child = fork::spawn(|| {
//!     *board.count.lock().unwrap() += 1;
//!     let _permit = board.gate.acquire().unwrap();
//!     board.hits.add(1);
//! })?;
//! assert!(child.wait()?.success());
//! # assert_eq!((*board.count.lock()?, board.gate.value(), board.hits.get()), (1, 1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Plain data under a lock derives [`ShmData`]. A holder that is killed in its section may leave it half written, so the
//! next locker gets the lock inside an error that says what happened, and reaches the data only by replacing it, by repairing
//! it where any mixture of bytes is a valid value, or by `unsafe`:
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
//! struct Board { table: SharedMutex<Table> }
//!
//! # let board = Shared::anonymous(Board { table: SharedMutex::new(Table::default()) })?;
//! # fork::spawn(|| {
//! #     let mut guard = board.table.lock().unwrap();
//! #     guard.used = 1;
//! #     std::process::abort();
//! # })?
//! # .wait()?;
//! # assert!(matches!(board.table.lock(), Err(LockError::Poisoned(p)) if p.cause() == Cause::Died));
//! # fn after_a_death(board: &Board) -> Result<(), pshared::Error> {
//! let mut guard = match board.table.lock() {
//!     Ok(guard) => guard,
//!     Err(LockError::Poisoned(poisoned)) => {
//!         eprintln!("{:?}", poisoned.cause());              // Cause::Died or Cause::Panicked
//!         poisoned.replace(Table::default())                // any T: whole; clears the poison, gives the guard
//!         // or poisoned.into_guard() where T: FromBytes, repair in place, then SharedMutexGuard::clear_poison(&guard)
//!     }
//!     Err(other) => return Err(other.into()),               // Deadlock, HolderThreadEnded; without the guard
//! };
//! # assert_eq!(guard.used, 0);
//! # guard.used = 2;
//! # Ok(())
//! # }
//! # after_a_death(&board)?;
//! # assert_eq!(board.table.lock()?.used, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! **Where a value lives.** [`Shared<T>`] is one `T` in a map: anonymous memory for children, sealed memory that has a
//! descriptor, or a file that strangers open by its path. It derefs to `&T`. A `Shared<[T]>` has a length known at run time.
//! [`Map`] is memory as bytes.
//!
//! **What may live there.** [`ShmSafe`] may be placed in a map, [`ShmData`] may lie under a lock. Both are derived, and the
//! derive refuses what means something in one process only, such as a `String`, and says what to use instead.
//!
//! **What processes share:**
//!
//! | type | is | when a process dies |
//! |---|---|---|
//! | [`SharedMutex<T>`] | a robust futex | the next `lock` gets the guard inside an error that says so |
//! | [`SharedReentrantLock<T>`] | a robust futex that its holder may lock again | as `SharedMutex` |
//! | [`SharedCondvar`] | a sequence in a futex, for waits with a mutex | nothing is owned: who sleeps on is woken by the next notification, and none is lost for longer than a second |
//! | [`SharedRwLock<T>`] | robust futexes: one each for up to 16 readers, three for writers | a dead reader's slot is freed; a dead writer is told as by the mutex |
//! | [`SharedSemaphore`] | POSIX's `sem_t` | a permit that it held is lost: POSIX semaphores know no owner |
//! | [`SharedOnce`], [`SharedOnceLock<T>`] | a robust futex and an event | the next caller takes the initialization over; nothing is read that was written by half |
//! | [`SharedPermits<N>`](SharedPermits) | a robust futex a permit | the permit is available again, and its next holder can tell |
//! | [`SharedRoster<T, N>`](SharedRoster) | a robust futex a worker, and its data | the slot is seen vacated, its data stays, and who watches is woken |
//! | [`SharedBarrier<N>`](SharedBarrier) | a robust futex a party, and a count | the others are told who died, at once |
//! | [`SharedEvent`] | a sequence in a futex | nothing is owned: whoever waits goes on waiting for the next news |
//! | [`SharedAutoResetEvent`] | a futex | nothing is owned: a set that nobody has taken is there for the next one |
//! | [`SharedCounter`], [`SharedGauge`], [`ShardedCounter`] | atomics | nothing is owned: what was counted stays counted |
//! | [`FileLock`], a handle | `flock(2)` or `F_OFD_SETLK` on a file | the kernel releases it, and nobody is told |
//! | [`SysvSemaphore`], a handle | a System V semaphore with `SEM_UNDO` | the kernel gives its permits back, and nobody is told |
//!
//! Everything that waits has a form that does not, and one with a timeout on the monotonic clock
//! ([but for `FileLock`](FileLock#no-timeout)).
//! [`wait_any`] waits for whichever of several comes first.
//!
//! **Processes.** [`fork::spawn`] runs a closure in a child, where that is sound; its [`Child`](fork::Child) can be waited
//! for and killed. Programs that fork by other means, or not at all, use the types as well.
//!
//! **Guides.** [A tour](guide::tour) of what the usual lessons on `mmap` show, [choosing a lock](guide::choosing), [forking
//! servers](guide::forking), [past one machine](guide::beyond), [what a crash does](guide::crash), and [how it was
//! checked](guide::checking).
//!
//! # Features
//!
//! - `arrayvec`: the fixed-capacity `ArrayString` and `ArrayVec` of the crate `arrayvec` are [`ShmData`].
//!
//! # What is not supported
//!
//! - Other systems than Linux, 32-bit targets, and other C libraries than glibc: the crate joins the robust list that glibc
//!   registers for each thread, and does not compile elsewhere.
//! - Kernels before 5.15. On a kernel without Linux 6.2's change to robust futexes, which the stable series since 5.15 have
//!   too, a waiter may be woken by the [safety net](guide::crash#the-safety-net), within a second, instead of at once.
//! - File systems that other machines may change (NFS, 9p, FUSE): a futex reaches one machine. They are refused.
//! - A security boundary. Whoever can write the memory is trusted.

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
pub mod guide;
pub mod memory;
pub mod raw;
mod sync;
mod sys;

pub use error::Error;
pub use memory::{Map, MapOptions, Shared, ShmData, ShmSafe};
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
