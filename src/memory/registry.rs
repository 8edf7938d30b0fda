//! The registry of the values placed in this process. A fork uses it to check whether any lock in
//! them is in use. It also keeps the maps that could not be unmapped when their values were
//! dropped.
//!
//! The registry is a list that only grows, and reuses its entries. It has no lock: a lock
//! that another thread holds during a `fork` would stay held in the child.
//!
//! | state of an entry | meaning |
//! |---|---|
//! | `FREE` | not in use |
//! | `CLAIMED` | one thread, which changed the state to this, has exclusive access |
//! | `LIVE` | a `Shared` has the value |
//! | `KEPT` | the `Shared` was dropped; a thread of this process may still hold a lock in the map |

use crate::memory::{Map, Primitive};
use crate::sys;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const LIVE: u32 = 2;
const KEPT: u32 = 3;

static FIRST: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());
/// The number of entries in the state `KEPT`.
static KEPT_MAPS: AtomicUsize = AtomicUsize::new(0);

/// Calls a function for each primitive in a value. The other arguments are the address and the
/// number of elements of a registered value.
pub(super) type VisitPrimitives = unsafe fn(*const (), usize, &mut dyn FnMut(&dyn Primitive));

/// The entry of a value.
#[derive(Debug)]
pub(super) struct Entry {
    state: AtomicU32,
    value: AtomicPtr<()>,
    count: AtomicUsize,
    visit: AtomicPtr<()>,
    /// The boxed map, if the state is `KEPT`.
    map: AtomicPtr<Map>,
    next: *const Entry,
}

// SAFETY: `next` is written before any other thread sees the entry, and points to an entry that is
// never freed.
unsafe impl Sync for Entry {}
// SAFETY: as above.
unsafe impl Send for Entry {}

/// Registers a value, until [`Entry::unmap_or_keep`].
///
/// # Safety
///
/// Until the map of the value is unmapped, it must be sound to call `visit` with `value` and
/// `count`.
pub(super) unsafe fn register(
    value: *const (),
    count: usize,
    visit: VisitPrimitives,
) -> &'static Entry {
    retry_kept();
    let entry = entries()
        .find(|entry| entry.claim(FREE))
        .unwrap_or_else(append);
    entry.value.store(value.cast_mut(), Ordering::Relaxed);
    entry.count.store(count, Ordering::Relaxed);
    entry.visit.store(visit as *mut (), Ordering::Relaxed);
    // Pairs with the acquire of each thread that reads or changes the state.
    entry.state.store(LIVE, Ordering::Release);
    entry
}

impl Entry {
    /// Unmaps the map of a registered value whose `Shared` is being dropped, or keeps the map until
    /// the kernel no longer accesses it. Then also retries the maps that were kept before.
    ///
    /// # Safety
    ///
    /// No thread of this process may use the value any more, except that it may hold a lock inside
    /// through a guard that was leaked.
    pub(super) unsafe fn unmap_or_keep(&self, map: Map) {
        self.state.store(CLAIMED, Ordering::Relaxed);
        // SAFETY: guaranteed by the caller; this thread has claimed the entry.
        unsafe { self.finish(map) };
        retry_kept();
    }

    /// Unmaps or keeps the map.
    ///
    /// # Safety
    ///
    /// As for [`unmap_or_keep`](Self::unmap_or_keep), and the caller has claimed the entry.
    unsafe fn finish(&self, map: Map) {
        // If the check panics, the map stays.
        let map = ManuallyDrop::new(map);
        // SAFETY: the value is registered and still mapped.
        let is_named = unsafe { self.is_named_by_a_thread(&map) };
        let map = ManuallyDrop::into_inner(map);
        if is_named {
            self.map
                .store(Box::into_raw(Box::new(map)), Ordering::Relaxed);
            KEPT_MAPS.fetch_add(1, Ordering::Relaxed);
            self.state.store(KEPT, Ordering::Release);
        } else {
            sys::forget_list_op_pending(map.as_ptr(), map.len());
            drop(map);
            self.state.store(FREE, Ordering::Release);
        }
    }

    /// Returns whether a thread of this process holds a lock in the map so that the kernel may
    /// write to it when the thread ends, or if this is not known.
    ///
    /// A lock can also be held through another map of the same file. The robust list of its thread
    /// then names an address in that map.
    ///
    /// # Safety
    ///
    /// The value must be registered and mapped, and the caller must have claimed the entry.
    unsafe fn is_named_by_a_thread(&self, map: &Map) -> bool {
        let start = map.as_ptr().addr();
        let (mut threads, mut is_unknown) = (Vec::new(), false);
        // SAFETY: guaranteed by the caller.
        unsafe {
            self.visit(&mut |primitive| {
                let mut has_owner = false;
                primitive.owners_in_this_process(&mut |thread| {
                    has_owner = true;
                    if !threads.contains(&thread) {
                        threads.push(thread);
                    }
                });
                is_unknown |= !has_owner && primitive.is_held_by_this_process();
            });
        }
        is_unknown
            || threads.into_iter().any(|thread| {
                sys::robust_list_names(thread, start..start + map.len()) != Some(false)
            })
    }

    /// Calls `each` for each primitive in the value.
    ///
    /// # Safety
    ///
    /// The value must be registered and mapped.
    unsafe fn visit(&self, each: &mut dyn FnMut(&dyn Primitive)) {
        let value = self.value.load(Ordering::Relaxed);
        let count = self.count.load(Ordering::Relaxed);
        // SAFETY: the `visit` of a registered value is the function that `register` stored.
        let visit: VisitPrimitives =
            unsafe { std::mem::transmute(self.visit.load(Ordering::Relaxed)) };
        // SAFETY: guaranteed by the caller and by the contract of `register`.
        unsafe { visit(value, count, each) };
    }

    /// Claims the entry if it has this state.
    fn claim(&self, state: u32) -> bool {
        self.state
            .compare_exchange(state, CLAIMED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

/// Unmaps the kept maps that the kernel no longer accesses.
fn retry_kept() {
    if KEPT_MAPS.load(Ordering::Relaxed) == 0 {
        return;
    }
    for entry in entries().filter(|entry| entry.claim(KEPT)) {
        KEPT_MAPS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the state was `KEPT`, so the pointer is that of a boxed map. This thread has
        // claimed the entry, so it alone takes the map.
        let map = unsafe { Box::from_raw(entry.map.load(Ordering::Relaxed)) };
        // SAFETY: the `Shared` of the value was dropped, so no thread uses the value.
        unsafe { entry.finish(*map) };
    }
}

/// Returns whether this process may still use the data of any lock in any value.
///
/// # Safety
///
/// The process must have no other thread, which could remove a value meanwhile.
pub(crate) unsafe fn any_lock_in_use() -> bool {
    let mut is_used = false;
    for entry in entries().filter(|entry| entry.state.load(Ordering::Acquire) == LIVE) {
        // SAFETY: the entry is live, and no other thread could change that.
        unsafe {
            entry.visit(&mut |primitive| {
                is_used |= primitive.is_held_by_this_process();
                primitive.owners_in_this_process(&mut |_| is_used = true);
            });
        }
    }
    is_used
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    // SAFETY: entries are leaked when they are made.
    let first = unsafe { FIRST.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |entry| unsafe { entry.next.as_ref() })
}

fn append() -> &'static Entry {
    let entry = Box::leak(Box::new(Entry {
        state: AtomicU32::new(CLAIMED),
        value: AtomicPtr::new(ptr::null_mut()),
        count: AtomicUsize::new(0),
        visit: AtomicPtr::new(ptr::null_mut()),
        map: AtomicPtr::new(ptr::null_mut()),
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
