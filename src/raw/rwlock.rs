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
//! **A full row** makes a reader wait for a seat, as the owner of `main`. It is the only one who sleeps on a seat's word, as the
//! writer is while it waits for readers; hence [`news`](Robust::news) is missed by nobody. A seat that is left with somebody
//! asleep keeps `WAITERS`, and is for the sleeper: readers take seats that are 0. A thread that reads already reads on in the
//! seat that it has, whoever waits.
//!
//! **Orderings.** Two Dekker patterns, each with four `SeqCst` accesses. A reader writes its seat's word, or takes back that it
//! waits, and reads the gates; a writer writes its gate and reads the seats. So either the reader sees the gate, or the writer
//! sees the reader. And a reader that says for whom it waits, and then looks for `WAITERS` in its seat, against a writer that
//! sets the bit there and then asks for whom it waits.
//!
//! What is read comes after what was written: the release of a gate synchronizes with the load that sees it open. What is
//! written comes after what was read: the release of a seat synchronizes with the load that sees it left. `turn` and `writing`
//! belong to the owner of `main`, which orders them; `writing` is set by an acquire, before the data is touched, and cleared by
//! a release, after.

use super::local::{Local, Use};
use super::outcome::{Patience, Refused};
use super::robust::Robust;
use super::watch::Watched;
use crate::sys::{self, AtomicU32, Me};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

/// A reader's place.
#[repr(C, align(128))]
#[derive(Debug)]
struct Seat {
    lock: Robust,
    state: AtomicU32,
    /// How many reads its owner has begun besides the first. Only the owner looks here.
    nested: AtomicU32,
}

const IN: u32 = 0;

impl Seat {
    sys::const_fn! {
        fn new() -> Self {
            Seat {
                lock: Robust::new(),
                state: AtomicU32::new(IN),
                nested: AtomicU32::new(0),
            }
        }
    }

    /// What a new owner finds, and a dead one may not have left.
    fn forget(&self) {
        self.state.store(IN, Relaxed);
        self.nested.store(0, Relaxed);
    }

    /// # Safety
    ///
    /// The calling thread owns the seat.
    #[inline]
    unsafe fn leave(&self, me: Me) {
        let nested = self.nested.load(Relaxed);
        if nested > 0 {
            self.nested.store(nested - 1, Relaxed);
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { self.lock.unlock(me) };
    }
}

/// How many readers have a seat.
pub(crate) const SEATS: usize = 16;

/// A readers-writer lock without data.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct RwLock<const N: usize = SEATS> {
    main: Robust,
    gates: [Robust; 2],
    turn: AtomicU32,
    writing: AtomicU32,
    local: Local,
    seats: [Seat; N],
}

