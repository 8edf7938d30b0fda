//! How a reader of a [readers-writer lock](crate::raw::rwlock) waits: in its slot for the writer,
//! or as the owner of `writer_lock` for a slot.

use crate::raw::multi::lock_set::LockSet;
use crate::raw::outcome::{AcquireError, WaitMode};
use crate::raw::robust::watch::WatchOutcome;
use crate::raw::rwlock::in_process::LockMode;
use crate::raw::rwlock::reader_slot::READING;
use crate::raw::rwlock::{ReadPosition, ReportDeath, RwLock};
use crate::sys::{self, CurrentThread};
use core::sync::atomic::Ordering::SeqCst;

impl<const N: usize> RwLock<N> {
    /// Acquires the lock for reading if the preferred slot is not available.
    #[cold]
    pub(in crate::raw) fn read_slow(
        &self,
        current: CurrentThread,
        preferred: usize,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<ReadPosition, AcquireError> {
        if self.writer_lock.is_in_process() {
            self.slots[preferred].lock.forget_pending(current);
            self.lock_in_process(current, None, LockMode::Read, mode)?;
            return Ok(ReadPosition::IN_PROCESS);
        }
        if self.slots[preferred].lock.is_held_by(current) {
            return Ok(self.recurse(preferred));
        }
        for slot in (preferred..N).chain(0..preferred) {
            if self.slots[slot].lock.try_acquire_free(current) {
                return self.wait_for_writer(current, slot, mode, report_death);
            }
        }
        match self.slot_of(current, None) {
            Some(slot) => Ok(self.recurse(slot)),
            None => self.read_under_writer_lock(current, preferred, mode, report_death),
        }
    }

    /// Waits for the writer, if there is one, in a slot that the thread has just taken.
    #[cold]
    pub(in crate::raw) fn wait_for_writer(
        &self,
        current: CurrentThread,
        slot_index: usize,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<ReadPosition, AcquireError> {
        sys::dekker_fence();
        // The phase lock that is seen closed here, after the slot was taken, stays the one to wait
        // for: every later writer sees the slot. The other phase lock may be closed when this one
        // opens, but then its owner is such a later writer: see `rwlock` on orderings.
        let Some(number) =
            (0..2).find(|&phase_lock| !self.phase_locks[phase_lock].is_released_seqcst())
        else {
            return Ok(ReadPosition(slot_index as u32));
        };
        let (phase_lock, slot) = (&self.phase_locks[number], &self.slots[slot_index]);
        let error = loop {
            if phase_lock.is_held_by(current) {
                break Some(mode.on_relock());
            }
            if let Some(own_slot) = self.slot_of(current, Some(slot_index)) {
                // SAFETY: the calling thread owns the slot: the caller of this function took it.
                unsafe { slot.release(current) };
                return Ok(self.recurse(own_slot));
            }
            slot.state.swap(1 + number as u32, SeqCst);
            slot.lock.notify_watchers();
            // Sets `list_op_pending`: if this thread is woken and dies before it has propagated the
            // wake, the kernel wakes another waiter.
            phase_lock.set_pending(current);
            let watched = phase_lock.watch(mode.deadline(), || false);
            slot.state.swap(READING, SeqCst);
            phase_lock.propagate_wake();
            phase_lock.keep_or_link_pending(current, false);
            sys::dekker_fence();
            match watched {
                WatchOutcome::TimedOut => break Some(mode.on_timeout_of(&phase_lock.record)),
                WatchOutcome::Died | WatchOutcome::Over => break None,
                WatchOutcome::Released if phase_lock.is_released_seqcst() => {
                    return Ok(ReadPosition(slot_index as u32));
                }
                WatchOutcome::Released => {}
            }
        };
        // SAFETY: the calling thread owns the slot: the caller of this function took it.
        unsafe { slot.release(current) };
        match (error, mode) {
            (Some(error), _) => Err(error),
            (None, WaitMode::TryIfReleased) => Err(AcquireError::WouldBlock),
            (None, _) => self.read_under_writer_lock(current, slot_index, mode, report_death),
        }
    }

    /// Acquires the lock for reading after a writer died, or if all slots are taken. The thread
    /// owns `writer_lock` until it has a slot.
    fn read_under_writer_lock(
        &self,
        current: CurrentThread,
        preferred: usize,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<ReadPosition, AcquireError> {
        let has_writer_lock = self.writer_lock.is_held_by(current);
        if !has_writer_lock {
            self.acquire_writer_lock(current, mode)?;
        }
        let opened = self.recover_phase_locks(current, mode, report_death);
        let outcome = opened.and_then(|()| self.acquire_any_slot(current, preferred, mode));
        if !has_writer_lock {
            // SAFETY: the calling thread acquired `writer_lock` above.
            unsafe { self.writer_lock.unlock(current) };
        }
        outcome
    }

    /// Waits for a slot. The phase locks are open and stay open, because the thread owns
    /// `writer_lock`. It is the only thread that sleeps on the slots.
    fn acquire_any_slot(
        &self,
        current: CurrentThread,
        preferred: usize,
        mode: WaitMode,
    ) -> Result<ReadPosition, AcquireError> {
        let lock_set = LockSet {
            words: &self.slots,
            queue_lock: &self.writer_lock,
        };
        let outcome = lock_set.acquire_as_head(current, preferred, mode);
        // Slots that were released for this sleeper become free for every reader: this thread has
        // a slot, or waits no longer.
        for slot in &self.slots {
            slot.lock.propagate_wake();
        }
        let (slot_index, _) = outcome?;
        self.slots[slot_index].clear();
        Ok(ReadPosition(slot_index as u32))
    }

    /// Begins another read in the slot that the thread owns.
    fn recurse(&self, slot: usize) -> ReadPosition {
        self.slots[slot].recurse();
        ReadPosition(slot as u32)
    }

    /// Returns the slot that the calling thread owns, other than `except`.
    pub(in crate::raw) fn slot_of(
        &self,
        current: CurrentThread,
        except: Option<usize>,
    ) -> Option<usize> {
        (0..N).find(|&slot| Some(slot) != except && self.slots[slot].lock.is_held_by(current))
    }
}
