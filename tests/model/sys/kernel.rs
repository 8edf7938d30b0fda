//! The robust list, and what the kernel does with it when its thread ends.
//!
//! Only the thread itself and, once it has stopped, the kernel touch a list. So it is plain data here; what others see of
//! it are the words.

use super::fault::Fault;
use super::task::{self, Task};
use super::world::{Mapping, World};
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

pub(super) const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
pub(super) const FUTEX_WAITERS: u32 = 0x8000_0000;

/// A lock's place in the list of the thread that holds it.
///
/// The real kernel finds the word by its distance from the links. Here that distance is another one, so the kernel looks
/// up which of the [mapped](World::map) locks the links lie in.
#[derive(Debug)]
pub(crate) struct Links {
    /// What tells the holder that the lock is in its list: in the library, the pointer to the next one.
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

    pub(crate) fn forget(&self) {
        task::step();
        self.are_linked.store(false, Relaxed);
    }
}

/// The calling thread's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RobustList {
    Own,
    /// Stands for a list whose slot is never empty, and names no lock.
    Nobodys,
}

impl RobustList {
    pub(crate) fn is_pending_free(self) -> bool {
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
    /// None is needed here. In the library the list is one of pointers.
    pub(crate) unsafe fn link(self, links: &Links) {
        // The node is whole before it is in the list.
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
            .remove(place.expect("a lock is unlinked that is in no list"));
        links.forget();
    }

    fn set(self, links: *const Links) {
        assert!(
            self == RobustList::Own,
            "a slot is written that only stands for an occupied one"
        );
        task::step().pending.set(links);
    }
}

/// The end of a thread, be it by its own will or by a kill.
pub(super) fn exit(task: &Task) {
    // A thread that exits runs no more of its program, so its process no longer lives by it.
    task.world.process(task.pid).threads.fetch_sub(1, AcqRel);
    task.world.show();
    release_list(task);
    task.world.thread(task.tid).end();
}

/// What becomes of the locks of a thread that ends, or goes on in another program: `futex_exit_release` and
/// `futex_exec_release` in Linux' `kernel/futex/core.c`.
pub(super) fn release_list(task: &Task) {
    let world = &task.world;
    for mapping in world
        .mappings()
        .iter()
        .filter(|mapping| mapping.owner() == task.tid)
    {
        mapping.tidings.set(true);
    }
    if world.model.kernel_marks {
        walk(task, world);
    }
}

/// `exit_robust_list`: each entry, and last "any possibly pending lock-add". "A pending lock might already be on
/// the list, so don't process it twice".
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
            "thread {} has linked a lock that is not its own",
            task.tid
        );
    }
    if !pending.is_null() {
        handle_futex_death(task, world, &world.mapping_of(pending.addr()), true);
    }
    for mapping in world
        .mappings()
        .iter()
        .filter(|_| !world.model.slot_is_shared)
    {
        assert_ne!(
            mapping.owner(),
            task.tid,
            "thread {} ended with a lock that was not listed",
            task.tid
        );
    }
}

/// The kernel's function of this name, for futexes that do not inherit priority. Tells whether it marked the word.
fn handle_futex_death(task: &Task, world: &World, mapping: &Mapping, is_pending: bool) -> bool {
    let word = mapping.word();
    loop {
        let value = word.read_by_kernel();
        // "The unlock path in user space has two race scenarios: 1. The unlock path releases the user space futex value
        // and before it can execute the futex() syscall to wake up waiters it is killed. 2. A woken up waiter is killed
        // before it can acquire the futex in user space. [...] If these conditions are met, it is safe to attempt waking
        // up a potential waiter without touching the user space futex value".
        let has_no_owner = match task.has(Fault::KernelBefore6_2) {
            false => value & FUTEX_TID_MASK == 0,
            true => value == 0,
        };
        if is_pending && has_no_owner {
            let woken = world.futexes.wake(word, 1);
            if woken > 0 {
                world.seen.resent_wakes.add();
            }
            return false;
        }
        if value & FUTEX_TID_MASK != task.tid {
            return false;
        }
        // "Set the OWNER_DIED bit atomically via cmpxchg, and if the value had FUTEX_WAITERS set, wake up a waiter (if
        // any)."
        let marked = value & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        if !word.exchanged_by_kernel(value, marked) {
            continue;
        }
        if value & FUTEX_WAITERS != 0 {
            world.futexes.wake(word, 1);
        }
        return true;
    }
}
