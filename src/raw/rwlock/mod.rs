//! A readers-writer lock: a robust word for each reader, and three more for the writers.
//!
//! | part | meaning |
//! |---|---|
//! | `slots[i].lock` | owned by a thread that reads, or waits to read |
//! | `slots[i].state` | 0: reads, or checks whether it may; 1, 2: waits on phase lock 0, 1 |
//! | `writer_lock` | owned by a writer, an upgradable reader, or a reader without a slot |
//! | `phase_locks` | two; one is owned by the writer that waits for the readers, or writes |
//! | `phase` | which phase lock the next writer closes: they alternate with each write |
//! | `data_dirty` | 1 while a writer writes, and after its death until that is reported |
//!
//! The owner of `writer_lock` excludes other such owners. A writer also owns one phase lock. A
//! phase lock is *closed* while it has an owner, or after its owner died. Otherwise it is *open*.
//!
//! The locks are [robust words](crate::raw::robust). If a thread dies, the kernel marks each word
//! that the thread owned, or the liveness check does. No such word is handed on while the process
//! of an ended thread lives. So these words cover each point at which a thread can die, except the
//! changes of `data_dirty`. A writer sets `data_dirty` after the last reader has left, and clears
//! it before it releases its phase lock. If a phase lock is marked and `data_dirty` is set, the
//! writer died in its critical section. This death is reported before the phase lock opens. If
//! `data_dirty` is clear, that writer had changed nothing, or had finished. A reader or an
//! upgradable reader that dies has changed nothing either.
//!
//! A **reader** takes a slot and checks the phase locks. If both are open, it reads. Otherwise it
//! writes in its slot for which writer it waits, keeps the slot, and sleeps on that writer's phase
//! lock. A **writer** takes `writer_lock` and then the phase lock that `phase` names. It waits
//! until each slot is left, except slots of readers that wait for its own phase lock. So readers
//! that waited for the last writer go before the next writer.
//!
//! **The bound.** A reader with a slot waits for one write, that of the writer it met, before it
//! reads. Once a writer has its phase lock, at most as many reads come before its write as there
//! are slots: the slots that were taken before. A writer that gives up writes nothing, and its
//! successor may take the same phase lock. A reader that waited for a writer that died queues
//! again, for `writer_lock`. There it competes with writers, as the lockers of a mutex do.
//!
//! **When all slots are taken,** a reader waits for a slot as the owner of `writer_lock`. It is
//! then the queue head of a [lock set](crate::raw::multi::lock_set), with `writer_lock` as
//! the queue lock. It sets `WAITERS` in every slot and sleeps on all of them, so a release or a
//! death in any slot wakes it. Only the owner of `writer_lock` sleeps on the slots' words: this
//! reader, or a writer that waits for the readers. So no other thread consumes the wake of a slot,
//! and no [notification](Robust::notify_watchers) is lost. If the reader is killed, `writer_lock`
//! goes to the next waiter, which checks every slot before it sleeps.
//!
//! A slot that is released while a thread sleeps on it keeps `WAITERS`, and is reserved for that
//! thread, because readers take a slot only if its word is 0. So a thread that has acquired a slot,
//! or has given up, also clears `WAITERS` in the other slots that were released for it. A thread
//! that reads already begins another read in its own slot, whichever threads wait.
//!
//! **Orderings.** There are two Dekker patterns, each with four `SeqCst` accesses.
//!
//! In the first, a reader writes its slot's word, or clears the slot's state after a wait, and then
//! reads the phase locks. A writer writes its phase lock and then reads the slots:
//!
//! ```text
//!  reader                                      writer (owns the writer lock)
//!  ------                                      -----------------------------
//!  slot.word: free -> owned      (A)
//!                                              phase_lock.word: free -> owned
//!                                              phase_lock.word |= 0           (C)
//!                                              read slot.word                 (D)
//!                                                free:  check the next slot
//!                                                owned: wait for the reader
//!  read phase_lock.word          (B)
//!    released: read the data
//!    owned:    wait for the writer
//! ```
//!
//! In the single order of all `SeqCst` accesses, (A) precedes (B), and (C) precedes (D). If (A)
//! precedes (D), as here, the writer sees the reader. Otherwise (D) precedes (A), so (C) precedes
//! (B), and the reader sees that the phase lock is closed. So each either sees the other or is
//! seen. If both see each other, the reader waits and the writer continues, by the second pattern.
//!
//! In the second, a reader writes in its slot's state for which writer it waits, and then reads
//! `WAITERS` in its slot. A writer sets `WAITERS` there, and then reads the state. So either the
//! reader sees `WAITERS` and wakes the writer, or the writer sees that the reader waits for it.
//!
//! A reader that sees one phase lock closed waits for that lock alone, and need not check the
//! other. This would be wrong if a writer owned the other phase lock and had missed the reader's
//! slot: both would then access the data at once. There is no such writer. Before a writer reads
//! the slots, it reads *both* phase locks by `SeqCst`: its own after it has closed it, and the
//! other after that was last opened. If the writer missed the slot, the reader's checks come later
//! in the single order of all `SeqCst` accesses. So the reader could not see the other phase lock
//! as it was before it opened. It is not enough that the opening happened before: it is a release,
//! which orders nothing for a reader that does not see it, except on multi-copy-atomic machines,
//! which show a store to all other processors at once. The models cannot show this: their fences
//! order more than `SeqCst` accesses do.
//!
//! Reads come after earlier writes: the release of a phase lock synchronizes with the load that
//! sees it open. Writes come after earlier reads: the release of a slot synchronizes with the load
//! that sees it free. `phase` and `data_dirty` belong to the owner of `writer_lock`, which orders
//! their accesses. `data_dirty` is set by an acquire before the data is touched, and cleared by a
//! release afterwards.

