//! What a spinning waiter asks of the processor.

use super::{AtomicU32, task};

/// Nothing: between two looks anything may happen anyway. No step either, since a thread that dies here dies at its next
/// look.
pub(crate) fn pause() {}

/// Loom runs another thread first.
pub(crate) fn give_cpu_away() {
    loom::thread::yield_now();
}

/// The pauses between two looks, which depend on it, are nothing here; how a waiter looks depends on it too.
pub(crate) fn follow_rapidly(_: &AtomicU32, _: u32) -> bool {
    task::current().world.model.rapid
}

/// Some are enough.
pub(crate) fn affordable_looks(looks: u32) -> u32 {
    if task::current().world.model.spins {
        looks.min(8)
    } else {
        0
    }
}
