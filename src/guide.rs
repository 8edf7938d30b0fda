//! Longer texts. Their snippets are tests.
//!
//! - [`tour`]: what each program and each warning of the usual lessons on `mmap` became here, and the command that shows it.
//! - [`choosing`]: the lock strategies, what each does when its holder is killed, and what each costs.
//! - [`crash`]: what happens when a process dies, step by step.
//! - [`checking`]: how the crate was checked, with the commands.

#[doc = include_str!("guide/tour.md")]
pub mod tour {}

#[doc = include_str!("guide/choosing.md")]
pub mod choosing {}

#[doc = include_str!("guide/crash.md")]
pub mod crash {}

#[doc = include_str!("guide/checking.md")]
pub mod checking {}