mod in_process;
mod read;
pub(in crate::raw) mod reader_slot;
mod write;

use crate::raw::outcome::{AcquireError, WaitMode};
use crate::raw::robust::Robust;
use crate::raw::rwlock::in_process::{InProcessRwLock, LockMode};
use crate::raw::rwlock::reader_slot::ReaderSlot;
use crate::sys::{self, AtomicU32, CurrentThread, Owner};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// How many readers can have a slot.
pub(crate) const READER_SLOTS: usize = 16;

/// A readers-writer lock without data.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct RwLock<const N: usize = READER_SLOTS> {
    pub(in crate::raw) writer_lock: Robust,
    pub(in crate::raw) phase_locks: [Robust; 2],
    pub(in crate::raw) phase: AtomicU32,
    pub(in crate::raw) data_dirty: AtomicU32,
    in_process: InProcessRwLock,
    pub(in crate::raw) slots: [ReaderSlot; N],
}

/// How a reader holds the lock: in a slot, as the owner of `writer_lock`, or in a lock that is not
/// placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadPosition(pub(in crate::raw) u32);

impl ReadPosition {
    pub(crate) const WRITER_LOCK: ReadPosition = ReadPosition(u32::MAX);
    pub(in crate::raw) const IN_PROCESS: ReadPosition = ReadPosition(u32::MAX - 1);
}

/// Reports that a writer died in its critical section. The thread that finds the death calls it
/// before any thread can access the data. It passes the writer, if the writer is known.
pub(crate) type ReportDeath<'a> = &'a dyn Fn(Option<Owner>);

impl<const N: usize> RwLock<N> {
    sys::const_fn! {
        /// Creates a free lock that is not placed.
        pub(crate) fn new() -> Self {
            RwLock {
                writer_lock: Robust::new(),
                phase_locks: [Robust::new(), Robust::new()],
                phase: AtomicU32::new(0),
                data_dirty: AtomicU32::new(0),
                in_process: InProcessRwLock::new(),
                slots: sys::const_array!(ReaderSlot::new(); N),
            }
        }
    }

