//! The library's word algorithms, compiled against this test's `crate::sys`.
//!
//! The list is that of the library's `raw`, without what needs a C library: the strategies made of
//! POSIX mutexes and semaphores.

#![allow(dead_code, reason = "the library uses more of it than the models")]

#[path = "../../src/raw/auto_reset_event.rs"]
pub mod auto_reset_event;
#[path = "../../src/raw/condvar.rs"]
pub mod condvar;
#[path = "../../src/raw/event.rs"]
pub mod event;
#[path = "../../src/raw/futex_semaphore.rs"]
pub mod futex_semaphore;
#[path = "../../src/raw/multi/mod.rs"]
pub mod multi;
#[path = "../../src/raw/once.rs"]
pub mod once;
#[path = "../../src/raw/outcome.rs"]
pub mod outcome;
#[path = "../../src/raw/reentrant.rs"]
pub mod reentrant;
#[path = "../../src/raw/robust/mod.rs"]
pub mod robust;
#[path = "../../src/raw/rwlock/mod.rs"]
pub mod rwlock;

/// The strategies of one word each.
#[path = "../../src/raw/strategies"]
pub mod strategies {
    pub mod futex;
    pub mod spin;
    pub mod ticket;
}
