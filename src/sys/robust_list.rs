//! The thread's robust futex list, which glibc owns and this crate joins.
//!
//! A thread has one list. Its head is registered with `set_robust_list(2)` by glibc when the thread starts; at the
//! thread's end, at `exec` and at any kind of death the kernel walks it and marks every word on it that still names the
//! thread (`handle_futex_death` in the kernel's `kernel/futex/core.c`). The nodes here are laid out as glibc lays out its
//! own in `pthread_mutex_t`: `prev` directly before `next`, `next` 32 bytes behind the lock word. A list pointer points
//! at a node's `next`; its lowest bit says that the node is one of glibc's priority-inheriting mutexes. So both libraries
//! link and unlink in one list, in any order.
//!
//! Only the thread itself and the kernel, once the thread has stopped, touch the list. Hence compiler fences are all
//! that the order of stores needs.

use super::error::RobustListUnusable;
use super::futex::probe_u32;
use super::owner::OwnerId;
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{
    AtomicIsize, AtomicPtr, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    compiler_fence,
};

/// How often a placed value was unmapped in this process.
static UNMAPPED_VALUES: AtomicU64 = AtomicU64::new(0);
/// How far before its links a lock records its owner ([`OwnerId`]), in bytes.
pub(crate) const RECORD_BEFORE_LINKS: usize = 16;
/// Where the robust list's head lies in glibc's thread descriptor; 0 while unknown.
static HEAD_OFFSET: AtomicIsize = AtomicIsize::new(0);

/// Where a robust word lies, seen from its node's `next`: as in 64-bit glibc's `pthread_mutex_t`.
const FUTEX_OFFSET: isize = -32;

/// The kernel's `struct robust_list_head`.
///
/// glibc keeps its `robust_prev` directly before it, which makes the head a node like the others.
#[repr(C)]
pub(super) struct Head {
    first: AtomicPtr<()>,
    futex_offset: AtomicIsize,
    pending: AtomicPtr<()>,
}

/// A lock's two links in the list of the thread that holds it.
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

    /// Whether the lock is in a list. Only for whoever holds the lock.
    pub(crate) fn are_linked(&self) -> bool {
        !self.next.load(Relaxed).is_null()
    }

    /// Forgets the list that the lock was in: its thread has ended.
    pub(crate) fn clear(&self) {
        self.next.store(ptr::null_mut(), Relaxed);
        self.prev.store(ptr::null_mut(), Relaxed);
    }

    /// What list pointers to this node hold: the address of `next`, by a pointer that may also reach `prev`.
    fn as_entry(&self) -> *mut () {
        ptr::from_ref(self)
            .cast_mut()
            .cast::<()>()
            .wrapping_byte_add(size_of::<usize>())
    }
}

/// The `next` field that a list pointer points at.
///
/// # Safety
///
/// `entry` is the head of the calling thread's list, or a node that is linked in it.
unsafe fn next_field<'a>(entry: *mut ()) -> &'a AtomicPtr<()> {
    // SAFETY: the caller's promise; the lowest bit is glibc's mark and no part of the address. Only this thread writes
    // the list, and the reference does not outlive the operation on it.
    unsafe {
        &*entry
            .map_addr(|address| address & !1)
            .cast::<AtomicPtr<()>>()
    }
}

/// The `prev` field of the node that a list pointer points at.
///
/// # Safety
///
/// As for [`next_field`].
unsafe fn prev_field<'a>(entry: *mut ()) -> &'a AtomicPtr<()> {
    // SAFETY: as above; `prev` lies directly before `next` in a node of ours, in glibc's, and in front of the head
    // (`robust_prev` in glibc's `struct pthread`).
    unsafe {
        &*entry
            .map_addr(|address| (address & !1) - size_of::<usize>())
            .cast::<AtomicPtr<()>>()
    }
}

/// A thread's list. Only that thread may use it: it is neither `Send` nor `Sync`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RobustList(NonNull<Head>);

/// The list that [`RobustList::ALWAYS_BUSY`] is.
static ALWAYS_BUSY: Head = Head {
    first: AtomicPtr::new(ptr::null_mut()),
    futex_offset: AtomicIsize::new(FUTEX_OFFSET),
    pending: AtomicPtr::new(ptr::dangling_mut()),
};

