//! The robust lock word: a futex that the kernel marks when its owner dies.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free |
//! | tid | held by that thread, nobody sleeps |
//! | tid + `WAITERS` | held, somebody may sleep |
//! | `WAITERS` | free, and somebody was woken or is about to be; whoever acquires keeps the bit |
//! | `OWNER_DIED` (+ `WAITERS`) | free, and the last owner ended with the lock in its hands |
//! | `UNPLACED` to `UNPLACED` + 2 | not placed yet: a [plain futex mutex](super::futex), which may be moved and forgotten |
//!
//! The bits are the kernel's robust-futex ABI (`Documentation/locking/robust-futex-ABI.rst`). A thread has a list of the
//! locks that it holds, and a slot for one more, `list_op_pending`, meant for the lock that is being acquired or released
//! just then; the kernel marks what it finds in either. A lock here is announced in the slot before its word is touched, and
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

use super::outcome::{Acquired, Patience, Refused};
use super::pace::Spin;
use super::record::Record;
use crate::sys::{self, AtomicU32, Deadline, Links, Me, Nap, Wait};
use core::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

pub(super) const TID: u32 = 0x3fff_ffff;
pub(super) const OWNER_DIED: u32 = 1 << 30;
pub(super) const WAITERS_BIT: u32 = 31;
pub(super) const WAITERS: u32 = 1 << WAITERS_BIT;
pub(super) const FREE: u32 = 0;
/// No thread has such an id: they end at 2^22. That a lock is placed is then seen by the compare-exchange which acquires it,
/// and by no load before, which would fetch the cache line once more than it takes.
pub(super) const UNPLACED: u32 = TID - 15;

/// A robust lock without data. Laid out as the kernel and glibc need it: the word 32 bytes before `links.next`.
#[repr(C)]
#[derive(Debug)]
pub struct Robust {
    pub(super) word: AtomicU32,
    /// How many sections there have been, counted by their holders, since the lock was placed.
    sections: AtomicU32,
    pub(super) record: Record,
    pub(super) links: Links,
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
                word: AtomicU32::new(UNPLACED),
                sections: AtomicU32::new(0),
                record: Record::new(),
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
    pub(crate) unsafe fn arm(&self) {
        self.word.store(FREE, Relaxed);
        self.record.clear();
        self.links.forget();
    }

    /// Acquires the lock in the common case: it is placed and free, and so is the slot, where it stays while it is held.
    /// False says nothing; call [`acquire`](Self::acquire).
    // This and what it calls always: in larger programs the compiler makes calls of them, which costs half of the whole.
    #[inline(always)]
    pub(crate) fn acquire_by_the_slot(&self, me: Me) -> bool {
        self.acquire_by_the_slot_in(me, Acquire)
    }

    /// The same, by a compare-exchange of another order, which includes `Acquire`.
    #[inline(always)]
    pub(super) fn acquire_by_the_slot_in(&self, me: Me, order: Ordering) -> bool {
        let list = me.slot();
        if !list.has_free_slot() {
            return false;
        }
        me.announce(list, &self.links);
        if self
            .word
            .compare_exchange(FREE, me.tid(), order, Relaxed)
            .is_err()
        {
            list.clear_pending();
            return false;
        }
        self.enter(me);
        true
    }

    /// Acquires the lock, whatever the case, waiting for it as long as `patience` says.
    #[cold]
    pub(crate) fn acquire(&self, me: Me, patience: Patience) -> Result<Acquired, Refused> {
        if self.is_unplaced() {
            self.withdraw(me);
            return self.acquire_unplaced(me, patience);
        }
        self.announce(me);
        let outcome = self.take_word(me, patience);
        if outcome.is_ok() {
            self.enter(me);
        }
        self.settle(me, outcome.is_ok());
        outcome
    }

    /// Acquires the lock if nobody owns it, without waiting for an owner. Where its last owner died, that one's process is
    /// looked at as long as `deadline` says.
    pub(super) fn acquire_if_unowned(
        &self,
        me: Me,
        deadline: Option<Deadline>,
    ) -> Result<Acquired, Refused> {
        if self.is_unplaced() {
            self.withdraw(me);
            return self.acquire_unplaced(me, Patience::None);
        }
        self.announce(me);
        let outcome = loop {
            // Whoever sees a mark sees what the record became before: that of a past holder is cleared.
            let word = self.word.load(Acquire);
            if word & TID != 0 {
                break Err(Refused::WouldBlock);
            }
            if let Some(outcome) = self.take(me, word, deadline) {
                break outcome;
            }
        };
        if outcome.is_ok() {
            self.enter(me);
        }
        self.settle(me, outcome.is_ok());
        outcome
    }

