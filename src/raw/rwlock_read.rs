//! How a reader of a [readers-writer lock](super::rwlock) waits: in its seat, for the writer, or as the owner of `main`, for a
//! seat.

use super::local::Use;
use super::outcome::{Patience, Refused};
use super::reader_seat::IN;
use super::row::{Missed, Otherwise, Row};
use super::rwlock::{News, Place, RwLock};
use super::watch::Watched;
use crate::sys::{self, Me};
use core::sync::atomic::Ordering::SeqCst;

impl<const N: usize> RwLock<N> {
    /// A read whose first seat is not to be had.
    #[cold]
    pub(super) fn find_seat(
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
    pub(super) fn wait_in_seat(
        &self,
        me: Me,
        place: usize,
        patience: Patience,
        news: News<'_>,
    ) -> Result<Place, Refused> {
        sys::dekker_fence();
        // One that was seen owned after the seat was taken stays the one to wait for: every later writer sees the seat. And who
        // owns the other gate by then is a later one: see `rwlock` on orderings.
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

    /// Waits for a seat. The gates are open, and stay so: the thread owns `main`, and is the only one who sleeps on the seats.
    fn take_any_seat(&self, me: Me, home: usize, patience: Patience) -> Result<Place, Refused> {
        let row = Row {
            words: &self.seats,
            room: &self.main,
        };
        let outcome = row.acquire_as_head(me, home, patience, Otherwise::SleepsOnOne);
        // Those that were left for the sleeper are for whoever comes: it has one, or waits no longer.
        for seat in &self.seats {
            seat.lock.pass_on();
        }
        match outcome {
            Ok((place, _)) => {
                self.seats[place].forget();
                Ok(Place(place as u32))
            }
            Err(Missed::Refused(refused)) => Err(refused),
            // It sleeps on one word then.
            Err(Missed::CannotWait) => Err(patience.refusal()),
        }
    }

    /// Reads once more in the seat that the thread has.
    fn nest(&self, seat: usize) -> Place {
        self.seats[seat].nest();
        Place(seat as u32)
    }

    /// The seat of the calling thread, other than `except`.
    pub(super) fn seat_of(&self, me: Me, except: Option<usize>) -> Option<usize> {
        (0..N).find(|&seat| Some(seat) != except && self.seats[seat].lock.is_held_by(me))
    }
}
