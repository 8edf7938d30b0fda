//! [`SharedRoster`]: a seat with data of its own for each worker, and the news of a worker's death.

use super::roster_seat::{Chair, RosterSeat, SeatView};
use crate::Error;
use crate::memory::{Kind, Layout, Primitive, ShmSafe, Walk};
use crate::raw::Robust;
use crate::raw::any::Vacancies;
use crate::raw::outcome::{Acquired, Patience};
use crate::raw::row::{HasWord, Row};
use crate::raw::seat::{Place, Seat, watch};
use crate::sys::{self, Deadline, Me};
use std::fmt;
use std::mem::offset_of;
use std::time::Duration;

/// `N` seats in shared memory, one for each worker, with a `T` at each: what the worker counts, say. `N` is 1 to 127.
///
/// A worker [joins](Self::join) and has a seat until it drops its [`RosterSeat`], or dies. Everybody can look at
/// [all seats](Self::seats), and read the `T` of each, at any time: that of a dead worker too, so totals lose nothing.
///
/// A seat is held by a thread. Before the roster is placed in a map it works for the threads of this process.
///
/// # What a death does
///
/// The kernel vacates the seat of a dead worker, and wakes those who [wait for that](Self::wait_for_vacancy). The `T` stays as the
/// dead one left it, whatever it was about to write. Who joins next, where no seat is free, or [takes over](Self::take_over) this
/// one, finds it so, is told ([`RosterSeat::previous_holder_died`]), and goes on with it or starts it anew by what its fields
/// offer.
///
/// A watcher that dies disturbs nobody, but for one case: the kernel wakes one of several watchers, who wakes the others.
/// Where that one is killed before it has, the others see the death within a second. Deaths that the kernel could not mark are
/// seen within a second too.
///
/// A seat whose holder's *thread* ended, with the seat forgotten, looks vacated, and is not given out while that process lives.
///
/// # Examples
///
/// ```
/// use pshared::{fork, SeatState, Shared, SharedCounter, SharedRoster};
///
/// let roster = Shared::anonymous(SharedRoster::<SharedCounter, 4>::default())?;
/// let worker = fork::spawn(|| {
///     let jobs = roster.join().unwrap();
///     jobs.add(3);
///     std::process::abort();
/// })?;
/// let number = roster.wait_for_vacancy()?;
/// worker.wait()?;
///
/// let seat = roster.seats().nth(number).unwrap();
/// assert!(matches!(seat.state, SeatState::Vacated { by: Some(who) } if who.process == worker.id()));
/// let total: u64 = roster.seats().map(|seat| seat.data.get()).sum();
/// assert_eq!(total, 3);
///
/// let successor = roster.take_over(number)?;
/// assert!(successor.previous_holder_died());
/// successor.add(1);
/// assert_eq!(successor.get(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// Robust futexes held for life, and [futex_waitv](https://docs.kernel.org/userspace-api/futex2.html) over all of them, as the
/// scoreboard of a forking server would have it.
#[repr(C)]
pub struct SharedRoster<T, const N: usize> {
    room: Robust,
    chairs: [Chair<T>; N],
}

impl<T: ShmSafe, const N: usize> SharedRoster<T, N> {
    /// A roster of free seats, the data of the one numbered `number` being `data(number)`.
    ///
    /// None, or more than 127, do not compile.
    pub fn from_fn(mut data: impl FnMut(usize) -> T) -> Self {
        const {
            assert!(
                N >= 1 && N <= Row::<Chair<u8>>::MAX,
                "there may be 1 to 127 seats"
            )
        };
        SharedRoster {
            room: Robust::new(),
            chairs: std::array::from_fn(|number| Chair {
                seat: Seat::new(),
                data: data(number),
            }),
        }
    }

