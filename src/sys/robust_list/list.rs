//! A robust list: its head, the links of a lock, and the operations on both.
//!
//! A thread has one registered list (`set_robust_list(2)`). At the end of the thread, at `exec` and
//! at any kind of death, the kernel walks the list. It marks every word on it that still names the
//! thread (`handle_futex_death` in the kernel's `kernel/futex/core.c`).
//!
//! The nodes of this crate have the layout of glibc's own nodes in `pthread_mutex_t`: `prev`
//! directly before `next`, and `next` 32 bytes after the lock word. A list pointer points to a
//! node's `next`. Its lowest bit is set if the node is a priority-inheriting mutex of glibc. So
//! both libraries can link and unlink nodes in one list, in any order.
//!
//! A lock that is being acquired or released may be missing from the list. `list_op_pending`, a
//! field of the head, then names it to the kernel. This crate also leaves a held lock there,
//! instead of linking it, if it can.
//!
//! Only the thread itself accesses the list, and the kernel once the thread has stopped. So
//! compiler fences are sufficient to order the stores.

use crate::sys::futex::probe_u32;
use std::ptr::{self, NonNull};
use std::sync::atomic::{
    AtomicIsize, AtomicPtr,
    Ordering::{Relaxed, Release, SeqCst},
    compiler_fence,
};

/// The offset of a robust word from its node's `next`, as in 64-bit glibc's `pthread_mutex_t`.
pub(super) const FUTEX_OFFSET: isize = -32;

/// The kernel's `struct robust_list_head`.
///
/// A `prev` lies directly before it, in glibc's heads (`robust_prev`) and in those of this crate.
/// So the head is a node like the others.
#[repr(C)]
#[derive(Debug)]
pub(in crate::sys) struct Head {
    first: AtomicPtr<()>,
    futex_offset: AtomicIsize,
    /// The kernel's `list_op_pending`.
    pending: AtomicPtr<()>,
}

impl Head {
    /// The offset of `list_op_pending`.
    pub(in crate::sys) const PENDING: usize = std::mem::offset_of!(Head, pending);
}

/// Where the head of the list in which a thread links its locks lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sys) enum HeadOf {
    /// At this address.
    At(usize),
    /// The thread has no list: it has not used this crate.
    #[cfg_attr(
        target_env = "gnu",
        allow(dead_code, reason = "glibc has one for each")
    )]
    NoList,
    /// The caller cannot find out.
    Unknown,
}

/// The two links of a lock in the list of the thread that holds it.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Links {
    prev: AtomicPtr<()>,
    next: AtomicPtr<()>,
}

