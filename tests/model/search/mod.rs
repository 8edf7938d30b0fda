//! An explicit-state search of the robust lock word's protocol.
//!
//! Loom runs the crate's own code under weak memory, with few preemptions. This search runs a
//! *model* of the protocol, which is sequentially consistent, without a bound on preemptions. Three
//! or four threads lock and unlock up to twice, in every interleaving, and a kill may come between
//! any two steps of a thread. [`stateright`] enumerates the states.
//!
//! [`Pc`](state::Pc) is the next step of a thread, and each step is one arm of a `match` in
//! [`steps`]. [`kernel`] models the kernel's guarantees and quotes the sentences that state them.
//! The properties are in [`properties`]:
//!
//! * **exclusion**: at most one live thread is between acquire and release;
//! * **no lost wake-up** (`NO_LOST_WAKEUP`): if no thread can take a step, no thread is
//!   asleep and the lock is free. Deadlines, signals and deaths do not count as steps, and the
//!   crate's liveness check is left out, so none of them can hide a lost wake-up;
//! * **each death is reported once**: an acquisition reports a death if and only if the owner died
//!   and no earlier acquisition reported it;
//! * **the robust list is correct**: a lock is linked only while its thread owns it. A thread that
//!   has left the lock has neither linked it nor named it in `list_op_pending`;
//! * **every run ends** ([`runs`]): no schedule, fair or not, makes a thread loop forever.
//!
//! A model that checks nothing also passes. Therefore the rejected protocols remain here as
//! [`Variant`](variant::Variant)s of the same transition system, and a test asserts that the search
//! [rejects](rejected) each of them. The searches of the sound protocol assert a minimum number of
//! states, and that they reach the situations that make the protocol hard.
//!
//! [`several`] searches the protocol for threads that sleep on several words at a time. [`rwlock`]
//! and [`condvar`] search the readers-writer lock and the condition variable.
//!
//! `cargo test -p pshared-models search -- --nocapture` prints the counts, and the counterexample
//! of each rejected protocol as a table of steps.

mod condvar;
mod kernel;
mod lock;
mod properties;
mod rejected;
mod report;
mod runs;
mod rwlock;
mod several;
mod several_runs;
mod sound;
mod state;
mod steps;
mod symmetry;
mod variant;
mod word;
