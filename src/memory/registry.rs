//! The values that are placed in this process, so that a fork can ask whether any lock of theirs is in use.
//!
//! A list that only grows, of entries that are used again. Without a lock: one that another thread holds during a `fork` would
//! stay held in the child.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

const VACANT: u32 = 0;
const CLAIMED: u32 = 1;
const LIVE: u32 = 2;

static FIRST: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

/// Whether a thread of this process, one that has ended perhaps, has a lock inside the value in its hands. The value is the
/// one that was registered, given as its address and its number of elements.
pub(super) type Look = unsafe fn(*const (), usize) -> bool;

/// The entry of a value.
#[derive(Debug)]
pub(super) struct Entry {
    state: AtomicU32,
    value: AtomicPtr<()>,
    count: AtomicUsize,
    look: AtomicPtr<()>,
    next: *const Entry,
}

// SAFETY: `next` is written before the entry is seen by others, and points at entries that live for ever.
unsafe impl Sync for Entry {}
// SAFETY: as above.
unsafe impl Send for Entry {}

/// Registers a value, until [`Entry::vacate`].
///
/// # Safety
///
/// Until then, `look` may be called with `value` and `count`.
pub(super) unsafe fn register(value: *const (), count: usize, look: Look) -> &'static Entry {
    let entry = vacant().unwrap_or_else(append);
    entry.value.store(value.cast_mut(), Ordering::Relaxed);
    entry.count.store(count, Ordering::Relaxed);
    entry.look.store(look as *mut (), Ordering::Relaxed);
    // The pair of the acquire in `any_lock_in_use`.
    entry.state.store(LIVE, Ordering::Release);
    entry
}

impl Entry {
    /// Takes the value out.
    pub(super) fn vacate(&self) {
        self.state.store(VACANT, Ordering::Release);
    }
}

/// Whether any lock in any value of this process is in use by a thread of it, or was when that thread ended.
///
/// # Safety
///
/// The process has no other thread, which could take a value out meanwhile.
pub(crate) unsafe fn any_lock_in_use() -> bool {
    entries().any(|entry| {
        entry.state.load(Ordering::Acquire) == LIVE && {
            let value = entry.value.load(Ordering::Relaxed);
            let count = entry.count.load(Ordering::Relaxed);
            // SAFETY: a live entry's `look` is what `register` stored.
            let look: Look = unsafe { std::mem::transmute(entry.look.load(Ordering::Relaxed)) };
            // SAFETY: by the contract of `register`, as the entry is live and nobody else could change that.
            unsafe { look(value, count) }
        }
    })
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    // SAFETY: entries are leaked when they are made.
    let first = unsafe { FIRST.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |entry| unsafe { entry.next.as_ref() })
}

fn vacant() -> Option<&'static Entry> {
    entries().find(|entry| {
        entry
            .state
            .compare_exchange(VACANT, CLAIMED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    })
}

fn append() -> &'static Entry {
    let entry = Box::leak(Box::new(Entry {
        state: AtomicU32::new(CLAIMED),
        value: AtomicPtr::new(ptr::null_mut()),
        count: AtomicUsize::new(0),
        look: AtomicPtr::new(ptr::null_mut()),
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
