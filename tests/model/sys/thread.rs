//! Who am I: the ids of a model's thread.

use super::kernel::{Links, RobustList};
use super::task;

/// The calling thread.
#[derive(Debug, Clone, Copy)]
pub struct CurrentThread {
    pid: u32,
    tid: u32,
    image: u64,
}

pub fn current_thread() -> CurrentThread {
    let task = task::current();
    CurrentThread {
        pid: task.pid,
        tid: task.tid,
        image: task.image.get(),
    }
}

// `who` is packed as the library packs it.
const NAMESPACE: u64 = 1;

impl CurrentThread {
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

    pub(crate) fn pending_slot(&self) -> RobustList {
        match task::current().fast_path_disabled.get() {
            false => RobustList::Own,
            true => RobustList::Nobodys,
        }
    }

    pub(crate) fn set_list_op_pending(&self, list: RobustList, links: &Links) {
        task::current().pending.set(links);
        list.set_pending(links);
    }

    pub(crate) fn clear_list_op_pending(&self, _: &Links) {
        task::current().pending.set(std::ptr::null());
    }

    pub(crate) fn list_op_pending(&self) -> Option<&Links> {
        let task = task::current();
        let links = task.pending.get();
        let is_there = !links.is_null() && links == task.pending.get();
        // SAFETY: every lock of a run is kept in its place until the run ends.
        is_there.then(|| unsafe { &*links })
    }

    pub(crate) fn disable_fast_path(&self) {
        task::current().fast_path_disabled.set(true);
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
