//! The facts about the process that its threads share: its ids, its image, and what `/proc` shows.
//!
//! They lie in a page that the kernel wipes in every child (`MADV_WIPEONFORK`). The page of a child
//! holds the generation 0, which is never valid, until its first thread fills it again.

use crate::sys::limits::NoDescriptors;
use crate::sys::owner::{ImageId, OwnerId};
use crate::sys::proc::{self, Stat};
use crate::sys::wipe_on_fork;
use std::io;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// The cached facts about the process, valid while `generation` is not 0.
pub(super) struct Process {
    pub(super) generation: AtomicU64,
    pub(super) pid: AtomicU32,
    pub(super) namespace: AtomicU32,
    pub(super) image: AtomicU64,
    /// The process image as `/proc` shows it. It differs from `image` if the process had no
    /// descriptor for `/proc` when it recorded `image`, which then stays unknown.
    pub(super) shown_image: AtomicU64,
    /// Whether the last attempt to read `/proc` failed for want of descriptors.
    pub(super) lacked_descriptors: AtomicBool,
    /// See [`proc::start_time_offset`]; [`NO_OFFSET`] if it is not known.
    pub(super) start_time_offset: AtomicI64,
    /// The mount of `/proc` ([`proc::mount`]) if it shows the process's own PID namespace and
    /// [counts threads](proc::threads); otherwise 0.
    pub(super) proc: AtomicU64,
}

pub(super) const NO_OFFSET: i64 = i64::MIN;

/// Used until the wiped page is mapped. Its generation is 0, which no cache of a thread has.
pub(super) static UNMAPPED: Process = Process {
    generation: AtomicU64::new(0),
    pid: AtomicU32::new(0),
    namespace: AtomicU32::new(0),
    image: AtomicU64::new(0),
    shown_image: AtomicU64::new(0),
    lacked_descriptors: AtomicBool::new(false),
    start_time_offset: AtomicI64::new(NO_OFFSET),
    proc: AtomicU64::new(0),
};
static PROCESS: AtomicPtr<Process> = AtomicPtr::new((&raw const UNMAPPED).cast_mut());
/// The newest generation assigned in this process or an ancestor; a fork copies it.
static GENERATIONS: AtomicU64 = AtomicU64::new(0);

/// Returns the page of the process, or [`UNMAPPED`].
pub(super) fn process() -> &'static Process {
    // SAFETY: the pointer is to `UNMAPPED`, or to a page that was mapped for `Process`, starts as
    // zeroes (a valid `Process`), and is never unmapped. Acquire pairs with the release of the
    // pointer in [`map`].
    unsafe { &*PROCESS.load(Acquire) }
}

/// Maps the page that the kernel wipes in children, once per process image.
///
/// `after_fork` is then called in each child of a `fork(3)`.
pub(super) fn map(after_fork: extern "C" fn()) -> Result<(), String> {
    let unmapped = (&raw const UNMAPPED).cast_mut();
    if PROCESS.load(Acquire) != unmapped {
        return Ok(());
    }
    let page = wipe_on_fork::map(size_of::<Process>())?.cast::<Process>();
    if PROCESS
        .compare_exchange(unmapped, page.as_ptr(), Release, Relaxed)
        .is_ok()
    {
        crate::sys::process::at_fork_in_the_child(after_fork);
    } else {
        // SAFETY: this function has just mapped it, and no other code has seen it.
        unsafe { wipe_on_fork::unmap(page.cast(), size_of::<Process>()) };
    }
    Ok(())
}

/// Returns the PID namespace of the parent, if the calling process is certainly in it too, or 0.
///
/// `before` is the id that the calling thread had cached before, in a child that of its parent. If
/// the process sees its parent under the id that the parent has for itself, both are in the same
/// PID namespace.
fn namespace_of_parent(before: OwnerId, parent: u32) -> u32 {
    match before != OwnerId::UNSET && parent == before.pid() {
        true => before.namespace(),
        false => 0,
    }
}

/// Fills the page of the process. Threads that race here write the same values.
///
/// `before` is the id that the thread had cached before: in a child, that of its parent.
pub(super) fn init(process: &Process, before: OwnerId) -> u64 {
    let pid = std::process::id();
    process.pid.store(pid, Relaxed);
    let namespace = match proc::own_namespace() {
        0 => namespace_of_parent(before, std::os::unix::process::parent_id()),
        known => known,
    };
    process.namespace.store(namespace, Relaxed);
    process.start_time_offset.store(NO_OFFSET, Relaxed);
    read_proc(process);
    process
        .image
        .store(process.shown_image.load(Relaxed), Relaxed);
    let fresh = GENERATIONS.fetch_add(1, Relaxed) + 1;
    match process
        .generation
        .compare_exchange(0, fresh, AcqRel, Acquire)
    {
        Ok(_) => fresh,
        Err(other_thread) => other_thread,
    }
}

/// Reads what the process needs to observe others in `/proc`. If descriptors are missing, changes
/// nothing but the flag that says so: another thread may have had one.
pub(super) fn read_proc(process: &Process) {
    let facts = ProcFacts::read(process.pid.load(Relaxed));
    if let Ok(facts) = &facts {
        let offset = facts.start_time_offset.unwrap_or(NO_OFFSET);
        process.start_time_offset.store(offset, Relaxed);
        process.proc.store(facts.mount, Relaxed);
        process.shown_image.store(facts.image.0, Relaxed);
    }
    process.lacked_descriptors.store(facts.is_err(), Relaxed);
}

/// What `/proc` shows of the calling process.
struct ProcFacts {
    start_time_offset: Option<i64>,
    mount: u64,
    image: ImageId,
}

impl ProcFacts {
    fn read(pid: u32) -> Result<Self, NoDescriptors> {
        let start_time_offset = unless_no_descriptors(proc::start_time_offset())?.flatten();
        let stat = unless_no_descriptors(Stat::of("/proc/self/stat"))?;
        let is_own = unless_no_descriptors(proc::shows_own_namespace())?.unwrap_or(false);
        let mount = proc::mount();
        // Test the count on this process: a kernel that does not count threads in this way is not
        // asked again.
        let counts = proc::threads(pid).is_some_and(|(count, on)| count > 0 && on == mount);
        let image = start_time_offset.and_then(|offset| Some(stat?.image(offset)));
        Ok(ProcFacts {
            start_time_offset,
            mount: if counts && is_own { mount } else { 0 },
            image: image.unwrap_or(ImageId::UNKNOWN),
        })
    }
}

/// Returns what was read, or `None` if it cannot be read at all.
fn unless_no_descriptors<T>(read: io::Result<T>) -> Result<Option<T>, NoDescriptors> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) => NoDescriptors::of(&error).map_or(Ok(None), Err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_without_proc_is_in_the_namespace_of_a_parent_that_it_sees() {
        let parent = OwnerId::new(9, 9, 5);
        assert_eq!(namespace_of_parent(parent, 9), 5);
        assert_eq!(namespace_of_parent(parent, 8), 0, "a later parent");
        assert_eq!(namespace_of_parent(parent, 0), 0, "in another namespace");
        assert_eq!(
            namespace_of_parent(OwnerId::UNSET, 0),
            0,
            "no parent used the crate"
        );
    }
}
