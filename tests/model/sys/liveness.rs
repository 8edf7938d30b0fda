//! Whether the recorded owner of a lock still exists.

use super::fault::Fault;
use super::owner::Owner;
use super::{AtomicU32, Deadline, task};

/// Whether the thread has ended, or its process has a new process image.
///
/// Like the library's function, this one trusts its arguments: a record combined from the records
/// of two holders is an error of the caller.
pub(crate) fn thread_is_gone(owner: Owner) -> bool {
    let world = &task::current().world;
    world.thread(owner.id.tid()).has_ended() || world.process(owner.id.pid()).image() != owner.image
}

/// What is known of a process, as in the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessState {
    Dead,
    Alive,
    Undecided,
}

/// The state of the process: alive if it still has a thread and still runs the process image. If
/// the process is dying, waits until it has ended. Returns [`ProcessState::Undecided`] if the
/// deadline passes first.
///
/// The library polls. Here the calling thread sleeps until something changes: loom cannot explore a
/// loop that runs until other threads have made progress.
pub(crate) fn process_state(owner: Owner, deadline: Option<Deadline>) -> ProcessState {
    let task = task::current();
    let process = task.world.process(owner.id.pid());
    task.world.seen.process_checks.add();
    task.world.check_until(|| {
        let lives = process.lives() && process.image() == owner.image;
        if !lives || task.has(Fault::LiveProcessesSeemDead) {
            task.known_death.set(Some(owner));
            return Some(ProcessState::Dead);
        }
        if !process.is_dying() {
            return Some(ProcessState::Alive);
        }
        deadline
            .is_some_and(Deadline::has_passed)
            .then_some(ProcessState::Undecided)
    })
}

/// The grace period for a process that may be dying. Here a check is conclusive unless the process
/// is dying. A dying process is checked again at the deadline, or at
/// [`World::expire_recheck_timers`](super::World::expire_recheck_timers).
#[derive(Debug)]
pub(crate) struct GracePeriod;

impl GracePeriod {
    pub(crate) fn new() -> Self {
        GracePeriod
    }

    pub(crate) fn next_check(&mut self, deadline: Option<Deadline>) -> Deadline {
        deadline.unwrap_or(Deadline::EndOfRecheckInterval)
    }

    pub(crate) fn is_over(&self) -> bool {
        true
    }
}

/// Always false: each attempt checks the owner.
pub(crate) fn checked_recently(_word: &AtomicU32, _value: u32) -> bool {
    false
}

/// Whether the thread has found the process of the recorded owner dead. It remembers one process.
pub(crate) fn knows_death(record: impl FnOnce() -> Option<Owner>) -> bool {
    let death = task::current().known_death.get();
    death.is_some_and(|death| record().is_some_and(|owner| owner.is_same_process(death)))
}

/// Always false: a process of a model ends at once.
pub(crate) fn is_dumping_core(_owner: Owner) -> bool {
    false
}
