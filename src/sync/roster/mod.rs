//! [`SharedRoster`]: a slot with data for each worker, and a notification of each worker's death.

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

/// `N` slots in shared memory, one for each worker, each with a `T`: the worker's counters, for
/// example. `N` is 1 to 127.
///
/// A worker [joins](Self::join) the roster. It occupies a slot until it drops its [`RosterSlot`] or
/// dies. Any thread of any process can read [all slots](Self::slots), with the `T` of each, at any
/// time. This includes the slots of dead workers, so totals lose nothing.
///
/// A slot is occupied by a thread. Before it is placed in a map, the roster works for the threads
/// of this process.
///
/// # What a death does
///
/// If a worker dies, its slot becomes abandoned. The kernel wakes a thread that [waits for
/// this](Self::wait_for_abandoned), which wakes the others. The `T` stays exactly as the dead
/// worker left it, even if a change was only half made.
///
/// A later worker can [adopt](Self::adopt) the slot, or gets it when it joins and no slot is free.
/// It finds the data as it is, and [`RosterSlot::previous_holder_died`] reports the death. It then
/// continues with the data, or resets it by the means that the fields of `T` offer.
///
/// The death of a waiter affects other threads in one case only: the kernel woke it for an
/// abandoned slot, and it is killed before it has woken the others. The others then see the death
/// within a second. A worker's death that the kernel could not mark is also detected within a
/// second.
///
/// If the holder's *thread* ends after the [`RosterSlot`] was leaked, the slot appears abandoned.
/// It cannot be taken while the process lives.
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
/// assert!(matches!(
///     slot.state,
///     SlotState::Abandoned { by: Some(holder) } if holder.process == worker.id()
/// ));
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
/// Robust futexes that are each held until the worker leaves, and
/// [futex_waitv](https://docs.kernel.org/userspace-api/futex2.html) to wait on all of them: a form
/// of the scoreboard of a forking server.
#[repr(C)]
pub struct SharedRoster<T, const N: usize> {
    queue_lock: Robust,
    entries: [RosterEntry<T>; N],
}

impl<T: ShmSafe, const N: usize> SharedRoster<T, N> {
    /// Creates a roster of free slots. The data of slot `number` is `data(number)`.
    ///
    /// `N` must be 1 to 127. Other values do not compile.
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

