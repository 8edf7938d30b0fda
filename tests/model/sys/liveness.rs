//! Whether a lock's recorded owner still exists.

use super::fault::Fault;
use super::thread::{pid_of, tid_of};
use super::{AtomicU32, Deadline, task};

/// Whether the thread has ended, or its process runs another program since.
///
/// As the library does, it believes its arguments: a record put together from two holders' is the caller's mistake.
pub(crate) fn owner_is_dead(who: u64, image: u64) -> bool {
    let world = &task::current().world;
    world.thread(tid_of(who)).has_ended() || world.process(pid_of(who)).image() != image
}

/// Whether a thread of the process still runs the program. One that is dying is waited for, up to the deadline: `None`
/// where that came first.
///
/// The library looks again and again. Here the looker sleeps until there is something new to see: loom has no use for a loop
/// that goes on until others have moved.
pub(crate) fn process_lives(who: u64, image: u64, deadline: Option<Deadline>) -> Option<bool> {
    let task = task::current();
    let process = task.world.process(pid_of(who));
    task.world.seen.looks_at_processes.add();
    task.world.look_until(|| {
        let lives = process.lives() && process.image() == image;
        if !lives || task.has(Fault::ProcessesLookGone) {
            return Some(Some(false));
        }
        if !process.is_dying() {
            return Some(Some(true));
        }
        deadline.is_some_and(Deadline::has_passed).then_some(None)
    })
}

/// What a look shows here is so: there is no doubt but of a process that is dying, which ends with
/// [`World::naps_end`](super::World::naps_end).
#[derive(Debug)]
pub(crate) struct GracePeriod;

impl GracePeriod {
    pub(crate) fn new() -> Self {
        GracePeriod
    }

    pub(crate) fn next_look(&mut self, deadline: Option<Deadline>) -> Deadline {
        deadline.unwrap_or(Deadline::EndOfNap)
    }

    pub(crate) fn is_over(&self) -> bool {
        true
    }
}

/// Every try looks.
pub(crate) fn checked_recently(_word: &AtomicU32, _value: u32) -> bool {
    false
}