impl RobustList {
    /// Stands for a list whose slot is never empty, and never names a lock. It is only asked for that.
    pub(super) const ALWAYS_BUSY: Self = {
        // SAFETY: the address of a static is not null.
        RobustList(unsafe { NonNull::new_unchecked((&raw const ALWAYS_BUSY).cast_mut()) })
    };

    #[inline]
    fn head<'a>(self) -> &'a Head {
        // SAFETY: the head lies in the thread's control block or its thread-local storage, which live as long as the
        // thread does, and a `RobustList` never leaves its thread.
        unsafe { self.0.as_ref() }
    }

    /// Whether the slot is empty.
    #[inline]
    pub(crate) fn is_pending_free(self) -> bool {
        self.head().pending.load(Relaxed).is_null()
    }

    /// Whether the lock with these links is announced.
    #[inline]
    pub(crate) fn is_pending(self, links: &Links) -> bool {
        ptr::addr_eq(self.head().pending.load(Relaxed), links.as_entry())
    }

    /// Announces a lock: its word is about to be acquired or released, or is held. The kernel looks at it as at those in
    /// the list, and also wakes a waiter where it has no owner.
    #[inline]
    pub(crate) fn set_pending(self, links: &Links) {
        self.head().pending.store(links.as_entry(), Relaxed);
        compiler_fence(SeqCst);
    }

    /// Takes the announcement back.
    #[inline]
    pub(crate) fn clear_pending(self) {
        compiler_fence(SeqCst);
        self.head().pending.store(ptr::null_mut(), Relaxed);
    }

    /// Whether the slot names the node at this address.
    pub(super) fn names(self, links: *const Links) -> bool {
        let entry = links.cast::<()>().wrapping_byte_add(size_of::<usize>());
        !links.is_null() && ptr::addr_eq(self.head().pending.load(Relaxed), entry)
    }

    /// Links a held lock. Until then it is announced, since the kernel does not find it here yet.
    ///
    /// # Safety
    ///
    /// The thread holds the lock, which is in no list; it does not move, and its memory stays mapped until it is unlinked.
    pub(crate) unsafe fn link(self, links: &Links) {
        let head = self.head();
        let first = head.first.load(Relaxed);
        links.next.store(first, Relaxed);
        links.prev.store(self.0.as_ptr().cast(), Relaxed);
        // SAFETY: the head's first entry is the head itself or a node linked in this thread's list.
        unsafe { prev_field(first) }.store(links.as_entry(), Relaxed);
        // The node is whole before the kernel can find it.
        compiler_fence(SeqCst);
        head.first.store(links.as_entry(), Relaxed);
        compiler_fence(SeqCst);
    }

    /// Takes a lock out of the list. It must be announced, since the kernel does not find it here any more.
    ///
    /// # Safety
    ///
    /// The lock is linked in this thread's list.
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

    /// Whether no lock is linked, of this crate or of glibc.
    pub(super) fn is_empty(self) -> bool {
        ptr::addr_eq(self.head().first.load(Relaxed), self.0.as_ptr())
    }

