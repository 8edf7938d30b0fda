//! The robust lock word: a futex that the kernel marks when its owner dies.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free |
//! | tid | held by that thread, nobody sleeps |
//! | tid + `WAITERS` | held, somebody may sleep |
//! | `WAITERS` | free, and somebody was woken or is about to be; whoever acquires keeps the bit |
//! | `OWNER_DIED` (+ `WAITERS`) | free, and the last owner ended with the lock in its hands |
//! | `IN_PROCESS` to `IN_PROCESS` + 2 | not placed yet: a [plain futex mutex](crate::raw::strategies::futex), which may be moved and forgotten |
//!
//! The bits are the kernel's robust-futex ABI (`Documentation/locking/robust-futex-ABI.rst`). A thread has a list of the
//! locks that it holds, and a slot for one more, `list_op_pending`, meant for the lock that is being acquired or released
//! just then; the kernel marks what it finds in either. A lock here is with_waiters in the slot before its word is touched, and
//! **stays there while it is held**: the slot is a list of one. Only when a second lock needs the slot is the first one
//! linked into the list. So the common lock and unlock write the slot, and no links at all. At whichever instruction a
//! thread dies, the word is in the list, or in the slot, or not its own.
//!
//! glibc's robust mutexes use the same slot, and empty it when they are done. A lock of ours that was there is then found
//! by the safety net instead of the kernel. The release sees it, and from then on the process links every lock as soon as
//! it is acquired.
//!
//! What differs is the contended unlock. One that stores 0 and wakes strands a sleeper for ever when the woken thread
//! dies after a third took the word without `WAITERS`. So the unlock leaves `WAITERS` in the word, and only a wake that
//! found nobody asleep clears it, in one step under the kernel's lock of the word's queue (`FUTEX_WAKE_OP`).
//!
//! **Orderings.** The release store of an unlock synchronizes with the acquire compare-exchange of whoever takes the word
//! from it, directly or through the read-modify-writes that set and clear bits between the two. A death is a release too:
//! the kernel's marking is a full barrier. Nothing else is published through the word.

mod in_process;
pub(in crate::raw) mod list_op;
pub(crate) mod owner;
mod recovery;
pub(in crate::raw) mod spin;
pub(in crate::raw) mod watch;

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::owner::OwnerRecord;
use crate::raw::robust::recovery::Recovery;
use crate::raw::robust::spin::SpinWait;
use crate::sys::{self, AtomicU32, CurrentThread, Deadline, Links, OwnerId, RecheckTimer, Wait};
use core::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

pub(in crate::raw) const TID: u32 = 0x3fff_ffff;
pub(in crate::raw) const OWNER_DIED: u32 = 1 << 30;
pub(in crate::raw) const WAITERS_BIT: u32 = 31;
pub(in crate::raw) const WAITERS: u32 = 1 << WAITERS_BIT;
pub(in crate::raw) const FREE: u32 = 0;
/// No thread has such an id: they end at 2^22. That a lock is placed is then seen by the compare-exchange which acquires it,
/// and by no load before, which would fetch the cache line once more than it takes.
pub(in crate::raw) const IN_PROCESS: u32 = TID - 15;

/// A robust lock without data. Laid out as the kernel and glibc need it: the word 32 bytes before `links.next`.
#[repr(C)]
#[derive(Debug)]
pub struct Robust {
    pub(in crate::raw) word: AtomicU32,
    /// How many sections there have been, counted by their holders, since the lock was placed.
    sections: AtomicU32,
    pub(in crate::raw) record: OwnerRecord,
    pub(in crate::raw) links: Links,
}

