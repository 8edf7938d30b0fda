//! [`SharedBarrier`]: parties wait for each other, and receive an error if one of them dies.

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmSafe};
use crate::raw::Robust;
use crate::raw::multi::barrier::{Barrier, BarrierError};
use crate::raw::multi::member_slot::{MemberSlot, MemberState};
use crate::sys::{self, CurrentThread, Deadline};
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// A barrier in shared memory for `N` parties, 1 to 127, like [`std::sync::Barrier`].
///
/// A thread first [joins](Self::join) the barrier. It then occupies a slot, through which the other
/// parties learn of its death. [`BarrierParty::wait`] returns in all `N` parties once each of them
/// has called it. The barrier can be used any number of times. Writes that a party made before a
/// wait are visible to all parties after it.
///
/// Before it is placed in a map, the barrier works for the threads of this process.
///
/// # What a death does
///
/// If a party dies, at any instruction, the others receive [`Error::BarrierBroken`], which names
/// the slot and the process of the dead party. Parties that are waiting receive it at once, the
/// others when they wait next. The barrier also breaks if a party panics and drops its
/// [`BarrierParty`], or if its thread ends without dropping it.
///
/// The barrier stays broken until it is [reset](Self::reset). The reset frees the slots of dead
/// parties, so that other parties can join. A death does not change the result of a round that is
/// already complete, even for parties that have not returned from it yet.
///
/// A death that the kernel could not mark is detected within a second.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Error, Shared, SharedBarrier};
///
/// let barrier = Shared::anonymous(SharedBarrier::<2>::new())?;
/// let child = fork::spawn(|| {
///     let party = barrier.join().unwrap();
///     party.wait().unwrap();
///     std::process::abort(); // before the next round
/// })?;
/// let party = barrier.join()?;
/// party.wait()?;
/// match party.wait() {
///     Err(Error::BarrierBroken { process, .. }) => assert_eq!(process, Some(child.id())),
///     other => panic!("the death was not reported: {other:?}"),
/// }
/// child.wait()?;
/// barrier.reset()?;
/// let successor = barrier.join()?; // in practice, by a new process
/// # assert!(!barrier.is_broken());
/// # drop(successor);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// A count and a round number in one futex word; robust futexes as slots, each held until its party
/// leaves; and [futex_waitv](https://docs.kernel.org/userspace-api/futex2.html) to wait on all of
/// them.
#[repr(C)]
pub struct SharedBarrier<const N: usize> {
    raw: Barrier,
    slots: [MemberSlot; N],
}

impl<const N: usize> SharedBarrier<N> {
    /// Creates a barrier that no party has joined yet.
    ///
    /// `N` must be 1 to 127. Other values do not compile.
    pub const fn new() -> Self {
        const { assert!(N >= 1 && N <= 127, "there may be 1 to 127 parties") };
        SharedBarrier {
            raw: Barrier::new(),
            slots: [const { MemberSlot::new() }; N],
        }
    }

    /// Joins the barrier, without waiting.
    ///
    /// # Errors
    ///
    /// Returns [`Error::WouldBlock`] if no slot is free, and [`Error::BarrierBroken`] if the
    /// barrier is broken.
    pub fn join(&self) -> Result<BarrierParty<'_, N>, Error> {
        let current = sys::current_thread();
        self.raw.check(&self.slots).map_err(Error::from_barrier)?;
        for (number, slot) in self.slots.iter().enumerate() {
            if slot.state() != MemberState::Free {
                continue;
            }
            let Ok(acquired) = slot.acquire(current, Some(Deadline::now())) else {
                continue;
            };
            let before = slot.register(current);
            if acquired.owner_died() {
                // Another thread joined here meanwhile, and died. Break the barrier before the slot
                // is free, so that every party learns of the death.
                self.raw.break_for(number, before);
                // SAFETY: the calling thread has just acquired the slot.
                unsafe { slot.release(current) };
                self.raw.check(&self.slots).map_err(Error::from_barrier)?;
                return Err(Error::WouldBlock);
            }
            return Ok(BarrierParty {
                barrier: self,
                number,
                generation: current.generation(),
                was_panicking: std::thread::panicking(),
                not_send: PhantomData,
            });
        }
        Err(Error::WouldBlock)
    }

    /// Repairs a broken barrier: no party has arrived, and the slots of dead parties are free.
    /// Parties that still wait receive [`Error::BarrierBroken`]. Does nothing if the barrier is not
    /// broken.
    ///
    /// # Errors
    ///
    /// Returns [`Error::HolderThreadEnded`] if the thread of a party ended without leaving the
    /// barrier, and its process still runs.
    pub fn reset(&self) -> Result<(), Error> {
        self.raw
            .reset(sys::current_thread(), &self.slots)
            .map_err(Error::from_acquire)
    }

    /// Returns whether the barrier is broken: a party died or panicked, and the barrier has not
    /// been reset since.
    pub fn is_broken(&self) -> bool {
        self.raw.check(&self.slots).is_err()
    }

    /// Returns the number of parties that have joined and are not known to be dead.
    pub fn parties(&self) -> usize {
        let is_there = |slot: &&MemberSlot| matches!(slot.state(), MemberState::Occupied(_));
        self.slots.iter().filter(is_there).count()
    }

    fn words(&self) -> impl Iterator<Item = &Robust> {
        self.slots.iter().map(AsRef::<Robust>::as_ref)
    }
}

