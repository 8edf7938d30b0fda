//! The robust lists of the threads of this process, in memory that outlives the threads.
//!
//! A thread claims an entry when it first uses this crate, and never gives it back itself: the
//! kernel reads the list after the last instruction of the thread. A later thread claims the entry
//! again once the kernel reports that the earlier one does not exist any more. The kernel walks the
//! list of a thread before it removes the id of the thread.
//!
//! **Bounds.** A claim earns four checks of whether a thread exists, and a search may use all the
//! checks that were earned before. Only if these are used up, or no entry is left, does the pool
//! grow. So a claim costs at most four checks on average. The pool stops growing when it has a
//! third more entries than the process has threads at the same time, rounded up to its next size.
//!
//! The kernel wipes the pool in every child (`MADV_WIPEONFORK`), where the threads of the parent do
//! not exist. A wiped entry is free.

use super::list::{Head, HeadOf, OwnList, RobustList};
use crate::sys::process::thread_exists;
use crate::sys::wipe_on_fork;
use std::ptr::{self, NonNull};
use std::sync::atomic::{
    AtomicBool, AtomicIsize, AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Identifies a head as that of a pool. It lies [`MAGIC_BEFORE_HEAD`] bytes before the head.
pub(super) const MAGIC: u64 = u64::from_ne_bytes(*b"pshared\x01");
/// The distance from the magic number to the head, in bytes.
pub(super) const MAGIC_BEFORE_HEAD: usize = 16;

/// How many entries the first block has. Each further block has twice as many as the one before.
const FIRST_BLOCK: usize = 64;
/// Enough for all thread ids that the kernel can assign: 2^22.
const BLOCKS: usize = 17;
/// How many checks of a thread a claim earns.
const CHECKS_PER_CLAIM: isize = 4;
/// The bits of a thread id in [`Entry::owner`].
const TID_BITS: u32 = 22;
const TID: u64 = (1 << TID_BITS) - 1;

/// The blocks of the pool: arrays of entries, mapped in this order and never unmapped.
static POOL: [AtomicPtr<Entry>; BLOCKS] = [const { AtomicPtr::new(ptr::null_mut()) }; BLOCKS];
/// The number of the entry that the next search checks first, modulo the number of entries.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// How many checks are earned and not used.
static CHECKS: AtomicIsize = AtomicIsize::new(0);
/// The number of claims so far.
static CLAIMS: AtomicU64 = AtomicU64::new(0);
/// Whether a thread found no memory for a list, so that the pool does not know its list.
static LACKED_MEMORY: AtomicBool = AtomicBool::new(false);

/// The list of one thread. Zero bytes are a free entry.
///
/// An entry has a cache line of its own: its thread writes `list_op_pending` for each lock.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Entry {
    /// The thread id in the lower [`TID_BITS`] bits, and the number of the claim above, so that no
    /// two claims store the same value. 0 if the entry is free.
    owner: AtomicU64,
    /// The head of the list in which the thread links its locks: `own`, or the list of another
    /// copy of this crate. Null until the list is empty and ready.
    head: AtomicPtr<Head>,
    magic: AtomicU64,
    own: OwnList,
}

static_assertions::const_assert_eq!(size_of::<Entry>(), 64);
static_assertions::const_assert_eq!(
    std::mem::offset_of!(Entry, own) + OwnList::HEAD - std::mem::offset_of!(Entry, magic),
    MAGIC_BEFORE_HEAD
);

impl Entry {
    /// Returns the list of the entry. Only the thread that claimed it may use the list.
    pub(super) fn list(&self) -> RobustList {
        // SAFETY: `prev` lies directly before the head, and entries are never unmapped. The list is
        // used by the thread that claimed the entry only.
        unsafe { RobustList::of_head(self.own.head()) }
    }

    /// Records that the thread links its locks into another list.
    pub(super) fn replace_list(&self, list: RobustList) {
        self.head.store(list.as_head().as_ptr(), Release);
    }

    /// Claims the entry for the calling thread, if it is free or its thread does not exist any
    /// more. Empties its list.
    fn claim(&self, tid: u32, claim: u64) -> bool {
        let owner = self.owner.load(Relaxed);
        let earlier = (owner & TID) as u32;
        // A thread with the id of the calling one has ended, or is interrupted by it and has not
        // used the list yet.
        if owner != 0 && earlier != tid {
            CHECKS.fetch_sub(1, Relaxed);
            if thread_exists(std::process::id(), earlier) {
                return false;
            }
        }
        // Acquire: what an earlier owner did happens before.
        if self
            .owner
            .compare_exchange(owner, claim, AcqRel, Relaxed)
            .is_err()
        {
            return false;
        }
        self.magic.store(MAGIC, Relaxed);
        // SAFETY: the list is in memory that is never unmapped, and may be written through a shared
        // reference. The calling thread has claimed it, and the kernel has walked it for the
        // earlier owner.
        let list = unsafe { RobustList::emptied(self.own.head()) };
        self.head.store(list.as_head().as_ptr(), Release);
        true
    }
}

