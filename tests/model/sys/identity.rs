//! Who am I: the ids of a model's thread.

use super::kernel::{Links, RobustList};
use super::task;

/// What stays in the slot for pending locks between two operations, as far as the thread knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Resident {
    None,
    Lock(*const Links),
    Never,
}

/// The calling thread.
#[derive(Debug, Clone, Copy)]
pub struct Me {
    pid: u32,
    tid: u32,
    image: u64,
}

pub fn me() -> Me {
    let task = task::current();
    Me {
        pid: task.pid,
        tid: task.tid,
        image: task.image.get(),
    }
}

// `who` is packed as the library packs it.
const NAMESPACE: u64 = 1;

impl Me {
    pub(crate) fn tid(&self) -> u32 {
        self.tid
    }

    pub(crate) fn who(&self) -> u64 {
        u64::from(self.pid) << 42 | u64::from(self.tid) << 20 | NAMESPACE
    }

    pub(crate) fn image(&self) -> u64 {
        self.image
    }

    pub(crate) fn list(&self) -> RobustList {
        RobustList
    }

    // What the thread itself remembers of the slot, where the kernel does not look: no steps.

    pub(crate) fn slot_is_free(&self) -> bool {
        task::current().resident.get() == Resident::None
    }

    pub(crate) fn stay_in_the_slot(&self, links: &Links) {
        task::current().resident.set(Resident::Lock(links));
    }

    pub(crate) fn leave_the_slot(&self) {
        let task = task::current();
        if task.resident.get() != Resident::Never {
            task.resident.set(Resident::None);
        }
    }

    pub(crate) fn resident(&self) -> Option<&Links> {
        match task::current().resident.get() {
            Resident::None | Resident::Never => None,
            // SAFETY: the lock is held, and every lock of a run is kept in its place until the run ends.
            Resident::Lock(links) => Some(unsafe { &*links }),
        }
    }

    pub(crate) fn give_up_the_slot(&self) {
        task::current().resident.set(Resident::Never);
    }
}

pub(crate) fn is_this_process(who: u64) -> bool {
    pid_of(who) == task::current().pid
}

pub(super) fn pid_of(who: u64) -> u32 {
    (who >> 42) as u32
}

pub(crate) fn tid_of(who: u64) -> u32 {
    (who >> 20) as u32 & 0x3f_ffff
}
