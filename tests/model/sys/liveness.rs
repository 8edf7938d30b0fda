//! Whether a lock's recorded owner still exists.

use super::fault::Fault;
use super::identity::{pid_of, tid_of};
use super::{AtomicU32, Deadline, task};

/// Whether the thread has ended, or its process runs another program since.
///
/// Who looks without the lock may have put a record together from two holders'. An image tells whose it is, so such a
/// record says nothing.
pub(crate) fn owner_is_gone(who: u64, image: u64) -> bool {
    let task = task::current();
    let process = task.world.process(pid_of(who));
    let is_of_one = process.ever_ran(image) || task.has(Fault::ImagesNameNobody);
    is_of_one && (task.world.thread(tid_of(who)).has_ended() || process.image() != image)
}

/// Whether a thread of the process still runs the program. A process here is known to live or known to be gone; the
/// library looks at one that may be dying for a while, up to the deadline.
pub(crate) fn process_lives(who: u64, image: u64, _deadline: Option<Deadline>) -> Option<bool> {
    let task = task::current();
    let process = task.world.process(pid_of(who));
    let lives = process.lives() && process.image() == image;
    Some(lives && !task.has(Fault::ProcessesLookGone))
}

/// Every try looks.
pub(crate) fn looked_lately(_word: &AtomicU32, _value: u32) -> bool {
    false
}
