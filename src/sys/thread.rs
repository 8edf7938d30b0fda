//! Who am I: the calling thread and process, cached, and never believed across a fork.
//!
//! A child made by `fork`, `_Fork` or a bare `clone` has a copy of its parent's thread-local storage, and would take
//! itself for its parent. So the process's *generation* lies in a page that the kernel wipes in every child
//! (`MADV_WIPEONFORK`), and a thread believes its cache only while the generation there is the one it was made under. The
//! next generation comes from a counter outside that page: no value of any ancestor returns, whichever thread of the
//! child comes first; 0, the wiped page's, is never valid.

use crate::sys::error::RobustListUnusable;
use crate::sys::owner::{ImageId, Owner, OwnerId};
use crate::sys::proc::{self, Stat};
use crate::sys::robust_list::{Links, RobustList, ThreadList};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{
    AtomicI64, AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// What is known of the process, valid while `generation` is not 0.
struct Process {
    generation: AtomicU64,
    pid: AtomicU32,
    namespace: AtomicU32,
    image: AtomicU64,
    /// See [`proc::boot_offset`]; [`NO_OFFSET`] where it is not known.
    boot_offset: AtomicI64,
    /// The mount of `/proc` ([`proc::mount`]) where that shows the process's own PID namespace; else 0.
    proc: AtomicU64,
}

const NO_OFFSET: i64 = i64::MIN;

/// What is known of the calling thread, valid while its generation is the process's.
struct Thread {
    process: Cell<*const Process>,
    generation: Cell<u64>,
    tid: Cell<u32>,
    id: Cell<OwnerId>,
    image: Cell<ImageId>,
    robust_list: ThreadList,
}

impl Thread {
    #[inline]
    fn process(&self) -> &'static Process {
        // SAFETY: `UNMAPPED`, or the page, which is never unmapped.
        unsafe { &*self.process.get() }
    }
}

thread_local! {
    // Without a destructor, so that it can be reached until the thread's last instruction.
    static THREAD: Thread = const {
        Thread {
            process: Cell::new(&raw const UNMAPPED),
            generation: Cell::new(u64::MAX),
            tid: Cell::new(0),
            id: Cell::new(OwnerId::UNSET),
            image: Cell::new(ImageId::UNKNOWN),
            robust_list: ThreadList::new(),
        }
    };
}

/// Stands in until the wiped page is mapped: a generation of 0, which no thread's cache has.
static UNMAPPED: Process = Process {
    generation: AtomicU64::new(0),
    pid: AtomicU32::new(0),
    namespace: AtomicU32::new(0),
    image: AtomicU64::new(0),
    boot_offset: AtomicI64::new(NO_OFFSET),
    proc: AtomicU64::new(0),
};
static PROCESS: AtomicPtr<Process> = AtomicPtr::new((&raw const UNMAPPED).cast_mut());
/// The newest generation given out in this process or an ancestor; fork copies it.
static GENERATIONS: AtomicU64 = AtomicU64::new(0);

fn process() -> &'static Process {
    // SAFETY: points at `UNMAPPED`, or at a page that was mapped for `Process`, starts as zeroes (a valid `Process`), and
    // is never unmapped. Acquire pairs with the release of the pointer in `map_process_page`.
    unsafe { &*PROCESS.load(Acquire) }
}

/// The calling thread, as lock words, robust lists and guards know it.
///
/// Neither `Send` nor `Sync`: it is the thread's own.
#[derive(Debug, Clone, Copy)]
pub struct CurrentThread(NonNull<Thread>);

/// The calling thread.
///
/// # Panics
///
/// Where the kernel denies what identity rests on: a private page with `MADV_WIPEONFORK` (Linux 4.14).
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
        // SAFETY: thread-local storage without a destructor lives as long as the thread, and `CurrentThread` never leaves it.
        unsafe { self.0.as_ref() }
    }

    /// The kernel's id of the thread, as it stands in a lock word: 1 to 2^22.
    #[inline]
    pub(crate) fn tid(&self) -> u32 {
        self.thread().tid.get()
    }

    /// Process, thread and PID namespace in one word: what a lock records of its holder. Never 0.
    #[inline]
    pub(crate) fn id(&self) -> OwnerId {
        self.thread().id.get()
    }

    /// What tells the program that the process runs from the one that it ran before an `exec`, and the process from a
    /// later one with the same id.
    #[inline]
    pub(crate) fn image(&self) -> ImageId {
        self.thread().image.get()
    }

    /// The thread as the owner of a lock.
    #[inline]
    pub(crate) fn owner(&self) -> Owner {
        Owner {
            id: self.id(),
            image: self.image(),
        }
    }

    /// A number that no other process among this one's ancestors and descendants has.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.thread().generation.get()
    }

    /// The calling thread, if the process is still the one in which it had `generation`: not in a child of it.
    #[inline]
    pub(crate) fn of_generation(generation: u64) -> Option<CurrentThread> {
        THREAD.with(|thread| {
            // The page says so itself, whatever the thread believes; and where it does, the thread's facts are of it.
            let same = thread.process().generation.load(Relaxed) == generation;
            same.then(|| CurrentThread(NonNull::from(thread)))
        })
    }

    /// The thread's robust list.
    #[inline]
    pub(crate) fn list(&self) -> RobustList {
        self.thread().robust_list.list()
    }

    /// See [`ThreadList::pending_slot`].
    #[inline]
    pub(crate) fn pending_slot(&self) -> RobustList {
        self.thread().robust_list.pending_slot()
    }

    /// See [`ThreadList::set_list_op_pending`].
    #[inline]
    pub(crate) fn set_list_op_pending(&self, list: RobustList, links: &Links) {
        self.thread().robust_list.set_list_op_pending(list, links);
    }

    /// See [`ThreadList::clear_list_op_pending`].
    pub(crate) fn clear_list_op_pending(&self, links: &Links) {
        self.thread().robust_list.clear_list_op_pending(links);
    }

    /// See [`ThreadList::list_op_pending`].
    pub(crate) fn list_op_pending(&self) -> Option<&Links> {
        self.thread().robust_list.list_op_pending(self.id())
    }

    /// See [`ThreadList::disable_fast_path`].
    pub(crate) fn disable_fast_path(&self) {
        self.thread().robust_list.disable_fast_path();
    }
}

