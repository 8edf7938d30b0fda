//! The robust lock word: a futex that the kernel marks when its owner dies.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free |
//! | tid | held by that thread, nobody sleeps |
//! | tid + `WAITERS` | held, somebody may sleep |
//! | `WAITERS` | free, and somebody was woken or is about to be; whoever acquires keeps the bit |
//! | `OWNER_DIED` (+ `WAITERS`) | free, and the last owner ended with the lock in its hands |
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

use crate::sys::{self, AtomicU32, AtomicU64, Deadline, Links, Me, Nap, Wait};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const TID: u32 = 0x3fff_ffff;
const OWNER_DIED: u32 = 1 << 30;
const WAITERS_BIT: u32 = 31;
const WAITERS: u32 = 1 << WAITERS_BIT;
const FREE: u32 = 0;

/// Looks at the word before a contender sleeps, and pauses between two looks. Each look takes the cache line from the
/// owner, so it is the seldom look that wins: it lets sections run back to back and still catches a short one's end.
const LOOKS: u32 = 8;
const PAUSES: u32 = 16;

/// How a lock was acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// From a holder that released it.
    Released,
    /// From a holder that died with it. Exactly one acquirer is told of each death.
    OwnerDied,
}

/// Why a lock was not acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Somebody else holds it.
    WouldBlock,
    /// Somebody else held it until the deadline.
    TimedOut,
    /// The calling thread holds it.
    Deadlock,
    /// The thread that held it ended, and its process, which may have kept access to the data, lives.
    HolderThreadEnded,
}

/// How long a caller waits for the lock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Until then.
    Until(Deadline),
    /// As long as it takes.
    Endless,
}

/// A robust lock without data. Laid out as the kernel and glibc need it: the word 32 bytes before `links.next`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Robust {
    word: AtomicU32,
    /// Not 0 once the lock is placed: its holder then announces it to the kernel.
    armed: AtomicU32,
    /// Who holds it ([`Me::who`]), written after acquiring and cleared before releasing; 0 between the two. It names
    /// the thread too, so that the record of a past holder is not taken for the present one's.
    who: AtomicU64,
    /// The program that the holder's process runs ([`Me::image`]). Valid while `who` is.
    image: AtomicU64,
    links: Links,
}

