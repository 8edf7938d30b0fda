//! Readers and writers: a row of robust words for the readers, and three more for the writers.
//!
//! | part | meaning |
//! |---|---|
//! | `seats[i].lock` | owned by a thread that reads, or waits to |
//! | `seats[i].state` | 0: reads, or looks whether it may; 1 or 2: waits for the writer of gate 0 or 1 to end |
//! | `main` | owned by a writer, an upgradable reader, or a reader that found no seat; whoever owns it excludes the others |
//! | `gates[0]`, `gates[1]` | owned by the writer, besides `main`: it waits for the readers to leave, or writes |
//! | `turn` | whose turn the gates are: they take turns, with each section that was written |
//! | `writing` | 1 while the data is in a writer's hands, and until a death in there is told |
//!
//! All but the last two are [robust words](super::robust), so whatever a thread held when it died is marked by the kernel, found
//! by the safety net, and not handed on while the process of an ended thread lives. Every place in which a thread can die is
//! one of theirs, but for these: `writing` is set after the last reader has left, and cleared before a gate is released. So a
//! marked gate with `writing` set is a death in the data, which is told before the gate opens; without, the dead had changed
//! nothing, and neither has a reader, or an upgradable reader.
//!
//! A **reader** takes a seat and looks at the gates. Where both are open, it reads. Else it says in the seat for which writer
//! it waits, keeps the seat, and sleeps on that gate. A **writer** takes `main`, then the gate whose turn it is, and waits for
//! each seat to be left, except by those who wait for its own gate. So who waited for the last writer goes before the next one.
//!
//! **The bound.** A reader with a seat sees one section written, that of the writer it met, before its own begins. Once a writer
//! has its gate, at most as many sections are read before its own as there are seats: those that were taken before. A writer
//! that gives up has no section, and its successor may have the same gate. Who waited for a writer that died lines up anew, for
//! `main`, where writers are among themselves as the lockers of a mutex.
//!
//! **A full row** makes a reader wait for a seat, as the owner of `main`: the head of the line in a [row](super::row) whose room
//! `main` is. It sets `WAITERS` in every seat and sleeps on all of them, so whichever is left or orphaned wakes it. It is the only
//! one who sleeps on the seats' words, as the writer is while it waits for readers; hence no wake of a seat is another's, and
//! [`news`](Robust::news) is missed by nobody. If it is killed, `main` goes to the next one, who looks at every seat before it
//! sleeps.
//!
//! A seat that is left with somebody asleep keeps `WAITERS`, and is for the sleeper: readers take seats that are 0. So one who has
//! got a seat, or has given up, opens those that were left for it besides. A thread that reads already reads on in the seat that it
//! has, whoever waits.
//!
//! **Orderings.** Two Dekker patterns, each with four `SeqCst` accesses. A reader writes its seat's word, or takes back that it
//! waits, and reads the gates; a writer writes its gate and reads the seats. So either the reader sees the gate, or the writer
//! sees the reader. And a reader that says for whom it waits, and then looks for `WAITERS` in its seat, against a writer that
//! sets the bit there and then asks for whom it waits.
//!
//! A reader that sees one gate closed waits for that one alone, and need not look at the other: a writer which owns the other one
//! and has missed the reader's seat would then be read beside. There is none, since a writer has read *both* gates by `SeqCst`, its
//! own after it has closed it and the other after that was opened last, before it reads the seats. Were the seat missed, the
//! reader would come after that in the one order of all `SeqCst` accesses, and could not see the other gate as it was before.
//! (That the opening happened before is not enough: it is a release, which orders nothing for a reader that does not see it, except
//! on machines that show a store to all others at once. The models do not tell: their fences order more than `SeqCst` accesses do.)
//!
//! What is read comes after what was written: the release of a gate synchronizes with the load that sees it open. What is
//! written comes after what was read: the release of a seat synchronizes with the load that sees it left. `turn` and `writing`
//! belong to the owner of `main`, which orders them; `writing` is set by an acquire, before the data is touched, and cleared by
//! a release, after.