    /// Returns the robust words of the lock.
    pub(crate) fn words(&self) -> impl Iterator<Item = &Robust> {
        let slots = self.slots.iter().map(|slot| &slot.lock);
        [&self.writer_lock]
            .into_iter()
            .chain(&self.phase_locks)
            .chain(slots)
    }

    /// Returns the owner of `writer_lock`, if there is one. The answer may be out of date at once.
    pub(crate) fn owner(&self) -> Option<Owner> {
        self.writer_lock.owner()
    }

    /// Initializes the lock, free, at its final address, and makes it robust.
    ///
    /// # Safety
    ///
    /// As for [`Robust::init`].
    pub(crate) unsafe fn init(&self) {
        // SAFETY: guaranteed by the caller.
        self.words().for_each(|word| unsafe { word.init() });
        self.slots.iter().for_each(ReaderSlot::clear);
        self.data_dirty.store(0, Relaxed);
    }

    /// Marks each word that appears owned as abandoned by a dead owner.
    ///
    /// # Safety
    ///
    /// As for [`Robust::reset`].
    pub(crate) unsafe fn reset(&self) {
        // SAFETY: guaranteed by the caller.
        self.words().for_each(|word| unsafe { word.reset() });
        self.slots.iter().for_each(ReaderSlot::clear);
    }

