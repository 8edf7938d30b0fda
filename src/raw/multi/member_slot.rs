//! A slot: a robust word that is held for life, and watched.
//!
//! It is the [robust lock word](crate::raw::robust), but that it carries `WAITERS` from the start and never loses it. The kernel then
//! wakes somebody when the holder dies, whoever watches and whenever they began to; and a watcher writes nothing.
//!
//! | word | meaning |
//! |---|---|
//! | `WAITERS` | free |
//! | tid + `WAITERS` | occupied |
//! | `OWNER_DIED` + `WAITERS` | abandoned by a death |
//!
//! The kernel wakes one sleeper for a death, and a death is wake_word for all who watch. So whoever sees it wakes the others
//! ([`propagate_wake`](MemberSlot::propagate_wake)). Where that one is killed first, the others see it when their timer ends, within a second.
//!
//! **Orderings.** Those of the robust word. Whoever sees a slot abandoned, by an acquire, sees what its holder did there.

use crate::raw::multi::lock_set::MultiError;
use crate::raw::outcome::{AcquireError, Acquired};
use crate::raw::robust::{FREE, OWNER_DIED, Robust, TID, WAITERS};
use crate::sys::{
    self, AtomicU32, AtomicU64, CurrentThread, Deadline, FutexWaitvUnsupported, OwnerId,
    RecheckTimer, Wait, WaitvSet,
};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// A slot.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct MemberSlot {
    lock: Robust,
    /// [`CurrentThread::who`] of the last one that sat down here and has not left. It outlives a death, and the record does not.
    last_owner: AtomicU64,
}

impl AsRef<MemberSlot> for MemberSlot {
    fn as_ref(&self) -> &MemberSlot {
        self
    }
}

/// What a look at a slot shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// Nobody has it: it was never taken, or its last holder left it.
    Free,
    /// Who has it; 0 where it has not sat down yet.
    Occupied(Option<OwnerId>),
    /// Who sat there last, and ended with it; 0 where nobody had sat down since the slot was free.
    Abandoned(Option<OwnerId>),
}

impl AsRef<Robust> for MemberSlot {
    fn as_ref(&self) -> &Robust {
        &self.lock
    }
}

impl MemberSlot {
    sys::const_fn! {
        /// A free slot that is not placed yet.
        pub(crate) fn new() -> Self {
            MemberSlot {
                lock: Robust::new(),
                last_owner: AtomicU64::new(0),
            }
        }
    }

    /// Readies the slot, free, at the address where it will stay.
    ///
    /// # Safety
    ///
    /// As for [`Robust::init`].
    pub(crate) unsafe fn init(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.lock.init() };
        self.last_owner.store(0, Relaxed);
        self.lock.word.store(WAITERS, Relaxed);
    }

    /// Takes the slot if nobody has it. Where its holder died, that one's process is looked at until `deadline`.
    pub(crate) fn acquire(
        &self,
        current: CurrentThread,
        deadline: Option<Deadline>,
    ) -> Result<Acquired, AcquireError> {
        self.lock.try_acquire_unowned(current, deadline)
    }

    /// Sits down on a slot that the calling thread has taken, and gives who sat there last and did not leave it.
    pub(crate) fn register(&self, current: CurrentThread) -> Option<OwnerId> {
        let lock = &self.lock;
        if !lock.is_in_process() && lock.word.load(Relaxed) & WAITERS == 0 {
            // The lock clears it where it puts a mark back and finds nobody asleep.
            lock.word.fetch_or(WAITERS, Relaxed);
        }
        OwnerId::from_bits(self.last_owner.swap(current.id().to_bits(), AcqRel))
    }

    /// Leaves the slot, and wakes all who sleep on it.
    ///
    /// # Safety
    ///
    /// The calling thread has it.
    pub(crate) unsafe fn release(&self, current: CurrentThread) {
        let lock = &self.lock;
        self.last_owner.store(0, Release);
        if lock.is_in_process() {
            // SAFETY: the caller's promise.
            return unsafe { lock.unlock(current) };
        }
        lock.ensure_list_op_pending(current);
        lock.record().clear();
        loop {
            let word = lock.word.load(Relaxed);
            let is_mine = word & TID == current.tid();
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

    /// What the slot is just now.
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
        match word & (TID | OWNER_DIED) {
            FREE => MemberState::Free,
            OWNER_DIED => MemberState::Abandoned(last_owner),
            // Who sat here before may be named still.
            tid if last_owner.is_some_and(|owner| owner.tid() == tid) => {
                MemberState::Occupied(last_owner)
            }
            _ => MemberState::Occupied(None),
        }
    }

    /// The word, and what it is: to sleep until that changes.
    pub(crate) fn expected_word(&self) -> (&AtomicU32, u32) {
        (&self.lock.word, self.lock.word.load(Acquire))
    }

    /// Whether the word is still what it was.
    pub(crate) fn is_still(&self, seen: u32) -> bool {
        self.lock.word.load(Relaxed) == seen
    }

    /// Wakes the others who sleep on the slot, if it has no holder any more: the kernel wakes one for a death, and a wake for
    /// who waits for the slot may have gone to who only watches it.
    pub(crate) fn propagate_wake(&self) {
        let word = &self.lock.word;
        if word.load(Relaxed) & TID == 0 {
            sys::futex_wake(word, u32::MAX);
        }
    }

    /// The safety net's look. True where the holder died without being marked.
    pub(crate) fn check_owner(&self) -> bool {
        !self.lock.is_in_process() && self.lock.mark_if_owner_dead()
    }

    /// The lock that the slot is.
    pub(crate) fn lock(&self) -> &Robust {
        &self.lock
    }

    /// Marks a slot that is_check_due occupied as abandoned by a death.
    ///
    /// # Safety
    ///
    /// As for [`Robust::reset`].
    pub(crate) unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.lock.reset() };
        let word = self.lock.word.load(Relaxed);
        self.lock.word.store(word | WAITERS, Relaxed);
    }
}

