//! A wait for any of several sources. Each source has words to sleep on, and one call sleeps on all
//! of them.
//!
//! The wait acquires nothing: the caller learns which source is ready, and then tries to acquire
//! it. So a wake that came here may have been meant for a thread that waits for the same source,
//! and the watcher wakes one more before it continues. If the watcher is killed before that, the
//! other thread continues when its recheck timer expires, within a second.
//!
//! **Orderings.** Those of the words. An event or an abandoned slot is found ready by an acquire
//! load. A lock set is found ready by a relaxed load: the caller synchronizes when it acquires one
//! of the words.

use crate::raw::event::Event;
use crate::raw::multi::lock_set::LockSet;
use crate::raw::multi::member_slot::{MemberSlot, MemberState, PropagatedWakes};
use crate::raw::outcome::AcquireError;
use crate::raw::robust::Robust;
use crate::sys::{Deadline, RecheckTimer, Wait, WaitvSet};
use core::cell::RefCell;

/// Something to wait for.
pub(crate) trait WaitSource {
    /// How many words a wait for it sleeps on.
    fn words(&self) -> usize;

    /// Called before the first sleep. Runs the liveness check for each word whose owner's process
    /// this thread has found dead.
    fn mark_known_deaths(&self);

    /// Whether the awaited condition holds.
    fn is_ready(&self) -> bool;

    /// Adds its words to `set`. First sets the bit in each word which shows that a thread may
    /// sleep. Returns false if the source has changed, so that the caller must not sleep.
    fn join<'a>(&'a self, set: &mut WaitvSet<'a>) -> bool;

    /// Called after a sleep. Wakes other threads for which a wake that came here may have been
    /// meant. If `is_check_due`, also runs the liveness check.
    fn after_sleep(&self, is_check_due: bool);
}

impl WaitSource for Event {
    fn words(&self) -> usize {
        1
    }

    // An event has no owner.
    fn mark_known_deaths(&self) {}

    fn is_ready(&self) -> bool {
        self.is_set()
    }

    fn join<'a>(&'a self, set: &mut WaitvSet<'a>) -> bool {
        let with_waiters = self.register_waiter();
        with_waiters
            .inspect(|(word, expected)| set.push(word, *expected))
            .is_some()
    }

    // Setting an event wakes all waiters.
    fn after_sleep(&self, _: bool) {}
}

impl<W: AsRef<Robust>> WaitSource for LockSet<'_, W> {
    fn words(&self) -> usize {
        self.words.len()
    }

    fn mark_known_deaths(&self) {
        LockSet::mark_known_deaths(self);
    }

    fn is_ready(&self) -> bool {
        self.words.iter().any(|word| word.as_ref().is_unowned())
    }

    fn join<'a>(&'a self, set: &mut WaitvSet<'a>) -> bool {
        self.words.iter().map(AsRef::<Robust>::as_ref).all(|lock| {
            let expected = lock.prepare_wait();
            expected
                .inspect(|&expected| set.push(&lock.word, expected))
                .is_some()
        })
    }

    fn after_sleep(&self, is_check_due: bool) {
        if is_check_due {
            self.check_all_owners();
        }
        self.propagate_wakes();
    }
}

/// A wait until one of some slots is abandoned, and the queue lock for these slots.
#[derive(Debug)]
pub(crate) struct AbandonedSlots<'a, S> {
    slots: &'a [S],
    queue_lock: &'a Robust,
    propagated: RefCell<PropagatedWakes>,
}

impl<'a, S> AbandonedSlots<'a, S> {
    /// Creates the source for one wait.
    pub(crate) fn new(slots: &'a [S], queue_lock: &'a Robust) -> Self {
        let propagated = RefCell::new(PropagatedWakes::new());
        AbandonedSlots {
            slots,
            queue_lock,
            propagated,
        }
    }
}

impl<S: AsRef<MemberSlot>> WaitSource for AbandonedSlots<'_, S> {
    fn words(&self) -> usize {
        self.slots.len()
    }

    fn mark_known_deaths(&self) {
        for slot in self.slots {
            slot.as_ref().lock().mark_if_death_known();
        }
    }

    fn is_ready(&self) -> bool {
        let is_abandoned = |slot: &MemberSlot| matches!(slot.state(), MemberState::Abandoned(_));
        self.slots.iter().any(|slot| is_abandoned(slot.as_ref()))
    }

    // `is_ready` checks for an abandoned slot after all words have been read.
    fn join<'a>(&'a self, set: &mut WaitvSet<'a>) -> bool {
        for (word, seen) in self.slots.iter().map(|slot| slot.as_ref().expected_word()) {
            set.push(word, seen);
        }
        true
    }

    fn after_sleep(&self, is_check_due: bool) {
        let is_waited_for = !self.queue_lock.is_unowned();
        let mut propagated = self.propagated.borrow_mut();
        if is_check_due {
            *propagated = PropagatedWakes::new();
        }
        for (number, slot) in (0..).zip(self.slots.iter().map(AsRef::<MemberSlot>::as_ref)) {
            if is_check_due {
                slot.check_owner();
            }
            let (_, word) = slot.expected_word();
            let is_abandoned = matches!(slot.state(), MemberState::Abandoned(_));
            if is_abandoned || is_waited_for && propagated.should_wake(number, word) {
                slot.propagate_wake();
            }
        }
    }
}

/// Waits until one of the sources is ready, and returns its index.
pub(crate) fn wait_any(
    sources: &[&dyn WaitSource],
    deadline: Option<Deadline>,
) -> Result<usize, AcquireError> {
    sources.iter().for_each(|source| source.mark_known_deaths());
    let mut timer = RecheckTimer::new();
    let mut expired = false;
    loop {
        let mut set = WaitvSet::new();
        let all_joined = sources.iter().all(|source| source.join(&mut set));
        if let Some(ready) = sources.iter().position(|source| source.is_ready()) {
            return Ok(ready);
        }
        if expired {
            return Err(AcquireError::TimedOut);
        }
        if all_joined {
            let outcome = set.sleep(timer.next_deadline(deadline));
            let is_check_due = outcome == Wait::TimedOut || timer.is_due();
            for source in sources {
                source.after_sleep(is_check_due);
            }
        }
        expired = deadline.is_some_and(Deadline::has_passed);
    }
}
