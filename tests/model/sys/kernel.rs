//! The robust list, and what the kernel does with it when its thread ends.
//!
//! A list is accessed only by its thread and, once the thread has stopped, by the kernel. So it is
//! plain data here; other threads see only the words.

use super::fault::Fault;
use super::task::{self, Task};
use super::world::{Mapping, World};
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

pub(super) const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
pub(super) const FUTEX_WAITERS: u32 = 0x8000_0000;

/// A lock's entry in the robust list of the thread that holds it.
///
/// The real kernel finds the word at a fixed distance from the links. That distance differs here,
/// so the kernel searches for the [mapped](World::map) lock that contains the links.
#[derive(Debug)]
pub(crate) struct Links {
    /// Whether the lock is in its holder's list. In the library, the pointer to the next entry says
    /// so.
    are_linked: loom::sync::atomic::AtomicBool,
}

impl Links {
    pub(crate) fn new() -> Self {
        Links {
            are_linked: loom::sync::atomic::AtomicBool::new(false),
        }
    }

    pub(crate) fn are_linked(&self) -> bool {
        self.are_linked.load(Relaxed)
    }

    pub(crate) fn clear(&self) {
        task::step();
        self.are_linked.store(false, Relaxed);
    }
}

/// The calling thread's robust list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RobustList {
    Own,
    /// A stand-in for a list: its pending field is never empty, and names no lock.
    AlwaysBusy,
}

impl RobustList {
    pub(crate) fn is_pending_empty(self) -> bool {
        self == RobustList::Own && task::current().pending.get().is_null()
    }

    pub(crate) fn is_pending(self, links: &Links) -> bool {
        self == RobustList::Own && ptr::eq(task::current().pending.get(), links)
    }

    pub(crate) fn set_pending(self, links: &Links) {
        self.set(links);
    }

    pub(crate) fn clear_pending(self) {
        self.set(ptr::null());
    }

    /// # Safety
    ///
    /// No requirement here. In the library the list consists of pointers.
    pub(crate) unsafe fn link(self, links: &Links) {
        // The entry is complete before it is in the list.
        let task = task::step();
        links.are_linked.store(true, Relaxed);
        task::step();
        assert!(
            !task.list.borrow().contains(&ptr::from_ref(links)),
            "a lock is linked twice"
        );
        task.list.borrow_mut().push(links);
    }

    /// # Safety
    ///
    /// As for [`link`](Self::link).
    pub(crate) unsafe fn unlink(self, links: &Links) {
        let task = task::step();
        let place = task
            .list
            .borrow()
            .iter()
            .position(|&linked| ptr::eq(linked, links));
        task.list
            .borrow_mut()
            .remove(place.expect("the lock to unlink is in the list"));
        links.clear();
    }

    fn set(self, links: *const Links) {
        assert!(
            self == RobustList::Own,
            "a thread writes the pending field of a list that is not its own"
        );
        task::step().pending.set(links);
    }
}

/// Ends a thread that returned or was killed.
pub(super) fn exit(task: &Task) {
    // An exiting thread runs no more user code, so it no longer keeps its process alive.
    task.world.process(task.pid).threads.fetch_sub(1, AcqRel);
    task.world.notify_observers();
    release_list(task);
    task.world.thread(task.tid).end();
}

/// Releases the locks of a thread that ends or calls `exec`: `futex_exit_release` and
/// `futex_exec_release` in Linux' `kernel/futex/core.c`.
pub(super) fn release_list(task: &Task) {
    let world = &task.world;
    for mapping in world
        .mappings()
        .iter()
        .filter(|mapping| mapping.owner() == task.tid)
    {
        mapping.unreported_death.set(true);
    }
    if world.model.kernel_marks {
        walk(task, world);
    }
}

/// `exit_robust_list`: each entry, and last "any possibly pending lock-add". "A pending lock might
/// already be on the list, so don't process it twice".
fn walk(task: &Task, world: &World) {
    let pending = task.pending.get();
    for &links in task
        .list
        .borrow()
        .iter()
        .rev()
        .filter(|&&links| links != pending)
    {
        let mapping = world.mapping_of(links.addr());
        let is_marked = handle_futex_death(task, world, &mapping, false);
        assert!(
            is_marked,
            "thread {} has linked a lock that it does not own",
            task.tid
        );
    }
    if !pending.is_null() {
        handle_futex_death(task, world, &world.mapping_of(pending.addr()), true);
    }
    for mapping in world
        .mappings()
        .iter()
        .filter(|_| !world.model.pending_is_shared)
    {
        assert_ne!(
            mapping.owner(),
            task.tid,
            "thread {} ended as the owner of a lock that was not in its list",
            task.tid
        );
    }
}

/// For which words the kernel wakes a waiter when a thread dies with a pending lock that it does
/// not own. The rules were found by runs of real kernels: see the guide on platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingRule {
    /// Only for a word that is 0: Linux before 6.2.
    Zero,
    /// For a word without an owner: Linux 6.2, and the stable kernels that have its change.
    NoOwner,
    /// Also for a word that another thread owns, unless `WAITERS` is set: some kernels of 2026.
    NoOwnerOrNoWaiters,
}

impl PendingRule {
    fn wakes_for(self, dead: u32, word: u32) -> bool {
        let owner = word & FUTEX_TID_MASK;
        match self {
            PendingRule::Zero => word == 0,
            PendingRule::NoOwner => owner == 0,
            PendingRule::NoOwnerOrNoWaiters => {
                owner == 0 || owner != dead && word & FUTEX_WAITERS == 0
            }
        }
    }
}

/// The kernel's function of this name, for futexes without priority inheritance. Returns whether it
/// marked the word.
fn handle_futex_death(task: &Task, world: &World, mapping: &Mapping, is_pending: bool) -> bool {
    let word = mapping.word();
    loop {
        let value = word.read_by_kernel();
        // "The unlock path in user space has two race scenarios: 1. The unlock path releases the
        // user space futex value and before it can execute the futex() syscall to wake up waiters
        // it is killed. 2. A woken up waiter is killed before it can acquire the futex in user
        // space. [...] If these conditions are met, it is safe to attempt waking up a potential
        // waiter without touching the user space futex value".
        if is_pending && world.model.pending_rule.wakes_for(task.tid, value) {
            let woken = world.futexes.wake(word, 1);
            if woken > 0 {
                world.seen.resent_wakes.add();
            }
            return false;
        }
        if value & FUTEX_TID_MASK != task.tid {
            return false;
        }
        // "Set the OWNER_DIED bit atomically via cmpxchg, and if the value had FUTEX_WAITERS set,
        // wake up a waiter (if any)."
        let marked = match task.has(Fault::MarkDropsWaiters) {
            false => value & FUTEX_WAITERS | FUTEX_OWNER_DIED,
            true => FUTEX_OWNER_DIED,
        };
        if !word.exchanged_by_kernel(value, marked) {
            continue;
        }
        if value & FUTEX_WAITERS != 0 {
            world.futexes.wake(word, 1);
        }
        return true;
    }
}
