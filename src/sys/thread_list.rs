//! Whether the robust list of any thread of the process names an address.
//!
//! Memory must stay mapped while the kernel may write to it: while the list of a thread, or its
//! `list_op_pending`, names a lock there. A thread changes its list at any time, so the list of
//! another thread is read through the kernel, which reports memory that is gone.
//!
//! The caller asks about memory in which no thread acquires or releases a lock any more. So a lock
//! there that a thread holds stays in the list of that thread, or moves from `list_op_pending` to
//! the list. Other locks come and go. Three facts make the answer right:
//!
//! - A lock is linked before `list_op_pending` changes. So `list_op_pending` is read first.
//! - A lock is linked at the start of a list. If a lock that was just read moves during the walk,
//!   the walk continues at the start of this list, before the lock in question, or in the list of
//!   another thread.
//! - Only a walk that comes to the head of this list has an answer. A walk into another list does
//!   not come there.

use super::process::thread_exists;
use super::robust_list::{Head, HeadOf, head_of_thread};
use std::ops::Range;

/// How often a walk that another thread disturbed is repeated.
const ATTEMPTS: usize = 10;

/// Returns whether the robust list of the thread `tid` of this process, or its `list_op_pending`,
/// names an address in `range`. Returns `None` if this is not known: a call is denied, other
/// threads changed the list all the time, or the thread has a list that only it knows.
pub(crate) fn robust_list_names(tid: u32, range: Range<usize>) -> Option<bool> {
    (0..ATTEMPTS).find_map(|_| walk(tid, &range))
}

fn walk(tid: u32, range: &Range<usize>) -> Option<bool> {
    if !thread_exists(std::process::id(), tid) {
        // The kernel has processed the list of a thread that has ended. The id may already belong
        // to a thread of another process.
        return Some(false);
    }
    let head = match head_of_thread(tid) {
        HeadOf::At(head) => head,
        HeadOf::NoList => return Some(false),
        HeadOf::Unknown => return None,
    };
    let is_named = |entry: usize| range.contains(&(entry & !1));
    if is_named(read_word(head + Head::PENDING)?) {
        return Some(true);
    }
    // A walk that has left the list may go round in another one. So each entry is compared with an
    // earlier one, which is replaced after 1, 2, 4 and so on steps (Brent's algorithm).
    let (mut entry, mut earlier) = (read_word(head)?, head);
    let (mut steps, mut limit) = (0_u64, 1);
    loop {
        if entry & !1 == head {
            return Some(false);
        }
        if is_named(entry) {
            return Some(true);
        }
        if entry == earlier {
            return None;
        }
        steps += 1;
        if steps == limit {
            (earlier, steps, limit) = (entry, 0, limit * 2);
        }
        // An unlinked lock of this crate has the link 0.
        entry = read_word(entry & !1)?;
    }
}

/// Reads a word of this process's memory, if it is mapped: `process_vm_readv(2)`.
fn read_word(address: usize) -> Option<usize> {
    let mut word = 0_usize;
    let to = libc::iovec {
        iov_base: (&raw mut word).cast(),
        iov_len: size_of::<usize>(),
    };
    let from = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(address),
        iov_len: size_of::<usize>(),
    };
    let process = std::process::id() as libc::pid_t;
    // SAFETY: `to` is one word that may be written. The kernel checks the address that it reads.
    let read = unsafe { libc::process_vm_readv(process, &raw const to, 1, &raw const from, 1, 0) };
    (read == size_of::<usize>() as isize).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_only_if_it_is_mapped() {
        let word = 0x1234_usize;
        assert_eq!(read_word((&raw const word).addr()), Some(0x1234));
        assert_eq!(read_word(8), None);
    }

    #[test]
    fn the_list_of_a_thread_without_locks_names_nothing() {
        // SAFETY: gettid(2) has no preconditions.
        let own = unsafe { libc::gettid() } as u32;
        let anything = 1..usize::MAX / 2;
        assert_eq!(robust_list_names(own, anything.clone()), Some(false));
        assert_eq!(robust_list_names(u32::MAX >> 1, anything), Some(false));
    }
}
