//! A slot of a [`SharedRoster`](crate::sync::SharedRoster): its place, what a look at it shows, and the guard of who has it.

use crate::memory::{Layout, PrimitiveVisitor, ShmSafe};
use crate::raw::Robust;
use crate::raw::multi::member_slot::{MemberSlot, MemberState};
use crate::sync::holder::Holder;
use crate::sys::{CurrentThread, OwnerId};
use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::Deref;

/// A slot and its data, on cache lines of their own.
#[repr(C, align(64))]
pub(in crate::sync) struct RosterEntry<T> {
    pub(in crate::sync) slot: MemberSlot,
    pub(in crate::sync) data: T,
}

impl<T> AsRef<MemberSlot> for RosterEntry<T> {
    fn as_ref(&self) -> &MemberSlot {
        &self.slot
    }
}

impl<T> AsRef<Robust> for RosterEntry<T> {
    fn as_ref(&self) -> &Robust {
        self.slot.lock()
    }
}

/// A look at a slot; see [`SharedRoster::slots`](crate::SharedRoster::slots).
#[derive(Debug)]
pub struct SlotView<'a, T> {
    /// The slot's number, from 0 on.
    pub number: usize,
    /// Who has it. It may be out of date when it is read.
    pub state: SlotState,
    /// Its data, whoever has it.
    pub data: &'a T,
}

/// Who has a slot. Ids are those of the worker's own PID namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotState {
    /// Nobody: it was never taken, or its last holder left it.
    Free,
    /// A worker.
    Occupied {
        /// Which one. `None` for the moment in which it sits down.
        by: Option<Holder>,
    },
    /// Its holder died, and nobody has taken it since.
    Abandoned {
        /// Who. `None` where it died before it had sat down.
        by: Option<Holder>,
    },
}

impl From<MemberState> for SlotState {
    fn from(place: MemberState) -> Self {
        match place {
            MemberState::Free => SlotState::Free,
            MemberState::Occupied(owner) => SlotState::Occupied {
                by: owner.map(Holder::new),
            },
            MemberState::Abandoned(owner) => SlotState::Abandoned {
                by: owner.map(Holder::new),
            },
        }
    }
}

/// A slot of a [`SharedRoster`](crate::SharedRoster), and its data. Dropping it leaves the slot; the data stays as it is.
///
/// It stays in its thread: it is neither `Send` nor `Sync`. One that crosses a `fork` is the parent's; the child's copy does
/// nothing when it is dropped. Forgetting it keeps the slot for as long as the process lives.
#[must_use = "if unused the slot is left at once"]
pub struct RosterSlot<'a, T> {
    entry: &'a RosterEntry<T>,
    number: usize,
    after_a_death: bool,
    previous: Option<Holder>,
    /// The process that took it.
    generation: u64,
    /// The word and the robust list name the thread that took it.
    not_send: PhantomData<*mut ()>,
}

impl<'a, T> RosterSlot<'a, T> {
    /// The guard of a slot that the calling thread, `me`, has just taken, and on which `before` sat last and did not leave.
    ///
    /// # Safety
    ///
    /// It has, and this guard is the only one that says so.
    pub(in crate::sync) unsafe fn new(
        entry: &'a RosterEntry<T>,
        number: usize,
        current: CurrentThread,
        after_a_death: bool,
        before: Option<OwnerId>,
    ) -> Self {
        RosterSlot {
            entry,
            number,
            after_a_death,
            previous: before.map(Holder::new).filter(|_| after_a_death),
            generation: current.generation(),
            not_send: PhantomData,
        }
    }
    /// The slot's number, from 0 on.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether the last holder of the slot died with it.
    pub fn previous_holder_died(&self) -> bool {
        self.after_a_death
    }

    /// The holder that died with the slot, where one had sat down.
    pub fn previous_holder(&self) -> Option<Holder> {
        self.previous
    }
}

impl<T> Deref for RosterSlot<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.entry.data
    }
}

impl<T> Drop for RosterSlot<'_, T> {
    fn drop(&mut self) {
        let Some(current) = CurrentThread::of_generation(self.generation) else {
            return;
        };
        // SAFETY: this thread took the slot in this process, and nothing but this drop leaves it.
        unsafe { self.entry.slot.release(current) };
    }
}

impl<T: fmt::Debug> fmt::Debug for RosterSlot<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RosterSlot")
            .field("number", &self.number)
            .field("data", &self.entry.data)
            .finish_non_exhaustive()
    }
}

// SAFETY: `repr(C)` over atomics and a `ShmSafe`, whose primitives are visited; the slot's own are the roster's. Zero bytes are a
// free, unarmed slot with zero bytes of `T`.
#[diagnostic::do_not_recommend]
unsafe impl<T: ShmSafe> ShmSafe for RosterEntry<T> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;
    const HAS_PRIMITIVES: bool = T::HAS_PRIMITIVES;

    fn describe(layout: &mut Layout) {
        layout.aggregate::<Self>();
        layout.field("data", offset_of!(Self, data), T::describe);
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.field("data", &self.data);
    }
}

static_assertions::assert_not_impl_any!(RosterSlot<'static, u64>: Send, Sync);