/// Where a reader reads: in a seat, or as the owner of `main`, or in a lock that is not placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    pub(crate) const MAIN: Place = Place(u32::MAX);
    const LOCAL: Place = Place(u32::MAX - 1);
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

    /// A read whose first seat is not to be had.
    #[cold]
    fn find_seat(
        &self,
        me: Me,
        home: usize,
        patience: Patience,
        news: News<'_>,
    ) -> Result<Place, Refused> {
        if self.main.is_unplaced() {
            self.seats[home].lock.withdraw(me);
            self.take_local(me, None, Use::Read, patience)?;
            return Ok(Place::LOCAL);
        }
        if self.seats[home].lock.is_held_by(me) {
            return Ok(self.nest(home));
        }
        for seat in (home..N).chain(0..home) {
            if self.seats[seat].lock.acquire_if_free(me) {
                return self.wait_in_seat(me, seat, patience, news);
            }
        }
        match self.seat_of(me, None) {
            Some(seat) => Ok(self.nest(seat)),
            None => self.read_by_main(me, home, patience, news),
        }
    }

    /// Waits, in a seat that the thread has just taken, for the writer to end, if there is one.
    #[cold]
    fn wait_in_seat(
        &self,
        me: Me,
        place: usize,
        patience: Patience,
        news: News<'_>,
    ) -> Result<Place, Refused> {
        sys::dekker_fence();
        // One that was seen owned after the seat was taken stays the one to wait for: every later writer sees the seat.
        let Some(number) = (0..2).find(|&gate| !self.gates[gate].is_open()) else {
            return Ok(Place(place as u32));
        };
        let (gate, seat) = (&self.gates[number], &self.seats[place]);
        let refused = loop {
            if gate.is_held_by(me) {
                break Some(patience.refusal_of_the_holder());
            }
            if let Some(own) = self.seat_of(me, Some(place)) {
                // SAFETY: taken by the caller.
                unsafe { seat.leave(me) };
                return Ok(self.nest(own));
            }
            seat.state.swap(1 + number as u32, SeqCst);
            seat.lock.news();
            // Announced, so that the kernel wakes another if this thread is woken, and dies before it has passed that on.
            gate.announce(me);
            let watched = gate.watch(patience.deadline(), || false);
            seat.state.swap(IN, SeqCst);
            gate.pass_on();
            gate.settle(me, false);
            sys::dekker_fence();
            match watched {
                Watched::TimedOut => break Some(patience.refusal()),
                Watched::Died | Watched::Over => break None,
                Watched::Free if gate.is_open() => return Ok(Place(place as u32)),
                Watched::Free => {}
            }
        };
        // SAFETY: taken by the caller.
        unsafe { seat.leave(me) };
        match (refused, patience) {
            (Some(refused), _) => Err(refused),
            (None, Patience::IfReleased) => Err(Refused::WouldBlock),
            (None, _) => self.read_by_main(me, place, patience, news),
        }
    }

    /// Reads where a writer has died, or the row is full: as the owner of `main` while it finds a seat.
    fn read_by_main(
        &self,
        me: Me,
        home: usize,
        patience: Patience,
        news: News<'_>,
    ) -> Result<Place, Refused> {
        let has_main = self.main.is_held_by(me);
        if !has_main {
            self.take_main(me, patience)?;
        }
        let opened = self.open_the_marked(me, patience, news);
        let outcome = opened.and_then(|()| self.take_any_seat(me, home, patience));
        if !has_main {
            // SAFETY: acquired above.
            unsafe { self.main.unlock(me) };
        }
        outcome
    }

    /// Waits for a seat. The gates are open, and stay so: the thread owns `main`.
    fn take_any_seat(&self, me: Me, home: usize, patience: Patience) -> Result<Place, Refused> {
        loop {
            // Those whose owners' threads have ended, while what they read may have been handed on.
            let mut kept = [false; N];
            for place in (home..N).chain(0..home) {
                let seat = &self.seats[place];
                // Whoever sleeps on a seat owns `main`, so one that is left for a sleeper is left for this thread.
                if !seat.lock.is_owned() {
                    if seat.lock.acquire(me, Patience::None).is_ok() {
                        seat.forget();
                        return Ok(Place(place as u32));
                    }
                    kept[place] = !seat.lock.is_owned();
                }
            }
            let mut others = (home..N).chain(0..home).filter(|&seat| !kept[seat]);
            let Some(place) = others.next() else {
                return Err(Refused::HolderThreadEnded);
            };
            let another = || (0..N).any(|seat| !kept[seat] && !self.seats[seat].lock.is_owned());
            let watched = self.seats[place].lock.watch(patience.deadline(), another);
            if watched == Watched::TimedOut {
                return Err(patience.refusal());
            }
        }
    }

    /// Reads once more in the seat that the thread has.
    fn nest(&self, seat: usize) -> Place {
        let nested = &self.seats[seat].nested;
        nested.store(nested.load(Relaxed) + 1, Relaxed);
        Place(seat as u32)
    }

    /// The seat of the calling thread, other than `except`.
    fn seat_of(&self, me: Me, except: Option<usize>) -> Option<usize> {
        (0..N).find(|&seat| Some(seat) != except && self.seats[seat].lock.is_held_by(me))
    }

    fn take_main(&self, me: Me, patience: Patience) -> Result<(), Refused> {
        if self.main.acquire_by_the_slot(me) {
            return Ok(());
        }
        // Its owner may wait for this very thread to leave its seat.
        if self.seat_of(me, None).is_some() {
            return match self.main.acquire(me, Patience::None) {
                Err(Refused::WouldBlock) => Err(patience.refusal_of_the_holder()),
                outcome => outcome.map(drop),
            };
        }
        self.main.acquire(me, patience).map(drop)
    }

    /// Opens the gates of a writer that died. The thread owns `main`, so a gate that is not open is a dead one's.
    fn open_the_marked(&self, me: Me, patience: Patience, news: News<'_>) -> Result<(), Refused> {
        for gate in self.gates.iter().filter(|gate| !gate.is_open()) {
            gate.acquire(me, patience)?;
            self.tell(news);
            self.open(me, gate);
        }
        Ok(())
    }

    /// Closes the gate whose turn it is, and waits until the readers have left. The thread owns `main`.
    fn close(&self, me: Me, patience: Patience, news: News<'_>) -> Result<(), Refused> {
        let number = (self.turn.load(Relaxed) % 2) as usize;
        let (gate, other) = (&self.gates[number], &self.gates[1 - number]);
        if !other.is_open() {
            other.acquire(me, patience)?;
            self.tell(news);
            self.open(me, other);
        }
        gate.acquire(me, patience)?;
        self.tell(news);
        gate.proclaim();
        for seat in &self.seats {
            if let Err(refused) = self.wait_for_reader(me, seat, 1 + number as u32, patience) {
                self.open(me, gate);
                return Err(refused);
            }
        }
        // Before the data is touched.
        self.writing.swap(1, Acquire);
        Ok(())
    }

    /// Waits until nobody reads in the seat.
    fn wait_for_reader(
        &self,
        me: Me,
        seat: &Seat,
        own_gate: u32,
        patience: Patience,
    ) -> Result<(), Refused> {
        if seat.lock.is_empty() {
            return Ok(());
        }
        if seat.lock.is_held_by(me) {
            return Err(patience.refusal_of_the_holder());
        }
        let waits_for_me = || seat.state.load(SeqCst) == own_gate;
        match seat.lock.watch(patience.deadline(), waits_for_me) {
            Watched::Over => Ok(()),
            Watched::Free => {
                seat.lock.pass_on();
                Ok(())
            }
            Watched::TimedOut => Err(patience.refusal()),
            Watched::Died => {
                seat.lock.acquire(me, patience)?;
                seat.forget();
                // SAFETY: acquired just now.
                unsafe { seat.lock.unlock(me) };
                Ok(())
            }
        }
    }

    /// Tells a death in the data, before the gate is opened. The thread owns `main` and the gate.
    fn tell(&self, news: News<'_>) {
        if self.writing.load(Relaxed) != 0 {
            news();
            self.writing.store(0, Release);
        }
    }

    /// Ends the section, and gives the next writer the other gate. The thread keeps `main`.
    fn end_section(&self, me: Me) {
        self.writing.store(0, Release);
        let turn = self.turn.load(Relaxed);
        self.turn.store(turn.wrapping_add(1), Relaxed);
        self.open(me, &self.gates[(turn % 2) as usize]);
    }

    /// Opens a gate that the thread owns, for all who wait there.
    fn open(&self, me: Me, gate: &Robust) {
        // SAFETY: the caller owns it.
        unsafe { gate.unlock(me) };
        gate.pass_on();
    }

    #[cold]
    fn take_local(
        &self,
        me: Me,
        from: Option<Use>,
        to: Use,
        patience: Patience,
    ) -> Result<(), Refused> {
        let holder = &self.main.record;
        if from.is_none() && to != Use::Read && holder.is_mine(me) {
            return Err(patience.refusal_of_the_holder());
        }
        let holder_is_gone = || {
            let record = holder.read_whole();
            record.is_some_and(|(who, image)| who != 0 && sys::owner_is_gone(who, image))
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
