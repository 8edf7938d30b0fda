//! The robust lock word: a futex that the kernel marks when its owner dies.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free; no thread sleeps |
//! | tid | held by that thread; no thread sleeps |
//! | tid + `WAITERS` | held; a thread might sleep |
//! | `WAITERS` | released; a waiter was woken or will be; the next owner keeps the bit |
//! | `OWNER_DIED` (+ `WAITERS`) | marked; the last owner ended while it held the lock |
//! | `IN_PROCESS` to `IN_PROCESS` + 2 | not placed yet: a [plain futex mutex] |
//!
//! A word is *free* if it is 0. It is *released* if it has no owner and is not marked, and
//! *unowned* if it has no owner, marked or not. The bits are those of the kernel's robust-futex ABI
//! (`Documentation/locking/robust-futex-ABI.rst`). A lock that is not placed may be moved and
//! leaked (`mem::forget`).
//!
//! A mark says that the owner *thread* ended. Before the word is taken,
//! [`recover`](Robust::recover) decides whether the *process* of that thread died too. If it did,
//! the locker that takes the word receives [`OwnerDied`](Acquired::OwnerDied). A locker that finds
//! the process alive receives [`HolderThreadEnded`](AcquireError::HolderThreadEnded), and the word
//! stays marked.
//!
//! # Predicates
//!
//! | predicate | is true for the words | load |
//! |---|---|---|
//! | `is_free_seqcst` | 0 | `SeqCst` |
//! | `is_released_seqcst` | 0, `WAITERS` | `SeqCst` |
//! | `is_released` | 0, `WAITERS`, `IN_PROCESS` | relaxed |
//! | `is_marked` | marked | relaxed |
//! | `check_owner_died` | marked, by this liveness check or before | relaxed |
//! | `is_unowned` | 0, `WAITERS`, `IN_PROCESS`, marked | relaxed |
//! | `is_in_process` | `IN_PROCESS` to `IN_PROCESS` + 2 | relaxed |
//! | `is_held_by` | tid, or `IN_PROCESS` and above; the record must match | relaxed |
//!
//! # Functions that acquire
//!
//! | function | takes the words | can block | liveness check |
//! |---|---|---|---|
//! | `try_acquire_fast` | 0, if `list_op_pending` is empty | no | no |
//! | `try_acquire_fast_ordered` | 0, if `list_op_pending` is empty | no | no |
//! | `try_acquire_free` | 0 | no | no |
//! | `acquire_unowned` | 0, `WAITERS`, marked | in `recover` | no |
//! | `acquire_slow` with `TryIfReleased` | 0, `WAITERS` | no | no |
//! | `acquire_slow` with `Try` | 0, `WAITERS`, marked | no | yes, except after a recent one |
//! | `acquire_slow` with `Until` | 0, `WAITERS`, marked | yes | once per second at least |
//!
//! `acquire_unowned` and `acquire_slow` also acquire a lock that is not placed.
//!
//! # The robust list
//!
//! Each thread has a robust list of the locks that it holds. A separate field, `list_op_pending`
//! (the *pending field*), names one more lock: the kernel provides it for the lock that the thread
//! is acquiring or releasing. When the thread ends, the kernel marks the words in the list and in
//! the field that still name the thread as their owner.
//!
//! Here, a thread sets `list_op_pending` to a lock before it touches the word, and the lock **stays
//! there while it is held**. The field serves as a list of one lock. Only when the field is needed
//! for a second lock is the first one linked into the list. So the common lock and unlock write the
//! field and no links. At whichever instruction a thread dies, the word is in the list, or in the
//! field, or not owned by the thread.
//!
//! glibc's robust mutexes use the same field, and clear it after each operation. If the field named
//! a held lock of this crate, the kernel can no longer find that lock. The liveness check still
//! can. When the thread unlocks the lock, it detects that the field was cleared. From then on, it
//! links each lock as soon as it has acquired it.
//!
//! # Why a contended unlock leaves `WAITERS`
//!
//! The usual futex mutex, put on the robust list, stores 0 in a contended unlock and then wakes one
//! waiter. If another thread takes the word without `WAITERS`, and then the woken thread dies, a
//! second waiter is stranded. In this run, A itself takes the word again; any thread D could do (3)
//! and (5):
//!
//! ```text
//!      Thread A (owner)         Thread B (waiter)             Thread C (waiter)   word
//!                               FUTEX_WAIT                    FUTEX_WAIT          A + WAITERS
//!  (1) store 0                                                                    0
//!  (2) FUTEX_WAKE, 1 ---------> wakes up                                          0
//!  (3) compare-exchange 0, A                                                      A
//!  (4)                          is killed; the kernel reads                       A
//!                               list_op_pending, finds the
//!                               owner A, and wakes no thread
//!  (5) compare-exchange A, 0                                                      0
//!      succeeds: no wake
//!  (6)                                                        sleeps; no wake     0
//!                                                             will come
//! ```
//!
//! A living B would set `WAITERS` before it slept again. Without B, no thread knows that C sleeps.
//! Only the recheck timer would end its sleep.
//!
//! A contended unlock of this lock stores `WAITERS` instead of 0 in (1). Three rules go with it:
//!
//! - **A thread that takes the word keeps the bit.** The compare-exchange in (3) fails, and the
//!   slow path stores A + `WAITERS`. The compare-exchange in (5) fails too, so that unlock wakes C.
//! - **The pending field stays set until the wake is done.** An unlock clears the field only after
//!   the wake, and a waiter keeps the field set while it waits. If the field of a dead thread names
//!   a word with owner 0, the kernel wakes one waiter, even if `WAITERS` is set (mainline since
//!   6.2; backported to the stable series from 5.15 on). So the kernel repeats the wake if A dies
//!   between (1) and (2), or B dies before (3).
//! - **Only `futex_wake_clearing` (`FUTEX_WAKE_OP`) clears the bit while threads use the lock.** An
//!   unlock calls it after a `FUTEX_WAKE` that found no waiter. The functions of [`watch`] call it
//!   too. It clears the bit and wakes all waiters in one step, under the kernel's lock of the
//!   word's queue. `FUTEX_WAIT` compares the word and joins the queue under the same lock. So a
//!   thread that goes to sleep in the meantime is woken, or finds the bit cleared and does not
//!   sleep. If the word has an owner again, the woken threads set the bit again.
//!
//! Other ways to clear the bit strand a waiter too: a compare-exchange, because of ABA, even if a
//! count of sleepers guards it. `tests/model/search` finds a counterexample for each. Some kernels
//! since 2026 (6.12.117, 7.2.13, 7.3.4) also wake a waiter in (4), because the word has another
//! owner and no `WAITERS`. This lock does not rely on that, and an extra wake does no harm. This
//! lock cannot use `FUTEX_ROBUST_UNLOCK` (Linux 7.2), which stores 0.
//!
//! # Orderings
//!
//! The release store of an unlock synchronizes with the acquire compare-exchange of the thread that
//! takes the word from it, directly or through the read-modify-writes that set and clear bits in
//! between. A death is a release too: the kernel marks the word with a full barrier. The protected
//! data and the other fields of the lock are all that the word publishes. The Dekker patterns of
//! [`watch`] are argued there.
//!
//! **Reading a mark.** An acquire load that reads a mark sees all earlier changes of the record. So
//! it does not see the record of an earlier owner, which was cleared before the mark.
//!
//! **Taking a mark.** The thread that takes a marked word has cleared the record of the dead owner,
//! and takes the word with release ordering. So a liveness check that reads the word of the new
//! owner by its acquire read-modify-write does not see the record of the dead one any more. Without
//! the release, it could on a processor with weak ordering: if both owners have the same ids, as
//! before and after an `exec`, it would mark the lock of the living one.
//!
//! [plain futex mutex]: crate::raw::strategies::futex

