//! A slot: a robust word that a member owns until it leaves or dies, and that others watch.
//!
//! It is the [robust lock word](crate::raw::robust), except that `WAITERS` is set from the start
//! and stays set. In the rare case that the lock clears it, [`register`](MemberSlot::register) sets
//! it again. So the kernel wakes a thread when the owner dies, whichever threads watch and whenever
//! they began to. A watcher writes nothing.
//!
//! | word | meaning |
//! |---|---|
//! | `WAITERS` | released: not occupied |
//! | tid + `WAITERS` | occupied |
//! | `OWNER_DIED` + `WAITERS` | abandoned: its owner died |
//!
//! The kernel wakes one sleeper for a death, but a death concerns every watcher. So a watcher that
//! sees a death wakes the others ([`propagate_wake`](MemberSlot::propagate_wake)). If it is killed
//! first, the others see the death when their recheck timer expires, within a second.
//!
//! **Orderings.** Those of the robust word. A thread that sees by an acquire that a slot is
//! abandoned sees what its owner did there.

use crate::raw::outcome::{AcquireError, Acquired};
use crate::raw::robust::{FREE, OWNER_DIED, Robust, TID_MASK, WAITERS};
use crate::sys::{
    self, AtomicU32, AtomicU64, CurrentThread, Deadline, OwnerId, RecheckTimer, Wait, WaitvSet,
};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// A slot of a group.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct MemberSlot {
    lock: Robust,
    /// [`CurrentThread::id`] of the last owner that registered here and has not left. It outlives
    /// a death. The owner record does not.
    last_owner: AtomicU64,
}

impl AsRef<MemberSlot> for MemberSlot {
    fn as_ref(&self) -> &MemberSlot {
        self
    }
}

/// What a read of a slot shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It has no owner: it was never acquired, or its last owner left it.
    Free,
    /// Its owner, or `None` if the owner has not registered yet.
    Occupied(Option<OwnerId>),
    /// The last owner that registered, which ended while it owned the slot. `None` if no owner
    /// registered since the slot was free.
    Abandoned(Option<OwnerId>),
}

impl AsRef<Robust> for MemberSlot {
    fn as_ref(&self) -> &Robust {
        &self.lock
    }
}

impl MemberSlot {
    sys::const_fn! {
        /// Creates a free slot that is not placed yet.
        pub(crate) fn new() -> Self {
            MemberSlot {
                lock: Robust::new(),
                last_owner: AtomicU64::new(0),
            }
        }
    }

    /// Initializes the slot, free, at its final address.
    ///
    /// # Safety
    ///
    /// As for [`Robust::init`].
    pub(crate) unsafe fn init(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.lock.init() };
        self.last_owner.store(0, Relaxed);
        self.lock.word.store(WAITERS, Relaxed);
    }

    /// Acquires the slot if it has no owner. If its last owner died, checks that owner's process
    /// until `deadline`.
    pub(crate) fn acquire(
        &self,
        current: CurrentThread,
        deadline: Option<Deadline>,
    ) -> Result<Acquired, AcquireError> {
        self.lock.acquire_unowned(current, deadline)
    }

    /// Registers the calling thread in a slot that it has acquired. Returns the last owner that
    /// registered there and did not leave.
    pub(crate) fn register(&self, current: CurrentThread) -> Option<OwnerId> {
        let lock = &self.lock;
        if !lock.is_in_process() && lock.word.load(Relaxed) & WAITERS == 0 {
            // The lock clears `WAITERS` if it puts a mark back and finds no sleeper.
            lock.word.fetch_or(WAITERS, Relaxed);
        }
        OwnerId::from_bits(self.last_owner.swap(current.id().to_bits(), AcqRel))
    }

    /// Leaves the slot, and wakes all threads that sleep on it.
    ///
    /// # Safety
    ///
    /// The calling thread must own the slot.
    pub(crate) unsafe fn release(&self, current: CurrentThread) {
        let lock = &self.lock;
        self.last_owner.store(0, Release);
        if lock.is_in_process() {
            // SAFETY: guaranteed by the caller.
            return unsafe { lock.unlock(current) };
        }
        lock.ensure_pending(current);
        lock.record().clear();
        loop {
            let word = lock.word.load(Relaxed);
            let is_mine = word & TID_MASK == current.tid();
            if !is_mine
                || lock
                    .word
                    .compare_exchange(word, WAITERS, Release, Relaxed)
                    .is_ok()
            {
                break;
            }
        }
        sys::futex_wake(&lock.word, u32::MAX);
        current.list().clear_pending();
    }

    /// Returns the current state of the slot.
    pub(crate) fn state(&self) -> MemberState {
        let lock = &self.lock;
        let word = lock.word.load(Acquire);
        let last_owner = OwnerId::from_bits(self.last_owner.load(Acquire));
        if lock.is_in_process() {
            return match last_owner {
                None => MemberState::Free,
                owner => MemberState::Occupied(owner),
            };
        }
        match word & (TID_MASK | OWNER_DIED) {
            FREE => MemberState::Free,
            OWNER_DIED => MemberState::Abandoned(last_owner),
            // `last_owner` may still name the previous owner.
            tid if last_owner.is_some_and(|owner| owner.tid() == tid) => {
                MemberState::Occupied(last_owner)
            }
            _ => MemberState::Occupied(None),
        }
    }

    /// Returns the word and its value, to sleep until the word changes.
    pub(crate) fn expected_word(&self) -> (&AtomicU32, u32) {
        (&self.lock.word, self.lock.word.load(Acquire))
    }

    /// Whether the word still has the value `seen`.
    pub(crate) fn is_still(&self, seen: u32) -> bool {
        self.lock.word.load(Relaxed) == seen
    }

    /// Wakes the other threads that sleep on the slot, if it has no owner. The kernel wakes one
    /// thread for a death, and a wake for a thread that waits for the slot may have gone to one
    /// that only watches it.
    pub(crate) fn propagate_wake(&self) {
        let word = &self.lock.word;
        if word.load(Relaxed) & TID_MASK == 0 {
            sys::futex_wake(word, u32::MAX);
        }
    }

    /// Runs the liveness check. Returns true if the owner died without being marked.
    pub(crate) fn check_owner(&self) -> bool {
        !self.lock.is_in_process() && self.lock.mark_if_owner_dead()
    }

    /// Returns the slot's lock.
    pub(crate) fn lock(&self) -> &Robust {
        &self.lock
    }

    /// Marks a slot that appears occupied as abandoned.
    ///
    /// # Safety
    ///
    /// As for [`Robust::reset`].
    pub(crate) unsafe fn reset(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.lock.reset() };
        let word = self.lock.word.load(Relaxed);
        self.lock.word.store(word | WAITERS, Relaxed);
    }
}

