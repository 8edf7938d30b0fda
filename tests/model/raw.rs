//! The library's word algorithms, compiled against this test's `crate::sys`.
//!
//! The modules are those of the library's `raw` that the models use. The strategies made of POSIX
//! mutexes and semaphores are left out, because they need a C library.

#![allow(dead_code, reason = "the models use only a part of these modules")]

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

/// The strategies that need no C library.
#[path = "../../src/raw/strategies"]
pub mod strategies {
    pub mod futex;
    pub mod spin;
    pub mod ticket;
}
