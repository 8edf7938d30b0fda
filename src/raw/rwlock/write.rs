//! How a writer of a [readers-writer lock](crate::raw::rwlock) gets to be alone, and what it does with what a dead one left.

use crate::raw::outcome::{AcquireError, WaitMode};
use crate::raw::robust::Robust;
use crate::raw::robust::watch::WatchOutcome;
use crate::raw::rwlock::reader_slot::ReaderSlot;
use crate::raw::rwlock::{ReportDeath, RwLock};
use crate::sys::CurrentThread;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

impl<const N: usize> RwLock<N> {
    /// Acquires what excludes writers and upgradable readers.
    pub(in crate::raw) fn acquire_writer_lock(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<(), AcquireError> {
        if self.writer_lock.try_acquire_fast(current) {
            return Ok(());
        }
        // Its owner may wait for this very thread to leave its slot.
        if self.slot_of(current, None).is_some() {
            return match self.writer_lock.acquire_slow(current, WaitMode::Try) {
                Err(AcquireError::WouldBlock) => Err(mode.on_relock()),
                outcome => outcome.map(drop),
            };
        }
        self.writer_lock.acquire_slow(current, mode).map(drop)
    }

    /// Opens the phase_locks of a writer that died. The thread owns `writer_lock`, so a phase_lock that is not open is a dead one's.
    pub(in crate::raw) fn recover_phase_locks(
        &self,
        current: CurrentThread,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<(), AcquireError> {
        for phase_lock in self
            .phase_locks
            .iter()
            .filter(|phase_lock| !phase_lock.is_open())
        {
            phase_lock.acquire_slow(current, mode)?;
            self.report_dirty(report_death);
            self.open_phase(current, phase_lock);
        }
        Ok(())
    }

    /// Closes the phase_lock whose phase it is, and waits until the readers have left. The thread owns `writer_lock`.
    pub(in crate::raw) fn begin_section(
        &self,
        current: CurrentThread,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<(), AcquireError> {
        if self.slot_of(current, None).is_some() {
            // Before the others are waited for, and kept from reading.
            return Err(mode.on_relock());
        }
        let number = (self.phase.load(Relaxed) % 2) as usize;
        let (phase_lock, other) = (&self.phase_locks[number], &self.phase_locks[1 - number]);
        if !other.is_open() {
            other.acquire_slow(current, mode)?;
            self.report_dirty(report_death);
            self.open_phase(current, other);
            // By `SeqCst`, as the look above was, so that no reader takes it for closed whose slot is missed below.
            other.publish();
        }
        phase_lock.acquire_slow(current, mode)?;
        self.report_dirty(report_death);
        phase_lock.publish();
        for slot in &self.slots {
            if let Err(refused) = self.wait_for_reader(current, slot, 1 + number as u32, mode) {
                self.open_phase(current, phase_lock);
                return Err(refused);
            }
        }
        // Before the data is touched.
        self.data_dirty.swap(1, Acquire);
        Ok(())
    }

    /// Waits until nobody reads in the slot.
    fn wait_for_reader(
        &self,
        current: CurrentThread,
        slot: &ReaderSlot,
        own_gate: u32,
        mode: WaitMode,
    ) -> Result<(), AcquireError> {
        if slot.lock.is_empty() {
            return Ok(());
        }
        if slot.lock.is_held_by(current) {
            return Err(mode.on_relock());
        }
        let waits_for_this_writer = || slot.state.load(SeqCst) == own_gate;
        match slot.lock.watch(mode.deadline(), waits_for_this_writer) {
            WatchOutcome::Over => Ok(()),
            WatchOutcome::Free => {
                slot.lock.propagate_wake();
                Ok(())
            }
            WatchOutcome::TimedOut => Err(mode.on_timeout()),
            WatchOutcome::Died => {
                slot.lock.acquire_slow(current, mode)?;
                slot.clear();
                // SAFETY: acquired just now.
                unsafe { slot.lock.unlock(current) };
                Ok(())
            }
        }
    }

    /// Tells a death in the data, before the phase_lock is opened. The thread owns `writer_lock` and the phase_lock.
    fn report_dirty(&self, report_death: ReportDeath<'_>) {
        if self.data_dirty.load(Relaxed) != 0 {
            report_death();
            self.data_dirty.store(0, Release);
        }
    }

    /// Ends the section, and gives the next writer the other phase_lock. The thread keeps `writer_lock`.
    pub(in crate::raw) fn end_section(&self, current: CurrentThread) {
        self.data_dirty.store(0, Release);
        let phase = self.phase.load(Relaxed);
        self.phase.store(phase.wrapping_add(1), Relaxed);
        self.open_phase(current, &self.phase_locks[(phase % 2) as usize]);
    }

    /// Opens a phase_lock that the thread owns, for all who wait there.
    fn open_phase(&self, current: CurrentThread, phase_lock: &Robust) {
        // SAFETY: the caller owns it.
        unsafe { phase_lock.unlock(current) };
        phase_lock.propagate_wake();
    }
}