    /// Occupies a free slot, or an abandoned slot if none is free. Blocks until there is one.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Deadlock`] or [`Error::HolderThreadEnded`], as
    /// [`SharedPermits::acquire`](crate::SharedPermits::acquire) does.
    pub fn join(&self) -> Result<RosterSlot<'_, T>, Error> {
        self.join_with(WaitMode::Until(None))
    }

    /// Occupies a free slot, or an abandoned slot if none is free, without waiting.
    ///
    /// # Errors
    ///
    /// Returns [`Error::WouldBlock`] if no slot is available, and [`Error::HolderThreadEnded`] as
    /// for [`join`](Self::join).
    pub fn try_join(&self) -> Result<RosterSlot<'_, T>, Error> {
        self.join_with(WaitMode::Try)
    }

    /// Joins like [`join`](Self::join), but waits for at most `timeout` on the monotonic clock.
    ///
    /// # Errors
    ///
    /// As for [`join`](Self::join), and [`Error::TimedOut`] if no slot was available in time.
    pub fn join_timeout(&self, timeout: Duration) -> Result<RosterSlot<'_, T>, Error> {
        self.join_with(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// Joins like [`join_timeout`](Self::join_timeout), but waits until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`join_timeout`](Self::join_timeout).
    pub fn join_until(&self, deadline: Instant) -> Result<RosterSlot<'_, T>, Error> {
        self.join_with(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Occupies slot `number`, which must be abandoned or free. Does not wait.
    ///
    /// # Errors
    ///
    /// - [`Error::WouldBlock`] if the slot is occupied, or if the process of its last holder is
    ///   still exiting.
    /// - [`Error::HolderThreadEnded`] if the thread that occupied the slot ended without leaving
    ///   it, and its process still runs.
    ///
    /// # Panics
    ///
    /// Panics if `number` is not less than `N`.
    pub fn adopt(&self, number: usize) -> Result<RosterSlot<'_, T>, Error> {
        let current = sys::current_thread();
        let words = std::slice::from_ref(&self.entries[number]);
        let queue_lock = &self.queue_lock;
        // An attempt that does not wait never joins the queue, so the queue lock is not used.
        let (_, acquired) = LockSet { words, queue_lock }
            .acquire(current, 0, WaitMode::Try)
            .map_err(Error::from_acquire)?;
        Ok(self.register(current, number, acquired))
    }

    /// Returns an iterator over all slots, in the order of their numbers.
    pub fn slots(&self) -> impl Iterator<Item = SlotView<'_, T>> {
        (0..).zip(&self.entries).map(|(number, entry)| SlotView {
            number,
            state: entry.slot.state().into(),
            data: &entry.data,
        })
    }

    /// Returns the number of the first abandoned slot, if there is one. Does not wait.
    pub fn abandoned(&self) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| matches!(entry.slot.state(), MemberState::Abandoned(_)))
    }

    /// Waits until a slot is abandoned, and returns its number. Returns at once if a slot is
    /// abandoned already.
    ///
    /// If several slots are abandoned, this returns the lowest number. Later calls return the same
    /// slot again, until a worker occupies it or a lower slot is abandoned. To free the slot for a
    /// new worker that joins by itself, a supervisor adopts the slot and drops it.
    ///
    /// # Errors
    ///
    /// None at present. The type leaves room for a kernel that refuses the wait.
    pub fn wait_for_abandoned(&self) -> Result<usize, Error> {
        self.watch(None)
    }

    /// Waits like [`wait_for_abandoned`](Self::wait_for_abandoned), for at most `timeout` on the
    /// monotonic clock.
    ///
    /// # Errors
    ///
    /// As for [`wait_for_abandoned`](Self::wait_for_abandoned), and [`Error::TimedOut`] if no slot
    /// was abandoned in time.
    pub fn wait_for_abandoned_timeout(&self, timeout: Duration) -> Result<usize, Error> {
        self.watch(Some(Deadline::after(timeout)))
    }

    /// Waits like [`wait_for_abandoned_timeout`](Self::wait_for_abandoned_timeout), but until
    /// `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`wait_for_abandoned_timeout`](Self::wait_for_abandoned_timeout).
    pub fn wait_for_abandoned_until(&self, deadline: Instant) -> Result<usize, Error> {
        self.watch(Some(Deadline::at(deadline)))
    }

    pub(in crate::sync) fn abandoned_slots(&self) -> AbandonedSlots<'_, RosterEntry<T>> {
        AbandonedSlots::new(&self.entries, &self.queue_lock)
    }

    fn watch(&self, deadline: Option<Deadline>) -> Result<usize, Error> {
        let find = || self.abandoned();
        watch(&self.entries, None, Some(&self.queue_lock), deadline, find)
            .map_err(Error::from_acquire)
    }

    fn join_with(&self, mode: WaitMode) -> Result<RosterSlot<'_, T>, Error> {
        let current = sys::current_thread();
        let lock_set = LockSet {
            words: &self.entries,
            queue_lock: &self.queue_lock,
        };
        let (number, acquired) = lock_set
            .acquire(current, 0, mode)
            .map_err(Error::from_acquire)?;
        Ok(self.register(current, number, acquired))
    }

    fn words(&self) -> impl Iterator<Item = &Robust> {
        let slots = self.entries.iter().map(AsRef::<Robust>::as_ref);
        slots.chain([&self.queue_lock])
    }

    /// Registers the calling thread in a slot that it has just acquired, and returns the guard.
    fn register(
        &self,
        current: CurrentThread,
        number: usize,
        acquired: Acquired,
    ) -> RosterSlot<'_, T> {
        let entry = &self.entries[number];
        let before = entry.slot.register(current);
        let previous_holder_died = acquired.owner_died();
        // SAFETY: the calling thread has just acquired the slot, and only this function creates
        // guards of this roster.
        unsafe { RosterSlot::new(entry, number, current, previous_holder_died, before) }
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

// SAFETY: `repr(C)` over atomics and `ShmSafe` data. The links in a slot are meaningful only to the
// thread that occupies it. The description covers the whole state. The visit reaches the slots as
// one primitive, and the primitives in the data.
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
        sys::check_robust()?;
        // SAFETY: guaranteed by the caller.
        unsafe { self.queue_lock.init() };
        for entry in &self.entries {
            // SAFETY: as above.
            unsafe { entry.slot.init() };
        }
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        self.words().any(Robust::is_held_by_this_process)
    }

    fn owners_in_this_process(&self, each: &mut dyn FnMut(u32)) {
        self.words()
            .filter_map(Robust::owner_in_this_process)
            .for_each(each);
    }

    unsafe fn reset(&self) {
        // SAFETY: guaranteed by the caller.
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