    /// Releases the lock and wakes a waiter if there may be one.
    ///
    /// # Safety
    ///
    /// The calling thread holds the lock.
    #[inline(always)]
    pub(crate) unsafe fn unlock(&self, me: Me) {
        let list = me.slot();
        if !list.is_pending(&self.links) {
            // SAFETY: the caller's promise.
            return unsafe { self.release(me) };
        }
        self.record.clear();
        if self
            .word
            .compare_exchange(me.tid(), FREE, Release, Relaxed)
            .is_err()
        {
            // SAFETY: the caller's promise.
            unsafe { self.release_a_word_that_is_not_just_mine(me) };
        }
        list.clear_pending();
    }

    /// # Safety
    ///
    /// The calling thread holds the lock, which the slot names.
    #[cold]
    unsafe fn release_a_word_that_is_not_just_mine(&self, me: Me) {
        if self.is_unplaced() {
            // A lock of glibc's lay there, and was left in the slot.
            // SAFETY: the caller's promise.
            unsafe { self.in_process().unlock() };
        } else {
            self.release_and_wake(me, WAITERS);
        }
    }

    /// Releases a lock that is not in the slot.
    ///
    /// # Safety
    ///
    /// The calling thread holds the lock.
    #[cold]
    unsafe fn release(&self, me: Me) {
        if self.is_unplaced() {
            self.record.clear();
            // SAFETY: the caller's promise.
            return unsafe { self.in_process().unlock() };
        }
        self.move_to_the_slot(me);
        // Only now: a lock that the kernel did not find would not be found by its record either.
        self.record.clear();
        if self
            .word
            .compare_exchange(me.tid(), FREE, Release, Relaxed)
            .is_err()
        {
            self.release_and_wake(me, WAITERS);
        }
        me.list().clear_pending();
    }

    /// The record of who holds the lock, if somebody does. It is out of date as soon as it is read.
    pub(crate) fn holder(&self) -> Option<u64> {
        let word = self.word.load(Relaxed);
        let who = self.record.who();
        let is_its = sys::tid_of(who) == word & TID || word & TID >= UNPLACED;
        (word & TID != 0 && who != 0 && is_its).then_some(who)
    }

    /// What [`holder`](Self::holder) reads.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Whether the calling thread holds the lock.
    #[inline]
    pub(crate) fn is_held_by(&self, me: Me) -> bool {
        let word = self.word.load(Relaxed);
        (word & TID == me.tid() || word & TID >= UNPLACED) && self.record.is_mine(me)
    }

    /// Whether a thread of the calling process holds the lock.
    pub(crate) fn is_held_here(&self) -> bool {
        self.holder().is_some() && self.record.is_of_this_process()
    }

    /// Whether a thread of the calling process ended with the lock in its hands, and nobody has taken it since.
    pub(crate) fn was_forgotten_here(&self) -> bool {
        self.owner_died() && self.record.is_of_this_process()
    }

    /// Whether the last owner died, and nobody has taken the lock since.
    pub(crate) fn owner_died(&self) -> bool {
        self.word.load(Relaxed) & (OWNER_DIED | TID) == OWNER_DIED
    }

