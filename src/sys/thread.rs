//! The identity of the calling thread: cached, and never trusted across a fork.
//!
//! A child made by `fork`, `_Fork` or a bare `clone` has a copy of its parent's thread-local
//! storage, so the cached identity in it is that of the parent. Therefore the *generation* of the
//! process lies in a page that the kernel wipes in every child (`MADV_WIPEONFORK`). A thread trusts
//! its cache only while the page holds the generation under which the cache was filled.
//!
//! A child of `vfork` or `clone(CLONE_VM)` shares the page with its parent. It reads the parent's
//! identity and must not lock anything.
//!
//! The next generation comes from a counter outside that page. So no generation of any ancestor is
//! used again, whichever thread of the child is first. The generation 0, that of a wiped page, is
//! never valid.

use crate::sys::error::{RobustListUnusable, RobustUnusable};
use crate::sys::own_process::{self, NO_OFFSET, Process, UNMAPPED, process};
use crate::sys::owner::{ImageId, Owner, OwnerId};
use crate::sys::robust_list::{Links, RobustList, ThreadList, other_list_has_locks};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// The cached facts about the calling thread, valid while its generation is that of the process.
struct Thread {
    process: Cell<*const Process>,
    generation: Cell<u64>,
    tid: Cell<u32>,
    id: Cell<OwnerId>,
    image: Cell<ImageId>,
    robust_list: ThreadList,
    /// How many locks the thread holds that are not placed. A lock whose guard was leaked
    /// (`mem::forget`) counts until it is placed, even if it was moved or dropped.
    unplaced_holds: Cell<u32>,
}

impl Thread {
    #[inline]
    fn process(&self) -> &'static Process {
        // SAFETY: the pointer is to `UNMAPPED`, or to the page, which is never unmapped.
        unsafe { &*self.process.get() }
    }
}

thread_local! {
    // Without a destructor, so that it is accessible until the last instruction of the thread.
    static THREAD: Thread = const {
        Thread {
            process: Cell::new(&raw const UNMAPPED),
            generation: Cell::new(u64::MAX),
            tid: Cell::new(0),
            id: Cell::new(OwnerId::UNSET),
            image: Cell::new(ImageId::UNKNOWN),
            robust_list: ThreadList::new(),
            unplaced_holds: Cell::new(0),
        }
    };
}

/// The calling thread, as lock words, robust lists and guards identify it.
///
/// Neither `Send` nor `Sync`: it may be used only by that thread.
#[derive(Debug, Clone, Copy)]
pub struct CurrentThread(NonNull<Thread>);

/// Returns the calling thread.
///
/// # Panics
///
/// Panics if the kernel denies the private page with `MADV_WIPEONFORK` (Linux 4.14) on which the
/// cache depends.
#[inline]
pub(crate) fn current_thread() -> CurrentThread {
    THREAD.with(|thread| {
        if thread.generation.get() != thread.process().generation.load(Relaxed) {
            init_thread(thread);
        }
        CurrentThread(NonNull::from(thread))
    })
}

impl CurrentThread {
    #[inline]
    fn thread(&self) -> &Thread {
        // SAFETY: thread-local storage without a destructor lives as long as the thread, and
        // `CurrentThread` never leaves its thread.
        unsafe { self.0.as_ref() }
    }

    /// Returns the kernel's id of the thread, as in a lock word: 1 to 2^22.
    #[inline]
    pub(crate) fn tid(&self) -> u32 {
        self.thread().tid.get()
    }

    /// Returns the ids of the process, thread and PID namespace in one word, as a lock records its
    /// owner. Never 0.
    #[inline]
    pub(crate) fn id(&self) -> OwnerId {
        self.thread().id.get()
    }

    /// Returns the process image. It distinguishes the program from the one before an `exec`, and
    /// the process from a later one with the same id.
    #[inline]
    pub(crate) fn image(&self) -> ImageId {
        self.thread().image.get()
    }

    /// Returns the thread as the owner of a lock.
    #[inline]
    pub(crate) fn owner(&self) -> Owner {
        Owner {
            id: self.id(),
            image: self.image(),
        }
    }

