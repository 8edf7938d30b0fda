//! The thread's robust futex list, which glibc owns and this crate joins.
//!
//! A thread has one list. glibc registers its head with `set_robust_list(2)` when the thread
//! starts. At the end of the thread, at `exec` and at any kind of death, the kernel walks the list.
//! It marks every word on it that still names the thread (`handle_futex_death` in the kernel's
//! `kernel/futex/core.c`).
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

use super::error::RobustListUnusable;
use super::futex::probe_u32;
use super::owner::OwnerId;
use std::cell::Cell;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{
    AtomicIsize, AtomicPtr, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    compiler_fence,
};

/// The number of placed values that this process has unmapped.
static UNMAPPED_VALUES: AtomicU64 = AtomicU64::new(0);
/// The distance from the owner record ([`OwnerId`]) of a lock to its links, in bytes. The record
/// comes first.
pub(crate) const RECORD_BEFORE_LINKS: usize = 16;
/// The offset of the robust list's head from `pthread_self()`, glibc's thread descriptor; 0 while
/// unknown.
static HEAD_OFFSET: AtomicIsize = AtomicIsize::new(0);

/// The offset of a robust word from its node's `next`, as in 64-bit glibc's `pthread_mutex_t`.
const FUTEX_OFFSET: isize = -32;

/// The kernel's `struct robust_list_head`.
///
/// glibc keeps its `robust_prev` directly before it. So the head is a node like the others.
#[repr(C)]
pub(super) struct Head {
    first: AtomicPtr<()>,
    futex_offset: AtomicIsize,
    /// The kernel's `list_op_pending`.
    pending: AtomicPtr<()>,
}

impl Head {
    /// The offset of `list_op_pending`.
    pub(super) const PENDING: usize = std::mem::offset_of!(Head, pending);
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
    // and before the head (`robust_prev` in glibc's `struct pthread`).
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
        // SAFETY: the head is the static `ALWAYS_BUSY`, or lies in the thread's control block or
        // its thread-local storage. All of them live at least as long as the thread, and a
        // `RobustList` never leaves its thread.
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
    pub(super) fn link_pending_of_another_copy(self, tid: u32) {
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
    pub(super) fn is_pending_held_by(self, tid: u32) -> bool {
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
    pub(super) fn is_empty(self) -> bool {
        ptr::addr_eq(self.head().first.load(Relaxed), self.0.as_ptr())
    }

    /// Returns the list of the calling thread, whose head has the same offset as in other threads.
    ///
    /// # Safety
    ///
    /// [`offset_in_thread`](Self::offset_in_thread) must have returned `offset` for another thread
    /// of this process image.
    pub(super) unsafe fn at_offset(offset: isize) -> Self {
        let address = (pthread_self() as isize).wrapping_add(offset) as usize;
        // SAFETY: the caller guarantees that this is the address of `robust_head` in the control
        // block of this thread, which is not null.
        RobustList(unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(address)) })
    }

    /// Returns the calling thread's list as the kernel knows it, if there is one.
    ///
    /// # Errors
    ///
    /// Returns the reason if the kernel does not answer, or if the list has another layout.
    pub(super) fn registered() -> Result<Option<Self>, String> {
        let head = registered_head(0).map_err(|error| format!("get_robust_list(2): {error}"))?;
        let Some(head) = NonNull::new(head) else {
            return Ok(None);
        };
        let list = RobustList(head);
        match list.head().futex_offset.load(Relaxed) {
            FUTEX_OFFSET => Ok(Some(list)),
            other => Err(format!(
                "its lock words are at offset {other} instead of {FUTEX_OFFSET}"
            )),
        }
    }

    /// Returns the offset of the head from `pthread_self()`. It is the same for every thread,
    /// because the head is a field of glibc's `struct pthread`.
    pub(super) fn offset_in_thread(self) -> isize {
        (self.0.as_ptr().addr() as isize).wrapping_sub(pthread_self() as isize)
    }

