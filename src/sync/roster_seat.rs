//! A seat of a [`SharedRoster`](super::SharedRoster): its place, what a look at it shows, and the guard of who has it.

use super::Holder;
use crate::memory::{Layout, ShmSafe, Walk};
use crate::raw::Robust;
use crate::raw::row::HasWord;
use crate::raw::seat::{HasSeat, Place, Seat};
use crate::sys::{self, Me};
use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::Deref;

/// A seat and its data, on cache lines of their own.
#[repr(C, align(64))]
pub(super) struct Chair<T> {
    pub(super) seat: Seat,
    pub(super) data: T,
}

impl<T> HasSeat for Chair<T> {
    fn seat(&self) -> &Seat {
        &self.seat
    }
}

impl<T> HasWord for Chair<T> {
    fn word(&self) -> &Robust {
        self.seat.lock()
    }
}

/// A look at a seat; see [`SharedRoster::seats`](crate::SharedRoster::seats).
#[derive(Debug)]
pub struct SeatView<'a, T> {
    /// The seat's number, from 0 on.
    pub number: usize,
    /// Who has it. It may be out of date when it is read.
    pub state: SeatState,
    /// Its data, whoever has it.
    pub data: &'a T,
}

/// Who has a seat. Ids are those of the worker's own PID namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeatState {
    /// Nobody: it was never taken, or its last holder left it.
    Free,
    /// A worker.
    Occupied {
        /// Which one. `None` for the moment in which it sits down.
        by: Option<Holder>,
    },
    /// Its holder died, and nobody has taken it since.
    Vacated {
        /// Who. `None` where it died before it had sat down.
        by: Option<Holder>,
    },
}

impl From<Place> for SeatState {
    fn from(place: Place) -> Self {
        match place {
            Place::Free => SeatState::Free,
            Place::Occupied(who) => SeatState::Occupied { by: holder(who) },
            Place::Vacated(who) => SeatState::Vacated { by: holder(who) },
        }
    }
}

fn holder(who: u64) -> Option<Holder> {
    (who != 0).then(|| Holder {
        process: sys::pid_of(who),
        thread: sys::tid_of(who),
    })
}

/// A seat of a [`SharedRoster`](crate::SharedRoster), and its data. Dropping it leaves the seat; the data stays as it is.
///
/// It stays in its thread: it is neither `Send` nor `Sync`. One that crosses a `fork` is the parent's; the child's copy does
/// nothing when it is dropped. Forgetting it keeps the seat for as long as the process lives.
#[must_use = "if unused the seat is left at once"]
pub struct RosterSeat<'a, T> {
    chair: &'a Chair<T>,
    number: usize,
    after_a_death: bool,
    previous: Option<Holder>,
    /// The process that took it.
    generation: u64,
    /// The word and the robust list name the thread that took it.
    stays_here: PhantomData<*mut ()>,
}

impl<'a, T> RosterSeat<'a, T> {
    /// The guard of a seat that the calling thread, `me`, has just taken, and on which `before` sat last and did not leave.
    ///
    /// # Safety
    ///
    /// It has, and this guard is the only one that says so.
    pub(super) unsafe fn new(
        chair: &'a Chair<T>,
        number: usize,
        me: Me,
        after_a_death: bool,
        before: u64,
    ) -> Self {
        RosterSeat {
            chair,
            number,
            after_a_death,
            previous: holder(before).filter(|_| after_a_death),
            generation: me.generation(),
            stays_here: PhantomData,
        }
    }
    /// The seat's number, from 0 on.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether the last holder of the seat died with it.
    pub fn previous_holder_died(&self) -> bool {
        self.after_a_death
    }

    /// The holder that died with the seat, where one had sat down.
    pub fn previous_holder(&self) -> Option<Holder> {
        self.previous
    }
}

impl<T> Deref for RosterSeat<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.chair.data
    }
}

impl<T> Drop for RosterSeat<'_, T> {
    fn drop(&mut self) {
        let Some(me) = Me::of_generation(self.generation) else {
            return;
        };
        // SAFETY: this thread took the seat in this process, and nothing but this drop leaves it.
        unsafe { self.chair.seat.leave(me) };
    }
}

impl<T: fmt::Debug> fmt::Debug for RosterSeat<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RosterSeat")
            .field("number", &self.number)
            .field("data", &self.chair.data)
            .finish_non_exhaustive()
    }
}

// SAFETY: `repr(C)` over atomics and a `ShmSafe`, whose primitives are visited; the seat's own are the roster's. Zero bytes are a
// free, unarmed seat with zero bytes of `T`.
#[diagnostic::do_not_recommend]
unsafe impl<T: ShmSafe> ShmSafe for Chair<T> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;
    const HAS_PRIMITIVES: bool = T::HAS_PRIMITIVES;

    fn describe(layout: &mut Layout) {
        layout.aggregate::<Self>();
        layout.field("data", offset_of!(Self, data), T::describe);
    }

    fn walk(&self, walk: &mut Walk<'_>) {
        walk.field("data", &self.data);
    }
}

static_assertions::assert_not_impl_any!(RosterSeat<'static, u64>: Send, Sync);
