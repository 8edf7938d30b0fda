//! A slot of a [`SharedRoster`](crate::sync::SharedRoster): its memory, a view of it, and its
//! holder's guard.

use crate::memory::{Layout, PrimitiveVisitor, ShmSafe};
use crate::raw::Robust;
use crate::raw::multi::member_slot::{MemberSlot, MemberState};
use crate::sync::holder::Holder;
use crate::sys::{CurrentThread, OwnerId};
use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::Deref;

/// A slot and its data, on their own cache lines.
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

/// A view of a slot; see [`SharedRoster::slots`](crate::SharedRoster::slots).
#[derive(Debug)]
pub struct SlotView<'a, T> {
    /// The slot's number, from 0.
    pub number: usize,
    /// Whether the slot is occupied. May be outdated when the caller reads it.
    pub state: SlotState,
    /// The slot's data, in every state of the slot.
    pub data: &'a T,
}

/// Whether a slot is occupied. Process and thread ids are those of the worker's own PID namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotState {
    /// It has no holder: it was never occupied, or its last holder left it.
    Free,
    /// A worker occupies it.
    Occupied {
        /// The worker, or `None` for a short time while the worker joins.
        by: Option<Holder>,
    },
    /// Its holder died, and no worker has occupied it since.
    Abandoned {
        /// The dead worker, or `None` if it died while it joined.
        by: Option<Holder>,
    },
}

impl From<MemberState> for SlotState {
    fn from(state: MemberState) -> Self {
        match state {
            MemberState::Free => SlotState::Free,
            MemberState::Occupied(owner) => SlotState::Occupied {
                by: owner.map(Holder::of_id),
            },
            MemberState::Abandoned(owner) => SlotState::Abandoned {
                by: owner.map(Holder::of_id),
            },
        }
    }
}

/// An occupied slot of a [`SharedRoster`](crate::SharedRoster), which dereferences to the slot's
/// data. Dropping it leaves the slot; the data stays as it is.
///
/// It is neither `Send` nor `Sync`, because the slot belongs to the thread that occupied it. After
/// a `fork` it belongs to the parent, and dropping the child's copy does nothing. If it is leaked,
/// no other worker can take the slot while the process lives.
#[must_use = "if unused the slot is left at once"]
pub struct RosterSlot<'a, T> {
    entry: &'a RosterEntry<T>,
    number: usize,
    previous_holder_died: bool,
    previous: Option<Holder>,
    /// The process that occupied it.
    generation: u64,
    /// The slot's word holds the id of the thread that occupied it, and that thread's robust list
    /// or `list_op_pending` names the slot.
    not_send: PhantomData<*mut ()>,
}

impl<'a, T> RosterSlot<'a, T> {
    /// Creates the guard of a slot that the calling thread, `current`, has just acquired. `before`
    /// is the last thread that registered in the slot and did not leave it.
    ///
    /// # Safety
    ///
    /// The calling thread must own the slot, and this must be the only guard of it.
    pub(in crate::sync) unsafe fn new(
        entry: &'a RosterEntry<T>,
        number: usize,
        current: CurrentThread,
        previous_holder_died: bool,
        before: Option<OwnerId>,
    ) -> Self {
        RosterSlot {
            entry,
            number,
            previous_holder_died,
            previous: before.map(Holder::of_id).filter(|_| previous_holder_died),
            generation: current.generation(),
            not_send: PhantomData,
        }
    }

    /// Returns the slot's number, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns whether the last holder of the slot died while it occupied the slot.
    pub fn previous_holder_died(&self) -> bool {
        self.previous_holder_died
    }

    /// Returns the holder that died while it occupied the slot. Returns `None` if no holder died,
    /// or if it died while it joined.
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
        // SAFETY: this thread acquired the slot in this process, and only this drop releases it.
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

// SAFETY: `repr(C)` over atomics and a `ShmSafe` value, whose primitives are visited. The slot
// itself is part of the roster's primitive. Zero bytes are a free slot that is not initialized,
// with zero bytes of `T`.
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
