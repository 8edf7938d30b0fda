//! The C library's waits for its semaphores and mutexes, with a deadline on the monotonic clock.

#[cfg(target_env = "gnu")]
mod gnu;
#[cfg(target_env = "musl")]
mod musl;

#[cfg(target_env = "gnu")]
pub(super) use gnu::{lock_mutex_until, wait_semaphore_until};
#[cfg(target_env = "musl")]
pub(super) use musl::{lock_mutex_until, wait_semaphore_until};
