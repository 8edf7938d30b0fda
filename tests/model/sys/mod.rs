//! The world of the word algorithms, in the names of the library's `src/sys`.
//!
//! Every call through this seam that changes something is a step. A thread that is doomed is killed before one of its
//! steps: it unwinds out of the algorithm, and then the [kernel] does what it does for a thread that ends.

mod atomic;
mod clock;
mod cpu;
mod fault;
mod futex;
mod identity;
mod kernel;
mod liveness;
mod task;
mod world;

// The seam.
pub(crate) use atomic::{AtomicU32, AtomicU64};
pub(crate) use clock::{Deadline, Nap};
pub(crate) use cpu::{NewsSpin, affordable_looks, follow_rapidly, give_cpu_away, pause};
pub(crate) use futex::{
    NoWaitOnSeveral, Wait, WaitSet, futex_wait, futex_wake, futex_wake_clearing,
};
pub(crate) use identity::{Me, is_this_process, pid_of, tid_of};
pub(crate) use kernel::Links;
pub(crate) use liveness::{Doubt, looked_lately, owner_is_gone, process_lives};

// What the models need beyond it.
pub use fault::Fault;
pub use identity::me;
pub use world::{Joins, World, join_all};

/// A step that changes nothing: somewhere to be killed.
pub fn step() {
    task::step();
}

/// Between the two sides of a Dekker pattern: loom takes `SeqCst` accesses for `AcqRel`.
pub(crate) fn dekker_fence() {
    if task::current().world.model.fault != Some(Fault::NoDekkerFence) {
        loom::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}

/// Declares a constructor. It is `const` in the library; loom's atomics have no `const` constructor.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        $(#[$meta])* $vis fn $($rest)*
    };
}
pub(crate) use const_fn;

/// An array in such a constructor.
macro_rules! const_array {
    ($element:expr; $length:expr) => {
        std::array::from_fn(|_| $element)
    };
}
pub(crate) use const_array;
