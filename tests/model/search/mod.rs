//! An explicit-state search of the robust lock word's protocol.
//!
//! Loom runs the crate's own code under weak memory, with few preemptions. This search runs a
//! *model* of the protocol, sequentially consistent, with no bound on preemptions: every
//! interleaving of three or four threads that lock and unlock twice, each of which may be killed
//! between any two of its steps. [`stateright`] walks the states.
//!
//! One thread's life is [`Pc`](state::Pc), a step an arm of one `match` in [`steps`]; what the
//! kernel promises stands in [`kernel`], with the sentence that promises it. What must hold is in
//! [`properties`]:
//!
//! * **exclusion**: never two live threads between acquire and release;
//! * **nobody sleeps for ever**: where nobody is left to take a step, nobody is asleep and the lock
//!   is free. Deadlines, signals and deaths are not counted as steps, and the crate's one-second
//!   safety net is left out, so a lost wake-up cannot hide behind them;
//! * **a death is told once**: whoever acquires is told of a death exactly when its owner died and
//!   nobody was told since;
//! * **the robust list is true**: a lock is linked only while its thread owns it, and whoever has
//!   left the lock has neither linked it nor named it in `list_op_pending`;
//! * **every run ends** ([`runs`]): no schedule, fair or not, keeps a thread going round for ever.
//!
//! A model that checks nothing passes. So the protocols that were rejected on the way stay here as
//! [`Variant`](variant::Variant)s of the one transition system, and a test asserts that the search
//! [rejects](rejected) each of them; the sound protocol's searches assert a least number of states,
//! and that the situations which make the protocol hard were reached.
//!
//! [`several`] is a search of its own, for threads that sleep on several words at a time.
//!
//! `cargo test --test model search -- --nocapture` prints the counts, and each rejected protocol's
//! counterexample as a table of steps.

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