/// What each slot was when a watcher last passed a wake on there that was no wake_word to itself: once is enough, until a timer ends.
/// Those whom it wakes do the same, so that watchers would wake each other for ever where who waits for the slot does not run.
#[derive(Debug)]
pub(in crate::raw) struct Rewoken([u32; WaitvSet::MAX]);

impl Rewoken {
    pub(in crate::raw) fn new() -> Self {
        // No slot's word that has no holder is that.
        Rewoken([FREE; WaitvSet::MAX])
    }

    /// Whether to pass a wake on at a slot that was so.
    pub(in crate::raw) fn is_due(&mut self, number: usize, seen: u32) -> bool {
        core::mem::replace(&mut self.0[number], seen) != seen
    }
}

/// Watches slots until `look` gives something, or the deadline comes. `wake_word` is a word that tells of what the slots do not, and
/// `queue_lock` that of the [line](crate::raw::multi::lock_set) for the slots, where there is one.
pub(crate) fn watch<T>(
    slots: &[impl AsRef<MemberSlot>],
    wake_word: Option<&AtomicU32>,
    queue_lock: Option<&Robust>,
    deadline: Option<Deadline>,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, MultiError> {
    let mut timer = RecheckTimer::new();
    let mut expired = false;
    let mut rewoken = Rewoken::new();
    loop {
        let mut set = WaitvSet::new();
        let mut seen = [0; WaitvSet::MAX];
        // Before the look: what changes after it is not as expected.
        for (slot, seen) in slots.iter().zip(&mut seen) {
            let (word, value) = slot.as_ref().expected_word();
            *seen = value;
            set.push(word, value);
        }
        if let Some(wake_word) = wake_word {
            set.push(wake_word, wake_word.load(Acquire));
        }
        if let Some(found) = look() {
            return Ok(found);
        }
        if expired {
            return Err(MultiError::AcquireError(AcquireError::TimedOut));
        }
        let answer = set
            .sleep(timer.next_deadline(deadline))
            .map_err(|FutexWaitvUnsupported| MultiError::CannotWait)?;
        // Whoever leaves a slot and dies before its wake leaves one wake to the kernel, which may have come here. The slot may be
        // as it was before; but somebody waits for it then, and has not got it.
        let is_check_due = answer == Wait::TimedOut || timer.is_due();
        let is_waited_for = queue_lock.is_some_and(|queue_lock| !queue_lock.is_available());
        if is_check_due {
            rewoken = Rewoken::new();
        }
        for (number, (slot, seen)) in
            (0..).zip(slots.iter().map(AsRef::<MemberSlot>::as_ref).zip(seen))
        {
            if is_check_due {
                slot.check_owner();
            }
            // Whatever ended the sleep: wakes of other slots may have come to this sleeper too.
            if !slot.is_still(seen) || is_waited_for && rewoken.is_due(number, seen) {
                slot.propagate_wake();
            }
        }
        expired = deadline.is_some_and(Deadline::has_passed);
    }
}