    /// Returns the generation: a number that no other process among the ancestors and descendants
    /// of this process has.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.thread().generation.get()
    }

    /// Returns the calling thread if this is still the process that has `generation`. Returns
    /// `None` in a child of it.
    #[inline]
    pub(crate) fn of_generation(generation: u64) -> Option<CurrentThread> {
        THREAD.with(|thread| {
            // The page itself decides, not the cache of the thread. If the generations are equal,
            // the cached facts of the thread belong to this generation.
            let same = thread.process().generation.load(Relaxed) == generation;
            same.then(|| CurrentThread(NonNull::from(thread)))
        })
    }

    /// Returns the thread's robust list.
    #[inline]
    pub(crate) fn list(&self) -> RobustList {
        self.thread().robust_list.list()
    }

    /// See [`ThreadList::fast_path_list`].
    #[inline]
    pub(crate) fn fast_path_list(&self) -> RobustList {
        self.thread().robust_list.fast_path_list()
    }

    /// See [`ThreadList::set_list_op_pending`].
    #[inline]
    pub(crate) fn set_list_op_pending(&self, list: RobustList, links: &Links) {
        self.thread().robust_list.set_list_op_pending(list, links);
    }

    /// See [`ThreadList::forget_pending`].
    pub(crate) fn forget_pending(&self, links: &Links) {
        self.thread().robust_list.forget_pending(links);
    }

    /// See [`ThreadList::list_op_pending`].
    pub(crate) fn list_op_pending(&self) -> Option<&Links> {
        self.thread().robust_list.list_op_pending(self.id())
    }

    /// See [`RobustList::link_pending_of_another_copy`].
    pub(crate) fn link_pending_of_another_copy(&self) {
        self.list().link_pending_of_another_copy(self.tid());
    }

    /// See [`ThreadList::disable_fast_path`].
    pub(crate) fn disable_fast_path(&self) {
        self.thread().robust_list.disable_fast_path();
    }
}

impl CurrentThread {
    /// Counts a lock that the thread has acquired and that is not placed.
    ///
    /// A child gets a copy of such a lock. The copy is held for ever, because the thread that holds
    /// it is the parent's. So a fork is refused meanwhile. The registry of placed values does not
    /// know these locks, and no robust list contains them.
    pub(crate) fn add_unplaced_hold(&self) {
        let holds = &self.thread().unplaced_holds;
        holds.set(holds.get() + 1);
    }

    /// Removes a lock that [`add_unplaced_hold`](Self::add_unplaced_hold) counted: it is released,
    /// or is being placed, which frees it.
    pub(crate) fn remove_unplaced_hold(&self) {
        let holds = &self.thread().unplaced_holds;
        holds.set(holds.get().saturating_sub(1));
    }
}

/// Returns an error if the calling thread has no robust list that robust primitives can join, or if
/// the death of its process could not be told from the end of the thread.
pub(crate) fn check_robust() -> Result<(), RobustUnusable> {
    own_process::map(clear_list_op_pending_after_fork)
        .map_err(|why| RobustUnusable::List(RobustListUnusable(why)))?;
    let current = current_thread();
    let list = current.thread().robust_list.check();
    list.map_err(RobustUnusable::List)?;
    match current.id().namespace() {
        0 => Err(RobustUnusable::NamespaceUnknown),
        _ => Ok(()),
    }
}

/// Returns whether the calling thread holds a robust lock that is in its list or in
/// `list_op_pending`: one of this crate, of another copy of it, or of glibc. Under musl, a mutex in
/// a list that musl has registered counts too.
pub(crate) fn holds_robust_lock() -> bool {
    let current = current_thread();
    let list = current.list();
    current.list_op_pending().is_some()
        || !list.is_empty()
        || list.is_pending_held_by(current.tid())
        || other_list_has_locks(list)
}

/// Returns whether the calling thread holds a lock that is not placed.
pub(crate) fn holds_unplaced_lock() -> bool {
    current_thread().thread().unplaced_holds.get() > 0
}

/// Returns whether the recorded owner is a thread of the calling process, and not of a dead process
/// whose ids were reused.
pub(crate) fn is_this_process(owner: Owner) -> bool {
    let current = current_thread().owner();
    owner.id.pid() == current.id.pid()
        && owner.id.namespace() == current.id.namespace()
        && owner.image.may_be(current.image)
}

