//! How a writer of a [readers-writer lock](crate::raw::rwlock) excludes all other threads, and how
//! it recovers what a dead writer left.

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::Robust;
use crate::raw::robust::watch::WatchOutcome;
use crate::raw::rwlock::in_process::LockMode;
use crate::raw::rwlock::reader_slot::ReaderSlot;
use crate::raw::rwlock::{ReportDeath, RwLock, bias};
use crate::sys::{self, CurrentThread};
use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use core::sync::atomic::compiler_fence;

/// How many writes in succession must meet no reader before writers stop to look for readers: at
/// first, and at most. Each reader that then has to change the bias doubles the number, because
/// both changes together cost as much as some looks.
const FIRST_GOAL: u32 = 4;
const LAST_GOAL: u32 = 64;

impl<const N: usize> RwLock<N> {
    /// Acquires `writer_lock`, which excludes writers and upgradable readers. Reports the death of
    /// a writer in its critical section.
    pub(in crate::raw) fn acquire_writer_lock(
        &self,
        current: CurrentThread,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<(), AcquireError> {
        if self.writer_lock.try_acquire_fast_ordered(current, SeqCst) {
            sys::dekker_fence();
            return Ok(());
        }
        // The owner of `writer_lock` may wait for the calling thread to leave its slot.
        let reads = self.slot_of(current, None).is_some();
        let own_mode = if reads { WaitMode::Try } else { mode };
        let acquired = match self.writer_lock.acquire_slow(current, own_mode) {
            Err(AcquireError::WouldBlock) if reads => return Err(mode.on_relock()),
            outcome => outcome?,
        };
        if let Acquired::OwnerDied(owner) = acquired {
            if self.data_dirty.load(Relaxed) != 0 {
                report_death(owner);
                self.data_dirty.store(0, Release);
            }
            // It may have died before it woke the readers that need not wait any longer.
            self.writer_lock.notify_watchers();
        }
        self.writer_lock.publish();
        Ok(())
    }

    /// Acquires the lock for writing if `writer_lock` is not available.
    #[cold]
    pub(in crate::raw) fn write_slow(
        &self,
        current: CurrentThread,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<(), AcquireError> {
        if self.writer_lock.is_in_process() {
            self.writer_lock.forget_pending(current);
            return self.lock_in_process(current, None, LockMode::Write, mode);
        }
        self.acquire_writer_lock(current, mode, report_death)?;
        self.begin_section_or_unlock(current, mode)
    }

    /// Makes the owner of `writer_lock` the writer, or releases `writer_lock`.
    pub(in crate::raw) fn begin_section_or_unlock(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<(), AcquireError> {
        let outcome = self.begin_section(current, mode);
        if outcome.is_err() {
            // SAFETY: the calling thread owns `writer_lock`: its callers have acquired it.
            unsafe { self.writer_lock.unlock(current) };
        }
        outcome
    }

    /// Makes the owner of `writer_lock` one that does not write: readers need not wait for it.
    pub(in crate::raw) fn admit_readers(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<(), AcquireError> {
        self.recover_phase_locks(current, mode)?;
        self.set_bias_to_readers();
        Ok(())
    }

    /// Whether a thread writes, or died as it wrote. The calling thread owns `writer_lock`, so it
    /// is this thread.
    pub(in crate::raw) fn is_writing(&self) -> bool {
        self.data_dirty.load(Relaxed) != 0
    }

    /// Lets readers read although `writer_lock` is owned. The calling thread owns it, and does not
    /// write.
    pub(in crate::raw) fn set_bias_to_readers(&self) {
        if self.bias.load(Relaxed) != bias::READERS {
            self.swap_bias_and_notify(bias::READERS);
        }
    }

    /// Opens the phase lock of a writer that died. The thread owns `writer_lock`, so a phase lock
    /// that is closed belongs to a dead writer. Afterwards, the bias is not `CLOSED`.
    fn recover_phase_locks(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<(), AcquireError> {
        for phase_lock in self
            .phase_locks
            .iter()
            .filter(|phase_lock| !phase_lock.is_released_seqcst())
        {
            phase_lock.acquire_slow(current, mode)?;
            self.open_phase(current, phase_lock);
        }
        Ok(())
    }

    /// Makes the owner of `writer_lock` the writer: waits until the readers have left.
    pub(in crate::raw) fn begin_section(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<(), AcquireError> {
        match self.bias.load(SeqCst) {
            bias::WRITERS => {
                self.set_data_dirty();
                return Ok(());
            }
            bias::CLOSED => {
                self.recover_phase_locks(current, mode)?;
                self.swap_bias(bias::NONE);
            }
            bias::NONE | bias::AWAITED => {}
            // A writer died there. A reader may wait that could not set `AWAITED`.
            bias::LEANING => {
                self.swap_bias(bias::AWAITED);
            }
            _ => {
                self.swap_bias(bias::NONE);
            }
        }
        if self.are_slots_free() {
            self.count_quiet_write();
        } else {
            self.quiet_writes.store(0, Relaxed);
            self.wait_for_readers(current, mode)?;
        }
        self.set_data_dirty();
        Ok(())
    }

    /// Changes the bias, on the writer's side of a Dekker pattern. Returns the previous one.
    fn swap_bias(&self, bias: u32) -> u32 {
        let previous = self.bias.swap(bias, SeqCst);
        sys::dekker_fence();
        previous
    }

    /// Sets a bias with which no reader need wait for the owner of `writer_lock`, and wakes those
    /// that do.
    fn swap_bias_and_notify(&self, bias: u32) {
        // Under `LEANING`, a reader may wait that could not set `AWAITED`.
        if matches!(self.swap_bias(bias), bias::AWAITED | bias::LEANING) {
            self.writer_lock.notify_watchers();
        }
    }

    fn are_slots_free(&self) -> bool {
        self.slots.iter().all(|slot| slot.lock.is_free_seqcst())
    }

    /// Counts a write that met no reader. After some of them, the next writers need not look.
    fn count_quiet_write(&self) {
        let goal = self.quiet_goal.load(Relaxed).clamp(FIRST_GOAL, LAST_GOAL);
        let quiet = self.quiet_writes.load(Relaxed);
        if quiet > goal {
            // A reader has changed the bias, or it did not become `WRITERS`.
            self.quiet_writes.store(1, Relaxed);
            self.quiet_goal.store(2 * goal, Relaxed);
            return;
        }
        self.quiet_writes.store(quiet + 1, Relaxed);
        if quiet < goal {
            return;
        }
        // Not `WRITERS` at once: if this thread died before it looked, the next writer would not
        // look, although a reader may read that saw `NONE`.
        self.swap_bias(bias::LEANING);
        let next = match self.are_slots_free() {
            true => bias::WRITERS,
            false => bias::AWAITED,
        };
        // If a reader has changed the bias to `AWAITED`, that is right.
        let _ = self
            .bias
            .compare_exchange(bias::LEANING, next, SeqCst, Relaxed);
    }

    /// Closes the phase lock that `phase` names, and waits until the readers have left. The thread
    /// owns `writer_lock`.
    fn wait_for_readers(&self, current: CurrentThread, mode: WaitMode) -> Result<(), AcquireError> {
        if self.slot_of(current, None).is_some() {
            // Fail before the thread waits for the other readers and keeps new ones out.
            return Err(mode.on_relock());
        }
        let number = (self.phase.load(Relaxed) % 2) as usize;
        let (phase_lock, other) = (&self.phase_locks[number], &self.phase_locks[1 - number]);
        if !other.is_released_seqcst() {
            other.acquire_slow(current, mode)?;
            self.open_phase(current, other);
        }
        phase_lock.acquire_slow(current, mode)?;
        phase_lock.publish();
        // Readers that wait for the owner of `writer_lock` go first: their slots are seen below.
        self.swap_bias_and_notify(bias::CLOSED);
        for slot in &self.slots {
            if let Err(error) = self.wait_for_reader(current, slot, 1 + number as u32, mode) {
                self.open_phase(current, phase_lock);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Records that the data may be incomplete, before it is touched: see *Orderings* of `rwlock`.
    #[inline(always)]
    pub(in crate::raw) fn set_data_dirty(&self) {
        self.data_dirty.store(1, Relaxed);
        compiler_fence(Release);
    }

    /// Waits until no thread reads in the slot.
    fn wait_for_reader(
        &self,
        current: CurrentThread,
        slot: &ReaderSlot,
        own_state: u32,
        mode: WaitMode,
    ) -> Result<(), AcquireError> {
        if slot.lock.is_free_seqcst() {
            return Ok(());
        }
        if slot.lock.is_held_by(current) {
            return Err(mode.on_relock());
        }
        let waits_for_this_writer = || slot.state.load(SeqCst) == own_state;
        match slot.lock.watch(mode.deadline(), waits_for_this_writer) {
            WatchOutcome::Over => Ok(()),
            WatchOutcome::Released => {
                slot.lock.propagate_wake();
                Ok(())
            }
            WatchOutcome::TimedOut => Err(mode.on_timeout_of(&slot.lock.record)),
            WatchOutcome::Died => {
                slot.lock.acquire_slow(current, mode)?;
                slot.clear();
                // SAFETY: the calling thread has just acquired the slot.
                unsafe { slot.lock.unlock(current) };
                Ok(())
            }
        }
    }

    /// Ends the write. If the writer had met readers, switches to the other phase lock for the next
    /// such writer. The thread keeps `writer_lock`.
    #[inline(always)]
    pub(in crate::raw) fn end_section(&self, current: CurrentThread) {
        self.data_dirty.store(0, Release);
        // Only the owner of `writer_lock` sets `CLOSED`, so a relaxed load suffices.
        if self.bias.load(Relaxed) == bias::CLOSED {
            self.end_phase(current);
        }
    }

    #[cold]
    fn end_phase(&self, current: CurrentThread) {
        let phase = self.phase.load(Relaxed);
        self.phase.store(phase.wrapping_add(1), Relaxed);
        self.open_phase(current, &self.phase_locks[(phase % 2) as usize]);
    }

    /// Opens a phase lock that the thread owns, for all threads that wait on it. Replaces `CLOSED`
    /// before.
    fn open_phase(&self, current: CurrentThread, phase_lock: &Robust) {
        if self.bias.load(Relaxed) == bias::CLOSED {
            self.swap_bias(bias::READERS);
        }
        // SAFETY: the calling thread owns the phase lock, as every caller of this function ensures.
        unsafe { phase_lock.unlock(current) };
        phase_lock.propagate_wake();
    }
}
