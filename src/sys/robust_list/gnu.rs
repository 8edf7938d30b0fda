//! The robust list of a thread under glibc, which this crate joins.
//!
//! glibc registers a list when the thread starts. Its head is a field of glibc's thread descriptor,
//! and glibc's own robust mutexes are in the list too.

use super::list::{FUTEX_OFFSET, Head, HeadOf, RobustList};
use super::registration::{Found, own_registered_head, register, registered_head};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

/// What an error about a thread without a usable list advises.
pub(super) const REMEDY: &str = "pshared needs the list that 64-bit glibc registers for every thread: run under glibc 2.30 or later on Linux 5.10 or later, without a filter on get_robust_list(2)";

/// The offset of the robust list's head from `pthread_self()`, glibc's thread descriptor; 0 while
/// unknown.
static HEAD_OFFSET: AtomicIsize = AtomicIsize::new(0);

/// Finds the list of the calling thread.
pub(super) fn find_list(_: u32) -> Found {
    match find() {
        Ok(list) => Found {
            list: Some(list),
            usable: Ok(()),
        },
        Err(why) => Found {
            list: None,
            usable: Err(why),
        },
    }
}

/// Returns an error if the calling thread has no list: if there was none before, and there is none
/// now.
pub(super) fn check_list(_: RobustList, was_usable: bool) -> Result<(), String> {
    match was_usable {
        true => Ok(()),
        false => find().map(drop),
    }
}

/// Returns where the head of the list of a thread of this process lies. If none is registered, the
/// thread links its locks into a list that only it knows.
pub(in crate::sys) fn head_of_thread(tid: u32) -> HeadOf {
    match registered_head(tid) {
        Ok(head) if !head.is_null() => HeadOf::At(head.addr()),
        _ => HeadOf::Unknown,
    }
}

/// Returns whether the calling thread holds a lock in another list than its own. It has only one.
pub(in crate::sys) fn other_list_has_locks(_: RobustList) -> bool {
    false
}

fn find() -> Result<RobustList, String> {
    let offset = HEAD_OFFSET.load(Relaxed);
    match registered() {
        Ok(Some(list)) => {
            HEAD_OFFSET.store(offset_in_thread(list), Relaxed);
            Ok(list)
        }
        Ok(None) if offset == 0 => Err("none is registered for this thread".into()),
        // SAFETY: the offset is that of another thread of this process image, and the kernel has
        // just reported that the calling thread has no list.
        Ok(None) => Ok(unsafe { register_emptied(offset) }),
        Err(why) if offset == 0 => Err(why),
        // SAFETY: as above. The kernel does not answer any more, but glibc has registered the list
        // of every thread. So this is its head, with `robust_prev` directly before it.
        Err(_) => Ok(unsafe { RobustList::of_head(head_at_offset(offset)) }),
    }
}

/// Returns the calling thread's list as the kernel knows it, if there is one.
///
/// # Errors
///
/// Returns the reason if the kernel does not answer, or if the list has another layout.
fn registered() -> Result<Option<RobustList>, String> {
    let Some(head) = NonNull::new(own_registered_head()?) else {
        return Ok(None);
    };
    // SAFETY: the head is that of the calling thread, and its control block lives as long as the
    // thread. If its layout is another one, only its offset is read.
    let list = unsafe { RobustList::of_head(head) };
    match list.futex_offset() {
        FUTEX_OFFSET => Ok(Some(list)),
        other => Err(format!(
            "its lock words are at offset {other} instead of {FUTEX_OFFSET}"
        )),
    }
}

/// Empties the list that glibc made for the calling thread, and registers it.
///
/// A child of a bare `clone(2)` needs this. The kernel has no list for it, and the head in its
/// memory is a copy of that of its parent, with the parent's locks.
///
/// # Safety
///
/// [`offset_in_thread`] must have returned `offset` for another thread of this process image. The
/// kernel must have no list for the calling thread.
unsafe fn register_emptied(offset: isize) -> RobustList {
    // SAFETY: the caller guarantees that the head is the `robust_head` in the control block of this
    // thread, with `robust_prev` directly before it. No other thread accesses it.
    let list = unsafe { RobustList::emptied(head_at_offset(offset)) };
    register(list).unwrap_or_else(|why| panic!("{why}"));
    list
}

/// Returns the head of the calling thread's list, which has the same offset as in other threads.
///
/// # Safety
///
/// [`offset_in_thread`] must have returned `offset` for another thread of this process image.
unsafe fn head_at_offset(offset: isize) -> NonNull<Head> {
    let address = (pthread_self() as isize).wrapping_add(offset) as usize;
    // SAFETY: the caller guarantees that this is the address of `robust_head` in the control block
    // of this thread, which is not null.
    unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(address)) }
}

/// Returns the offset of the head from `pthread_self()`. It is the same for every thread, because
/// the head is a field of glibc's `struct pthread`.
fn offset_in_thread(list: RobustList) -> isize {
    (list.as_head().addr().get() as isize).wrapping_sub(pthread_self() as isize)
}

fn pthread_self() -> usize {
    // SAFETY: pthread_self(3) has no preconditions.
    unsafe { libc::pthread_self() as usize }
}
