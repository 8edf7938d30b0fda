//! The registry of the values placed in this process. A fork uses it to check whether any lock in
//! them is in use.
//!
//! The registry is a list that only grows, and reuses its entries. It has no lock: a lock
//! that another thread holds during a `fork` would stay held in the child.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const LIVE: u32 = 2;

static FIRST: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

/// Returns whether this process may still use the data of a lock inside the value.
///
/// The arguments are the address and the number of elements of a registered value.
pub(super) type HasLocksInUse = unsafe fn(*const (), usize) -> bool;

/// The entry of a value.
#[derive(Debug)]
pub(super) struct Entry {
    state: AtomicU32,
    value: AtomicPtr<()>,
    count: AtomicUsize,
    has_locks_in_use: AtomicPtr<()>,
    next: *const Entry,
}

// SAFETY: `next` is written before any other thread sees the entry, and points to an entry that is
// never freed.
unsafe impl Sync for Entry {}
// SAFETY: as above.
unsafe impl Send for Entry {}

/// Registers a value, until [`Entry::unregister`].
///
/// # Safety
///
/// Until [`Entry::unregister`], it must be sound to call `has_locks_in_use` with `value` and
/// `count`.
pub(super) unsafe fn register(
    value: *const (),
    count: usize,
    has_locks_in_use: HasLocksInUse,
) -> &'static Entry {
    let entry = claim_free().unwrap_or_else(append);
    entry.value.store(value.cast_mut(), Ordering::Relaxed);
    entry.count.store(count, Ordering::Relaxed);
    entry
        .has_locks_in_use
        .store(has_locks_in_use as *mut (), Ordering::Relaxed);
    // Pairs with the acquire in `any_lock_in_use`.
    entry.state.store(LIVE, Ordering::Release);
    entry
}

impl Entry {
    /// Removes the value from the registry.
    pub(super) fn unregister(&self) {
        self.state.store(FREE, Ordering::Release);
    }
}

/// Returns whether this process may still use the data of any lock in any value.
///
/// # Safety
///
/// The process must have no other thread, which could remove a value meanwhile.
pub(crate) unsafe fn any_lock_in_use() -> bool {
    entries().any(|entry| {
        entry.state.load(Ordering::Acquire) == LIVE && {
            let value = entry.value.load(Ordering::Relaxed);
            let count = entry.count.load(Ordering::Relaxed);
            // SAFETY: the `has_locks_in_use` of a live entry is the function that `register`
            // stored.
            let has_locks_in_use: HasLocksInUse =
                unsafe { std::mem::transmute(entry.has_locks_in_use.load(Ordering::Relaxed)) };
            // SAFETY: the entry is live and no other thread could change that, so the contract of
            // `register` allows the call.
            unsafe { has_locks_in_use(value, count) }
        }
    })
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    // SAFETY: entries are leaked when they are made.
    let first = unsafe { FIRST.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |entry| unsafe { entry.next.as_ref() })
}

fn claim_free() -> Option<&'static Entry> {
    entries().find(|entry| {
        entry
            .state
            .compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    })
}

fn append() -> &'static Entry {
    let entry = Box::leak(Box::new(Entry {
        state: AtomicU32::new(CLAIMED),
        value: AtomicPtr::new(ptr::null_mut()),
        count: AtomicUsize::new(0),
        has_locks_in_use: AtomicPtr::new(ptr::null_mut()),
        next: FIRST.load(Ordering::Relaxed),
    }));
    loop {
        let next = entry.next.cast_mut();
        match FIRST.compare_exchange(next, entry, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return entry,
            Err(newer) => entry.next = newer,
        }
    }
}
