//! A seat: a robust word that is held for life, and watched.
//!
//! It is the [robust lock word](super::robust), but that it carries `WAITERS` from the start and never loses it. The kernel then
//! wakes somebody when the holder dies, whoever watches and whenever they began to; and a watcher writes nothing.
//!
//! | word | meaning |
//! |---|---|
//! | `WAITERS` | free |
//! | tid + `WAITERS` | occupied |
//! | `OWNER_DIED` + `WAITERS` | vacated by a death |
//!
//! The kernel wakes one sleeper for a death, and a death is news for all who watch. So whoever sees it wakes the others
//! ([`pass_on`](Seat::pass_on)). Where that one is killed first, the others see it when their nap ends, within a second.
//!
//! **Orderings.** Those of the robust word. Whoever sees a seat vacated, by an acquire, sees what its holder did there.

use super::outcome::{Acquired, Refused};
use super::robust::{FREE, OWNER_DIED, Robust, TID, WAITERS};
use super::row::{HasWord, Missed};
use crate::sys::{self, AtomicU32, AtomicU64, Deadline, Me, Nap, NoWaitOnSeveral, Wait, WaitSet};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// A seat.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Seat {
    lock: Robust,
    /// [`Me::who`] of the last one that sat down here and has not left. It outlives a death, and the record does not.
    sitter: AtomicU64,
}

/// What has a seat.
pub(crate) trait HasSeat {
    /// The seat.
    fn seat(&self) -> &Seat;
}

impl HasSeat for Seat {
    fn seat(&self) -> &Seat {
        self
    }
}

/// What a look at a seat shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nobody has it: it was never taken, or its last holder left it.
    Free,
    /// Who has it; 0 where it has not sat down yet.
    Occupied(u64),
    /// Who sat there last, and ended with it; 0 where nobody had sat down since the seat was free.
    Vacated(u64),
}

impl HasWord for Seat {
    fn word(&self) -> &Robust {
        &self.lock
    }
}

impl Seat {
    sys::const_fn! {
        /// A free seat that is not placed yet.
        pub(crate) fn new() -> Self {
            Seat {
                lock: Robust::new(),
                sitter: AtomicU64::new(0),
            }
        }
    }

    /// Readies the seat, free, at the address where it will stay.
    ///
    /// # Safety
    ///
    /// As for [`Robust::arm`].
    pub(crate) unsafe fn arm(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.lock.arm() };
        self.sitter.store(0, Relaxed);
        self.lock.word.store(WAITERS, Relaxed);
    }

    /// Takes the seat if nobody has it. Where its holder died, that one's process is looked at until `deadline`.
    pub(crate) fn take(&self, me: Me, deadline: Option<Deadline>) -> Result<Acquired, Refused> {
        self.lock.acquire_if_unowned(me, deadline)
    }

    /// Sits down on a seat that the calling thread has taken, and gives who sat there last and did not leave it.
    pub(crate) fn sit(&self, me: Me) -> u64 {
        let lock = &self.lock;
        if !lock.is_unplaced() && lock.word.load(Relaxed) & WAITERS == 0 {
            // The lock clears it where it puts a mark back and finds nobody asleep.
            lock.word.fetch_or(WAITERS, Relaxed);
        }
        self.sitter.swap(me.who(), AcqRel)
    }

    /// Leaves the seat, and wakes all who sleep on it.
    ///
    /// # Safety
    ///
    /// The calling thread has it.
    pub(crate) unsafe fn leave(&self, me: Me) {
        let lock = &self.lock;
        self.sitter.store(0, Release);
        if lock.is_unplaced() {
            // SAFETY: the caller's promise.
            return unsafe { lock.unlock(me) };
        }
        lock.put_in_the_slot(me);
        lock.record().clear();
        loop {
            let word = lock.word.load(Relaxed);
            let is_mine = word & TID == me.tid();
            if !is_mine
                || lock
                    .word
                    .compare_exchange(word, WAITERS, Release, Relaxed)
                    .is_ok()
            {
                break;
            }
        }
        sys::futex_wake(&lock.word, u32::MAX);
        me.list().clear_pending();
    }

    /// What the seat is just now.
    pub(crate) fn place(&self) -> Place {
        let lock = &self.lock;
        let word = lock.word.load(Acquire);
        let sitter = self.sitter.load(Acquire);
        if lock.is_unplaced() {
            return match sitter {
                0 => Place::Free,
                who => Place::Occupied(who),
            };
        }
        match word & (TID | OWNER_DIED) {
            FREE => Place::Free,
            OWNER_DIED => Place::Vacated(sitter),
            // Who sat here before may be named still.
            tid if sys::tid_of(sitter) == tid => Place::Occupied(sitter),
            _ => Place::Occupied(0),
        }
    }

    /// The word, and what it is: to sleep until that changes.
    pub(crate) fn watch(&self) -> (&AtomicU32, u32) {
        (&self.lock.word, self.lock.word.load(Acquire))
    }

    /// Whether the word is still what it was.
    pub(crate) fn is_still(&self, seen: u32) -> bool {
        self.lock.word.load(Relaxed) == seen
    }

    /// Wakes the others who sleep on the seat, if it has no holder any more: the kernel wakes one for a death, and a wake for
    /// who waits for the seat may have gone to who only watches it.
    pub(crate) fn pass_on(&self) {
        let word = &self.lock.word;
        if word.load(Relaxed) & TID == 0 {
            sys::futex_wake(word, u32::MAX);
        }
    }

    /// The safety net's look. True where the holder died without being marked.
    pub(crate) fn look_at_the_holder(&self) -> bool {
        !self.lock.is_unplaced() && self.lock.mark_if_owner_is_gone()
    }

    /// The lock that the seat is.
    pub(crate) fn lock(&self) -> &Robust {
        &self.lock
    }

    /// Marks a seat that looks occupied as vacated by a death.
    ///
    /// # Safety
    ///
    /// As for [`Robust::reset`].
    pub(crate) unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.lock.reset() };
        let word = self.lock.word.load(Relaxed);
        self.lock.word.store(word | WAITERS, Relaxed);
    }
}