    /// The same, also where the kernel did not mark the lock: the safety net's look.
    pub(crate) fn owner_is_found_dead(&self) -> bool {
        !self.is_unplaced() && self.mark_if_owner_is_gone() || self.owner_died()
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
    pub(super) fn enter(&self, me: Me) {
        self.record.write(me);
        let sections = self.sections.load(Relaxed);
        self.sections.store(sections.wrapping_add(1), Relaxed);
    }

    fn take_word(&self, me: Me, patience: Patience) -> Result<Acquired, Refused> {
        match patience {
            Patience::None => self.acquire_at_once(me),
            Patience::IfReleased => self.acquire_if_released(me),
            Patience::Until(deadline) => self.wait_and_acquire(me, Some(deadline)),
            Patience::Endless => self.wait_and_acquire(me, None),
        }
    }

    fn acquire_at_once(&self, me: Me) -> Result<Acquired, Refused> {
        loop {
            // Whoever sees a mark sees what the record became before: that of a past holder is cleared.
            let word = self.word.load(Acquire);
            if word & TID == 0 {
                if let Some(outcome) = self.take(me, word, Some(Deadline::now())) {
                    return outcome.map_err(|refused| match refused {
                        Refused::TimedOut => Refused::WouldBlock,
                        other => other,
                    });
                }
            } else if self.is_mine(me, word)
                || sys::looked_lately(&self.word, word)
                || !self.mark_if_owner_is_gone()
            {
                return Err(Refused::WouldBlock);
            }
        }
    }

    /// Takes no word that is marked, and marks none: the news of a death stays for the next one who waits or tries.
    fn acquire_if_released(&self, me: Me) -> Result<Acquired, Refused> {
        loop {
            let word = self.word.load(Relaxed);
            if word & (TID | OWNER_DIED) != 0 {
                return Err(Refused::WouldBlock);
            }
            // From this very word, so that a mark that comes meanwhile is not taken either.
            if let Some(outcome) = self.take(me, word, None) {
                return outcome;
            }
        }
    }

    fn wait_and_acquire(&self, me: Me, deadline: Option<Deadline>) -> Result<Acquired, Refused> {
        let mut nap = Nap::first();
        let mut expired = false;
        let mut spin = self.spin();
        loop {
            // Whoever sees a mark sees what the record became before: that of a past holder is cleared.
            let word = match spin.is_a_grab() {
                true => match self.word.compare_exchange(FREE, me.tid(), Acquire, Acquire) {
                    Ok(_) => return Ok(Acquired::Released),
                    Err(word) => word,
                },
                false => self.word.load(Acquire),
            };
            if word & TID == 0 {
                if let Some(outcome) = self.take(me, word, deadline) {
                    return outcome;
                }
                continue;
            }
            if self.is_mine(me, word) {
                return Err(Refused::Deadlock);
            }
            // A sleeper that was woken has had its try above, so its wake is not lost: the owner it met keeps `WAITERS`.
            if expired {
                return Err(Refused::TimedOut);
            }
            if spin.passes_time() {
                continue;
            }
            let announced = word | WAITERS;
            if word != announced
                && self
                    .word
                    .compare_exchange(word, announced, Relaxed, Relaxed)
                    .is_err()
            {
                continue;
            }
            let answer = sys::futex_wait(&self.word, announced, nap.end(deadline));
            if answer == Wait::TimedOut || nap.is_over() {
                // Whoever owns it by now: the owner may have changed, and only others been woken.
                self.mark_if_owner_is_gone();
            }
            spin = self.spin();
            expired = deadline.is_some_and(Deadline::has_passed);
        }
    }

    pub(super) fn spin(&self) -> Spin {
        let sections = self.sections.load(Relaxed);
        Spin::new(sys::follow_rapidly(&self.word, sections))
    }

    /// Takes the word from `word`, which has no owner. `None` where it has changed.
    fn take(
        &self,
        me: Me,
        word: u32,
        deadline: Option<Deadline>,
    ) -> Option<Result<Acquired, Refused>> {
        let died = word & OWNER_DIED != 0;
        if died && let Some(refused) = self.examine(word, deadline)? {
            return Some(Err(refused));
        }
        let taken = me.tid() | word & WAITERS;
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
        if self.record.who_acquire() != 0 {
            // Somebody else took the word meanwhile, and its thread has ended too: that one was not examined.
            self.release_and_wake(me, OWNER_DIED | WAITERS);
            return None;
        }
        self.links.forget();
        Some(Ok(Acquired::OwnerDied))
    }

    /// Whether the word's owner is the calling thread, and not one of another process that has the same id there, or had
    /// it before.
    pub(super) fn is_mine(&self, me: Me, word: u32) -> bool {
        word & TID == me.tid() && self.record.is_mine(me)
    }

    /// Whether the last holder released the lock, and nobody holds it.
    pub(super) fn is_released(&self) -> bool {
        let word = self.word.load(Relaxed);
        word & (TID | OWNER_DIED) == 0 || word == UNPLACED
    }

    /// Says in the word of a lock that cannot be had that somebody is about to sleep on it, and gives what it then is. `None`
    /// where it has been released.
    pub(super) fn expect_change(&self) -> Option<u32> {
        loop {
            let word = self.word.load(Relaxed);
            let announced = match word {
                UNPLACED => return None,
                word if word & TID > UNPLACED => UNPLACED + 2,
                word if word & (TID | OWNER_DIED) == 0 => return None,
                word => word | WAITERS,
            };
            if word == announced
                || self
                    .word
                    .compare_exchange(word, announced, Relaxed, Relaxed)
                    .is_ok()
            {
                return Some(announced);
            }
        }
    }

    /// Releases a word that has, or may have, sleepers: leaves `WAITERS` in it for them and wakes one. Where nobody slept,
    /// the bit is cleared and whoever went to sleep meanwhile woken, in one step.
    #[cold]
    fn release_and_wake(&self, me: Me, released: u32) {
        loop {
            let word = self.word.load(Relaxed);
            if word & TID != me.tid() {
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
