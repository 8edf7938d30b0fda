//! The system as the word algorithms see it, with the names of the library's `src/sys`.
//!
//! Every call of this interface that changes something is a step. A thread that the model kills
//! dies before one of its steps: it unwinds out of the algorithm, and then the [kernel] does what
//! it does for a thread that ends.

mod atomic;
mod clock;
mod cpu;
mod fault;
mod futex;
mod kernel;
mod liveness;
#[path = "../../../src/sys/owner.rs"]
mod owner;
mod task;
mod thread;
mod world;

// The interface that the algorithms use.
pub(crate) use atomic::{AtomicU32, AtomicU64};
pub(crate) use clock::{Deadline, RecheckTimer};
pub(crate) use cpu::{AdaptiveSpin, critical_sections_are_dense, pause, spin_limit, yield_now};
pub(crate) use futex::{Wait, WaitvSet, futex_wait, futex_wake, futex_wake_clearing};
pub(crate) use kernel::Links;
pub(crate) use liveness::{
    GracePeriod, ProcessState, checked_recently, is_dumping_core, knows_death, process_state,
    thread_is_gone,
};
pub(crate) use owner::{ImageId, Owner, OwnerId};
pub(crate) use thread::{CurrentThread, is_this_process};

// What only the models use.
pub use fault::Fault;
pub use kernel::PendingRule;
pub use thread::current_thread;
pub use world::{Joins, World, join_all};

/// A step that changes nothing: a point at which the thread may be killed.
pub fn step() {
    task::step();
}

/// The fence between the two sides of a Dekker pattern. Loom treats `SeqCst` accesses as `AcqRel`.
pub(crate) fn dekker_fence() {
    if task::current().world.model.fault != Some(Fault::NoDekkerFence) {
        loom::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}

/// Declares a constructor. It is `const` in the library; loom's atomics have no `const`
/// constructor.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        $(#[$meta])* $vis fn $($rest)*
    };
}
pub(crate) use const_fn;

/// An array in a constructor that [`const_fn`] declares.
macro_rules! const_array {
    ($element:expr; $length:expr) => {
        std::array::from_fn(|_| $element)
    };
}
pub(crate) use const_array;
