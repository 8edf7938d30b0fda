//! [`SharedRoster`]: a slot with data of its own for each worker, and the news of a worker's death.

pub(in crate::sync) mod slot;

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmSafe};
use crate::raw::Robust;
use crate::raw::multi::lock_set::LockSet;
use crate::raw::multi::member_slot::{MemberSlot, MemberState, watch};
use crate::raw::multi::wait_any::AbandonedSlots;
use crate::raw::outcome::{Acquired, WaitMode};
use crate::sync::roster::slot::{RosterEntry, RosterSlot, SlotView};
use crate::sys::{self, CurrentThread, Deadline};
use std::fmt;
use std::mem::offset_of;
use std::time::{Duration, Instant};

/// `N` slots in shared memory, one for each worker, with a `T` at each: what the worker counts, say. `N` is 1 to 127.
///
/// A worker [joins](Self::join) and has a slot until it drops its [`RosterSlot`], or dies. Everybody can look at
/// [all slots](Self::slots), and read the `T` of each, at any time: that of a dead worker too, so totals lose nothing.
///
/// A slot is held by a thread. Before the roster is placed in a map it works for the threads of this process.
///
/// # What a death does
///
/// The kernel vacates the slot of a dead worker, and wakes those who [wait for that](Self::wait_for_abandoned). The `T` stays as the
/// dead one left it, whatever it was about to write. Who joins next, where no slot is free, or [takes over](Self::adopt) this
/// one, finds it so, is told ([`RosterSlot::previous_holder_died`]), and goes on with it or starts it anew by what its fields
/// offer.
///
/// A watcher that dies disturbs nobody, but for one case: the kernel wakes one of several watchers, who wakes the others.
/// Where that one is killed before it has, the others see the death within a second. Deaths that the kernel could not mark are
/// seen within a second too.
///
/// A slot whose holder's *thread* ended, with the slot forgotten, looks vacated, and is not given out while that process lives.
///
/// # Examples
///
/// ```
/// use pshared::{fork, SlotState, Shared, SharedCounter, SharedRoster};
///
/// let roster = Shared::anonymous(SharedRoster::<SharedCounter, 4>::default())?;
/// let worker = fork::spawn(|| {
///     let jobs = roster.join().unwrap();
///     jobs.add(3);
///     std::process::abort();
/// })?;
/// let number = roster.wait_for_abandoned()?;
/// worker.wait()?;
///
/// let slot = roster.slots().nth(number).unwrap();
/// assert!(matches!(slot.state, SlotState::Abandoned { by: Some(who) } if who.process == worker.id()));
/// let total: u64 = roster.slots().map(|slot| slot.data.get()).sum();
/// assert_eq!(total, 3);
///
/// let successor = roster.adopt(number)?;
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
    queue_lock: Robust,
    entries: [RosterEntry<T>; N],
}

impl<T: ShmSafe, const N: usize> SharedRoster<T, N> {
    /// A roster of free slots, the data of the one numbered `number` being `data(number)`.
    ///
    /// None, or more than 127, do not compile.
    pub fn from_fn(mut data: impl FnMut(usize) -> T) -> Self {
        const {
            assert!(
                N >= 1 && N <= LockSet::<RosterEntry<u8>>::MAX,
                "there may be 1 to 127 slots"
            )
        };
        SharedRoster {
            queue_lock: Robust::new(),
            entries: std::array::from_fn(|number| RosterEntry {
                slot: MemberSlot::new(),
                data: data(number),
            }),
        }
    }

