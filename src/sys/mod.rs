//! The system layer: every libc call of the crate, and the interface through which the word
//! algorithms in `raw` use the system.
//!
//! `raw` uses no other part of the crate. So the models in `tests/model` can replace this
//! module: with loom's atomics, a futex as the manual page describes it, and a kernel that walks
//! robust lists.

mod adaptive_spin;
mod clock;
mod cpu;
mod error;
mod file_lock;
mod futex;
mod kernel;
mod known_deaths;
mod liveness;
mod own_process;
mod owner;
mod proc;
mod pthread;
mod robust_list;
mod semaphore;
mod semid_ds;
mod sysv;
mod thread;
mod thread_list;
mod timed_wait;
mod timer_slack;
mod wipe_on_fork;

pub(crate) mod boot;
pub(crate) mod copy_on_write;
pub(crate) mod files;
pub(crate) mod limits;
pub(crate) mod mmap;
pub(crate) mod process;
pub(crate) mod start_gate;
pub(crate) mod user;

pub(crate) use adaptive_spin::{AdaptiveSpin, critical_sections_are_dense};
pub(crate) use clock::{Deadline, RecheckTimer};
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64};
pub(crate) use cpu::{pause, spin_limit, yield_now};
pub(crate) use error::{RobustListUnusable, RobustUnusable, SysError, is_call_denied};
pub(crate) use file_lock::FileLockKind;
pub(crate) use futex::{Wait, WaitvSet, futex_wait, futex_wake, futex_wake_clearing};
pub(crate) use known_deaths::knows_death;
pub(crate) use liveness::{
    GracePeriod, ProcessState, checked_recently, is_dumping_core, process_state, thread_is_gone,
    wait_for_exit,
};
pub(crate) use nix::errno::Errno;
pub(crate) use owner::{ImageId, Owner, OwnerId};
pub(crate) use proc::{OWN_THREADS, ThreadCounts, childrens_namespace, own_namespace};
pub(crate) use pthread::{PthreadKind, PthreadLocked, PthreadMutex};
pub(crate) use robust_list::{Links, RECORD_BEFORE_LINKS, ROBUST_LIST_REMEDY};
pub(crate) use semaphore::{SEMAPHORE_MAX, Semaphore};
pub(crate) use sysv::{SEMAPHORE_SET_MAX, SemaphoreSet};
pub(crate) use thread::{
    CurrentThread, check_robust, current_thread, forget_list_op_pending, holds_robust_lock,
    holds_unplaced_lock, is_this_process,
};
pub(crate) use thread_list::robust_list_names;

/// Separates the two steps of one side of a Dekker pattern: a thread's `SeqCst` write of its own
/// word, and its `SeqCst` read of the other word.
///
/// All such accesses have a single total order, so nothing is left to do here. The models' loom
/// treats them as `AcqRel`, and has a fence in this place.
#[inline(always)]
pub(crate) fn dekker_fence() {}

/// Declares a constructor that is `const` here. Loom's atomics have no `const` constructor, so the
/// models' `sys` has a macro of the same name that omits the `const`.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        $(#[$meta])* $vis const fn $($rest)*
    };
}
pub(crate) use const_fn;

/// Builds an array in such a constructor.
macro_rules! const_array {
    ($element:expr; $length:expr) => {
        [const { $element }; $length]
    };
}
pub(crate) use const_array;
