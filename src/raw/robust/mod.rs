//! The robust lock word: a futex that the kernel marks when its owner dies.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free |
//! | tid | held by that thread; no thread sleeps |
//! | tid + `WAITERS` | held; a thread may sleep |
//! | `WAITERS` | free; a waiter was woken or will be; the next owner keeps the bit |
//! | `OWNER_DIED` (+ `WAITERS`) | free; the last owner ended while it held the lock |
//! | `IN_PROCESS` to `IN_PROCESS` + 2 | not placed yet: a [plain futex mutex] |
//!
//! The bits are those of the kernel's robust-futex ABI
//! (`Documentation/locking/robust-futex-ABI.rst`). A lock that is not placed may be moved and
//! forgotten (`mem::forget`).
//!
//! # The robust list
//!
//! Each thread has a robust list of the locks that it holds. A separate field, `list_op_pending`,
//! names one more lock: the kernel provides it for the lock that the thread is acquiring or
//! releasing. When the thread ends, the kernel marks the words in the list and in the field that
//! still name the thread as their owner.
//!
//! Here, a thread sets `list_op_pending` to a lock before it touches the word, and the lock **stays
//! there while it is held**. The field serves as a list of one lock. Only when the field is needed
//! for a second lock is the first one linked into the list. So the common lock and unlock write the
//! field and no links. At whichever instruction a thread dies, the word is in the list, or in the
//! field, or not owned by the thread.
//!
//! glibc's robust mutexes use the same field, and clear it after each operation. If it named a lock
//! of this crate, the kernel no longer finds that lock; the liveness check does. The release of the
//! lock detects that the field was cleared. From then on, the thread links each lock as soon as it
//! has acquired it.
//!
//! # Why a contended unlock leaves `WAITERS`
//!
//! The usual futex mutex stores 0 in a contended unlock and then wakes one waiter. If the woken
//! thread dies after a third thread took the word without `WAITERS`, another waiter is stranded.
//! Here A is also the third thread; any other thread can take its place in (3) and (5):
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
//! - **The kernel repeats a wake that a death swallowed.** If the `list_op_pending` of a dead
//!   thread names a word with owner 0, the kernel wakes one waiter, also if `WAITERS` is set (Linux
//!   6.2, and the stable kernels since 5.15). This covers a death of A between (1) and (2), and a
//!   death of B before (3). So an unlock clears the field only after the wake, and a waiter keeps
//!   the field set while it waits.
//! - **Only `FUTEX_WAKE_OP` clears the bit.** An unlock calls it after a `FUTEX_WAKE` that found no
//!   waiter. It clears the bit and wakes all waiters in one step, under the kernel's lock of the
//!   word's queue. `FUTEX_WAIT` compares the word and joins the queue under the same lock. So a
//!   thread that goes to sleep in the meantime is woken, or finds the bit cleared and does not
//!   sleep. If the word has an owner again, the woken threads set the bit again.
//!
//! Other ways to clear the bit strand a waiter too: a compare-exchange, because of ABA, also if it
//! is guarded by a count of the sleeping threads. `tests/model/search` finds a run for each. Some
//! kernels since 2026 also wake a waiter in (4), because the word has another owner and no
//! `WAITERS`. This lock does not rely on that, and an extra wake does no harm. It cannot use
//! `FUTEX_ROBUST_UNLOCK` (Linux 7.2), which stores 0.
//!
//! # Orderings
//!
//! The release store of an unlock synchronizes with the acquire compare-exchange of the thread that
//! takes the word from it, directly or through the read-modify-writes that set and clear bits in
//! between. A death is a release too: the kernel marks the word with a full barrier. Nothing else
//! is published through the word.
//!
//! [plain futex mutex]: crate::raw::strategies::futex

mod in_process;
pub(in crate::raw) mod list_op;
pub(crate) mod owner;
mod recovery;
pub(in crate::raw) mod spin;
pub(in crate::raw) mod watch;

use crate::raw::outcome::{AcquireError, Acquired, Recovery, WaitMode};
use crate::raw::robust::owner::OwnerRecord;
use crate::raw::robust::spin::SpinWait;
use crate::sys::{self, AtomicU32, CurrentThread, Deadline, Links, OwnerId, RecheckTimer, Wait};
use core::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

