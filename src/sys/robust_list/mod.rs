//! The robust futex list of each thread, by which the kernel finds the locks of a thread that ends.
//!
//! [`list`] is a list and its nodes, and [`of_thread`] is what a thread knows about its own. Which
//! list that is depends on the C library: under glibc the one that glibc registers, under musl one
//! that this crate makes.

mod list;
mod of_thread;
mod registration;

#[cfg(target_env = "gnu")]
mod gnu;
#[cfg(target_env = "musl")]
mod musl;
#[cfg(target_env = "musl")]
mod pool;

#[cfg(target_env = "gnu")]
use gnu as platform;
#[cfg(target_env = "musl")]
use musl as platform;

pub(crate) use list::Links;
pub(super) use list::{Head, HeadOf, RobustList};
pub(super) use of_thread::ThreadList;
pub(crate) use of_thread::{RECORD_BEFORE_LINKS, ROBUST_LIST_REMEDY};
pub(super) use platform::{head_of_thread, other_list_has_locks};
