//! The ids of a model's thread.

use super::kernel::{Links, RobustList};
use super::owner::{ImageId, Owner, OwnerId};
use super::task;

/// The calling thread.
#[derive(Debug, Clone, Copy)]
pub struct CurrentThread {
    pid: u32,
    tid: u32,
    image: ImageId,
}

pub fn current_thread() -> CurrentThread {
    let task = task::current();
    CurrentThread {
        pid: task.pid,
        tid: task.tid,
        image: task.image.get(),
    }
}

// All processes of a model are in one PID namespace.
const NAMESPACE: u32 = 1;

impl CurrentThread {
    pub(crate) fn tid(&self) -> u32 {
        self.tid
    }

    pub(crate) fn id(&self) -> OwnerId {
        OwnerId::new(self.pid, self.tid, NAMESPACE)
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner {
            id: self.id(),
            image: self.image,
        }
    }

    pub(crate) fn image(&self) -> ImageId {
        self.image
    }

    pub(crate) fn list(&self) -> RobustList {
        RobustList::Own
    }

    pub(crate) fn fast_path_list(&self) -> RobustList {
        match task::current().fast_path_disabled.get() {
            false => RobustList::Own,
            true => RobustList::AlwaysBusy,
        }
    }

    pub(crate) fn set_list_op_pending(&self, list: RobustList, links: &Links) {
        task::current().last_pending.set(links);
        list.set_pending(links);
    }

    pub(crate) fn forget_pending(&self, links: &Links) {
        let last_pending = &task::current().last_pending;
        if std::ptr::eq(last_pending.get(), links) {
            last_pending.set(std::ptr::null());
        }
    }

    pub(crate) fn list_op_pending(&self) -> Option<&Links> {
        let task = task::current();
        let links = task.last_pending.get();
        let is_there = !links.is_null() && links == task.pending.get();
        // SAFETY: every lock of a run stays at its address until the run ends.
        is_there.then(|| unsafe { &*links })
    }

    /// The models do not fork.
    pub(crate) fn add_unplaced_hold(&self) {}

    pub(crate) fn remove_unplaced_hold(&self) {}

    /// The models have one copy of the library.
    pub(crate) fn link_pending_of_another_copy(&self) {}

    pub(crate) fn disable_fast_path(&self) {
        task::current().fast_path_disabled.set(true);
    }
}

pub(crate) fn is_this_process(owner: Owner) -> bool {
    owner.id.pid() == task::current().pid
}
