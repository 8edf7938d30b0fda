//! A wait for any of several things: each has words to sleep on, and all are slept on by one call.
//!
//! Nothing is taken here; who is told that something can be had goes and tries. So a wake that came to a watcher may have been for
//! somebody who waits for the same thing, and the watcher wakes one more before it goes on. Where it is killed before it has, that
//! one sees to itself when its nap ends, within a second.
//!
//! **Orderings.** Those of the words: whoever finds a thing ready has looked at it by the acquire that its own algorithm uses.

use super::event::Event;
use super::outcome::Refused;
use super::robust::Robust;
use super::row::{HasWord, Missed, Row};
use super::seat::{HasSeat, PassedOn, Place, Seat};
use crate::sys::{Deadline, Nap, NoWaitOnSeveral, Wait, WaitSet};
use core::cell::RefCell;

/// Something to wait for.
pub(crate) trait Source {
    /// How many words it sleeps on.
    fn words(&self) -> usize;

    /// Whether there is what one waits for.
    fn is_ready(&self) -> bool;

    /// Adds its words to a set, and says in them that somebody sleeps. False where there is something new.
    fn join<'a>(&'a self, set: &mut WaitSet<'a>) -> bool;

    /// After a sleep: wakes others for whom a wake may have been that came here, and looks for unmarked deaths where `looks`.
    fn after_sleep(&self, looks: bool);
}

impl Source for Event {
    fn words(&self) -> usize {
        1
    }

    fn is_ready(&self) -> bool {
        self.is_set()
    }

    fn join<'a>(&'a self, set: &mut WaitSet<'a>) -> bool {
        let announced = self.announce();
        announced
            .inspect(|(word, expected)| set.push(word, *expected))
            .is_some()
    }

    // A set wakes everybody.
    fn after_sleep(&self, _: bool) {}
}

impl<W: HasWord> Source for Row<'_, W> {
    fn words(&self) -> usize {
        self.words.len()
    }

    fn is_ready(&self) -> bool {
        self.words.iter().any(|word| word.word().is_available())
    }

    fn join<'a>(&'a self, set: &mut WaitSet<'a>) -> bool {
        self.words.iter().map(HasWord::word).all(|lock| {
            let expected = lock.expect_change();
            expected
                .inspect(|&expected| set.push(&lock.word, expected))
                .is_some()
        })
    }

    fn after_sleep(&self, looks: bool) {
        if looks {
            self.look_for_the_dead();
        }
        self.wake_for_the_rest();
    }
}

/// Seats, of which one that was vacated by a death is waited for, and the room of the line for them.
#[derive(Debug)]
pub(crate) struct Vacancies<'a, S> {
    seats: &'a [S],
    room: &'a Robust,
    passed_on: RefCell<PassedOn>,
}

impl<'a, S> Vacancies<'a, S> {
    /// For one wait.
    pub(crate) fn new(seats: &'a [S], room: &'a Robust) -> Self {
        let passed_on = RefCell::new(PassedOn::nothing());
        Vacancies {
            seats,
            room,
            passed_on,
        }
    }
}

impl<S: HasSeat> Source for Vacancies<'_, S> {
    fn words(&self) -> usize {
        self.seats.len()
    }

    fn is_ready(&self) -> bool {
        let is_vacated = |seat: &Seat| matches!(seat.place(), Place::Vacated(_));
        self.seats.iter().any(|seat| is_vacated(seat.seat()))
    }

    // Whether there is a vacancy is looked at again when all words have been read.
    fn join<'a>(&'a self, set: &mut WaitSet<'a>) -> bool {
        for (word, seen) in self.seats.iter().map(|seat| seat.seat().watch()) {
            set.push(word, seen);
        }
        true
    }

    fn after_sleep(&self, looks: bool) {
        let is_waited_for = !self.room.is_available();
        let mut passed_on = self.passed_on.borrow_mut();
        if looks {
            *passed_on = PassedOn::nothing();
        }
        for (number, seat) in (0..).zip(self.seats.iter().map(HasSeat::seat)) {
            if looks {
                seat.look_at_the_holder();
            }
            let (_, word) = seat.watch();
            let is_vacated = matches!(seat.place(), Place::Vacated(_));
            if is_vacated || is_waited_for && passed_on.is_due(number, word) {
                seat.pass_on();
            }
        }
    }
}

/// Waits until one of the sources is ready, and gives its place among them.
pub(crate) fn wait_any(
    sources: &[&dyn Source],
    deadline: Option<Deadline>,
) -> Result<usize, Missed> {
    let mut nap = Nap::first();
    let mut expired = false;
    loop {
        let mut set = WaitSet::new();
        let is_whole = sources.iter().all(|source| source.join(&mut set));
        if let Some(ready) = sources.iter().position(|source| source.is_ready()) {
            return Ok(ready);
        }
        if expired {
            return Err(Missed::Refused(Refused::TimedOut));
        }
        if is_whole {
            let answer = set
                .sleep(nap.end(deadline))
                .map_err(|NoWaitOnSeveral| Missed::CannotWait)?;
            let looks = answer == Wait::TimedOut || nap.is_over();
            for source in sources {
                source.after_sleep(looks);
            }
        }
        expired = deadline.is_some_and(Deadline::has_passed);
    }
}