/// Claims an entry for the calling thread, whose id is `tid`.
pub(super) fn claim(tid: u32) -> Result<&'static Entry, String> {
    let claim = (CLAIMS.fetch_add(1, Relaxed) + 1) << TID_BITS | u64::from(tid);
    CHECKS.fetch_add(CHECKS_PER_CLAIM, Relaxed);
    loop {
        let length = length();
        for _ in 0..length {
            let entry = entry(NEXT.fetch_add(1, Relaxed) % length);
            if let Some(entry) = entry.filter(|entry| entry.claim(tid, claim)) {
                return Ok(entry);
            }
            if CHECKS.load(Relaxed) <= 0 {
                break;
            }
        }
        grow(length).inspect_err(|_| LACKED_MEMORY.store(true, Relaxed))?;
    }
}

/// Returns where the head of the list of the thread `tid` lies.
pub(super) fn head_of_thread(tid: u32) -> HeadOf {
    // An entry of a thread that has ended stays until it is claimed, and a later thread may have
    // got its id. So the newest claim counts.
    let newest = entries()
        .map(|entry| (entry.owner.load(Acquire), entry))
        .filter(|(owner, _)| owner & TID == u64::from(tid))
        .max_by_key(|(owner, _)| *owner)
        .map(|(_, entry)| entry.head.load(Acquire));
    match newest {
        Some(head) if !head.is_null() => HeadOf::At(head.addr()),
        // The thread has not used this crate, or is about to use it for the first time.
        _ if !LACKED_MEMORY.load(Relaxed) => HeadOf::NoList,
        _ => HeadOf::Unknown,
    }
}

/// Returns whether the list is that of an entry of the pool.
pub(super) fn is_in_pool(list: RobustList) -> bool {
    entries().any(|entry| entry.own.head() == list.as_head())
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    (0..length()).map_while(entry)
}

/// Returns the number of entries.
fn length() -> usize {
    let is_mapped = |block: &&AtomicPtr<Entry>| !block.load(Acquire).is_null();
    start_of(POOL.iter().take_while(is_mapped).count())
}

/// Returns the entry with this number, if its block is mapped.
fn entry(number: usize) -> Option<&'static Entry> {
    let block = block_of(number);
    let first = NonNull::new(POOL.get(block)?.load(Acquire))?;
    // SAFETY: the block is an array of entries that starts with the number `start_of(block)` and
    // is twice as long as the one before, so it contains the entry. Zero bytes are a valid entry,
    // entries are changed by atomic stores only, and blocks are never unmapped.
    Some(unsafe { first.add(number - start_of(block)).as_ref() })
}

/// Returns the block of the entry with this number.
fn block_of(number: usize) -> usize {
    (number / FIRST_BLOCK + 1).ilog2() as usize
}

/// Returns the number of the first entry of a block.
fn start_of(block: usize) -> usize {
    FIRST_BLOCK * ((1 << block) - 1)
}

/// Maps a further block, unless another thread has done so since the pool had `length` entries.
fn grow(length: usize) -> Result<(), String> {
    let number = block_of(length);
    let block = POOL.get(number).ok_or("the pool of robust lists is full")?;
    let bytes = size_of::<Entry>() * (start_of(number + 1) - start_of(number));
    let fresh = wipe_on_fork::map(bytes)?;
    if block
        .compare_exchange(ptr::null_mut(), fresh.as_ptr().cast(), Release, Relaxed)
        .is_ok()
    {
        NEXT.store(length, Relaxed);
    } else {
        // SAFETY: this function has just mapped it, and no other code has seen it.
        unsafe { wipe_on_fork::unmap(fresh, bytes) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_in_the_block_that_contains_it() {
        for number in 0..100_000 {
            let block = block_of(number);
            assert!((start_of(block)..start_of(block + 1)).contains(&number));
        }
        assert_eq!(start_of(1), FIRST_BLOCK);
        assert!(start_of(BLOCKS) > 1 << TID_BITS, "an entry for each thread");
    }

    #[test]
    fn a_thread_finds_the_list_that_it_claimed_last() {
        // SAFETY: gettid(2) has no preconditions.
        let tid = unsafe { libc::gettid() } as u32;
        for _ in 0..3 {
            let list = claim(tid).expect("memory for a list").list();
            assert_eq!(head_of_thread(tid), HeadOf::At(list.as_head().addr().get()));
            assert!(is_in_pool(list));
        }
        assert_eq!(head_of_thread(TID as u32), HeadOf::NoList);
    }
}