    /// Takes a free slot, or else one that a death has vacated; waits for one as long as it takes.
    ///
    /// # Errors
    ///
    /// [`Error::Deadlock`], [`Error::HolderThreadEnded`] and [`Error::FutexWaitvUnsupported`], as for
    /// [`SharedPermits::acquire`](crate::SharedPermits::acquire).
    pub fn join(&self) -> Result<RosterSlot<'_, T>, Error> {
        self.join_with(WaitMode::Until(None))
    }

    /// Takes a free slot, or else one that a death has vacated, without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] where all are occupied, and [`Error::HolderThreadEnded`].
    pub fn try_join(&self) -> Result<RosterSlot<'_, T>, Error> {
        self.join_with(WaitMode::Try)
    }

    /// As [`join`](Self::join), waiting no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join), and [`Error::TimedOut`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<RosterSlot<'_, T>, Error> {
        self.join_with(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// As [`join_timeout`](Self::join_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Self::join_timeout).
    pub fn join_until(&self, deadline: Instant) -> Result<RosterSlot<'_, T>, Error> {
        self.join_with(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Takes the slot of this number, which nobody has: its holder died, or it is free.
    ///
    /// # Errors
    ///
    /// - [`Error::WouldBlock`]: somebody has it, or its holder is dying and not gone yet.
    /// - [`Error::HolderThreadEnded`]: the thread that had it ended, and its process lives.
    ///
    /// # Panics
    ///
    /// Where there is no slot of this number.
    pub fn adopt(&self, number: usize) -> Result<RosterSlot<'_, T>, Error> {
        let current = sys::current_thread();
        let words = std::slice::from_ref(&self.entries[number]);
        let queue_lock = &self.queue_lock;
        // Without mode nobody gets in line, so the queue_lock is not used.
        let (_, acquired) = LockSet { words, queue_lock }
            .acquire(current, 0, WaitMode::Try)
            .map_err(Error::from_missed)?;
        Ok(self.register(current, number, acquired))
    }

    /// All slots, in the order of their numbers: who has each, and its data.
    pub fn slots(&self) -> impl Iterator<Item = SlotView<'_, T>> {
        (0..).zip(&self.entries).map(|(number, entry)| SlotView {
            number,
            state: entry.slot.state().into(),
            data: &entry.data,
        })
    }

    /// The first slot that a death has vacated and nobody has taken since, if there is one. It does not wait.
    pub fn abandoned(&self) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| matches!(entry.slot.state(), MemberState::Abandoned(_)))
    }

    /// Waits until a death has vacated a slot, and gives its number: at once, where there is such a slot already.
    ///
    /// It gives the same number until somebody has the slot. A supervisor that starts a new worker, who will join by itself,
    /// takes the slot over and drops it: then it is free.
    ///
    /// # Errors
    ///
    /// [`Error::FutexWaitvUnsupported`].
    pub fn wait_for_abandoned(&self) -> Result<usize, Error> {
        self.watch(None)
    }

    /// As [`wait_for_abandoned`](Self::wait_for_abandoned), no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// As there, and [`Error::TimedOut`].
    pub fn wait_for_abandoned_timeout(&self, timeout: Duration) -> Result<usize, Error> {
        self.watch(Some(Deadline::after(timeout)))
    }

    /// As [`wait_for_abandoned_timeout`](Self::wait_for_abandoned_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_for_abandoned_timeout`](Self::wait_for_abandoned_timeout).
    pub fn wait_for_abandoned_until(&self, deadline: Instant) -> Result<usize, Error> {
        self.watch(Some(Deadline::at(deadline)))
    }

    pub(in crate::sync) fn abandoned_slots(&self) -> AbandonedSlots<'_, RosterEntry<T>> {
        AbandonedSlots::new(&self.entries, &self.queue_lock)
    }

    fn watch(&self, deadline: Option<Deadline>) -> Result<usize, Error> {
        let find = || self.abandoned();
        watch(&self.entries, None, Some(&self.queue_lock), deadline, find)
            .map_err(Error::from_missed)
    }

    fn join_with(&self, mode: WaitMode) -> Result<RosterSlot<'_, T>, Error> {
        let current = sys::current_thread();
        let lock_set = LockSet {
            words: &self.entries,
            queue_lock: &self.queue_lock,
        };
        let (number, acquired) = lock_set
            .acquire(current, 0, mode)
            .map_err(Error::from_missed)?;
        Ok(self.register(current, number, acquired))
    }

    /// On a slot that the thread has just taken.
    fn register(
        &self,
        current: CurrentThread,
        number: usize,
        acquired: Acquired,
    ) -> RosterSlot<'_, T> {
        let entry = &self.entries[number];
        let before = entry.slot.register(current);
        let after_a_death = acquired == Acquired::OwnerDied;
        // SAFETY: taken just now, and nobody else makes guards of this roster.
        unsafe { RosterSlot::new(entry, number, current, after_a_death, before) }
    }
}

impl<T: ShmSafe + Default, const N: usize> Default for SharedRoster<T, N> {
    fn default() -> Self {
        SharedRoster::from_fn(|_| T::default())
    }
}

impl<T: ShmSafe + fmt::Debug, const N: usize> fmt::Debug for SharedRoster<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.slots()).finish()
    }
}

const KIND: PrimitiveKind = PrimitiveKind("roster");

// SAFETY: `repr(C)` over atomics and `ShmSafe` data; the links mean something only to the thread that has a slot. The whole state
// is told, and visited: the slots as one primitive, and what the data hold.
#[diagnostic::do_not_recommend]
unsafe impl<T: ShmSafe, const N: usize> ShmSafe for SharedRoster<T, N> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(KIND);
        layout.field(
            "slots",
            offset_of!(Self, entries),
            <[RosterEntry<T>; N] as ShmSafe>::describe,
        );
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.primitive(self);
        visitor.field("slots", &self.entries);
    }
}

impl<T: ShmSafe, const N: usize> Primitive for SharedRoster<T, N> {
    fn kind(&self) -> PrimitiveKind {
        KIND
    }

    unsafe fn init(&self) -> Result<(), Error> {
        sys::check_robust_list()?;
        // SAFETY: the caller's promise.
        unsafe { self.queue_lock.init() };
        for entry in &self.entries {
            // SAFETY: as above.
            unsafe { entry.slot.init() };
        }
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        let words = self
            .entries
            .iter()
            .map(|entry| AsRef::<Robust>::as_ref(entry));
        words
            .chain([&self.queue_lock])
            .any(Robust::is_held_by_this_process)
    }

    fn was_leaked_by_this_process(&self) -> bool {
        let words = self
            .entries
            .iter()
            .map(|entry| AsRef::<Robust>::as_ref(entry));
        words
            .chain([&self.queue_lock])
            .any(Robust::was_leaked_by_this_process)
    }

    unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.queue_lock.reset() };
        for entry in &self.entries {
            // SAFETY: as above.
            unsafe { entry.slot.reset() };
        }
    }
}

static_assertions::assert_eq_size!(SharedRoster<u64, 1>, [u8; 128]);
static_assertions::assert_eq_size!(SharedRoster<[u64; 3], 2>, [u8; 64 + 2 * 128]);
static_assertions::assert_impl_all!(SharedRoster<u64, 2>: Send, Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedRoster<u64, 2>: crate::ShmData);
