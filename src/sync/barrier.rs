//! [`SharedBarrier`]: parties wait for each other, and learn of a death instead of waiting for the dead.

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmSafe};
use crate::raw::Robust;
use crate::raw::multi::barrier::{Barrier, BarrierError};
use crate::raw::multi::lock_set::MultiError;
use crate::raw::multi::member_slot::{MemberSlot, MemberState};
use crate::raw::outcome::Acquired;
use crate::sys::{self, CurrentThread, Deadline};
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// A barrier in shared memory for `N` parties, 1 to 127, in the manner of [`std::sync::Barrier`].
///
/// A thread that takes part [joins](Self::join) first, which gives it a slot: that is how the others know of its death. Then
/// [`BarrierParty::wait`] returns in all `N` parties once each of them has called it, as often as they like. What each party wrote
/// before is seen by all after. Before it is placed in a map the barrier works for the threads of this process.
///
/// # What a death does
///
/// Where a party dies, wherever it is, the others get [`Error::BarrierBroken`], which says who it was: at once where they
/// wait, and otherwise when they do. A party that panics and drops its slot, or whose thread ends with it, breaks the barrier
/// as well. It stays broken until somebody [resets](Self::reset) it; the dead one's slot is free then for another party to
/// join. Who had met the others already, and was on its way out when one of them died, has met them.
///
/// A death that the kernel could not mark is found within a second.
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
///     std::process::abort(); // and does not come to the next round
/// })?;
/// let party = barrier.join()?;
/// party.wait()?;
/// match party.wait() {
///     Err(Error::BarrierBroken { process, .. }) => assert_eq!(process, Some(child.id())),
///     other => panic!("the death was not told: {other:?}"),
/// }
/// child.wait()?;
/// barrier.reset()?;
/// let successor = barrier.join()?; // by this thread, for the sake of the example
/// # assert!(!barrier.is_broken());
/// # drop(successor);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// A count and a round in one futex word; robust futexes held for life as slots, and
/// [futex_waitv](https://docs.kernel.org/userspace-api/futex2.html) over all of them.
#[repr(C)]
pub struct SharedBarrier<const N: usize> {
    raw: Barrier,
    slots: [MemberSlot; N],
}

impl<const N: usize> SharedBarrier<N> {
    /// A barrier that nobody has joined yet.
    ///
    /// None, or more than 127 parties, do not compile.
    pub const fn new() -> Self {
        const { assert!(N >= 1 && N <= 127, "there may be 1 to 127 parties") };
        SharedBarrier {
            raw: Barrier::new(),
            slots: [const { MemberSlot::new() }; N],
        }
    }