impl Error {
    fn from_barrier(error: BarrierError) -> Self {
        match error {
            BarrierError::Broken(slot, process) => Error::BarrierBroken { slot, process },
            BarrierError::Wait(error) => Error::from_acquire(error),
        }
    }
}

/// A thread's membership in a [`SharedBarrier`]. Dropping it leaves the barrier, so that another
/// party can join.
///
/// It is neither `Send` nor `Sync`, because its slot belongs to the thread that joined. After a
/// `fork` it belongs to the parent: the child's copy cannot wait, and dropping the copy does
/// nothing.
#[must_use = "if unused the party leaves at once"]
pub struct BarrierParty<'a, const N: usize> {
    barrier: &'a SharedBarrier<N>,
    number: usize,
    /// The process that joined.
    generation: u64,
    was_panicking: bool,
    /// The slot's word holds the id of the thread that joined, and that thread's robust list
    /// or `list_op_pending` names the slot.
    not_send: PhantomData<*mut ()>,
}

impl<const N: usize> BarrierParty<'_, N> {
    /// Waits until all parties have called `wait`.
    ///
    /// # Errors
    ///
    /// - [`Error::BarrierBroken`] if a party died or panicked.
    ///
    /// # Panics
    ///
    /// Panics in a child of the process that joined, because the slot belongs to the parent.
    pub fn wait(&self) -> Result<BarrierWaitResult, Error> {
        self.wait_with(None)
    }

    /// Waits like [`wait`](Self::wait), for at most `timeout` on the monotonic clock. A party that
    /// times out has not arrived, and may wait again.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait), and [`Error::TimedOut`] if not all parties arrived in time.
    ///
    /// # Panics
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, Error> {
        self.wait_with(Some(Deadline::after(timeout)))
    }

    /// Waits like [`wait_timeout`](Self::wait_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Panics
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_until(&self, deadline: Instant) -> Result<BarrierWaitResult, Error> {
        self.wait_with(Some(Deadline::at(deadline)))
    }

    /// Returns the number of the party's slot, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    fn wait_with(&self, deadline: Option<Deadline>) -> Result<BarrierWaitResult, Error> {
        assert!(
            CurrentThread::of_generation(self.generation).is_some(),
            "a party that crossed a fork is the parent's: join in the child"
        );
        let barrier = self.barrier;
        let outcome = barrier.raw.wait(&barrier.slots, deadline);
        outcome.map(BarrierWaitResult).map_err(Error::from_barrier)
    }
}

impl<const N: usize> Drop for BarrierParty<'_, N> {
    fn drop(&mut self) {
        let Some(current) = CurrentThread::of_generation(self.generation) else {
            return;
        };
        if !self.was_panicking && std::thread::panicking() {
            self.barrier.raw.break_for(self.number, Some(current.id()));
        }
        // SAFETY: this thread joined in this process, and only this drop releases its slot.
        unsafe { self.barrier.slots[self.number].release(current) };
    }
}

impl<const N: usize> fmt::Debug for BarrierParty<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierParty")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// The result of a completed round; see [`BarrierParty::wait`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Returns whether this party is the leader of the round. Each round has exactly one leader:
    /// the party that arrived last.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl<const N: usize> Default for SharedBarrier<N> {
    fn default() -> Self {
        SharedBarrier::new()
    }
}

impl<const N: usize> fmt::Debug for SharedBarrier<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBarrier")
            .field("parties", &self.parties())
            .field("of", &N)
            .field("is_broken", &self.raw.is_broken())
            .finish_non_exhaustive()
    }
}

const KIND: PrimitiveKind = PrimitiveKind("barrier");

// SAFETY: `repr(C)` over atomics. The links in a slot are meaningful only to the thread that
// occupies it. The description covers the whole state, and the visit reaches it as one primitive.
// Zero bytes are a barrier that is not initialized and that no party has joined.
#[diagnostic::do_not_recommend]
unsafe impl<const N: usize> ShmSafe for SharedBarrier<N> {
    const ZERO_IS_VALID: bool = true;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(KIND);
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.primitive(self);
    }
}

impl<const N: usize> Primitive for SharedBarrier<N> {
    fn kind(&self) -> PrimitiveKind {
        KIND
    }

    unsafe fn init(&self) -> Result<(), Error> {
        sys::check_robust()?;
        // SAFETY: guaranteed by the caller.
        unsafe { self.raw.init() };
        for slot in &self.slots {
            // SAFETY: as above.
            unsafe { slot.init() };
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
        // No other user remains, so no party has to receive an error for a dead one.
        // SAFETY: guaranteed by the caller.
        unsafe { self.raw.init() };
        for slot in &self.slots {
            // SAFETY: as above.
            unsafe { slot.init() };
        }
    }
}

static_assertions::assert_eq_size!(SharedBarrier<2>, [u8; 16 + 2 * 48]);
static_assertions::assert_impl_all!(SharedBarrier<2>: Send, Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedBarrier<2>: crate::ShmData);
static_assertions::assert_not_impl_any!(BarrierParty<'static, 2>: Send, Sync);