    /// Empties the list that glibc made for the calling thread, and registers it.
    ///
    /// A child of a bare `clone(2)` needs this. The kernel has no list for it, and the head in its
    /// memory is a copy of that of its parent, with the parent's locks.
    ///
    /// # Safety
    ///
    /// [`offset_in_thread`](Self::offset_in_thread) must have returned `offset` for another thread
    /// of this process image. The kernel must have no list for the calling thread.
    pub(super) unsafe fn register_emptied(offset: isize) -> Self {
        // SAFETY: guaranteed by the caller.
        let list = unsafe { Self::at_offset(offset) };
        let head = list.0.as_ptr();
        // SAFETY: the caller guarantees that `head` is the `robust_head` in the control block of
        // this thread, with `robust_prev` directly before it. No other thread accesses it.
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
                io::Error::last_os_error()
            );
        }
        list
    }
}

/// Returns the head that is registered for a thread of this process, or null: `get_robust_list(2)`.
/// 0 is the calling thread.
pub(super) fn registered_head(tid: u32) -> io::Result<*mut Head> {
    let mut head = ptr::null_mut();
    let mut length = 0_usize;
    let (call, head_place) = (libc::SYS_get_robust_list, &raw mut head);
    // SAFETY: get_robust_list(2) may write both variables.
    match unsafe { libc::syscall(call, tid, head_place, &raw mut length) } {
        0 => Ok(head),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A list that the kernel does not know, for a thread without a registered list.
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

    /// Returns the list. `self` lies in the calling thread's storage.
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

/// The robust list of one thread, and the state that this crate keeps about it. It lies in the
/// thread's storage.
pub(super) struct ThreadList {
    /// The thread's robust list, or `orphan` if it has none.
    list: Cell<RobustList>,
    /// Whether the thread has a robust list.
    has_list: Cell<bool>,
    /// The list for the fast path: the thread's robust list while held locks may stay in
    /// `list_op_pending`; otherwise a dummy list whose `list_op_pending` is never empty.
    fast_path_list: Cell<RobustList>,
    /// The lock that this crate stored in `list_op_pending` last, held or not. The field alone is
    /// not sufficient: glibc leaves locks there that it no longer holds.
    last_pending: Cell<*const Links>,
    /// The value of [`UNMAPPED_VALUES`] when the pending lock was last checked.
    unmapped_values: Cell<u64>,
    /// Replaces the list of a thread that has none. Its locks are then found only by the liveness
    /// check.
    orphan: OwnList,
}

impl ThreadList {
    pub(super) const fn new() -> Self {
        ThreadList {
            list: Cell::new(RobustList::ALWAYS_BUSY),
            has_list: Cell::new(false),
            fast_path_list: Cell::new(RobustList::ALWAYS_BUSY),
            last_pending: Cell::new(ptr::null()),
            unmapped_values: Cell::new(0),
            orphan: OwnList::new(),
        }
    }

    /// Finds the list of the calling thread. Called for a new thread and after a fork.
    pub(super) fn init(&self) {
        let list = find_list();
        self.has_list.set(list.is_ok());
        let list = list.unwrap_or_else(|_| self.orphan.list());
        self.list.set(list);
        // A child has a copy of its parent's `list_op_pending`.
        self.clear_own_pending();
        self.last_pending.set(ptr::null());
        self.fast_path_list.set(list);
    }

    /// Clears `list_op_pending` if it names the lock that this crate stored there last.
    pub(super) fn clear_own_pending(&self) {
        let list = self.list.get();
        if list.names(self.last_pending.get()) {
            list.clear_pending();
        }
    }

    /// Returns an error if the calling thread has no robust list.
    pub(super) fn check(&self) -> Result<(), RobustListUnusable> {
        if self.has_list.get() {
            return Ok(());
        }
        find_list().map(drop).map_err(RobustListUnusable)
    }

    /// Returns the thread's robust list, or a list that the kernel does not know if it has none.
    #[inline]
    pub(super) fn list(&self) -> RobustList {
        self.list.get()
    }

    /// Returns the list for the fast path: the thread's robust list while held locks may stay in
    /// `list_op_pending`. After [`disable_fast_path`](Self::disable_fast_path) it is a dummy list
    /// whose `list_op_pending` is never empty, so the fast path fails.
    #[inline]
    pub(super) fn fast_path_list(&self) -> RobustList {
        self.fast_path_list.get()
    }

    /// Stores a lock in the `list_op_pending` of the thread's list: its word is about to be
    /// acquired or released, or is held.
    #[inline]
    pub(super) fn set_list_op_pending(&self, list: RobustList, links: &Links) {
        let pending = &self.last_pending;
        // An unconditional store would cost more than the comparison, because the next atomic
        // instruction waits for it.
        if !ptr::eq(pending.get(), links) {
            pending.set(links);
        }
        list.set_pending(links);
    }

    /// Forgets a lock that turns out not to be placed. It may be moved, and another object may then
    /// lie at its address.
    pub(super) fn forget_pending(&self, links: &Links) {
        let pending = &self.last_pending;
        if ptr::eq(pending.get(), links) {
            pending.set(ptr::null());
        }
    }

    /// Returns the links of the lock that this crate stored in `list_op_pending` last, if the field
    /// still names it.
    pub(super) fn list_op_pending(&self, owner: OwnerId) -> Option<&Links> {
        let links = self.last_pending.get();
        if !self.list().names(links) {
            return None;
        }
        let unmapped = UNMAPPED_VALUES.load(Acquire);
        if self.unmapped_values.get() != unmapped {
            // Memory has been unmapped since the last check. Another lock may now lie at this
            // address: one that glibc left in `list_op_pending`.
            let record = links.cast::<u32>().wrapping_byte_sub(RECORD_BEFORE_LINKS);
            if !is_recorded_at(record, owner) {
                self.last_pending.set(ptr::null());
                return None;
            }
            self.unmapped_values.set(unmapped);
        }
        // SAFETY: by the contract of `Robust::init`, the pending lock stays mapped: it is held, or
        // an operation on it is in progress. A lock whose memory is unmapped was removed from
        // `list_op_pending` when it was released.
        Some(unsafe { &*links })
    }

    /// Stops leaving held locks of this thread in `list_op_pending`, because other code clears the
    /// field.
    pub(super) fn disable_fast_path(&self) {
        self.fast_path_list.set(RobustList::ALWAYS_BUSY);
    }

    /// Forgets a lock in memory that is about to be unmapped. Another lock may later lie at the
    /// same address.
    pub(super) fn forget(&self, start: *const u8, length: usize) {
        UNMAPPED_VALUES.fetch_add(1, AcqRel);
        let offset = self.last_pending.get().addr().wrapping_sub(start.addr());
        if offset < length {
            self.last_pending.set(ptr::null());
        }
    }
}

/// Returns whether the record at this address names `owner`. Returns false if there is no record
/// any more, or if the memory cannot be read.
fn is_recorded_at(record: *const u32, owner: OwnerId) -> bool {
    // The two halves, in the order in which they lie in memory.
    let bits = owner.to_bits();
    let mut halves = [bits as u32, (bits >> u32::BITS) as u32];
    if cfg!(target_endian = "big") {
        halves.reverse();
    }
    // Only that thread writes its own id to a record, so the halves can be compared one after the
    // other.
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
        // SAFETY: the offset is that of another thread of this process image, and the kernel has
        // just reported that the calling thread has no list.
        Ok(None) => Ok(unsafe { RobustList::register_emptied(offset) }),
        Err(why) if offset == 0 => Err(why),
        // SAFETY: as above. The kernel does not answer any more, but glibc has registered the list
        // of every thread.
        Err(_) => Ok(unsafe { RobustList::at_offset(offset) }),
    }
}

fn pthread_self() -> usize {
    // SAFETY: pthread_self(3) has no preconditions.
    unsafe { libc::pthread_self() as usize }
}

static_assertions::const_assert_eq!(size_of::<Links>(), 16);
static_assertions::const_assert_eq!(size_of::<Head>(), 24);
static_assertions::const_assert_eq!(core::mem::offset_of!(Links, next), 8);
