//! Guides. Their code examples are compiled and run as tests.
//!
//! - [`tour`]: the usual example programs and warnings about `mmap`, what this crate does instead,
//!   and the command that shows it.
//! - [`choosing`]: the lock strategies, their behavior when a holder is killed, and their costs.
//! - [`forking`]: servers that fork: what to share, the effect of a death, draining.
//! - [`beyond`]: several machines: the limits of a lock in memory, and how to combine it with a
//!   lock service.
//! - [`crash`]: the effect of a process's death, step by step.
//! - [`platforms`]: the C libraries, kernels and processors that were run, and what older kernels
//!   lack.
//! - [`checking`]: the tests, what each can find, and their commands.
//! - [`figures`]: measured performance, with the targets.
//! - [`glossary`]: the words of the documentation and the source.

#[doc = include_str!("guide/tour.md")]
pub mod tour {}

#[doc = include_str!("guide/choosing.md")]
pub mod choosing {}

#[doc = include_str!("guide/crash.md")]
pub mod crash {}

#[doc = include_str!("guide/platforms.md")]
pub mod platforms {}

#[doc = include_str!("guide/checking.md")]
pub mod checking {}

#[doc = include_str!("guide/forking.md")]
pub mod forking {}

#[doc = include_str!("guide/beyond.md")]
pub mod beyond {}

#[doc = include_str!("guide/figures.md")]
pub mod figures {}

#[doc = include_str!("guide/glossary.md")]
pub mod glossary {}
