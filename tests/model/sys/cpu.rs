//! What a spinning waiter asks of the processor.

use super::task;

/// Nothing: between two looks anything may happen anyway. No step either, since a thread that dies here dies at its next
/// look.
pub(crate) fn pause() {}

/// Loom runs another thread first.
pub(crate) fn give_cpu_away() {
    loom::thread::yield_now();
}

pub(crate) fn spinning_pays() -> bool {
    task::current().world.model.spins
}
