//! What a spinning waiter needs from the processor.

use super::{AtomicU32, task};

/// Does nothing: between two checks other threads may run anyway. It is not a step either, since a
/// death here is equivalent to a death at the thread's next access.
pub(crate) fn pause() {}

/// Lets loom run another thread first.
pub(crate) fn yield_now() {
    loom::thread::yield_now();
}

/// Whether the model says that critical sections are dense. The result determines the pauses
/// between two checks, which do nothing here, and how a waiter checks the word.
pub(crate) fn critical_sections_are_dense(_: &AtomicU32, _: u32) -> bool {
    task::current().world.model.dense_critical_sections
}

/// A few spins are enough for a model.
pub(crate) fn spin_limit(checks: u32) -> u32 {
    if task::current().world.model.spins {
        checks.min(8)
    } else {
        0
    }
}

/// The spin before a waiter sleeps until a word changes. Its length depends on the model.
pub(crate) struct AdaptiveSpin(u32);

impl AdaptiveSpin {
    pub(crate) fn start(_: &AtomicU32) -> Self {
        AdaptiveSpin(spin_limit(2))
    }

    pub(crate) fn spin(&mut self) -> bool {
        let goes_on = self.0 > 0;
        self.0 -= u32::from(goes_on);
        goes_on
    }

    pub(crate) fn end(self, _: bool) {}
}
