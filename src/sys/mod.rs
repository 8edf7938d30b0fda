//! The system: every libc call of the crate, and the seam through which the word algorithms in `raw` see the world.
//!
//! `raw/*.rs` names nothing outside this module, so that the models in `tests/model` can put a world of their own in its
//! place: loom's atomics, a futex as the manual page states it, and a kernel that walks robust lists.

mod clock;
mod cpu;
mod file_lock;
mod futex;
mod identity;
mod liveness;
mod pace;
mod proc;
mod pthread;
mod robust_list;
mod semaphore;
mod sysv;
mod wiped_page;

pub(crate) mod files;
pub(crate) mod mmap;
pub(crate) mod process;

pub(crate) use clock::{Deadline, Nap};
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64};
pub(crate) use cpu::{affordable_looks, give_cpu_away, pause};
pub(crate) use file_lock::LockCall;
pub(crate) use futex::{
    NoWaitOnSeveral, Wait, WaitSet, futex_wait, futex_wake, futex_wake_clearing,
};
pub(crate) use identity::{
    Me, RECORD_BEFORE_LINKS, forget_announced, holds_robust_lock, is_this_process, me, pid_of,
    tid_of,
};
pub(crate) use liveness::{Doubt, looked_lately, owner_is_gone, process_lives};
pub(crate) use pace::{NewsSpin, follow_rapidly};
pub(crate) use proc::own_namespace;
pub(crate) use pthread::{PthreadKind, PthreadLocked, PthreadMutex};
pub(crate) use robust_list::{Links, check_robust_list};
pub(crate) use semaphore::{SEMAPHORE_MAX, Semaphore};
pub(crate) use sysv::{SEMAPHORE_SET_MAX, SemaphoreSet};

/// Stands between the two sides of a Dekker pattern: a thread's `SeqCst` write of its own word, and its `SeqCst` read of the
/// other's. Such accesses have one order among them all, so nothing is left to do here. The models' loom takes them for
/// `AcqRel`, and has a fence in this place.
#[inline(always)]
pub(crate) fn dekker_fence() {}

/// Declares a constructor that is `const` here. Loom's atomics have no `const` constructor, so the models' `sys` has a
/// macro of the same name that leaves the `const` out.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        $(#[$meta])* $vis const fn $($rest)*
    };
}
pub(crate) use const_fn;

/// An array in such a constructor.
macro_rules! const_array {
    ($element:expr; $length:expr) => {
        [const { $element }; $length]
    };
}
pub(crate) use const_array;
