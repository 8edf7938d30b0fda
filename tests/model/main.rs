//! Models of the word algorithms: every interleaving, and a death at every step.
//!
//! [`raw`] includes the library's own files of `src/raw`. Apart from each other, those files depend
//! only on `crate::sys`, which is here the [`sys`] module of this test. That module has loom's
//! atomics, a futex as the manual page states it, a kernel that walks robust lists, and threads
//! that can be killed before any of their steps. Loom runs each [model](model::Model) in all
//! interleavings with up to a few preemptions, under the weak memory of the C++ standard.
//!
//! The tests state what must hold. All of them share these checks:
//!
//! - Two threads in the critical section at once are a data race on the [lock's data](lock::Lock).
//!   So is a thread that does not see what the last owner wrote.
//! - A sleeper that no thread will wake is a deadlock, which loom reports.
//! - A death that is reported twice, or never, fails an assertion of the [lock](lock::Lock).
//! - A linked lock that its thread does not own fails the walk of the robust list in
//!   `sys/kernel.rs`.
//!
//! A model that checks nothing passes. So [`rejected`] runs the same models with a fault in [`sys`]
//! or with a broken twin, and asserts that they fail. The models also assert that the events they
//! are about did occur.
//!
//! In addition, [`search`] walks the states of the lock word's protocol without a bound on
//! preemptions.
//!
//! `PSHARED_MODEL_THOROUGH=1` gives the models that must hold one more preemption, and the search a
//! second round. This takes minutes.
//!
//! A model that fails prints its last interleaving, step by step. `-- --nocapture` prints it for
//! the rejected models too.

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
mod mark_without_waiters;
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