/// The value of each slot's word when a watcher last propagated a wake there although the word had
/// not changed.
///
/// One such wake for each value is enough until the recheck timer expires. The watchers that it
/// wakes do the same. Without this limit, watchers would wake each other forever while the thread
/// that waits for the slot does not run.
#[derive(Debug)]
pub(in crate::raw) struct PropagatedWakes([u32; WaitvSet::MAX]);

impl PropagatedWakes {
    pub(in crate::raw) fn new() -> Self {
        // The word of a slot without an owner never has this value.
        PropagatedWakes([FREE; WaitvSet::MAX])
    }

    /// Whether to propagate a wake at a slot with the value `seen`. Records the value.
    pub(in crate::raw) fn should_wake(&mut self, number: usize, seen: u32) -> bool {
        core::mem::replace(&mut self.0[number], seen) != seen
    }
}

/// Watches slots until `check` returns a value, or until `deadline`.
///
/// A change of `wake_word` also ends a sleep. `queue_lock` is the lock of the
/// [queue](crate::raw::multi::lock_set) for the slots, if they have one.
pub(crate) fn watch<T>(
    slots: &[impl AsRef<MemberSlot>],
    wake_word: Option<&AtomicU32>,
    queue_lock: Option<&Robust>,
    deadline: Option<Deadline>,
    mut check: impl FnMut() -> Option<T>,
) -> Result<T, AcquireError> {
    for slot in slots {
        slot.as_ref().lock.mark_if_death_known();
    }
    let mut timer = RecheckTimer::new();
    let mut expired = false;
    let mut propagated = PropagatedWakes::new();
    loop {
        let mut set = WaitvSet::new();
        let mut seen = [0; WaitvSet::MAX];
        // Read before `check`: a change after that makes the sleep return at once.
        for (slot, seen) in slots.iter().zip(&mut seen) {
            let (word, value) = slot.as_ref().expected_word();
            *seen = value;
            set.push(word, value);
        }
        if let Some(wake_word) = wake_word {
            set.push(wake_word, wake_word.load(Acquire));
        }
        if let Some(found) = check() {
            return Ok(found);
        }
        if expired {
            return Err(AcquireError::TimedOut);
        }
        let outcome = set.sleep(timer.next_deadline(deadline));
        // If a thread releases a slot and dies before its wake, the kernel makes one wake, which
        // may have come here. The slot's word may be unchanged then. So a wake is also propagated
        // if a thread waits for a slot: that thread did not receive this wake.
        let is_check_due = outcome == Wait::TimedOut || timer.is_due();
        let is_waited_for = queue_lock.is_some_and(|queue_lock| !queue_lock.is_unowned());
        if is_check_due {
            propagated = PropagatedWakes::new();
        }
        for (number, (slot, seen)) in
            (0..).zip(slots.iter().map(AsRef::<MemberSlot>::as_ref).zip(seen))
        {
            if is_check_due {
                slot.check_owner();
            }
            // Whatever ended the sleep: this thread may also have consumed wakes of other slots.
            if !slot.is_still(seen) || is_waited_for && propagated.should_wake(number, seen) {
                slot.propagate_wake();
            }
        }
        expired = deadline.is_some_and(Deadline::has_passed);
    }
}
