//! Readers and writers: a row of robust words for the readers, and three more for the writers.
//!
//! | part | meaning |
//! |---|---|
//! | `slots[i].lock` | owned by a thread that reads, or waits to |
//! | `slots[i].state` | 0: reads, or looks whether it may; 1 or 2: waits for the writer of phase_lock 0 or 1 to end |
//! | `writer_lock` | owned by a writer, an upgradable reader, or a reader that found no slot; whoever owns it excludes the others |
//! | `phase_locks[0]`, `phase_locks[1]` | owned by the writer, besides `writer_lock`: it waits for the readers to leave, or writes |
//! | `phase` | whose phase the phase_locks are: they take turns, with each section that was written |
//! | `data_dirty` | 1 while the data is in a writer's hands, and until a death in there is told |
//!
//! All but the last two are [robust words](crate::raw::robust), so whatever a thread held when it died is marked by the kernel, found
//! by the safety net, and not handed on while the process of an ended thread lives. Every place in which a thread can die is
//! one of theirs, but for these: `data_dirty` is set after the last reader has left, and cleared before a phase_lock is released. So a
//! marked phase_lock with `data_dirty` set is a death in the data, which is told before the phase_lock opens; without, the dead had changed
//! nothing, and neither has a reader, or an upgradable reader.
//!
//! A **reader** takes a slot and looks at the phase_locks. Where both are open, it reads. Else it says in the slot for which writer
//! it waits, keeps the slot, and sleeps on that phase_lock. A **writer** takes `writer_lock`, then the phase_lock whose phase it is, and waits for
//! each slot to be left, except by those who wait for its own phase_lock. So who waited for the last writer goes before the next one.
//!
//! **The bound.** A reader with a slot sees one section written, that of the writer it met, before its own begins. Once a writer
//! has its phase_lock, at most as many sections are read before its own as there are slots: those that were taken before. A writer
//! that gives up has no section, and its successor may have the same phase_lock. Who waited for a writer that died lines up anew, for
//! `writer_lock`, where writers are among themselves as the lockers of a mutex.
//!
//! **A full row** makes a reader wait for a slot, as the owner of `writer_lock`: the head of the line in a [row](crate::raw::multi::lock_set) whose queue_lock
//! `writer_lock` is. It sets `WAITERS` in every slot and sleeps on all of them, so whichever is left or orphaned wakes it. It is the only
//! one who sleeps on the slots' words, as the writer is while it waits for readers; hence no wake of a slot is another's, and
//! [`news`](Robust::report_death) is missed by nobody. If it is killed, `writer_lock` goes to the next one, who looks at every slot before it
//! sleeps.
//!
//! A slot that is left with somebody asleep keeps `WAITERS`, and is for the sleeper: readers take slots that are 0. So one who has
//! got a slot, or has given up, opens those that were left for it besides. A thread that reads already reads on in the slot that it
//! has, whoever waits.
//!
//! **Orderings.** Two Dekker patterns, each with four `SeqCst` accesses. A reader writes its slot's word, or takes back that it
//! waits, and reads the phase_locks; a writer writes its phase_lock and reads the slots. So either the reader sees the phase_lock, or the writer
//! sees the reader. And a reader that says for whom it waits, and then looks for `WAITERS` in its slot, against a writer that
//! sets the bit there and then asks for whom it waits.
//!
//! A reader that sees one phase_lock closed waits for that one alone, and need not look at the other: a writer which owns the other one
//! and has missed the reader's slot would then be read beside. There is none, since a writer has read *both* phase_locks by `SeqCst`, its
//! own after it has closed it and the other after that was opened last, before it reads the slots. Were the slot missed, the
//! reader would come after that in the one order of all `SeqCst` accesses, and could not see the other phase_lock as it was before.
//! (That the opening happened before is not enough: it is a release, which orders nothing for a reader that does not see it, except
//! on machines that show a store to all others at once. The models do not tell: their fences order more than `SeqCst` accesses do.)
//!
//! What is read comes after what was written: the release of a phase_lock synchronizes with the load that sees it open. What is
//! written comes after what was read: the release of a slot synchronizes with the load that sees it left. `phase` and `data_dirty`
//! belong to the owner of `writer_lock`, which orders them; `data_dirty` is set by an acquire, before the data is touched, and cleared by
//! a release, after.

mod in_process;
mod read;
pub(in crate::raw) mod reader_slot;
mod write;

use crate::raw::outcome::{AcquireError, WaitMode};
use crate::raw::robust::Robust;
use crate::raw::rwlock::in_process::{InProcessRwLock, LockMode};
use crate::raw::rwlock::reader_slot::ReaderSlot;
use crate::sys::{self, AtomicU32, CurrentThread, OwnerId};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// How many readers have a slot.
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

/// Where a reader reads: in a slot, or as the owner of `writer_lock`, or in a lock that is not placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadPosition(pub(in crate::raw) u32);

impl ReadPosition {
    pub(crate) const WRITER_LOCK: ReadPosition = ReadPosition(u32::MAX);
    pub(in crate::raw) const IN_PROCESS: ReadPosition = ReadPosition(u32::MAX - 1);
}

/// Says that a writer died with the data in its hands. Called by who finds out, before anybody gets at them.
pub(crate) type ReportDeath<'a> = &'a dyn Fn();

