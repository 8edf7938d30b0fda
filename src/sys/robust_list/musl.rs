//! The robust list of a thread under musl, which this crate makes and registers.
//!
//! musl registers a list of its own when a thread first locks a process-shared `pthread_mutex_t`
//! that is robust, recursive or error-checking; the thread's descriptor holds its head. This crate
//! cannot join that list:
//!
//! - musl's `futex_offset` is -28, and that of this crate's locks is -32.
//! - No `prev` lies before musl's head. To link a first node there would overwrite another field.
//! - When a thread ends, musl itself empties its list before the kernel sees it. It takes each node
//!   for a `pthread_mutex_t`, stores `FUTEX_OWNER_DIED` without `FUTEX_WAITERS`, and wakes one
//!   waiter. The other waiters of a lock of this crate would sleep on until their recheck timers
//!   end (`tests/model/rejected.rs`).
//!
//! So a thread registers a list from the [`pool`](super::pool) when it first uses this crate. musl
//! does not know the list, reads no node of it, and writes no word in it. Only the kernel marks the
//! words, as under glibc, and it keeps the waiters bit. The lists lie in memory that outlives the
//! threads, because a detached thread unmaps its own memory before it exits.
//!
//! A thread has one registered list. What happens if it uses both kinds:
//!
//! - If musl's list is registered first, it stays registered: the mutexes in it have no other way
//!   to report a death. The thread's locks of this crate work, but the kernel does not mark them.
//!   The liveness check finds their owner's death within a second, by the record. If the thread is
//!   killed in the few instructions between the change of a word and that of its record, the lock
//!   stays held for ever. In this thread, placing or opening a robust primitive returns an error.
//! - If musl registers its list later, it replaces this one without a notice. The same then holds
//!   for the thread's locks from that point on.
//!
//! So a thread should use one kind only. musl's other mutexes, its semaphores and its conditions
//! register nothing.
//!
//! The same holds for a thread that may not ask for its list (`get_robust_list(2)` is denied),
//! because musl's could be registered.
//!
//! A child of a fork has no registered list, and its pool is empty: it registers a new list.

use super::list::{FUTEX_OFFSET, Head, HeadOf, RobustList};
use super::pool::{self, MAGIC, MAGIC_BEFORE_HEAD};
use super::registration::{Found, own_registered_head, register};
use crate::sys::futex::probe_u64;
use std::ptr::NonNull;

/// What an error about a thread without a usable list advises.
pub(super) const REMEDY: &str = "Under musl, pshared registers a list for each thread that uses it: place and open values in a thread that locks no process-shared pthread_mutex_t of the robust, recursive or error-checking type, on Linux 5.10 or later, without a filter on get_robust_list(2) and set_robust_list(2)";

/// Finds the list of the calling thread, and registers it if the kernel has none for the thread.
pub(super) fn find_list(tid: u32) -> Found {
    let entry = match pool::claim(tid) {
        Ok(entry) => entry,
        Err(why) => {
            return Found {
                list: None,
                usable: Err(why),
            };
        }
    };
    match registered() {
        Ok(Some(of_another_copy)) => {
            entry.replace_list(of_another_copy);
            Found {
                list: Some(of_another_copy),
                usable: Ok(()),
            }
        }
        Ok(None) => Found {
            list: Some(entry.list()),
            usable: register(entry.list()),
        },
        Err(why) => Found {
            list: Some(entry.list()),
            usable: Err(why),
        },
    }
}

/// Returns an error if the kernel does not have `list` for the calling thread: musl has registered
/// its own. A list that was unregistered is registered again.
pub(super) fn check_list(list: RobustList, _: bool) -> Result<(), String> {
    match registered()? {
        Some(found) if found.as_head() == list.as_head() => Ok(()),
        Some(_) => Err("another copy of pshared has registered one".into()),
        None if pool::is_in_pool(list) => register(list),
        None => Err("none is registered for this thread".into()),
    }
}

/// Returns where the head of the list of a thread of this process lies. The kernel may not know
/// the list any more.
pub(in crate::sys) fn head_of_thread(tid: u32) -> HeadOf {
    pool::head_of_thread(tid)
}

/// Returns whether the calling thread holds a lock in the list that musl has registered for it: a
/// `pthread_mutex_t`.
pub(in crate::sys) fn other_list_has_locks(own: RobustList) -> bool {
    let Ok(Some(head)) = own_registered_head().map(NonNull::new) else {
        return false;
    };
    // The head of an empty list points to itself.
    head != own.as_head() && !probe_u64(head.as_ptr().cast(), head.addr().get() as u64)
}

/// Returns the calling thread's list as the kernel knows it, if it is one of this crate, or of
/// another copy of it in the program.
///
/// # Errors
///
/// Returns the reason if the kernel does not answer, or if the list is not one of this crate.
fn registered() -> Result<Option<RobustList>, String> {
    let Some(head) = NonNull::new(own_registered_head()?) else {
        return Ok(None);
    };
    if !is_of_this_crate(head) {
        return Err("this thread's list is another one, as musl registers for a process-shared pthread_mutex_t of the robust, recursive or error-checking type".into());
    }
    // SAFETY: the magic number shows that the head is an entry of a pool of this crate. Such an
    // entry has a `prev` before its head, and is not unmapped. The thread registered it, so no
    // other thread has claimed it.
    let list = unsafe { RobustList::of_head(head) };
    match list.futex_offset() {
        FUTEX_OFFSET => Ok(Some(list)),
        other => Err(format!(
            "its lock words are at offset {other} instead of {FUTEX_OFFSET}"
        )),
    }
}

/// Returns whether the magic number of a pool lies before the head. A list of other code may have
/// been unmapped, so the kernel reads the memory.
fn is_of_this_crate(head: NonNull<Head>) -> bool {
    let magic = head.as_ptr().cast::<u64>();
    probe_u64(magic.wrapping_byte_sub(MAGIC_BEFORE_HEAD), MAGIC)
}