/// Returns an error if the calling thread has no list that robust primitives can join.
pub(crate) fn check_robust_list() -> Result<(), RobustListUnusable> {
    map_process_page().map_err(RobustListUnusable)?;
    current_thread().thread().robust_list.check()
}

/// Whether the calling thread holds a robust lock that its list knows of, of this crate or of glibc.
pub(crate) fn holds_robust_lock() -> bool {
    let current = current_thread();
    current.list_op_pending().is_some() || !current.list().is_empty()
}

/// Whether the holder that recorded itself so is a thread of the calling process, and not of a dead one whose ids have come
/// round again.
pub(crate) fn is_this_process(owner: Owner) -> bool {
    let current = current_thread().owner();
    owner.id.pid() == current.id.pid()
        && owner.id.namespace() == current.id.namespace()
        && owner.image.may_be(current.image)
}

/// Forgets what the calling thread has pending in memory that is about to be unmapped: something else may lie at the same
/// address later.
pub(crate) fn forget_list_op_pending(start: *const u8, length: usize) {
    THREAD.with(|thread| thread.robust_list.forget(start, length));
}

/// The [mount](proc::mount) of a `/proc` whose ids are those of the process's own PID namespace, where one is known.
pub(super) fn known_proc() -> Option<u64> {
    current_thread();
    Some(process().proc.load(Relaxed)).filter(|mount| *mount != 0)
}

/// See [`proc::boot_offset`].
pub(super) fn boot_offset() -> Option<i64> {
    current_thread();
    Some(process().boot_offset.load(Relaxed)).filter(|offset| *offset != NO_OFFSET)
}

#[cold]
fn init_thread(thread: &Thread) {
    if let Err(why) = map_process_page() {
        panic!("pshared cannot tell a process from its parent: {why}");
    }
    let process = process();
    thread.process.set(process);
    let mut generation = process.generation.load(Acquire);
    if generation == 0 {
        generation = init_process(process, thread.id.get());
    }
    // SAFETY: has no preconditions.
    let tid = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
    thread.tid.set(tid);
    thread.id.set(OwnerId::new(
        process.pid.load(Relaxed),
        tid,
        process.namespace.load(Relaxed),
    ));
    thread.image.set(ImageId(process.image.load(Relaxed)));
    thread.robust_list.init();
    thread.generation.set(generation);
}

/// Empties the slot in a child as soon as it is one: what its parent has pending there is the parent's. glibc empties the
/// list in a child, and not the slot; and the kernel would take the parent's lock for the child's where both threads have the
/// same id, in two PID namespaces.
extern "C" fn clear_list_op_pending_after_fork() {
    THREAD.with(|thread| thread.robust_list.clear_own_pending());
}

/// Fills the process's page. Threads that race here write the same values.
///
/// `before` is what the thread was known by so far: in a child, its parent's.
fn init_process(process: &Process, before: OwnerId) -> u64 {
    let pid = std::process::id();
    process.pid.store(pid, Relaxed);
    let mut namespace = proc::own_namespace();
    if namespace == 0
        && before != OwnerId::UNSET
        && std::os::unix::process::parent_id() == before.pid()
    {
        // Without /proc, after a chroot say: who sees its parent by the parent's own id lives where the parent does.
        namespace = before.namespace();
    }
    process.namespace.store(namespace, Relaxed);
    let offset = proc::boot_offset();
    process
        .boot_offset
        .store(offset.unwrap_or(NO_OFFSET), Relaxed);
    let mount = proc::mount();
    // The count is tried on oneself: a kernel that does not count so is not asked again.
    let counts = proc::threads(pid).is_some_and(|(count, on)| count > 0 && on == mount);
    let believed = mount != 0 && counts && proc::shows_own_namespace();
    process
        .proc
        .store(if believed { mount } else { 0 }, Relaxed);
    let image = offset.and_then(|offset| Some(Stat::of("/proc/self/stat").ok()?.image(offset)));
    process
        .image
        .store(image.unwrap_or(ImageId::UNKNOWN).0, Relaxed);
    let fresh = GENERATIONS.fetch_add(1, Relaxed) + 1;
    match process
        .generation
        .compare_exchange(0, fresh, AcqRel, Acquire)
    {
        Ok(_) => fresh,
        Err(other_thread) => other_thread,
    }
}

/// Maps the page that the kernel wipes in children, once a program.
fn map_process_page() -> Result<(), String> {
    let unmapped = (&raw const UNMAPPED).cast_mut();
    if PROCESS.load(Acquire) != unmapped {
        return Ok(());
    }
    let page = crate::sys::wipe_on_fork::map(size_of::<Process>())?.cast::<Process>();
    if PROCESS
        .compare_exchange(unmapped, page.as_ptr(), Release, Relaxed)
        .is_ok()
    {
        crate::sys::process::at_fork_in_the_child(clear_list_op_pending_after_fork);
    } else {
        // SAFETY: just mapped here, and nobody else has seen it.
        unsafe { crate::sys::wipe_on_fork::unmap(page.cast(), size_of::<Process>()) };
    }
    Ok(())
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
    fn only_this_processes_records_are_its_own() {
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