mod in_process;
pub(in crate::raw) mod list_op;
pub(crate) mod owner;
mod recovery;
mod slow;
pub(in crate::raw) mod spin;
pub(in crate::raw) mod watch;

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::owner::OwnerRecord;
use crate::raw::strategies::futex::FutexWord;
use crate::sys::{self, AtomicU32, CurrentThread, Deadline, Links, Owner};
use core::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};

/// The bits of the owner's thread id: the kernel's `FUTEX_TID_MASK`.
pub(in crate::raw) const TID_MASK: u32 = 0x3fff_ffff;
/// The mark: the kernel's `FUTEX_OWNER_DIED`.
pub(in crate::raw) const OWNER_DIED: u32 = 1 << 30;
/// The number of the bit [`WAITERS`].
pub(in crate::raw) const WAITERS_SHIFT: u32 = 31;
/// Set if a thread might sleep on the word: the kernel's `FUTEX_WAITERS`.
pub(in crate::raw) const WAITERS: u32 = 1 << WAITERS_SHIFT;
/// The word of a free lock that is placed.
pub(in crate::raw) const FREE: u32 = 0;
/// The word of a released lock that is not placed. Locks that are not placed use this value and the
/// next two. All 16 values from here to [`TID_MASK`] are reserved for them.
///
/// No thread has such an id, because thread ids end at 2^22. So the compare-exchange that acquires
/// a placed lock fails on a lock that is not placed, and no load must check the word first. Such a
/// load would fetch the cache line one more time than needed.
pub(in crate::raw) const IN_PROCESS: u32 = TID_MASK - 15;
/// The word of a contended lock that is not placed.
const IN_PROCESS_CONTENDED: u32 = FutexWord::<IN_PROCESS>::CONTENDED;