    /// Marks the lock, held or not, after a reset that follows a reboot: as if a writer had died in
    /// its critical section.
    ///
    /// # Safety
    ///
    /// As for [`Robust::mark_after_reboot`].
    pub(crate) unsafe fn mark_after_reboot(&self) {
        self.data_dirty.store(1, Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { self.phase_locks[0].mark_after_reboot() };
    }

    /// Acquires the lock for reading.
    #[inline]
    pub(crate) fn read(
        &self,
        current: CurrentThread,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<ReadPosition, AcquireError> {
        let preferred = current.tid() as usize % N;
        if !self.slots[preferred]
            .lock
            .try_acquire_fast_ordered(current, SeqCst)
        {
            return self.read_slow(current, preferred, mode, report_death);
        }
        sys::dekker_fence();
        if self.phase_locks[0].is_released_seqcst() && self.phase_locks[1].is_released_seqcst() {
            return Ok(ReadPosition(preferred as u32));
        }
        self.wait_for_writer(current, preferred, mode, report_death)
    }

    /// Ends a read.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock for reading at `position`.
    #[inline]
    pub(crate) unsafe fn end_read(&self, current: CurrentThread, position: ReadPosition) {
        match self.slots.get(position.0 as usize) {
            // SAFETY: guaranteed by the caller.
            Some(slot) => unsafe { slot.release(current) },
            // SAFETY: as above.
            None => unsafe { self.end_read_slow(current, position) },
        }
    }

    /// Acquires the lock for writing. If an earlier writer died in its critical section and this
    /// was not reported yet, calls `report_death` first.
    pub(crate) fn write(
        &self,
        current: CurrentThread,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<(), AcquireError> {
        if self.writer_lock.is_in_process() {
            return self.lock_in_process(current, None, LockMode::Write, mode);
        }
        self.acquire_writer_lock(current, mode)?;
        let outcome = self.begin_section(current, mode, report_death);
        if outcome.is_err() {
            // SAFETY: the calling thread acquired `writer_lock` above.
            unsafe { self.writer_lock.unlock(current) };
        }
        outcome
    }

    /// Acquires the lock for reading, and excludes writers and other upgradable readers.
    pub(crate) fn upgradable_read(
        &self,
        current: CurrentThread,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<(), AcquireError> {
        if self.writer_lock.is_in_process() {
            return self.lock_in_process(current, None, LockMode::UpgradableRead, mode);
        }
        self.acquire_writer_lock(current, mode)?;
        let outcome = self.recover_phase_locks(current, mode, report_death);
        if outcome.is_err() {
            // SAFETY: the calling thread acquired `writer_lock` above.
            unsafe { self.writer_lock.unlock(current) };
        }
        outcome
    }

    /// Makes an upgradable reader the writer. If that fails, it remains an upgradable reader.
    ///
    /// # Safety
    ///
    /// The calling thread must be the upgradable reader.
    pub(crate) unsafe fn upgrade(
        &self,
        current: CurrentThread,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<(), AcquireError> {
        if self.writer_lock.is_in_process() {
            return self.lock_in_process(
                current,
                Some(LockMode::UpgradableRead),
                LockMode::Write,
                mode,
            );
        }
        self.begin_section(current, mode, report_death)
    }

    /// Ends an upgradable read.
    ///
    /// # Safety
    ///
    /// The calling thread must be the upgradable reader.
    pub(crate) unsafe fn end_upgradable_read(&self, current: CurrentThread) {
        if self.writer_lock.is_in_process() {
            return self.unlock_in_process(current, LockMode::UpgradableRead, None);
        }
        // SAFETY: the caller guarantees that it is the upgradable reader, which owns `writer_lock`.
        unsafe { self.writer_lock.unlock(current) };
    }

    /// Ends a write.
    ///
    /// # Safety
    ///
    /// The calling thread must be the writer.
    pub(crate) unsafe fn end_write(&self, current: CurrentThread) {
        if self.writer_lock.is_in_process() {
            return self.unlock_in_process(current, LockMode::Write, None);
        }
        self.end_section(current);
        // SAFETY: the caller guarantees that it is the writer, which owns `writer_lock`.
        unsafe { self.writer_lock.unlock(current) };
    }

    /// Makes the writer a reader. No other writer acquires the lock in between.
    ///
    /// # Safety
    ///
    /// The calling thread must be the writer.
    pub(crate) unsafe fn downgrade(&self, current: CurrentThread) -> ReadPosition {
        if self.writer_lock.is_in_process() {
            self.unlock_in_process(current, LockMode::Write, Some(LockMode::Read));
            return ReadPosition::IN_PROCESS;
        }
        // All slots may be taken by readers that wait for this writer.
        let slot = (0..N).find(|&slot| self.slots[slot].lock.try_acquire_free(current));
        self.end_section(current);
        let Some(slot) = slot else {
            return ReadPosition::WRITER_LOCK;
        };
        // SAFETY: the caller guarantees that it is the writer, which owns `writer_lock`.
        unsafe { self.writer_lock.unlock(current) };
        ReadPosition(slot as u32)
    }

    #[cold]
    unsafe fn end_read_slow(&self, current: CurrentThread, position: ReadPosition) {
        if position == ReadPosition::IN_PROCESS {
            self.in_process.unlock(LockMode::Read, None);
            return current.remove_unplaced_hold();
        }
        // SAFETY: guaranteed by the caller: a reader without a slot owns `writer_lock`.
        unsafe { self.writer_lock.unlock(current) };
    }

    #[cold]
    pub(in crate::raw) fn lock_in_process(
        &self,
        current: CurrentThread,
        from: Option<LockMode>,
        to: LockMode,
        mode: WaitMode,
    ) -> Result<(), AcquireError> {
        let holder = &self.writer_lock.record;
        let excludes_itself = to != LockMode::Read || self.in_process.is_written();
        if from.is_none() && holder.is_current_thread(current) && excludes_itself {
            return Err(mode.on_relock());
        }
        let holder_is_gone = || {
            let record = holder.load_consistent();
            // The record still names the holder after it was found dead. So the holder did not
            // release the lock before it ended.
            record
                .is_some_and(|owner| sys::thread_is_gone(owner) && holder.still_is(Some(owner.id)))
        };
        self.in_process.take(from, to, mode, holder_is_gone)?;
        match (from, to) {
            (_, LockMode::Read) => current.add_unplaced_hold(),
            (None, _) => holder.write_unplaced(current),
            // An upgrade: the holder is recorded already.
            (Some(_), _) => {}
        }
        Ok(())
    }

    fn unlock_in_process(&self, current: CurrentThread, from: LockMode, to: Option<LockMode>) {
        self.writer_lock.record.clear_unplaced(current);
        if to.is_some() {
            current.add_unplaced_hold();
        }
        self.in_process.unlock(from, to);
    }
}
