//! How a writer of a [readers-writer lock](crate::raw::rwlock) excludes all other threads, and how
//! it recovers what a dead writer left.

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::Robust;
use crate::raw::robust::watch::WatchOutcome;
use crate::raw::rwlock::reader_slot::ReaderSlot;
use crate::raw::rwlock::{ReportDeath, RwLock};
use crate::sys::CurrentThread;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

impl<const N: usize> RwLock<N> {
    /// Acquires `writer_lock`, which excludes writers and upgradable readers.
    pub(in crate::raw) fn acquire_writer_lock(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<(), AcquireError> {
        if self.writer_lock.try_acquire_fast(current) {
            return Ok(());
        }
        // The owner of `writer_lock` may wait for the calling thread to leave its slot.
        if self.slot_of(current, None).is_some() {
            return match self.writer_lock.acquire_slow(current, WaitMode::Try) {
                Err(AcquireError::WouldBlock) => Err(mode.on_relock()),
                outcome => outcome.map(drop),
            };
        }
        self.writer_lock.acquire_slow(current, mode).map(drop)
    }

    /// Opens the phase locks of a writer that died. The thread owns `writer_lock`, so a phase lock
    /// that is closed belongs to a dead writer.
    pub(in crate::raw) fn recover_phase_locks(
        &self,
        current: CurrentThread,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<(), AcquireError> {
        for phase_lock in self
            .phase_locks
            .iter()
            .filter(|phase_lock| !phase_lock.is_released_seqcst())
        {
            let acquired = phase_lock.acquire_slow(current, mode)?;
            self.report_dirty(report_death, acquired);
            self.open_phase(current, phase_lock);
        }
        Ok(())
    }

    /// Closes the phase lock that `phase` names, and waits until the readers have left. The thread
    /// owns `writer_lock`.
    pub(in crate::raw) fn begin_section(
        &self,
        current: CurrentThread,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<(), AcquireError> {
        if self.slot_of(current, None).is_some() {
            // Fail before the thread waits for the other readers and keeps new ones out.
            return Err(mode.on_relock());
        }
        let number = (self.phase.load(Relaxed) % 2) as usize;
        let (phase_lock, other) = (&self.phase_locks[number], &self.phase_locks[1 - number]);
        if !other.is_released_seqcst() {
            let acquired = other.acquire_slow(current, mode)?;
            self.report_dirty(report_death, acquired);
            self.open_phase(current, other);
            // `SeqCst`, as the check above, so that no reader sees this phase lock closed if the
            // checks below miss its slot.
            other.publish();
        }
        let acquired = phase_lock.acquire_slow(current, mode)?;
        self.report_dirty(report_death, acquired);
        phase_lock.publish();
        for slot in &self.slots {
            if let Err(error) = self.wait_for_reader(current, slot, 1 + number as u32, mode) {
                self.open_phase(current, phase_lock);
                return Err(error);
            }
        }
        // Set before the data is touched.
        self.data_dirty.swap(1, Acquire);
        Ok(())
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

    /// Reports a death in the critical section, before the phase lock opens. The thread owns
    /// `writer_lock` and the phase lock.
    fn report_dirty(&self, report_death: ReportDeath<'_>, acquired: Acquired) {
        if self.data_dirty.load(Relaxed) != 0 {
            report_death(acquired.dead_owner());
            self.data_dirty.store(0, Release);
        }
    }

    /// Ends the write and switches to the other phase lock for the next writer. The thread keeps
    /// `writer_lock`.
    pub(in crate::raw) fn end_section(&self, current: CurrentThread) {
        self.data_dirty.store(0, Release);
        let phase = self.phase.load(Relaxed);
        self.phase.store(phase.wrapping_add(1), Relaxed);
        self.open_phase(current, &self.phase_locks[(phase % 2) as usize]);
    }

    /// Opens a phase lock that the thread owns, for all threads that wait on it.
    fn open_phase(&self, current: CurrentThread, phase_lock: &Robust) {
        // SAFETY: the calling thread owns the phase lock, as every caller of this function ensures.
        unsafe { phase_lock.unlock(current) };
        phase_lock.propagate_wake();
    }
}