/// A robust lock without data.
///
/// The layout is the one that the kernel and glibc require: the word lies 32 bytes before
/// `links.next` (`links.prev` lies between).
#[repr(C)]
#[derive(Debug)]
pub struct Robust {
    pub(in crate::raw) word: AtomicU32,
    /// Counts the critical sections of the placed lock: each owner increments it. Read by
    /// [`new_spin`](Self::new_spin) to measure their rate; wraps.
    section_count: AtomicU32,
    pub(in crate::raw) record: OwnerRecord,
    pub(in crate::raw) links: Links,
}

impl Robust {
    /// The offset of the record. The kernel and `sys` rely on this offset and the next one.
    #[allow(
        dead_code,
        reason = "asserted in `sync`; the models' atomics have other sizes"
    )]
    pub(crate) const RECORD_OFFSET: usize = core::mem::offset_of!(Robust, record);
    /// The offset of the links.
    #[allow(dead_code, reason = "as above")]
    pub(crate) const LINKS_OFFSET: usize = core::mem::offset_of!(Robust, links);

    sys::const_fn! {
        /// Creates a free lock that is not placed yet.
        pub(crate) fn new() -> Self {
            Robust {
                word: AtomicU32::new(IN_PROCESS),
                section_count: AtomicU32::new(0),
                record: OwnerRecord::new(),
                links: Links::new(),
            }
        }
    }

    /// Initializes the lock as a robust lock at its final address, and frees it: a guard that was
    /// leaked earlier can have left it held.
    ///
    /// # Safety
    ///
    /// No other thread may use the lock yet, and the lock must never move again. Its memory must
    /// stay mapped while any thread of the process holds the lock.
    pub(crate) unsafe fn init(&self) {
        self.word.store(FREE, Relaxed);
        self.record.clear_placed();
        self.links.clear();
    }

    /// Acquires the lock in the common case: it is placed and free, and `list_op_pending` is empty.
    /// The lock then stays in `list_op_pending` while it is held.
    ///
    /// Otherwise returns false, and the caller must call [`acquire_slow`](Self::acquire_slow).
    /// False does not mean that the lock is held: for example, `list_op_pending` might name another
    /// lock.
    // `always`, here and on the functions called here: in larger programs the compiler would not
    // inline them, and the calls would cost half of the total time.
    #[inline(always)]
    pub(crate) fn try_acquire_fast(&self, current: CurrentThread) -> bool {
        self.try_acquire_fast_ordered(current, Acquire)
    }

    /// Like [`try_acquire_fast`](Self::try_acquire_fast), with the ordering `order` for the
    /// compare-exchange. `order` must include `Acquire`.
    #[inline(always)]
    pub(in crate::raw) fn try_acquire_fast_ordered(
        &self,
        current: CurrentThread,
        order: Ordering,
    ) -> bool {
        // After `disable_fast_path`, this is a dummy list whose `list_op_pending` is never empty.
        // So the fast path fails.
        let list = current.fast_path_list();
        if !list.is_pending_empty() {
            return false;
        }
        current.set_list_op_pending(list, &self.links);
        if self
            .word
            .compare_exchange(FREE, current.tid(), order, Relaxed)
            .is_err()
        {
            list.clear_pending();
            return false;
        }
        self.record_owner(current);
        true
    }

    /// Acquires the lock if it is free. `list_op_pending` need not be empty. The compare-exchange
    /// is `SeqCst`, for the Dekker pattern of [`rwlock`](crate::raw::rwlock).
    pub(in crate::raw) fn try_acquire_free(&self, current: CurrentThread) -> bool {
        if self.word.load(Relaxed) != FREE {
            return false;
        }
        self.set_pending(current);
        let acquired = self
            .word
            .compare_exchange(FREE, current.tid(), SeqCst, Relaxed)
            .is_ok();
        if acquired {
            self.record_owner(current);
        }
        self.keep_or_link_pending(current, acquired);
        acquired
    }

    /// Acquires the lock in all cases, and waits for it as long as `mode` allows.
    #[cold]
    pub(crate) fn acquire_slow(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Acquired, AcquireError> {
        if self.is_in_process() {
            self.forget_pending(current);
            return self.acquire_in_process(current, mode);
        }
        self.set_pending(current);
        let outcome = self.acquire_by_mode(current, mode);
        if outcome.is_ok() {
            self.record_owner(current);
        }
        self.keep_or_link_pending(current, outcome.is_ok());
        outcome
    }

    /// Acquires the lock if it has no owner, and does not wait for an owner. If the word is marked,
    /// this can block: [`recover`](Self::recover) checks the process of the dead thread until
    /// `deadline`.
    pub(in crate::raw) fn acquire_unowned(
        &self,
        current: CurrentThread,
        deadline: Option<Deadline>,
    ) -> Result<Acquired, AcquireError> {
        if self.is_in_process() {
            self.forget_pending(current);
            return self.acquire_in_process(current, WaitMode::Try);
        }
        self.set_pending(current);
        let outcome = loop {
            // Acquire: see *Orderings*, reading a mark.
            let word = self.word.load(Acquire);
            if word & TID_MASK != 0 {
                break Err(AcquireError::WouldBlock);
            }
            if let Some(outcome) = self.try_take(current, word, deadline) {
                break outcome;
            }
        };
        if outcome.is_ok() {
            self.record_owner(current);
        }
        self.keep_or_link_pending(current, outcome.is_ok());
        outcome
    }

    /// Unlocks the lock, and wakes a waiter if there might be one.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock.
    #[inline(always)]
    pub(crate) unsafe fn unlock(&self, current: CurrentThread) {
        let list = current.fast_path_list();
        if !list.is_pending(&self.links) {
            // SAFETY: guaranteed by the caller.
            return unsafe { self.unlock_not_pending(current) };
        }
        self.record.clear();
        if self
            .word
            .compare_exchange(current.tid(), FREE, Release, Relaxed)
            .is_err()
        {
            // SAFETY: guaranteed by the caller.
            unsafe { self.unlock_slow(current) };
        }
        list.clear_pending();
    }

    /// Unlocks a lock that is in `list_op_pending`, after the compare-exchange of the fast path has
    /// failed.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock, and `list_op_pending` must name it.
    #[cold]
    unsafe fn unlock_slow(&self, current: CurrentThread) {
        if self.is_in_process() {
            // This lock is not placed, so it does not stay in `list_op_pending`. But the field
            // names its address: a glibc lock lay here before, and glibc left it in the field.
            // SAFETY: guaranteed by the caller.
            unsafe { self.unlock_in_process(current) };
        } else {
            self.store_and_wake(current, WAITERS);
        }
    }

    /// Unlocks a lock that is not in `list_op_pending`.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock.
    #[cold]
    unsafe fn unlock_not_pending(&self, current: CurrentThread) {
        if self.is_in_process() {
            // SAFETY: guaranteed by the caller.
            return unsafe { self.unlock_in_process(current) };
        }
        self.begin_unlock(current);
        // Not earlier: before `begin_unlock`, the kernel might not find the lock. Without the
        // record, the liveness check would not find it either.
        self.record.clear();
        if self
            .word
            .compare_exchange(current.tid(), FREE, Release, Relaxed)
            .is_err()
        {
            self.store_and_wake(current, WAITERS);
        }
        current.list().clear_pending();
    }

    /// Returns the recorded owner, or `None` if the lock is not held. The result might be out of
    /// date as soon as it is returned.
    pub(crate) fn owner(&self) -> Option<Owner> {
        let word = self.word.load(Relaxed);
        let owner = self.record.load_consistent()?;
        let matches_word = owner.id.tid() == word & TID_MASK || word & TID_MASK >= IN_PROCESS;
        (word & TID_MASK != 0 && matches_word).then_some(owner)
    }

    /// Returns the record that [`owner`](Self::owner) reads.
    pub(crate) fn record(&self) -> &OwnerRecord {
        &self.record
    }

    /// Returns whether the calling thread holds the lock.
    #[inline]
    pub(crate) fn is_held_by(&self, current: CurrentThread) -> bool {
        let word = self.word.load(Relaxed);
        (word & TID_MASK == current.tid() || word & TID_MASK >= IN_PROCESS)
            && self.record.is_current_thread(current)
    }

    /// Returns whether a thread of the calling process holds the lock.
    pub(crate) fn is_held_by_this_process(&self) -> bool {
        self.owner().is_some() && self.owner_in_this_process().is_some()
    }

    /// Returns the thread of the calling process that is recorded as the owner, if there is one. It
    /// may have ended. The calling process may then still use the data. Unlike
    /// [`owner`](Self::owner), this does not read the word.
    ///
    /// The word can name another thread although this process uses the data. A locker that checked
    /// an earlier owner takes a marked word for a moment, even if the mark is that of a later
    /// owner: see `try_take`.
    pub(crate) fn owner_in_this_process(&self) -> Option<u32> {
        self.record.thread_of_this_process()
    }

    /// Returns whether the word is marked: the last owner ended while it held the lock, and no
    /// thread has acquired the lock since.
    pub(crate) fn is_marked(&self) -> bool {
        self.word.load(Relaxed) & (OWNER_DIED | TID_MASK) == OWNER_DIED
    }

    /// Runs the liveness check, and returns whether the word is marked. So this also detects a
    /// death for which the kernel did not mark the lock.
    pub(crate) fn check_owner_died(&self) -> bool {
        (!self.is_in_process() && self.mark_if_owner_dead()) || self.is_marked()
    }

    /// Returns whether the lock has no owner: it is released or marked. The result might be out of
    /// date as soon as it is returned.
    pub(crate) fn is_unowned(&self) -> bool {
        self.is_released() || self.is_marked()
    }

    /// Marks the lock if it is held or marked already. Otherwise, frees it.
    ///
    /// # Safety
    ///
    /// No thread may use the lock any more: a thread that held it must no longer exist.
    pub(crate) unsafe fn reset(&self) {
        let was_held_or_marked = self.word.load(Relaxed) & (TID_MASK | OWNER_DIED) != 0;
        self.record.clear();
        self.links.clear();
        self.word
            .store(if was_held_or_marked { OWNER_DIED } else { FREE }, Relaxed);
    }

    /// Marks the lock, held or not, after a [`reset`](Self::reset) that follows a reboot: the
    /// machine can have stopped when only some of the pages were on the disk.
    ///
    /// # Safety
    ///
    /// No thread may use the lock.
    pub(crate) unsafe fn mark_after_reboot(&self) {
        self.word.store(OWNER_DIED, Relaxed);
    }

    /// Records the calling thread as the owner and counts the critical section. Each new owner of a
    /// placed lock does this first.
    #[inline(always)]
    pub(in crate::raw) fn record_owner(&self, current: CurrentThread) {
        self.record.write(current);
        let count = self.section_count.load(Relaxed);
        self.section_count.store(count.wrapping_add(1), Relaxed);
    }

    /// Returns whether `word` names the calling thread. The record distinguishes it from a thread
    /// of another process that has the same id in its PID namespace, or had the same id earlier.
    pub(in crate::raw) fn word_names(&self, current: CurrentThread, word: u32) -> bool {
        word & TID_MASK == current.tid() && self.record.is_current_thread(current)
    }

    /// Returns whether the last owner released the lock, and no thread holds it.
    pub(in crate::raw) fn is_released(&self) -> bool {
        let word = self.word.load(Relaxed);
        word & (TID_MASK | OWNER_DIED) == 0 || word == IN_PROCESS
    }
}