    /// Takes a free seat, or else one that a death has vacated; waits for one as long as it takes.
    ///
    /// # Errors
    ///
    /// [`Error::Deadlock`], [`Error::HolderThreadEnded`] and [`Error::NoFutexWaitv`], as for
    /// [`SharedPermits::acquire`](crate::SharedPermits::acquire).
    pub fn join(&self) -> Result<RosterSeat<'_, T>, Error> {
        self.join_with(Patience::Endless)
    }

    /// Takes a free seat, or else one that a death has vacated, without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] where all are occupied, and [`Error::HolderThreadEnded`].
    pub fn try_join(&self) -> Result<RosterSeat<'_, T>, Error> {
        self.join_with(Patience::None)
    }

    /// As [`join`](Self::join), waiting no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join), and [`Error::TimedOut`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<RosterSeat<'_, T>, Error> {
        self.join_with(Patience::Until(Deadline::after(timeout)))
    }

    /// Takes the seat of this number, which nobody has: its holder died, or it is free.
    ///
    /// # Errors
    ///
    /// - [`Error::WouldBlock`]: somebody has it, or its holder is dying and not gone yet.
    /// - [`Error::HolderThreadEnded`]: the thread that had it ended, and its process lives.
    ///
    /// # Panics
    ///
    /// Where there is no seat of this number.
    pub fn take_over(&self, number: usize) -> Result<RosterSeat<'_, T>, Error> {
        let me = sys::me();
        let words = std::slice::from_ref(&self.chairs[number]);
        let room = &self.room;
        // Without patience nobody gets in line, so the room is not used.
        let (_, acquired) = Row { words, room }
            .acquire(me, 0, Patience::None)
            .map_err(Error::from_missed)?;
        Ok(self.sit_down(me, number, acquired))
    }

    /// All seats, in the order of their numbers: who has each, and its data.
    pub fn seats(&self) -> impl Iterator<Item = SeatView<'_, T>> {
        (0..).zip(&self.chairs).map(|(number, chair)| SeatView {
            number,
            state: chair.seat.place().into(),
            data: &chair.data,
        })
    }

    /// The first seat that a death has vacated and nobody has taken since, if there is one. It does not wait.
    pub fn vacancy(&self) -> Option<usize> {
        self.chairs
            .iter()
            .position(|chair| matches!(chair.seat.place(), Place::Vacated(_)))
    }

    /// Waits until a death has vacated a seat, and gives its number: at once, where there is such a seat already.
    ///
    /// It gives the same number until somebody has the seat. A supervisor that starts a new worker, who will join by itself,
    /// takes the seat over and drops it: then it is free.
    ///
    /// # Errors
    ///
    /// [`Error::NoFutexWaitv`].
    pub fn wait_for_vacancy(&self) -> Result<usize, Error> {
        self.watch(None)
    }

    /// As [`wait_for_vacancy`](Self::wait_for_vacancy), no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// As there, and [`Error::TimedOut`].
    pub fn wait_for_vacancy_timeout(&self, timeout: Duration) -> Result<usize, Error> {
        self.watch(Some(Deadline::after(timeout)))
    }

    pub(super) fn vacancies(&self) -> Vacancies<'_, Chair<T>> {
        Vacancies::new(&self.chairs, &self.room)
    }

    fn watch(&self, deadline: Option<Deadline>) -> Result<usize, Error> {
        let look = || self.vacancy();
        watch(&self.chairs, None, Some(&self.room), deadline, look).map_err(Error::from_missed)
    }

    fn join_with(&self, patience: Patience) -> Result<RosterSeat<'_, T>, Error> {
        let me = sys::me();
        let row = Row {
            words: &self.chairs,
            room: &self.room,
        };
        let (number, acquired) = row.acquire(me, 0, patience).map_err(Error::from_missed)?;
        Ok(self.sit_down(me, number, acquired))
    }

    /// On a seat that the thread has just taken.
    fn sit_down(&self, me: Me, number: usize, acquired: Acquired) -> RosterSeat<'_, T> {
        let chair = &self.chairs[number];
        let before = chair.seat.sit(me);
        let after_a_death = acquired == Acquired::OwnerDied;
        // SAFETY: taken just now, and nobody else makes guards of this roster.
        unsafe { RosterSeat::new(chair, number, me, after_a_death, before) }
    }
}

impl<T: ShmSafe + Default, const N: usize> Default for SharedRoster<T, N> {
    fn default() -> Self {
        SharedRoster::from_fn(|_| T::default())
    }
}

impl<T: ShmSafe + fmt::Debug, const N: usize> fmt::Debug for SharedRoster<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.seats()).finish()
    }
}

const KIND: Kind = Kind("roster");

// SAFETY: `repr(C)` over atomics and `ShmSafe` data; the links mean something only to the thread that has a seat. The whole state
// is told, and visited: the seats as one primitive, and what the data hold.
#[diagnostic::do_not_recommend]
unsafe impl<T: ShmSafe, const N: usize> ShmSafe for SharedRoster<T, N> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(KIND);
        layout.field(
            "seats",
            offset_of!(Self, chairs),
            <[Chair<T>; N] as ShmSafe>::describe,
        );
    }

    fn walk(&self, walk: &mut Walk<'_>) {
        walk.primitive(self);
        walk.field("seats", &self.chairs);
    }
}

impl<T: ShmSafe, const N: usize> Primitive for SharedRoster<T, N> {
    fn kind(&self) -> Kind {
        KIND
    }

    unsafe fn arm(&self) -> Result<(), Error> {
        sys::check_robust_list()?;
        // SAFETY: the caller's promise.
        unsafe { self.room.arm() };
        for chair in &self.chairs {
            // SAFETY: as above.
            unsafe { chair.seat.arm() };
        }
        Ok(())
    }

    fn is_held_here(&self) -> bool {
        let words = self.chairs.iter().map(|chair| chair.word());
        words.chain([&self.room]).any(Robust::is_held_here)
    }

    fn was_forgotten_here(&self) -> bool {
        let words = self.chairs.iter().map(|chair| chair.word());
        words.chain([&self.room]).any(Robust::was_forgotten_here)
    }

    unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.room.reset() };
        for chair in &self.chairs {
            // SAFETY: as above.
            unsafe { chair.seat.reset() };
        }
    }
}

static_assertions::assert_eq_size!(SharedRoster<u64, 1>, [u8; 128]);
static_assertions::assert_eq_size!(SharedRoster<[u64; 3], 2>, [u8; 64 + 2 * 128]);
static_assertions::assert_impl_all!(SharedRoster<u64, 2>: Send, Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedRoster<u64, 2>: crate::ShmData);