pub(in crate::raw) const TID: u32 = 0x3fff_ffff;
pub(in crate::raw) const OWNER_DIED: u32 = 1 << 30;
pub(in crate::raw) const WAITERS_BIT: u32 = 31;
pub(in crate::raw) const WAITERS: u32 = 1 << WAITERS_BIT;
pub(in crate::raw) const FREE: u32 = 0;
/// The word of a free lock that is not placed.
///
/// No thread has such an id, because thread ids end at 2^22. So the compare-exchange that acquires
/// a lock also detects whether it is placed. A load before it would fetch the cache line one more
/// time than needed.
pub(in crate::raw) const IN_PROCESS: u32 = TID - 15;

/// A robust lock without data.
///
/// The layout is the one that the kernel and glibc require: the word lies 32 bytes before
/// `links.next`.
#[repr(C)]
#[derive(Debug)]
pub struct Robust {
    pub(in crate::raw) word: AtomicU32,
    /// The number of critical sections since the lock was placed. Each owner increments it.
    sections: AtomicU32,
    pub(in crate::raw) record: OwnerRecord,
    pub(in crate::raw) links: Links,
}

impl Robust {
    /// The offset of the record. The kernel and `sys` rely on this offset and the next one.
    #[allow(
        dead_code,
        reason = "asserted in `sync`; the models' atomics have other sizes"
    )]
    pub(crate) const RECORD: usize = core::mem::offset_of!(Robust, record);
    /// The offset of the links.
    #[allow(dead_code, reason = "as above")]
    pub(crate) const LINKS: usize = core::mem::offset_of!(Robust, links);

    sys::const_fn! {
        /// Creates a free lock that is not placed yet.
        pub(crate) fn new() -> Self {
            Robust {
                word: AtomicU32::new(IN_PROCESS),
                sections: AtomicU32::new(0),
                record: OwnerRecord::new(),
                links: Links::new(),
            }
        }
    }

    /// Initializes the lock as a robust lock at its final address, and frees it: a guard that was
    /// leaked earlier may have left it held.
    ///
    /// # Safety
    ///
    /// No other thread may use the lock yet, and the lock must never move again. Its memory must
    /// stay mapped while any thread of the process holds the lock.
    pub(crate) unsafe fn init(&self) {
        self.word.store(FREE, Relaxed);
        self.record.clear();
        self.links.clear();
    }

    /// Acquires the lock in the common case: it is placed and free, and `list_op_pending` is empty.
    /// The lock then stays in `list_op_pending` while it is held.
    ///
    /// Returns false in every other case, also if the lock is free. The caller must then call
    /// [`acquire_slow`](Self::acquire_slow).
    // `always`, here and on the functions called here: in larger programs the compiler would not
    // inline them, and the calls would cost half of the total time.
    #[inline(always)]
    pub(crate) fn try_acquire_fast(&self, current: CurrentThread) -> bool {
        self.try_acquire_fast_with(current, Acquire)
    }

    /// Like [`try_acquire_fast`](Self::try_acquire_fast), with the ordering `order` for the
    /// compare-exchange. `order` must include `Acquire`.
    #[inline(always)]
    pub(in crate::raw) fn try_acquire_fast_with(
        &self,
        current: CurrentThread,
        order: Ordering,
    ) -> bool {
        let list = current.pending_slot();
        if !list.is_pending_free() {
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

    /// Acquires the lock in all cases, and waits for it as long as `mode` allows.
    #[cold]
    pub(crate) fn acquire_slow(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Acquired, AcquireError> {
        if self.is_in_process() {
            self.forget_list_op(current);
            return self.acquire_in_process(current, mode);
        }
        self.begin_list_op(current);
        let outcome = self.take_word(current, mode);
        if outcome.is_ok() {
            self.record_owner(current);
        }
        self.finish_list_op(current, outcome.is_ok());
        outcome
    }

    /// Acquires the lock if it has no owner, and does not wait for an owner. If the last owner
    /// died, checks the state of the owner's process until `deadline`.
    pub(in crate::raw) fn try_acquire_unowned(
        &self,
        current: CurrentThread,
        deadline: Option<Deadline>,
    ) -> Result<Acquired, AcquireError> {
        if self.is_in_process() {
            self.forget_list_op(current);
            return self.acquire_in_process(current, WaitMode::Try);
        }
        self.begin_list_op(current);
        let outcome = loop {
            // Acquire: a thread that reads a mark sees all earlier changes of the record. So it
            // does not see the record of an earlier owner, which was cleared before the mark.
            let word = self.word.load(Acquire);
            if word & TID != 0 {
                break Err(AcquireError::WouldBlock);
            }
            if let Some(outcome) = self.take(current, word, deadline) {
                break outcome;
            }
        };
        if outcome.is_ok() {
            self.record_owner(current);
        }
        self.finish_list_op(current, outcome.is_ok());
        outcome
    }

    /// Releases the lock, and wakes a waiter if there may be one.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock.
    #[inline(always)]
    pub(crate) unsafe fn unlock(&self, current: CurrentThread) {
        let list = current.pending_slot();
        if !list.is_pending(&self.links) {
            // SAFETY: guaranteed by the caller.
            return unsafe { self.unlock_linked(current) };
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

    /// Releases a lock that is in `list_op_pending`, after the compare-exchange of the fast path
    /// has failed.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock, and `list_op_pending` must name it.
    #[cold]
    unsafe fn unlock_slow(&self, current: CurrentThread) {
        if self.is_in_process() {
            // A glibc lock was at this address before, and glibc left it in `list_op_pending`.
            // SAFETY: guaranteed by the caller.
            unsafe { self.in_process_mutex().unlock() };
        } else {
            self.release_and_wake(current, WAITERS);
        }
    }

    /// Releases a lock that is not in `list_op_pending`.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock.
    #[cold]
    unsafe fn unlock_linked(&self, current: CurrentThread) {
        if self.is_in_process() {
            self.record.clear();
            // SAFETY: guaranteed by the caller.
            return unsafe { self.in_process_mutex().unlock() };
        }
        self.begin_unlock(current);
        // Not earlier: the kernel may not find the lock before `begin_unlock`. Without the record,
        // the liveness check would not find it either.
        self.record.clear();
        if self
            .word
            .compare_exchange(current.tid(), FREE, Release, Relaxed)
            .is_err()
        {
            self.release_and_wake(current, WAITERS);
        }
        current.list().clear_pending();
    }

    /// Returns the recorded owner, or `None` if the lock is not held. The result may be out of date
    /// as soon as it is returned.
    pub(crate) fn holder(&self) -> Option<OwnerId> {
        let word = self.word.load(Relaxed);
        let id = self.record.id()?;
        let matches_word = id.tid() == word & TID || word & TID >= IN_PROCESS;
        (word & TID != 0 && matches_word).then_some(id)
    }

    /// Returns the record that [`holder`](Self::holder) reads.
    pub(crate) fn record(&self) -> &OwnerRecord {
        &self.record
    }

    /// Returns whether the calling thread holds the lock.
    #[inline]
    pub(crate) fn is_held_by(&self, current: CurrentThread) -> bool {
        let word = self.word.load(Relaxed);
        (word & TID == current.tid() || word & TID >= IN_PROCESS)
            && self.record.is_current_thread(current)
    }

    /// Returns whether a thread of the calling process holds the lock.
    pub(crate) fn is_held_by_this_process(&self) -> bool {
        self.holder().is_some() && self.record.is_this_process()
    }

    /// Returns whether a thread of the calling process ended while it held the lock, and no thread
    /// has acquired the lock since.
    pub(crate) fn was_leaked_by_this_process(&self) -> bool {
        self.owner_died() && self.record.is_this_process()
    }

    /// Returns whether the last owner died, and no thread has acquired the lock since.
    pub(crate) fn owner_died(&self) -> bool {
        self.word.load(Relaxed) & (OWNER_DIED | TID) == OWNER_DIED
    }

    /// Like [`owner_died`](Self::owner_died), but runs the liveness check first. So it also detects
    /// a death for which the kernel did not mark the lock.
    pub(crate) fn owner_is_dead(&self) -> bool {
        !self.is_in_process() && self.mark_if_owner_dead() || self.owner_died()
    }

    /// Returns whether the lock has no owner: the last owner released it, or died. The result may
    /// be out of date as soon as it is returned.
    pub(crate) fn is_available(&self) -> bool {
        self.is_released() || self.owner_died()
    }

    /// Marks the lock as abandoned if it is held or marked already. Otherwise, frees it.
    ///
    /// # Safety
    ///
    /// No thread may use the lock any more: a thread that held it must no longer exist.
    pub(crate) unsafe fn reset(&self) {
        let held = self.word.load(Relaxed) & (TID | OWNER_DIED) != 0;
        self.record.clear();
        self.links.clear();
        self.word
            .store(if held { OWNER_DIED } else { FREE }, Relaxed);
    }

    /// Marks a lock that was reset as abandoned, although it was free.
    ///
    /// # Safety
    ///
    /// No thread may use the lock.
    pub(crate) unsafe fn mark(&self) {
        self.word.store(OWNER_DIED, Relaxed);
    }

    /// Records the calling thread as the owner and counts the critical section. Each new owner of a
    /// placed lock does this first.
    #[inline(always)]
    pub(in crate::raw) fn record_owner(&self, current: CurrentThread) {
        self.record.write(current);
        let sections = self.sections.load(Relaxed);
        self.sections.store(sections.wrapping_add(1), Relaxed);
    }

    fn take_word(&self, current: CurrentThread, mode: WaitMode) -> Result<Acquired, AcquireError> {
        match mode {
            WaitMode::Try => self.try_acquire(current),
            WaitMode::TryIfReleased => self.try_acquire_released(current),
            WaitMode::Until(deadline) => self.acquire_until(current, deadline),
        }
    }

    fn try_acquire(&self, current: CurrentThread) -> Result<Acquired, AcquireError> {
        loop {
            // Acquire: a thread that reads a mark sees all earlier changes of the record. So it
            // does not see the record of an earlier owner, which was cleared before the mark.
            let word = self.word.load(Acquire);
            if word & TID == 0 {
                if let Some(outcome) = self.take(current, word, Some(Deadline::now())) {
                    return outcome.map_err(|error| match error {
                        AcquireError::TimedOut => AcquireError::WouldBlock,
                        other => other,
                    });
                }
            } else if self.is_owned_by(current, word)
                || sys::checked_recently(&self.word, word)
                || !self.mark_if_owner_dead()
            {
                return Err(AcquireError::WouldBlock);
            }
        }
    }

    /// Acquires the lock if its last owner released it. Does not take a marked word, and does not
    /// mark a word: the death remains to be reported to the next locker that waits or tries.
    fn try_acquire_released(&self, current: CurrentThread) -> Result<Acquired, AcquireError> {
        loop {
            let word = self.word.load(Relaxed);
            if word & (TID | OWNER_DIED) != 0 {
                return Err(AcquireError::WouldBlock);
            }
            // The compare-exchange expects exactly this word. So a word that is marked in the
            // meantime is not taken either.
            if let Some(outcome) = self.take(current, word, None) {
                return outcome;
            }
        }
    }

    fn acquire_until(
        &self,
        current: CurrentThread,
        deadline: Option<Deadline>,
    ) -> Result<Acquired, AcquireError> {
        let mut timer = RecheckTimer::new();
        let mut expired = false;
        let mut spin = self.new_spin();
        loop {
            // Acquire: a thread that reads a mark sees all earlier changes of the record. So it
            // does not see the record of an earlier owner, which was cleared before the mark.
            let word = match spin.uses_tas() {
                true => match self
                    .word
                    .compare_exchange(FREE, current.tid(), Acquire, Acquire)
                {
                    Ok(_) => return Ok(Acquired::Released),
                    Err(word) => word,
                },
                false => self.word.load(Acquire),
            };
            if word & TID == 0 {
                if let Some(outcome) = self.take(current, word, deadline) {
                    return outcome;
                }
                continue;
            }
            if self.is_owned_by(current, word) {
                return Err(AcquireError::Deadlock);
            }
            // A woken waiter has tried again above, so its wake is not lost: the owner that it
            // found keeps `WAITERS`.
            if expired {
                return Err(AcquireError::TimedOut);
            }
            if spin.spin() {
                continue;
            }
            let with_waiters = word | WAITERS;
            if word != with_waiters
                && self
                    .word
                    .compare_exchange(word, with_waiters, Relaxed, Relaxed)
                    .is_err()
            {
                continue;
            }
            let answer = sys::futex_wait(&self.word, with_waiters, timer.next_deadline(deadline));
            if answer == Wait::TimedOut || timer.is_due() {
                // This checks the present owner: the lock may have changed owners, and each wake
                // may have gone to another waiter.
                self.mark_if_owner_dead();
            }
            spin = self.new_spin();
            expired = deadline.is_some_and(Deadline::has_passed);
        }
    }

    pub(in crate::raw) fn new_spin(&self) -> SpinWait {
        let sections = self.sections.load(Relaxed);
        SpinWait::new(sys::critical_sections_are_short(&self.word, sections))
    }

    /// Acquires the lock by a compare-exchange that expects `word`, which has no owner. Returns
    /// `None` if the caller must read the word again.
    fn take(
        &self,
        current: CurrentThread,
        word: u32,
        deadline: Option<Deadline>,
    ) -> Option<Result<Acquired, AcquireError>> {
        let died = word & OWNER_DIED != 0;
        if died {
            match self.recover(word, deadline) {
                Recovery::Free => {}
                Recovery::Changed => return None,
                Recovery::Refused(error) => return Some(Err(error)),
            }
        }
        let taken = current.tid() | word & WAITERS;
        if self
            .word
            .compare_exchange(word, taken, Acquire, Relaxed)
            .is_err()
        {
            return None;
        }
        if !died {
            return Some(Ok(Acquired::Released));
        }
        if self.record.id_acquire().is_some() {
            // Another thread acquired the lock in the meantime, and has ended too. `recover` has
            // not checked that thread's process, so the word is marked again.
            self.release_and_wake(current, OWNER_DIED | WAITERS);
            return None;
        }
        self.links.clear();
        Some(Ok(Acquired::OwnerDied))
    }

    /// Returns whether the calling thread owns `word`. The record distinguishes it from a thread of
    /// another process that has the same id in its PID namespace, or had the same id earlier.
    pub(in crate::raw) fn is_owned_by(&self, current: CurrentThread, word: u32) -> bool {
        word & TID == current.tid() && self.record.is_current_thread(current)
    }

    /// Returns whether the last owner released the lock, and no thread holds it.
    pub(in crate::raw) fn is_released(&self) -> bool {
        let word = self.word.load(Relaxed);
        word & (TID | OWNER_DIED) == 0 || word == IN_PROCESS
    }

    /// Sets `WAITERS` in the word of a lock that is held or marked, before the caller sleeps on it.
    /// (A lock that is not placed becomes contended instead.) Returns the resulting word, or `None`
    /// if the lock has been released.
    pub(in crate::raw) fn prepare_wait(&self) -> Option<u32> {
        loop {
            let word = self.word.load(Relaxed);
            let with_waiters = match word {
                IN_PROCESS => return None,
                word if word & TID > IN_PROCESS => IN_PROCESS + 2,
                word if word & (TID | OWNER_DIED) == 0 => return None,
                word => word | WAITERS,
            };
            if word == with_waiters
                || self
                    .word
                    .compare_exchange(word, with_waiters, Relaxed, Relaxed)
                    .is_ok()
            {
                return Some(with_waiters);
            }
        }
    }

    /// Releases a word on which threads sleep or may sleep: stores `released`, which includes
    /// `WAITERS`, and wakes one waiter. If no thread slept, clears the bit and wakes all threads
    /// that went to sleep in the meantime, in one step.
    #[cold]
    fn release_and_wake(&self, current: CurrentThread, released: u32) {
        loop {
            let word = self.word.load(Relaxed);
            if word & TID != current.tid() {
                // The thread does not own the word any more. This cannot happen to a thread that is
                // alive. If it did, the word would belong to another thread.
                return;
            }
            if self
                .word
                .compare_exchange(word, released, Release, Relaxed)
                .is_ok()
            {
                break;
            }
        }
        if sys::futex_wake(&self.word, 1) == 0 {
            sys::futex_wake_clearing(&self.word, WAITERS_BIT);
        }
    }
}