impl Robust {
    sys::const_fn! {
        /// A free lock that is not placed yet.
        pub(crate) fn new() -> Self {
            Robust {
                word: AtomicU32::new(FREE),
                armed: AtomicU32::new(0),
                who: AtomicU64::new(0),
                image: AtomicU64::new(0),
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
        self.who.store(0, Relaxed);
        self.links.forget();
        self.armed.store(1, Relaxed);
    }

    /// Acquires the lock in the common case: it is placed and free, and the slot is empty, where it stays while it is
    /// held. False says nothing; call [`acquire`](Self::acquire).
    #[inline]
    pub(crate) fn acquire_by_the_slot(&self, me: Me) -> bool {
        if !self.is_armed() {
            return false;
        }
        let list = me.slot();
        if list.has_pending() {
            return false;
        }
        list.set_pending(&self.links);
        if self.word.compare_exchange(FREE, me.tid(), Acquire, Relaxed).is_err() {
            list.clear_pending();
            return false;
        }
        self.record(me);
        true
    }

    /// Acquires the lock, whatever the case, waiting for it as long as `patience` says.
    #[cold]
    pub(crate) fn acquire(&self, me: Me, patience: Patience) -> Result<Acquired, Refused> {
        if !self.is_armed() {
            let outcome = self.take_word(me, patience);
            if outcome.is_ok() {
                self.record(me);
            }
            return outcome;
        }
        let list = me.list();
        self.announce(me);
        let outcome = self.take_word(me, patience);
        if outcome.is_ok() {
            self.record(me);
            if me.slot().is_pending(&self.links) {
                return outcome;
            }
            // SAFETY: the slot names this lock, which was just acquired and is in no list.
            unsafe { list.link_pending() };
        }
        list.clear_pending();
        outcome
    }

    /// Releases the lock and wakes a waiter if there may be one.
    ///
    /// # Safety
    ///
    /// The calling thread holds the lock.
    #[inline]
    pub(crate) unsafe fn unlock(&self, me: Me) {
        let list = me.slot();
        let in_the_slot = list.is_pending(&self.links);
        self.who.store(0, Relaxed);
        if in_the_slot
            && self.word.compare_exchange(me.tid(), FREE, Release, Relaxed).is_ok()
        {
            list.clear_pending();
            return;
        }
        self.release(me);
    }

    /// The record of who holds the lock, if somebody does. It is out of date as soon as it is read.
    pub(crate) fn holder(&self) -> Option<u64> {
        let word = self.word.load(Relaxed);
        let who = self.who.load(Relaxed);
        (word & TID != 0 && sys::tid_of(who) == word & TID).then_some(who)
    }

    /// Whether a thread of the calling process holds the lock.
    pub(crate) fn is_held_here(&self) -> bool {
        self.holder().is_some_and(sys::is_this_process)
    }

    /// Marks a lock that looks held as one whose owner died.
    ///
    /// # Safety
    ///
    /// Nobody uses the lock any more: whoever held it is gone.
    pub(crate) unsafe fn reset(&self) {
        let word = self.word.load(Relaxed);
        let died = word & (TID | OWNER_DIED) != 0;
        self.who.store(0, Relaxed);
        self.links.forget();
        self.word.store(if died { OWNER_DIED } else { FREE }, Relaxed);
    }

    #[inline]
    fn is_armed(&self) -> bool {
        self.armed.load(Relaxed) != 0
    }

    /// Releases the lock, whatever the case.
    #[cold]
    fn release(&self, me: Me) {
        let armed = self.is_armed();
        if armed && !me.list().is_pending(&self.links) {
            self.move_to_the_slot(me);
        }
        if self.word.compare_exchange(me.tid(), FREE, Release, Relaxed).is_err() {
            self.release_and_wake(WAITERS);
        }
        if armed {
            me.list().clear_pending();
        }
    }

    /// Records the holder, which has just acquired the word.
    #[inline]
    fn record(&self, me: Me) {
        self.image.store(me.image(), Relaxed);
        // Whoever sees this record sees its image.
        self.who.store(me.who(), Release);
    }

    /// Puts the lock into the slot, before its word is touched. A held lock that is there moves to the list.
    fn announce(&self, me: Me) {
        let list = me.list();
        if list.has_pending() {
            // SAFETY: between two operations the slot names a lock that this thread holds and that is in no list, or
            // nothing; by `arm`'s contract it stays where it is.
            unsafe { list.link_pending() };
        }
        list.set_pending(&self.links);
    }

    /// Puts a held lock that is not there into the slot, before it is released.
    fn move_to_the_slot(&self, me: Me) {
        self.announce(me);
        if self.links.are_linked() {
            // SAFETY: the thread that holds a lock linked it in its own list, and the links of a dead holder's list were
            // forgotten when the lock was taken.
            unsafe { me.list().unlink(&self.links) };
        } else {
            // It was there, and something else has emptied the slot.
            me.give_up_the_slot();
        }
    }

    fn take_word(&self, me: Me, patience: Patience) -> Result<Acquired, Refused> {
        if self.word.compare_exchange(FREE, me.tid(), Acquire, Relaxed).is_ok() {
            return Ok(Acquired::Released);
        }
        match patience {
            Patience::None => self.acquire_at_once(me),
            Patience::Until(deadline) => self.wait_and_acquire(me, Some(deadline)),
            Patience::Endless => self.wait_and_acquire(me, None),
        }
    }

    fn acquire_at_once(&self, me: Me) -> Result<Acquired, Refused> {
        loop {
            let word = self.word.load(Relaxed);
            if word & TID == 0 {
                if let Some(outcome) = self.take(me, word) {
                    return outcome;
                }
            } else if sys::looked_lately(&self.word, word) || !self.mark_if_owner_is_gone(word) {
                return Err(Refused::WouldBlock);
            }
        }
    }

    fn wait_and_acquire(&self, me: Me, deadline: Option<Deadline>) -> Result<Acquired, Refused> {
        let mut nap = Nap::first();
        let mut expired = false;
        self.spin();
        loop {
            let word = self.word.load(Relaxed);
            if word & TID == 0 {
                if let Some(outcome) = self.take(me, word) {
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
            let announced = word | WAITERS;
            if word != announced
                && self.word.compare_exchange(word, announced, Relaxed, Relaxed).is_err()
            {
                continue;
            }
            if sys::futex_wait(&self.word, announced, nap.end(deadline)) == Wait::TimedOut {
                self.mark_if_owner_is_gone(announced);
            }
            expired = deadline.is_some_and(Deadline::has_passed);
        }
    }

    /// Waits for a short section to end, without sleeping. Not while others sleep already: the lock is contended beyond
    /// what a spin can win, and they come first.
    fn spin(&self) {
        if !sys::spinning_pays() {
            return;
        }
        for _ in 0..LOOKS {
            let word = self.word.load(Relaxed);
            if word & TID == 0 || word & WAITERS != 0 {
                return;
            }
            for _ in 0..PAUSES {
                sys::pause();
            }
        }
    }

    /// Takes the word from `word`, which has no owner. `None` where it has changed.
    fn take(&self, me: Me, word: u32) -> Option<Result<Acquired, Refused>> {
        let taken = me.tid() | word & WAITERS;
        if self.word.compare_exchange(word, taken, Acquire, Relaxed).is_err() {
            return None;
        }
        if word & OWNER_DIED == 0 {
            return Some(Ok(Acquired::Released));
        }
        // The record is still the dead owner's; 0 says that it had not handed the data out, or had them back.
        let (who, image) = (self.who.load(Acquire), self.image.load(Relaxed));
        if who != 0 && sys::process_lives(who, image) {
            // What the dead thread held may have been handed on: give the lock back as it was found.
            self.release_and_wake(OWNER_DIED | WAITERS);
            return Some(Err(Refused::HolderThreadEnded));
        }
        self.links.forget();
        Some(Ok(Acquired::OwnerDied))
    }

    /// Whether the word's owner is the calling thread, and not one of another process that has the same id there, or had
    /// it before.
    fn is_mine(&self, me: Me, word: u32) -> bool {
        word & TID == me.tid()
            && self.who.load(Acquire) == me.who()
            && self.image.load(Relaxed) == me.image()
    }

    /// The safety net's look: marks the word as the kernel does when it died without being marked.
    fn mark_if_owner_is_gone(&self, word: u32) -> bool {
        let who = self.who.load(Acquire);
        let image = self.image.load(Relaxed);
        // The record is this owner's, who has not released since: it clears it first.
        let is_the_owners = sys::tid_of(who) == word & TID && self.who.load(Acquire) == who;
        is_the_owners
            && sys::owner_is_gone(who, image)
            && self
                .word
                .compare_exchange(word, word & WAITERS | OWNER_DIED, Relaxed, Relaxed)
                .is_ok()
    }

    /// Releases a word that has, or may have, sleepers: leaves `WAITERS` in it for them and wakes one. Where nobody slept,
    /// the bit is cleared and whoever went to sleep meanwhile woken, in one step.
    #[cold]
    fn release_and_wake(&self, released: u32) {
        self.word.store(released, Release);
        if sys::futex_wake(&self.word, 1) == 0 {
            sys::futex_wake_clearing(&self.word, WAITERS_BIT);
        }
    }
}
