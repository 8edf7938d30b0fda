//! How a writer of a [readers-writer lock](super::rwlock) gets to be alone, and what it does with what a dead one left.

use super::outcome::{Patience, Refused};
use super::reader_seat::Seat;
use super::robust::Robust;
use super::rwlock::{News, RwLock};
use super::watch::Watched;
use crate::sys::Me;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

impl<const N: usize> RwLock<N> {
    /// Acquires what excludes writers and upgradable readers.
    pub(super) fn take_main(&self, me: Me, patience: Patience) -> Result<(), Refused> {
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
    pub(super) fn open_the_marked(
        &self,
        me: Me,
        patience: Patience,
        news: News<'_>,
    ) -> Result<(), Refused> {
        for gate in self.gates.iter().filter(|gate| !gate.is_open()) {
            gate.acquire(me, patience)?;
            self.tell(news);
            self.open(me, gate);
        }
        Ok(())
    }

    /// Closes the gate whose turn it is, and waits until the readers have left. The thread owns `main`.
    pub(super) fn close(&self, me: Me, patience: Patience, news: News<'_>) -> Result<(), Refused> {
        if self.seat_of(me, None).is_some() {
            // Before the others are waited for, and kept from reading.
            return Err(patience.refusal_of_the_holder());
        }
        let number = (self.turn.load(Relaxed) % 2) as usize;
        let (gate, other) = (&self.gates[number], &self.gates[1 - number]);
        if !other.is_open() {
            other.acquire(me, patience)?;
            self.tell(news);
            self.open(me, other);
            // By `SeqCst`, as the look above was, so that no reader takes it for closed whose seat is missed below.
            other.proclaim();
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
    pub(super) fn end_section(&self, me: Me) {
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
}