/// Forgets the lock that the calling thread stored in `list_op_pending` last, if it lies in memory
/// that is about to be unmapped. Another object may later lie at the same address.
pub(crate) fn forget_list_op_pending(start: *const u8, length: usize) {
    THREAD.with(|thread| thread.robust_list.forget(start, length));
}

/// Returns the cached facts for a caller that observes other processes. Reads those of `/proc`
/// again if there were no descriptors before. The image in records stays as it was first recorded,
/// because a thread recognizes its own records by it.
fn observer() -> &'static Process {
    current_thread();
    let process = process();
    if process.lacked_descriptors.load(Relaxed) {
        own_process::read_proc(process);
    }
    process
}

/// Returns the process image as `/proc` showed it when [`start_time_offset`] was read.
pub(super) fn shown_image() -> ImageId {
    ImageId(observer().shown_image.load(Relaxed))
}

/// Returns the [mount](super::proc::mount) of a `/proc` whose ids are those of the process's own
/// PID namespace, if one is known.
pub(super) fn known_proc() -> Option<u64> {
    Some(observer().proc.load(Relaxed)).filter(|mount| *mount != 0)
}

/// See [`proc`](super::proc::start_time_offset).
pub(super) fn start_time_offset() -> Option<i64> {
    Some(observer().start_time_offset.load(Relaxed)).filter(|offset| *offset != NO_OFFSET)
}

#[cold]
fn init_thread(thread: &Thread) {
    if let Err(why) = own_process::map(clear_list_op_pending_after_fork) {
        panic!("pshared cannot distinguish a process from its parent: {why}");
    }
    let process = process();
    thread.process.set(process);
    let mut generation = process.generation.load(Acquire);
    if generation == 0 {
        generation = own_process::init(process, thread.id.get());
    }
    // SAFETY: gettid(2) has no preconditions.
    let tid = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
    thread.tid.set(tid);
    thread.id.set(OwnerId::new(
        process.pid.load(Relaxed),
        tid,
        process.namespace.load(Relaxed),
    ));
    thread.image.set(ImageId(process.image.load(Relaxed)));
    thread.robust_list.init(tid);
    thread.unplaced_holds.set(0);
    thread.generation.set(generation);
}

/// Clears `list_op_pending` as soon as a child starts, because the lock that it names is that of
/// the parent.
///
/// In a child, glibc empties the list but does not clear `list_op_pending`. If both threads have
/// the same id, in two PID namespaces, the kernel would take the parent's lock for the child's.
extern "C" fn clear_list_op_pending_after_fork() {
    THREAD.with(|thread| thread.robust_list.clear_own_pending());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_process_share_the_generation_and_differ_in_id() {
        let here = (
            current_thread().generation(),
            current_thread().tid(),
            current_thread().id().pid(),
        );
        let there = std::thread::spawn(|| {
            (
                current_thread().generation(),
                current_thread().tid(),
                current_thread().id().pid(),
            )
        })
        .join()
        .unwrap();
        assert_eq!(here.0, there.0);
        assert_ne!(here.1, there.1);
        assert_eq!(here.2, there.2);
        assert!(here.0 > 0);
        assert_eq!(
            CurrentThread::of_generation(here.0).map(|current| current.tid()),
            Some(here.1)
        );
        assert!(CurrentThread::of_generation(here.0 + 1).is_none());
    }

    #[test]
    fn only_records_of_this_process_are_its_own() {
        let own = current_thread().owner();
        let (id, image) = (own.id, own.image);
        let of_image = |image| Owner { id, image };
        assert!(is_this_process(own));
        assert!(
            is_this_process(of_image(ImageId::UNKNOWN)),
            "the image is not known"
        );
        assert!(
            !is_this_process(of_image(ImageId(image.0 + (1 << 24)))),
            "the ids were reused"
        );
        let with_id = |id| Owner { id, image };
        let (pid, tid, namespace) = (id.pid(), id.tid(), id.namespace());
        assert!(!is_this_process(with_id(OwnerId::new(
            pid + 1,
            tid,
            namespace
        ))));
        assert!(!is_this_process(with_id(OwnerId::new(
            pid,
            tid,
            namespace ^ 1
        ))));
    }
}