impl<const N: usize> RwLock<N> {
    sys::const_fn! {
        /// A free lock that is not placed.
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

    /// The robust words in it.
    pub(crate) fn words(&self) -> impl Iterator<Item = &Robust> {
        let slots = self.slots.iter().map(|slot| &slot.lock);
        [&self.writer_lock]
            .into_iter()
            .chain(&self.phase_locks)
            .chain(slots)
    }

    /// The record of who has `writer_lock`, if somebody does. It is out of date as soon as it is read.
    pub(crate) fn holder(&self) -> Option<OwnerId> {
        self.writer_lock.holder()
    }

    /// Makes the lock robust where it will stay, and free.
    ///
    /// # Safety
    ///
    /// As for [`Robust::init`].
    pub(crate) unsafe fn init(&self) {
        // SAFETY: the caller's promise.
        self.words().for_each(|word| unsafe { word.init() });
        self.slots.iter().for_each(ReaderSlot::clear);
        self.data_dirty.store(0, Relaxed);
    }

    /// Marks whatever looks held as died.
    ///
    /// # Safety
    ///
    /// As for [`Robust::reset`].
    pub(crate) unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        self.words().for_each(|word| unsafe { word.reset() });
        self.slots.iter().for_each(ReaderSlot::clear);
    }

    /// Marks a lock that was reset as one whose writer died in its section.
    ///
    /// # Safety
    ///
    /// As for [`Robust::mark`].
    pub(crate) unsafe fn mark(&self) {
        self.data_dirty.store(1, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.phase_locks[0].mark() };
    }

    /// Acquires the lock for reading.
    #[inline]
    pub(crate) fn read(
        &self,
        current: CurrentThread,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<ReadPosition, AcquireError> {
        let home = current.tid() as usize % N;
        if !self.slots[home].lock.try_acquire_fast_with(current, SeqCst) {
            return self.read_slow(current, home, mode, report_death);
        }
        sys::dekker_fence();
        if self.phase_locks[0].is_open() && self.phase_locks[1].is_open() {
            return Ok(ReadPosition(home as u32));
        }
        self.wait_for_writer(current, home, mode, report_death)
    }

    /// Ends a read.
    ///
    /// # Safety
    ///
    /// The calling thread reads there.
    #[inline]
    pub(crate) unsafe fn end_read(&self, current: CurrentThread, place: ReadPosition) {
        match self.slots.get(place.0 as usize) {
            // SAFETY: the caller's promise.
            Some(slot) => unsafe { slot.release(current) },
            // SAFETY: as above.
            None => unsafe { self.end_read_slow(current, place) },
        }
    }

    /// Acquires the lock for a writer. If its predecessor died with the data in its hands, `news` was called.
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
            // SAFETY: acquired above.
            unsafe { self.writer_lock.unlock(current) };
        }
        outcome
    }

    /// Acquires the lock for reading, and keeps writers and others of this kind away.
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
            // SAFETY: acquired above.
            unsafe { self.writer_lock.unlock(current) };
        }
        outcome
    }

    /// Makes an upgradable reader the writer. It is what it was where that fails.
    ///
    /// # Safety
    ///
    /// The calling thread is the upgradable reader.
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
    /// The calling thread is the upgradable reader.
    pub(crate) unsafe fn end_upgradable_read(&self, current: CurrentThread) {
        if self.writer_lock.is_in_process() {
            return self.unlock_in_process(LockMode::UpgradableRead, None);
        }
        // SAFETY: the caller's promise: an upgradable reader owns `writer_lock`.
        unsafe { self.writer_lock.unlock(current) };
    }

    /// Ends a section that was written.
    ///
    /// # Safety
    ///
    /// The calling thread is the writer.
    pub(crate) unsafe fn end_write(&self, current: CurrentThread) {
        if self.writer_lock.is_in_process() {
            return self.unlock_in_process(LockMode::Write, None);
        }
        self.end_section(current);
        // SAFETY: a writer owns `writer_lock`.
        unsafe { self.writer_lock.unlock(current) };
    }

    /// Makes the writer a reader, with nobody data_dirty between.
    ///
    /// # Safety
    ///
    /// The calling thread is the writer.
    pub(crate) unsafe fn downgrade(&self, current: CurrentThread) -> ReadPosition {
        if self.writer_lock.is_in_process() {
            self.unlock_in_process(LockMode::Write, Some(LockMode::Read));
            return ReadPosition::IN_PROCESS;
        }
        // Slots may all be taken, by readers who wait for this writer.
        let slot = (0..N).find(|&slot| self.slots[slot].lock.try_acquire_free(current));
        self.end_section(current);
        let Some(slot) = slot else {
            return ReadPosition::WRITER_LOCK;
        };
        // SAFETY: a writer owns `writer_lock`.
        unsafe { self.writer_lock.unlock(current) };
        ReadPosition(slot as u32)
    }

    #[cold]
    unsafe fn end_read_slow(&self, current: CurrentThread, place: ReadPosition) {
        if place == ReadPosition::IN_PROCESS {
            return self.in_process.unlock(LockMode::Read, None);
        }
        // SAFETY: the caller's promise.
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
            // And the record is its still when it has been seen to be gone: it did not release before it ended.
            record.is_some_and(|owner| sys::owner_is_dead(owner) && holder.still_is(Some(owner.id)))
        };
        self.in_process.take(from, to, mode, holder_is_gone)?;
        if to != LockMode::Read {
            holder.write(current);
        }
        Ok(())
    }

    fn unlock_in_process(&self, from: LockMode, to: Option<LockMode>) {
        self.writer_lock.record.clear();
        self.in_process.unlock(from, to);
    }
}
