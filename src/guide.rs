//! Longer texts. Their snippets are tests.
//!
//! - [`tour`]: what each program and each warning of the usual lessons on `mmap` became here, and the command that shows it.
//! - [`choosing`]: the lock strategies, what each does when its holder is killed, and what each costs.
//! - [`forking`]: servers that fork: what to share, what a death does, draining.
//! - [`beyond`]: past one machine: what a lock in memory cannot do, and how to go on from there.
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

#[doc = include_str!("guide/forking.md")]
pub mod forking {}

#[doc = include_str!("guide/beyond.md")]
pub mod beyond {}
