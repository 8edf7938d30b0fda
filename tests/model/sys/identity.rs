//! Who am I: the ids of a model's thread.

use super::kernel::{Links, RobustList};
use super::task;

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
        RobustList::Own
    }

    pub(crate) fn slot(&self) -> RobustList {
        match task::current().gave_up_the_slot.get() {
            false => RobustList::Own,
            true => RobustList::Nobodys,
        }
    }

    pub(crate) fn announce(&self, list: RobustList, links: &Links) {
        task::current().announced.set(links);
        list.set_pending(links);
    }

    pub(crate) fn withdraw(&self, _: &Links) {
        task::current().announced.set(std::ptr::null());
    }

    pub(crate) fn announced(&self) -> Option<&Links> {
        let task = task::current();
        let links = task.announced.get();
        let is_there = !links.is_null() && links == task.pending.get();
        // SAFETY: every lock of a run is kept in its place until the run ends.
        is_there.then(|| unsafe { &*links })
    }

    pub(crate) fn give_up_the_slot(&self) {
        task::current().gave_up_the_slot.set(true);
    }
}

pub(crate) fn is_this_process(who: u64, _image: u64) -> bool {
    pid_of(who) == task::current().pid
}

pub(crate) fn pid_of(who: u64) -> u32 {
    (who >> 42) as u32
}

pub(crate) fn tid_of(who: u64) -> u32 {
    (who >> 20) as u32 & 0x3f_ffff
}