/// What each seat was when a watcher last passed a wake on there that was no news to itself: once is enough, until a nap ends.
/// Those whom it wakes do the same, so that watchers would wake each other for ever where who waits for the seat does not run.
#[derive(Debug)]
pub(super) struct PassedOn([u32; WaitSet::MAX]);

impl PassedOn {
    pub(super) fn nothing() -> Self {
        // No seat's word that has no holder is that.
        PassedOn([FREE; WaitSet::MAX])
    }

    /// Whether to pass a wake on at a seat that was so.
    pub(super) fn is_due(&mut self, number: usize, seen: u32) -> bool {
        core::mem::replace(&mut self.0[number], seen) != seen
    }
}

/// Watches seats until `look` gives something, or the deadline comes. `news` is a word that tells of what the seats do not, and
/// `room` that of the [line](super::row) for the seats, where there is one.
pub(crate) fn watch<T>(
    seats: &[impl HasSeat],
    news: Option<&AtomicU32>,
    room: Option<&Robust>,
    deadline: Option<Deadline>,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, Missed> {
    let mut nap = Nap::first();
    let mut expired = false;
    let mut passed_on = PassedOn::nothing();
    loop {
        let mut set = WaitSet::new();
        let mut seen = [0; WaitSet::MAX];
        // Before the look: what changes after it is not as expected.
        for (seat, seen) in seats.iter().zip(&mut seen) {
            let (word, value) = seat.seat().watch();
            *seen = value;
            set.push(word, value);
        }
        if let Some(news) = news {
            set.push(news, news.load(Acquire));
        }
        if let Some(found) = look() {
            return Ok(found);
        }
        if expired {
            return Err(Missed::Refused(Refused::TimedOut));
        }
        let answer = set
            .sleep(nap.end(deadline))
            .map_err(|NoWaitOnSeveral| Missed::CannotWait)?;
        // Whoever leaves a seat and dies before its wake leaves one wake to the kernel, which may have come here. The seat may be
        // as it was before; but somebody waits for it then, and has not got it.
        let looks = answer == Wait::TimedOut || nap.is_over();
        let is_waited_for = room.is_some_and(|room| !room.is_available());
        if looks {
            passed_on = PassedOn::nothing();
        }
        for (number, (seat, seen)) in (0..).zip(seats.iter().map(HasSeat::seat).zip(seen)) {
            if looks {
                seat.look_at_the_holder();
            }
            // Whatever ended the sleep: wakes of other seats may have come to this sleeper too.
            if !seat.is_still(seen) || is_waited_for && passed_on.is_due(number, seen) {
                seat.pass_on();
            }
        }
        expired = deadline.is_some_and(Deadline::has_passed);
    }
}
