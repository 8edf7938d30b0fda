//! Models of the word algorithms: every interleaving, and a death at every step.
//!
//! [`raw`] includes the library's own `src/raw/*.rs`. Those files name nothing outside `crate::sys`, and here that is the
//! [`sys`] of this test: loom's atomics, a futex as the manual page states it, a kernel that walks robust lists, and
//! threads that can be killed before any of their steps. Loom runs each [model](model::Model) in all interleavings with
//! up to a few preemptions, under the weak memory of the C++ standard.
//!
//! What must hold stands in the tests, and in what all of them share: two threads in the section at once, or one that
//! does not see what the last one wrote, is a data race on the [lock's data](lock::Lock); a sleeper whom nobody will
//! wake is loom's deadlock; a death that is told twice, or not at all, fails the lock's ledger; a linked lock that is
//! not its thread's fails the [kernel's walk](sys::exit).
//!
//! A model that checks nothing passes. So [`rejected`] runs the same models with a fault in the seam or with a broken
//! twin, and asserts that they fail; and the models assert that they saw what they are about.
//!
//! Beside them [`search`] walks the states of the lock word's protocol without a bound on preemptions.
//!
//! `PSHARED_MODEL_THOROUGH=1` gives the models that hold one preemption more, and the search a second round: minutes.
//!
//! A model that fails prints its last interleaving, step by step. `-- --nocapture` prints it for the rejected ones too.

mod auto_reset_event;
mod barrier;
mod broken;
mod condvar;
mod counter;
mod deaths;
mod ended_thread;
mod event;
mod exclusion;
mod expiry;
mod futex_semaphore;
mod holder;
mod lock;
mod member_slots;
mod model;
mod nested;
mod once;
mod permits;
mod plain;
mod raw;
mod reentrant;
mod rejected;
mod rwlock;
mod search;
mod sys;
mod trace;
mod unmarked;