impl Robust {
    /// Where the record and the links lie: the kernel and `sys` count on it.
    #[allow(
        dead_code,
        reason = "asserted in `sync`; the models' atomics have other sizes"
    )]
    pub(crate) const RECORD: usize = core::mem::offset_of!(Robust, record);
    #[allow(dead_code, reason = "as above")]
    pub(crate) const LINKS: usize = core::mem::offset_of!(Robust, links);

    sys::const_fn! {
        /// A free lock that is not placed yet.
        pub(crate) fn new() -> Self {
            Robust {
                word: AtomicU32::new(IN_PROCESS),
                sections: AtomicU32::new(0),
                record: OwnerRecord::new(),
                links: Links::new(),
            }
        }
    }

    /// Makes the lock robust at the address where it will stay, and free: a guard that was forgotten before may have
    /// left it held.
    ///
    /// # Safety
    ///
    /// Nobody else uses the lock yet, it never moves again, and its memory stays mapped while any thread of the process
    /// holds it.
    pub(crate) unsafe fn init(&self) {
        self.word.store(FREE, Relaxed);
        self.record.clear();
        self.links.forget();
    }

    /// Acquires the lock in the common case: it is placed and free, and so is the slot, where it stays while it is held.
    /// False says nothing; call [`acquire_slow`](Self::acquire_slow).
    // This and what it calls always: in larger programs the compiler makes calls of them, which costs half of the whole.
    #[inline(always)]
    pub(crate) fn try_acquire_fast(&self, current: CurrentThread) -> bool {
        self.try_acquire_fast_with(current, Acquire)
    }

    /// The same, by a compare-exchange of another order, which includes `Acquire`.
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

    /// Acquires the lock, whatever the case, waiting for it as long as `mode` says.
    #[cold]
    pub(crate) fn acquire_slow(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Acquired, AcquireError> {
        if self.is_in_process() {
            self.retract_list_op(current);
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

    /// Acquires the lock if nobody owns it, without waiting for an owner. Where its last owner died, that one's process is
    /// looked at as long as `deadline` says.
    pub(in crate::raw) fn try_acquire_unowned(
        &self,
        current: CurrentThread,
        deadline: Option<Deadline>,
    ) -> Result<Acquired, AcquireError> {
        if self.is_in_process() {
            self.retract_list_op(current);
            return self.acquire_in_process(current, WaitMode::Try);
        }
        self.begin_list_op(current);
        let outcome = loop {
            // Whoever sees a mark sees what the record became before: that of a past holder is cleared.
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

    /// Releases the lock and wakes a waiter if there may be one.
    ///
    /// # Safety
    ///
    /// The calling thread holds the lock.
    #[inline(always)]
    pub(crate) unsafe fn unlock(&self, current: CurrentThread) {
        let list = current.pending_slot();
        if !list.is_pending(&self.links) {
            // SAFETY: the caller's promise.
            return unsafe { self.unlock_linked(current) };
        }
        self.record.clear();
        if self
            .word
            .compare_exchange(current.tid(), FREE, Release, Relaxed)
            .is_err()
        {
            // SAFETY: the caller's promise.
            unsafe { self.unlock_slow(current) };
        }
        list.clear_pending();
    }

    /// # Safety
    ///
    /// The calling thread holds the lock, which the slot names.
    #[cold]
    unsafe fn unlock_slow(&self, current: CurrentThread) {
        if self.is_in_process() {
            // A lock of glibc's lay there, and was left in the slot.
            // SAFETY: the caller's promise.
            unsafe { self.in_process_mutex().unlock() };
        } else {
            self.release_and_wake(current, WAITERS);
        }
    }

    /// Releases a lock that is not in the slot.
    ///
    /// # Safety
    ///
    /// The calling thread holds the lock.
    #[cold]
    unsafe fn unlock_linked(&self, current: CurrentThread) {
        if self.is_in_process() {
            self.record.clear();
            // SAFETY: the caller's promise.
            return unsafe { self.in_process_mutex().unlock() };
        }
        self.begin_unlock(current);
        // Only now: a lock that the kernel did not find would not be found by its record either.
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

    /// The record of who holds the lock, if somebody does. It is out of date as soon as it is read.
    pub(crate) fn holder(&self) -> Option<OwnerId> {
        let word = self.word.load(Relaxed);
        let id = self.record.id()?;
        let is_its = id.tid() == word & TID || word & TID >= IN_PROCESS;
        (word & TID != 0 && is_its).then_some(id)
    }

    /// What [`holder`](Self::holder) reads.
    pub(crate) fn record(&self) -> &OwnerRecord {
        &self.record
    }

    /// Whether the calling thread holds the lock.
    #[inline]
    pub(crate) fn is_held_by(&self, current: CurrentThread) -> bool {
        let word = self.word.load(Relaxed);
        (word & TID == current.tid() || word & TID >= IN_PROCESS)
            && self.record.is_current_thread(current)
    }

    /// Whether a thread of the calling process holds the lock.
    pub(crate) fn is_held_by_this_process(&self) -> bool {
        self.holder().is_some() && self.record.is_this_process()
    }

    /// Whether a thread of the calling process ended with the lock in its hands, and nobody has taken it since.
    pub(crate) fn was_leaked_by_this_process(&self) -> bool {
        self.owner_died() && self.record.is_this_process()
    }

    /// Whether the last owner died, and nobody has taken the lock since.
    pub(crate) fn owner_died(&self) -> bool {
        self.word.load(Relaxed) & (OWNER_DIED | TID) == OWNER_DIED
    }

    /// The same, also where the kernel did not mark the lock: the safety net's look.
    pub(crate) fn owner_is_dead(&self) -> bool {
        !self.is_in_process() && self.mark_if_owner_dead() || self.owner_died()
    }

    /// Whether nobody holds the lock, released or not. It is out of date as soon as it is read.
    pub(crate) fn is_available(&self) -> bool {
        self.is_released() || self.owner_died()
    }

    /// Marks a lock that looks held as one whose owner died.
    ///
    /// # Safety
    ///
    /// Nobody uses the lock any more: whoever held it is gone.
    pub(crate) unsafe fn reset(&self) {
        let held = self.word.load(Relaxed) & (TID | OWNER_DIED) != 0;
        self.record.clear();
        self.links.forget();
        self.word
            .store(if held { OWNER_DIED } else { FREE }, Relaxed);
    }

    /// Marks a lock that was reset as one whose owner died, though it was free.
    ///
    /// # Safety
    ///
    /// Nobody uses the lock.
    pub(crate) unsafe fn mark(&self) {
        self.word.store(OWNER_DIED, Relaxed);
    }

    /// What a new holder of a placed lock does first.
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
            // Whoever sees a mark sees what the record became before: that of a past holder is cleared.
            let word = self.word.load(Acquire);
            if word & TID == 0 {
                if let Some(outcome) = self.take(current, word, Some(Deadline::now())) {
                    return outcome.map_err(|refused| match refused {
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

    /// Takes no word that is marked, and marks none: the news of a death stays for the next one who waits or tries.
    fn try_acquire_released(&self, current: CurrentThread) -> Result<Acquired, AcquireError> {
        loop {
            let word = self.word.load(Relaxed);
            if word & (TID | OWNER_DIED) != 0 {
                return Err(AcquireError::WouldBlock);
            }
            // From this very word, so that a mark that comes meanwhile is not taken either.
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
            // Whoever sees a mark sees what the record became before: that of a past holder is cleared.
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
            // A sleeper that was woken has had its try above, so its wake is not lost: the owner it met keeps `WAITERS`.
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
                // Whoever owns it by now: the owner may have changed, and only others been woken.
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

    /// Takes the word from `word`, which has no owner. `None` where it has changed.
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
            // Somebody else took the word meanwhile, and its thread has ended too: that one was not examined.
            self.release_and_wake(current, OWNER_DIED | WAITERS);
            return None;
        }
        self.links.forget();
        Some(Ok(Acquired::OwnerDied))
    }

    /// Whether the word's owner is the calling thread, and not one of another process that has the same id there, or had
    /// it before.
    pub(in crate::raw) fn is_owned_by(&self, current: CurrentThread, word: u32) -> bool {
        word & TID == current.tid() && self.record.is_current_thread(current)
    }

    /// Whether the last holder released the lock, and nobody holds it.
    pub(in crate::raw) fn is_released(&self) -> bool {
        let word = self.word.load(Relaxed);
        word & (TID | OWNER_DIED) == 0 || word == IN_PROCESS
    }

    /// Says in the word of a lock that cannot be had that somebody is about to sleep on it, and gives what it then is. `None`
    /// where it has been released.
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

    /// Releases a word that has, or may have, sleepers: leaves `WAITERS` in it for them and wakes one. Where nobody slept,
    /// the bit is cleared and whoever went to sleep meanwhile woken, in one step.
    #[cold]
    fn release_and_wake(&self, current: CurrentThread, released: u32) {
        loop {
            let word = self.word.load(Relaxed);
            if word & TID != current.tid() {
                // Not this thread's any more. It cannot happen to one that lives; but were it so, the word is another's.
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