    /// Takes part from here on. It does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] where there are `N` parties already, and [`Error::BarrierBroken`].
    pub fn join(&self) -> Result<BarrierParty<'_, N>, Error> {
        let current = sys::current_thread();
        self.raw.look(&self.slots).map_err(Error::from_unmet)?;
        for (number, slot) in self.slots.iter().enumerate() {
            if slot.state() != MemberState::Free {
                continue;
            }
            let Ok(acquired) = slot.acquire(current, Some(Deadline::now())) else {
                continue;
            };
            let before = slot.register(current);
            if acquired == Acquired::OwnerDied {
                // Somebody joined there meanwhile, and died: that is news for all, before the slot is free.
                self.raw.give_up(number, before);
                // SAFETY: taken just now.
                unsafe { slot.release(current) };
                self.raw.look(&self.slots).map_err(Error::from_unmet)?;
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

    /// Mends the barrier after a death: it is whole, nobody has arrived, and the slots of the dead are free. Parties that still
    /// wait are told that it was broken. Nothing happens where it is not broken.
    ///
    /// # Errors
    ///
    /// [`Error::HolderThreadEnded`] where the thread of a party ended, and its process lives.
    pub fn reset(&self) -> Result<(), Error> {
        self.raw
            .reset(sys::current_thread(), &self.slots)
            .map_err(|refused| Error::from_missed(MultiError::Acquire(refused)))
    }

    /// Whether a party died, or panicked, and nobody has reset the barrier since.
    pub fn is_broken(&self) -> bool {
        self.raw.look(&self.slots).is_err()
    }

    /// How many parties have joined and live.
    pub fn parties(&self) -> usize {
        let is_there = |slot: &&MemberSlot| matches!(slot.state(), MemberState::Occupied(_));
        self.slots.iter().filter(is_there).count()
    }

    fn words(&self) -> impl Iterator<Item = &Robust> {
        self.slots.iter().map(AsRef::<Robust>::as_ref)
    }
}

impl Error {
    fn from_unmet(unmet: BarrierError) -> Self {
        match unmet {
            BarrierError::Broken(slot, process) => Error::BarrierBroken { slot, process },
            BarrierError::MultiError(missed) => Error::from_missed(missed),
        }
    }
}

/// A thread's part in a [`SharedBarrier`]. Dropping it leaves the barrier; another party may join then.
///
/// It stays in its thread: it is neither `Send` nor `Sync`. One that crosses a `fork` is the parent's; the child's copy can not
/// wait, and does nothing when it is dropped.
#[must_use = "if unused the party leaves at once"]
pub struct BarrierParty<'a, const N: usize> {
    barrier: &'a SharedBarrier<N>,
    number: usize,
    /// The process that joined.
    generation: u64,
    was_panicking: bool,
    /// The slot's word and the robust list name the thread that joined.
    not_send: PhantomData<*mut ()>,
}

impl<const N: usize> BarrierParty<'_, N> {
    /// Waits until all parties do.
    ///
    /// # Errors
    ///
    /// - [`Error::BarrierBroken`]: a party died.
    /// - [`Error::FutexWaitvUnsupported`]: the kernel cannot wait for any of several.
    ///
    /// # Panics
    ///
    /// In a child of the process that joined: the slot is the parent's.
    pub fn wait(&self) -> Result<BarrierWaitResult, Error> {
        self.wait_with(None)
    }

    /// As [`wait`](Self::wait), no longer than `timeout` of the monotonic clock. Who gives up has not arrived, and may wait again.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), and [`Error::TimedOut`].
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, Error> {
        self.wait_with(Some(Deadline::after(timeout)))
    }

    /// As [`wait_timeout`](Self::wait_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Panics
    ///
    /// As [`wait_timeout`](Self::wait_timeout).
    pub fn wait_until(&self, deadline: Instant) -> Result<BarrierWaitResult, Error> {
        self.wait_with(Some(Deadline::at(deadline)))
    }

    /// The number of its slot, from 0 on.
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
        outcome.map(BarrierWaitResult).map_err(Error::from_unmet)
    }
}

impl<const N: usize> Drop for BarrierParty<'_, N> {
    fn drop(&mut self) {
        let Some(current) = CurrentThread::of_generation(self.generation) else {
            return;
        };
        if !self.was_panicking && std::thread::panicking() {
            self.barrier.raw.give_up(self.number, Some(current.id()));
        }
        // SAFETY: this thread joined in this process, and nothing but this drop leaves its slot.
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

/// What a party is told that has met the others; see [`BarrierParty::wait`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether this party is the leader: exactly one in each round is, the one that came last.
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

// SAFETY: `repr(C)` over atomics; the links mean something only to the thread that has a slot. The whole state is told, and
// visited as one primitive. Zero bytes are an unarmed barrier that nobody has joined.
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
        sys::check_robust_list()?;
        // SAFETY: the caller's promise.
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

    fn was_leaked_by_this_process(&self) -> bool {
        self.words().any(Robust::was_leaked_by_this_process)
    }

    unsafe fn reset(&self) {
        // Parties that died are gone with everybody else, so nobody is left to be told.
        // SAFETY: the caller's promise.
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