    /// The list of the calling thread, which lies where it lies in other threads.
    ///
    /// # Safety
    ///
    /// `offset` is what [`offset_in_thread`](Self::offset_in_thread) gave for another thread of this program.
    pub(super) unsafe fn at_offset(offset: isize) -> Self {
        let address = (pthread_self() as isize).wrapping_add(offset) as usize;
        // SAFETY: by the caller's promise the `robust_head` of this thread's control block.
        RobustList(unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(address)) })
    }

    /// The calling thread's list as the kernel knows it, if there is one.
    pub(super) fn registered() -> Result<Option<Self>, String> {
        let mut head: *mut Head = ptr::null_mut();
        let mut length = 0usize;
        // SAFETY: both are places that get_robust_list(2) may write; 0 is the calling thread.
        let answer =
            unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length) };
        if answer != 0 {
            return Err(format!(
                "get_robust_list(2): {}",
                std::io::Error::last_os_error()
            ));
        }
        let Some(head) = NonNull::new(head) else {
            return Ok(None);
        };
        let list = RobustList(head);
        match list.head().futex_offset.load(Relaxed) {
            FUTEX_OFFSET => Ok(Some(list)),
            other => Err(format!(
                "its words lie at offset {other} and not at {FUTEX_OFFSET}"
            )),
        }
    }

    /// Where the head lies, seen from `pthread_self()`: the same for every thread, since it is a field of glibc's
    /// `struct pthread`.
    pub(super) fn offset_in_thread(self) -> isize {
        (self.0.as_ptr().addr() as isize).wrapping_sub(pthread_self() as isize)
    }

    /// Gives the calling thread the list that glibc made for it, emptied.
    ///
    /// A child of a bare `clone(2)` needs this: the kernel has no list for it, and the head in its memory is a copy of
    /// its parent's, with the parent's locks.
    ///
    /// # Safety
    ///
    /// `offset` is what [`offset_in_thread`](Self::offset_in_thread) gave for another thread of this program, and the
    /// kernel has no list for the calling thread.
    pub(super) unsafe fn register_anew(offset: isize) -> Self {
        // SAFETY: the caller's promise.
        let list = unsafe { Self::at_offset(offset) };
        let head = list.0.as_ptr();
        // SAFETY: by the caller's promise `head` is the `robust_head` of this thread's control block, with
        // `robust_prev` in front of it, and no other thread touches it.
        unsafe {
            (*head).pending.store(ptr::null_mut(), Relaxed);
            (*head).first.store(head.cast(), Relaxed);
            (*head).futex_offset.store(FUTEX_OFFSET, Relaxed);
            prev_field(head.cast()).store(head.cast(), Relaxed);
            let answer = libc::syscall(libc::SYS_set_robust_list, head, size_of::<Head>());
            assert_eq!(
                answer,
                0,
                "set_robust_list(2): {}",
                std::io::Error::last_os_error()
            );
        }
        list
    }
}

/// A list that the kernel does not know, for a thread without one.
#[repr(C)]
pub(super) struct OwnList {
    prev: AtomicPtr<()>,
    head: Head,
}

impl OwnList {
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

    /// The list. It lies in the calling thread's storage.
    #[cold]
    pub(super) fn list(&self) -> RobustList {
        let entry = ptr::from_ref(self)
            .cast_mut()
            .wrapping_byte_add(std::mem::offset_of!(OwnList, head))
            .cast::<()>();
        if self.head.first.load(Relaxed).is_null() {
            self.head.first.store(entry, Relaxed);
            self.prev.store(entry, Relaxed);
        }
        // SAFETY: an address inside `self` is not null.
        RobustList(unsafe { NonNull::new_unchecked(entry.cast()) })
    }
}

/// The robust list of one thread, and what this crate keeps about it. It lies in the thread's
/// storage.
pub(super) struct ThreadList {
    /// The list.
    list: Cell<RobustList>,
    has_list: Cell<bool>,
    /// The list, while held locks may stay in its slot; else one whose slot is never empty.
    pending_slot: Cell<RobustList>,
    /// The lock that this crate pending last, held or not. The slot alone is not believed: glibc leaves there what it no
    /// longer holds.
    last_pending: Cell<*const Links>,
    /// [`UNMAPPED_VALUES`] when what is pending was last looked at.
    unmapped_values: Cell<u64>,
    /// Stands in for the list of a thread that has none: its locks are then found by the safety net alone.
    orphan: OwnList,
}

impl ThreadList {
    pub(super) const fn new() -> Self {
        ThreadList {
            list: Cell::new(RobustList::ALWAYS_BUSY),
            has_list: Cell::new(false),
            pending_slot: Cell::new(RobustList::ALWAYS_BUSY),
            last_pending: Cell::new(ptr::null()),
            unmapped_values: Cell::new(0),
            orphan: OwnList::new(),
        }
    }

    /// Finds the list of the calling thread, for a new thread and after a fork.
    pub(super) fn init(&self) {
        let list = find_list();
        self.has_list.set(list.is_ok());
        let list = list.unwrap_or_else(|_| self.orphan.list());
        self.list.set(list);
        // A child has a copy of its parent's `list_op_pending`.
        self.clear_own_pending();
        self.last_pending.set(ptr::null());
        self.pending_slot.set(list);
    }

    /// Clears `list_op_pending` if it names the lock that this crate stored there last.
    pub(super) fn clear_own_pending(&self) {
        let list = self.list.get();
        if list.names(self.last_pending.get()) {
            list.clear_pending();
        }
    }

    /// Returns an error if the kernel knows no list of the calling thread.
    pub(super) fn check(&self) -> Result<(), RobustListUnusable> {
        if self.has_list.get() {
            return Ok(());
        }
        find_list().map(drop).map_err(RobustListUnusable)
    }