use super::local::{Local, Use};
use super::outcome::{Patience, Refused};
use super::reader_seat::Seat;
use super::robust::Robust;
use crate::sys::{self, AtomicU32, Me};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// How many readers have a seat.
pub(crate) const SEATS: usize = 16;

/// A readers-writer lock without data.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct RwLock<const N: usize = SEATS> {
    pub(super) main: Robust,
    pub(super) gates: [Robust; 2],
    pub(super) turn: AtomicU32,
    pub(super) writing: AtomicU32,
    local: Local,
    pub(super) seats: [Seat; N],
}

/// Where a reader reads: in a seat, or as the owner of `main`, or in a lock that is not placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(pub(super) u32);

impl Place {
    pub(crate) const MAIN: Place = Place(u32::MAX);
    pub(super) const LOCAL: Place = Place(u32::MAX - 1);
}

/// Says that a writer died with the data in its hands. Called by who finds out, before anybody gets at them.
pub(crate) type News<'a> = &'a dyn Fn();

impl<const N: usize> RwLock<N> {
    sys::const_fn! {
        /// A free lock that is not placed.
        pub(crate) fn new() -> Self {
            RwLock {
                main: Robust::new(),
                gates: [Robust::new(), Robust::new()],
                turn: AtomicU32::new(0),
                writing: AtomicU32::new(0),
                local: Local::new(),
                seats: sys::const_array!(Seat::new(); N),
            }
        }
    }

    /// The robust words in it.
    pub(crate) fn words(&self) -> impl Iterator<Item = &Robust> {
        let seats = self.seats.iter().map(|seat| &seat.lock);
        [&self.main].into_iter().chain(&self.gates).chain(seats)
    }

    /// The record of who has `main`, if somebody does. It is out of date as soon as it is read.
    pub(crate) fn holder(&self) -> Option<u64> {
        self.main.holder()
    }

    /// Makes the lock robust where it will stay, and free.
    ///
    /// # Safety
    ///
    /// As for [`Robust::arm`].
    pub(crate) unsafe fn arm(&self) {
        // SAFETY: the caller's promise.
        self.words().for_each(|word| unsafe { word.arm() });
        self.seats.iter().for_each(Seat::forget);
        self.writing.store(0, Relaxed);
    }