impl Links {
    pub(crate) const fn new() -> Self {
        Links {
            prev: AtomicPtr::new(ptr::null_mut()),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Returns whether the lock is in a list. Only the owner of the lock may call this.
    pub(crate) fn are_linked(&self) -> bool {
        !self.next.load(Relaxed).is_null()
    }

    /// Clears the links without touching any list: the lock is in none, or in that of a thread that
    /// has ended.
    pub(crate) fn clear(&self) {
        self.next.store(ptr::null_mut(), Relaxed);
        self.prev.store(ptr::null_mut(), Relaxed);
    }

    /// Returns the value of list pointers to this node: the address of `next`, as a pointer that
    /// may also access `prev`.
    fn as_entry(&self) -> *mut () {
        ptr::from_ref(self)
            .cast_mut()
            .cast::<()>()
            .wrapping_byte_add(size_of::<usize>())
    }
}

/// Returns the `next` field to which a list pointer points.
///
/// # Safety
///
/// `entry` must be the head of the calling thread's list, or a node that is linked in it.
unsafe fn next_field<'a>(entry: *mut ()) -> &'a AtomicPtr<()> {
    // SAFETY: the caller guarantees that this is the head or a linked node. The lowest bit is
    // glibc's flag and not part of the address. Only this thread writes the list, and the reference
    // does not outlive the operation on the list.
    unsafe {
        &*entry
            .map_addr(|address| address & !1)
            .cast::<AtomicPtr<()>>()
    }
}

/// Returns the `prev` field of the node to which a list pointer points.
///
/// # Safety
///
/// The contract of [`next_field`] applies.
unsafe fn prev_field<'a>(entry: *mut ()) -> &'a AtomicPtr<()> {
    // SAFETY: as above. `prev` lies directly before `next` in the nodes of this crate and of glibc,
    // and before the head (in `OwnList`, and as `robust_prev` in glibc's `struct pthread`).
    unsafe {
        &*entry
            .map_addr(|address| (address & !1) - size_of::<usize>())
            .cast::<AtomicPtr<()>>()
    }
}

/// The robust list of a thread. Only that thread may use it: it is neither `Send` nor `Sync`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RobustList(NonNull<Head>);

/// The head of [`RobustList::ALWAYS_BUSY`].
static ALWAYS_BUSY: Head = Head {
    first: AtomicPtr::new(ptr::null_mut()),
    futex_offset: AtomicIsize::new(FUTEX_OFFSET),
    pending: AtomicPtr::new(ptr::dangling_mut()),
};

impl RobustList {
    /// A placeholder list. Its `list_op_pending` is never empty and never names a lock. Nothing
    /// else of the list is used.
    pub(super) const ALWAYS_BUSY: Self = {
        // SAFETY: the address of a static is not null.
        RobustList(unsafe { NonNull::new_unchecked((&raw const ALWAYS_BUSY).cast_mut()) })
    };

    #[inline]
    fn head<'a>(self) -> &'a Head {
        // SAFETY: the head is the static `ALWAYS_BUSY`, or lies in the thread's control block, its
        // thread-local storage or the pool of lists. All of them live at least as long as the
        // thread, and a `RobustList` never leaves its thread.
        unsafe { self.0.as_ref() }
    }

    /// Returns whether `list_op_pending` is empty.
    #[inline]
    pub(crate) fn is_pending_empty(self) -> bool {
        self.head().pending.load(Relaxed).is_null()
    }

    /// Returns whether `list_op_pending` names the lock with these links.
    #[inline]
    pub(crate) fn is_pending(self, links: &Links) -> bool {
        ptr::addr_eq(self.head().pending.load(Relaxed), links.as_entry())
    }

    /// Stores a lock in `list_op_pending`: its word is about to be acquired or released, or is
    /// held. If the thread dies, the kernel treats the word like those in the list. It also wakes a
    /// waiter if the word has no owner.
    #[inline]
    pub(crate) fn set_pending(self, links: &Links) {
        // Release: a thread that reads this field and then the list from outside finds a lock that
        // was linked before the field changed (see `thread_list`).
        self.head().pending.store(links.as_entry(), Release);
        compiler_fence(SeqCst);
    }

    /// Clears `list_op_pending`.
    #[inline]
    pub(crate) fn clear_pending(self) {
        compiler_fence(SeqCst);
        self.head().pending.store(ptr::null_mut(), Relaxed);
    }

    /// Returns whether `list_op_pending` names the node at this address. Returns false for null.
    pub(super) fn names(self, links: *const Links) -> bool {
        let entry = links.cast::<()>().wrapping_byte_add(size_of::<usize>());
        !links.is_null() && ptr::addr_eq(self.head().pending.load(Relaxed), entry)
    }

    /// Links a held lock. Until then `list_op_pending` must name it, because the kernel does not
    /// find it in the list yet.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock, which must be in no list. The lock must not move, and
    /// its memory must stay mapped, until it is unlinked.
    pub(crate) unsafe fn link(self, links: &Links) {
        let head = self.head();
        let first = head.first.load(Relaxed);
        links.next.store(first, Relaxed);
        links.prev.store(self.0.as_ptr().cast(), Relaxed);
        // SAFETY: the first entry is the head itself or a node linked in this thread's list.
        unsafe { prev_field(first) }.store(links.as_entry(), Relaxed);
        // The node is complete before the kernel can find it.
        compiler_fence(SeqCst);
        head.first.store(links.as_entry(), Relaxed);
        compiler_fence(SeqCst);
    }

    /// Links the lock that `list_op_pending` names, if the thread `tid`, the calling one, holds it
    /// and it is in no list.
    ///
    /// Another copy of this crate in the program, such as that of a plugin, leaves its held locks
    /// there too. Its nodes are those of this crate, and it unlinks a lock that it finds linked. If
    /// the field were overwritten, neither the kernel nor a fork would find that lock.
    pub(in crate::sys) fn link_pending_of_another_copy(self, tid: u32) {
        let entry = self.head().pending.load(Relaxed);
        // glibc marks its mutexes with priority inheritance. It leaves no held lock in the field.
        let is_of_glibc = entry.addr() & 1 != 0;
        if is_of_glibc || !self.is_pending_held_by(tid) || self.contains(entry) {
            return;
        }
        let links = entry.wrapping_byte_sub(size_of::<usize>()).cast::<Links>();
        // SAFETY: the field names the node and its word names this thread, so the thread holds a
        // robust lock there. Such a lock is mapped and stays at its address while it is held, and
        // its links lie before the entry. It is in no list, as was just checked: a lock is held by
        // one thread, which links it into its own list only.
        unsafe { self.link(&*links) };
    }

    /// Returns whether the list contains the node.
    fn contains(self, node: *mut ()) -> bool {
        let head = self.0.as_ptr().cast::<()>();
        let mut entry = self.head().first.load(Relaxed);
        while !ptr::addr_eq(entry, head) {
            if entry.addr() & !1 == node.addr() & !1 {
                return true;
            }
            // SAFETY: the entry is a node that is linked in this thread's list.
            entry = unsafe { next_field(entry) }.load(Relaxed);
        }
        false
    }

    /// Unlinks a lock. `list_op_pending` must name it, because the kernel does not find it in the
    /// list any more.
    ///
    /// # Safety
    ///
    /// The lock must be linked in this thread's list.
    pub(crate) unsafe fn unlink(self, links: &Links) {
        let next = links.next.load(Relaxed);
        let prev = links.prev.load(Relaxed);
        // SAFETY: the neighbours of a linked node are the head or nodes linked in the same list.
        unsafe {
            prev_field(next).store(prev, Relaxed);
            next_field(prev).store(next, Relaxed);
        }
        compiler_fence(SeqCst);
        links.clear();
    }

    /// Returns whether `list_op_pending` names a lock whose word names the thread `tid`: the thread
    /// holds it. It may be a lock of glibc, or of another copy of this crate.
    ///
    /// The field alone does not show that: glibc leaves locks there that it did not acquire.
    pub(in crate::sys) fn is_pending_held_by(self, tid: u32) -> bool {
        const WAITERS: u32 = libc::FUTEX_WAITERS;
        const OWNER_DIED: u32 = libc::FUTEX_OWNER_DIED;
        let pending = self.head().pending.load(Relaxed);
        let word = pending
            .map_addr(|address| address & !1)
            .wrapping_byte_offset(FUTEX_OFFSET)
            .cast::<u32>();
        let bits = [0, WAITERS, OWNER_DIED, WAITERS | OWNER_DIED];
        !pending.is_null() && bits.iter().any(|bits| probe_u32(word, tid | bits))
    }

    /// Returns whether no lock is linked, of this crate or of glibc.
    pub(in crate::sys) fn is_empty(self) -> bool {
        ptr::addr_eq(self.head().first.load(Relaxed), self.0.as_ptr())
    }

    /// Returns the list with this head.
    ///
    /// # Safety
    ///
    /// It must be the head of the calling thread's list, with a `prev` directly before it. It must
    /// live as long as the thread.
    pub(super) unsafe fn of_head(head: NonNull<Head>) -> Self {
        RobustList(head)
    }

    /// Returns the list with this head, and empties it.
    ///
    /// # Safety
    ///
    /// As for [`of_head`](Self::of_head). The memory of the head and of the `prev` before it must
    /// be writable, and no other thread accesses it.
    pub(super) unsafe fn emptied(head: NonNull<Head>) -> Self {
        let entry = head.as_ptr().cast::<()>();
        // SAFETY: guaranteed by the caller.
        unsafe {
            let list = Self::of_head(head);
            list.head().pending.store(ptr::null_mut(), Relaxed);
            list.head().first.store(entry, Relaxed);
            list.head().futex_offset.store(FUTEX_OFFSET, Relaxed);
            prev_field(entry).store(entry, Relaxed);
            list
        }
    }

    /// Returns the head.
    pub(super) fn as_head(self) -> NonNull<Head> {
        self.0
    }

    /// Returns the offset of the lock words, which the kernel also reads in the head.
    pub(super) fn futex_offset(self) -> isize {
        self.head().futex_offset.load(Relaxed)
    }
}

/// The memory of a list.
#[repr(C)]
#[derive(Debug)]
pub(super) struct OwnList {
    prev: AtomicPtr<()>,
    head: Head,
}

impl OwnList {
    /// The offset of the head.
    pub(super) const HEAD: usize = std::mem::offset_of!(OwnList, head);

    pub(super) const fn new() -> Self {
        OwnList {
            prev: AtomicPtr::new(ptr::null_mut()),
            head: Head {
                first: AtomicPtr::new(ptr::null_mut()),
                futex_offset: AtomicIsize::new(FUTEX_OFFSET),
                pending: AtomicPtr::new(ptr::null_mut()),
            },
        }
    }

    /// Returns the head, as a pointer that may also access the `prev` before it.
    pub(super) fn head(&self) -> NonNull<Head> {
        NonNull::from(self)
            .cast::<Head>()
            .map_addr(|address| address.saturating_add(Self::HEAD))
    }

    /// Returns the list, which is empty at first. `self` lies in the calling thread's storage.
    #[cold]
    pub(super) fn list(&self) -> RobustList {
        let is_new = self.head.first.load(Relaxed).is_null();
        // SAFETY: `prev` lies directly before the head, both may be written through a shared
        // reference, and the calling thread's storage lives as long as the thread.
        unsafe {
            match is_new {
                true => RobustList::emptied(self.head()),
                false => RobustList::of_head(self.head()),
            }
        }
    }
}

static_assertions::const_assert_eq!(size_of::<Links>(), 16);
static_assertions::const_assert_eq!(size_of::<Head>(), 24);
static_assertions::const_assert_eq!(core::mem::offset_of!(Links, next), 8);