    /// The list.
    #[inline]
    pub(super) fn list(&self) -> RobustList {
        self.list.get()
    }

    /// The thread's robust list while held locks may stay in its slot; else one whose slot is never empty.
    #[inline]
    pub(super) fn pending_slot(&self) -> RobustList {
        self.pending_slot.get()
    }

    /// Announces a lock in the slot of the thread's list: its word is about to be acquired or released, or is held.
    #[inline]
    pub(super) fn set_list_op_pending(&self, list: RobustList, links: &Links) {
        let pending = &self.last_pending;
        // A store that changes nothing would cost more than the look: an atomic instruction waits for it.
        if !ptr::eq(pending.get(), links) {
            pending.set(links);
        }
        list.set_pending(links);
    }

    /// Takes the announcement of a lock back that turns out not to be placed: it may be moved, and something else lie there.
    pub(super) fn clear_list_op_pending(&self, links: &Links) {
        let pending = &self.last_pending;
        if ptr::eq(pending.get(), links) {
            pending.set(ptr::null());
        }
    }

    /// The links of the lock that this crate has pending, if the slot still names it.
    pub(super) fn list_op_pending(&self, owner: OwnerId) -> Option<&Links> {
        let links = self.last_pending.get();
        if !self.list().names(links) {
            return None;
        }
        let unmapped = UNMAPPED_VALUES.load(Acquire);
        if self.unmapped_values.get() != unmapped {
            // Where memory has been unmapped since, another lock may lie there, which glibc has left in the slot.
            if !is_recorded_before(links, owner) {
                self.last_pending.set(ptr::null());
                return None;
            }
            self.unmapped_values.set(unmapped);
        }
        // SAFETY: what is pending stays mapped: it is held, or an operation on it is under way, by the contract of
        // `Robust::init`. A lock whose memory is gone was taken out of the slot when it was released.
        Some(unsafe { &*links })
    }

    /// From here on, this thread's locks do not stay in the slot: something else empties it.
    pub(super) fn disable_fast_path(&self) {
        self.pending_slot.set(RobustList::ALWAYS_BUSY);
    }

    /// Forgets a lock in memory that is about to be unmapped: another one may lie at the same
    /// address later.
    pub(super) fn forget(&self, start: *const u8, length: usize) {
        UNMAPPED_VALUES.fetch_add(1, AcqRel);
        let offset = self.last_pending.get().addr().wrapping_sub(start.addr());
        if offset < length {
            self.last_pending.set(ptr::null());
        }
    }
}

/// Whether the lock with these links has this thread in its record. Where there is no lock any more, or no memory that may
/// be read, it has not.
fn is_recorded_before(links: *const Links, owner: OwnerId) -> bool {
    let record = links.cast::<u32>().wrapping_byte_sub(RECORD_BEFORE_LINKS);
    // In the order in which the two halves lie in memory.
    let bits = owner.to_bits();
    let mut halves = [bits as u32, (bits >> u32::BITS) as u32];
    if cfg!(target_endian = "big") {
        halves.reverse();
    }
    // Nobody but this thread writes itself into a record, so they may be compared one after the other.
    probe_u32(record, halves[0]) && probe_u32(record.wrapping_add(1), halves[1])
}

fn find_list() -> Result<RobustList, String> {
    let offset = HEAD_OFFSET.load(Relaxed);
    match RobustList::registered() {
        Ok(Some(list)) => {
            HEAD_OFFSET.store(list.offset_in_thread(), Relaxed);
            Ok(list)
        }
        Ok(None) if offset == 0 => Err("none is registered for this thread".into()),
        // SAFETY: the offset is another thread's of this program, and the kernel has just said that it has none.
        Ok(None) => Ok(unsafe { RobustList::register_anew(offset) }),
        Err(why) if offset == 0 => Err(why),
        // SAFETY: as above. The kernel does not answer any more, but glibc has registered the list of every thread.
        Err(_) => Ok(unsafe { RobustList::at_offset(offset) }),
    }
}

fn pthread_self() -> usize {
    // SAFETY: has no preconditions.
    unsafe { libc::pthread_self() as usize }
}

static_assertions::const_assert_eq!(size_of::<Links>(), 16);
static_assertions::const_assert_eq!(size_of::<Head>(), 24);
static_assertions::const_assert_eq!(core::mem::offset_of!(Links, next), 8);