    /// Marks whatever looks held as died.
    ///
    /// # Safety
    ///
    /// As for [`Robust::reset`].
    pub(crate) unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        self.words().for_each(|word| unsafe { word.reset() });
        self.seats.iter().for_each(Seat::forget);
    }

    /// Marks a lock that was reset as one whose writer died in its section.
    ///
    /// # Safety
    ///
    /// As for [`Robust::mark`].
    pub(crate) unsafe fn mark(&self) {
        self.writing.store(1, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.gates[0].mark() };
    }

    /// Acquires the lock for reading.
    #[inline]
    pub(crate) fn read(
        &self,
        me: Me,
        patience: Patience,
        news: News<'_>,
    ) -> Result<Place, Refused> {
        let home = me.tid() as usize % N;
        if !self.seats[home].lock.acquire_by_the_slot_in(me, SeqCst) {
            return self.find_seat(me, home, patience, news);
        }
        sys::dekker_fence();
        if self.gates[0].is_open() && self.gates[1].is_open() {
            return Ok(Place(home as u32));
        }
        self.wait_in_seat(me, home, patience, news)
    }

    /// Ends a read.
    ///
    /// # Safety
    ///
    /// The calling thread reads there.
    #[inline]
    pub(crate) unsafe fn end_read(&self, me: Me, place: Place) {
        match self.seats.get(place.0 as usize) {
            // SAFETY: the caller's promise.
            Some(seat) => unsafe { seat.leave(me) },
            // SAFETY: as above.
            None => unsafe { self.end_read_elsewhere(me, place) },
        }
    }

    /// Acquires the lock for a writer. If its predecessor died with the data in its hands, `news` was called.
    pub(crate) fn write(&self, me: Me, patience: Patience, news: News<'_>) -> Result<(), Refused> {
        if self.main.is_unplaced() {
            return self.take_local(me, None, Use::Write, patience);
        }
        self.take_main(me, patience)?;
        let outcome = self.close(me, patience, news);
        if outcome.is_err() {
            // SAFETY: acquired above.
            unsafe { self.main.unlock(me) };
        }
        outcome
    }

    /// Acquires the lock for reading, and keeps writers and others of this kind away.
    pub(crate) fn upgradable_read(
        &self,
        me: Me,
        patience: Patience,
        news: News<'_>,
    ) -> Result<(), Refused> {
        if self.main.is_unplaced() {
            return self.take_local(me, None, Use::UpgradableRead, patience);
        }
        self.take_main(me, patience)?;
        let outcome = self.open_the_marked(me, patience, news);
        if outcome.is_err() {
            // SAFETY: acquired above.
            unsafe { self.main.unlock(me) };
        }
        outcome
    }

    /// Makes an upgradable reader the writer. It is what it was where that fails.
    ///
    /// # Safety
    ///
    /// The calling thread is the upgradable reader.
    pub(crate) unsafe fn upgrade(
        &self,
        me: Me,
        patience: Patience,
        news: News<'_>,
    ) -> Result<(), Refused> {
        if self.main.is_unplaced() {
            return self.take_local(me, Some(Use::UpgradableRead), Use::Write, patience);
        }
        self.close(me, patience, news)
    }

    /// Ends an upgradable read.
    ///
    /// # Safety
    ///
    /// The calling thread is the upgradable reader.
    pub(crate) unsafe fn end_upgradable_read(&self, me: Me) {
        if self.main.is_unplaced() {
            return self.give_back_local(Use::UpgradableRead, None);
        }
        // SAFETY: the caller's promise: an upgradable reader owns `main`.
        unsafe { self.main.unlock(me) };
    }

    /// Ends a section that was written.
    ///
    /// # Safety
    ///
    /// The calling thread is the writer.
    pub(crate) unsafe fn end_write(&self, me: Me) {
        if self.main.is_unplaced() {
            return self.give_back_local(Use::Write, None);
        }
        self.end_section(me);
        // SAFETY: a writer owns `main`.
        unsafe { self.main.unlock(me) };
    }

    /// Makes the writer a reader, with nobody writing between.
    ///
    /// # Safety
    ///
    /// The calling thread is the writer.
    pub(crate) unsafe fn downgrade(&self, me: Me) -> Place {
        if self.main.is_unplaced() {
            self.give_back_local(Use::Write, Some(Use::Read));
            return Place::LOCAL;
        }
        // Seats may all be taken, by readers who wait for this writer.
        let seat = (0..N).find(|&seat| self.seats[seat].lock.acquire_if_free(me));
        self.end_section(me);
        let Some(seat) = seat else {
            return Place::MAIN;
        };
        // SAFETY: a writer owns `main`.
        unsafe { self.main.unlock(me) };
        Place(seat as u32)
    }

    #[cold]
    unsafe fn end_read_elsewhere(&self, me: Me, place: Place) {
        if place == Place::LOCAL {
            return self.local.give_back(Use::Read, None);
        }
        // SAFETY: the caller's promise.
        unsafe { self.main.unlock(me) };
    }

    #[cold]
    pub(super) fn take_local(
        &self,
        me: Me,
        from: Option<Use>,
        to: Use,
        patience: Patience,
    ) -> Result<(), Refused> {
        let holder = &self.main.record;
        let excludes_itself = to != Use::Read || self.local.is_written();
        if from.is_none() && holder.is_mine(me) && excludes_itself {
            return Err(patience.refusal_of_the_holder());
        }
        let holder_is_gone = || {
            let record = holder.read_whole();
            // And the record is its still when it has been seen to be gone: it did not release before it ended.
            record.is_some_and(|(who, image)| {
                who != 0 && sys::owner_is_gone(who, image) && holder.is_still(who)
            })
        };
        self.local.take(from, to, patience, holder_is_gone)?;
        if to != Use::Read {
            holder.write(me);
        }
        Ok(())
    }

    fn give_back_local(&self, from: Use, to: Option<Use>) {
        self.main.record.clear();
        self.local.give_back(from, to);
    }
}
