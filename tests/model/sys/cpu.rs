//! What a spinning waiter asks of the processor.

use super::{AtomicU32, task};

/// Nothing: between two looks anything may happen anyway. No step either, since a thread that dies here dies at its next
/// look.
pub(crate) fn pause() {}

/// Loom runs another thread first.
pub(crate) fn yield_now() {
    loom::thread::yield_now();
}

/// The pauses between two looks, which depend on it, are nothing here; how a waiter looks depends on it too.
pub(crate) fn critical_sections_are_short(_: &AtomicU32, _: u32) -> bool {
    task::current().world.model.rapid
}

/// Some are enough.
pub(crate) fn spin_limit(looks: u32) -> u32 {
    if task::current().world.model.spins {
        looks.min(8)
    } else {
        0
    }
}

/// A spin before a sleep on a word's news, as long as the model has it.
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
