//! A readers-writer lock: a robust word for each reader, and three more for the writers.
//!
//! | part | meaning |
//! |---|---|
//! | `slots[i].lock` | owned by a thread that reads, or waits to read |
//! | `slots[i].state` | 0: reads, or checks whether it may; 1, 2: waits on phase lock 0, 1 |
//! | `writer_lock` | owned by a writer, an upgradable reader, or a reader without a slot |
//! | `bias` | who must look for whom: see below |
//! | `phase_locks` | two; one is owned by a writer that met readers, while it waits or writes |
//! | `phase` | which phase lock the next such writer closes: they alternate |
//! | `data_dirty` | 1 while a writer writes, and after its death until that is reported |
//! | `quiet_writes` | how many writes in succession found every slot free |
//! | `quiet_goal` | how many must do so before the bias becomes `WRITERS` |
//!
//! The owner of `writer_lock` excludes other such owners. A phase lock is *closed* while it has an
//! owner, or after its owner died. Otherwise it is *open*.
//!
//! The locks are [robust words](crate::raw::robust). If a thread dies, the kernel marks each word
//! that the thread owned, or the liveness check does. No such word is handed on while the process
//! of an ended thread lives. So these words cover each point at which a thread can die, except the
//! changes of `data_dirty`. A writer sets `data_dirty` when no reader is left, and clears it before
//! it releases anything. If `writer_lock` is marked and `data_dirty` is set, the writer died in its
//! critical section. The next owner of `writer_lock` reports this death before it does anything
//! else. If `data_dirty` is clear, that writer had changed nothing, or had finished. A reader or an
//! upgradable reader that dies has changed nothing either.
//!
//! # The bias
//!
//! | `bias` | a reader that has taken a slot | a writer that has acquired `writer_lock` |
//! |---|---|---|
//! | `NONE` | reads if `writer_lock` is released, else waits for its owner | looks at the slots |
//! | `AWAITED` | the same: a reader may wait for the owner | the same |
//! | `READERS` | reads | changes it to `NONE`, then as there |
//! | `WRITERS` | changes it to `NONE`, then as there | writes |
//! | `LEANING` | changes it to `AWAITED`, then as there | as for `NONE`: its last owner died |
//! | `CLOSED` | waits for the phase lock that is closed | recovers what a dead writer left |
//!
//! So a writer whose lock no reader uses pays for one word, like the owner of a mutex, and so does
//! a reader beside an upgradable reader. Only the owner of `writer_lock` changes the bias, except
//! that a reader changes `WRITERS` to `NONE`, and `NONE` and `LEANING` to `AWAITED`. In detail:
//!
//! - An **upgradable reader**, and a reader that owns `writer_lock`, do not write. They set
//!   `READERS`, so that no reader waits for them.
//! - A **writer that finds every slot free** writes. If a number of writes in succession found them
//!   free, it changes the bias to `LEANING`, looks at the slots once more, and changes it to
//!   `WRITERS`. A reader that takes a slot after that look finds `LEANING` or `WRITERS`, and
//!   changes it. The writer does not set `WRITERS` before it looks: if it died in between, the next
//!   writer would not look.
//! - A **writer that meets readers** acquires the phase lock that `phase` names, and sets `CLOSED`.
//!   It waits until each slot is left, except slots of readers that wait for its own phase lock. So
//!   readers that waited for the last writer go before the next writer. At its end it sets
//!   `READERS` and opens the phase lock, in this order. So no reader waits while it wakes others.
//! - A **reader** waits in its slot. If it waits for a phase lock, it writes in its slot for which.
//!   If it waits for the owner of `writer_lock`, it waits until `writer_lock` is released, or until
//!   an owner has set `READERS` or `CLOSED`. It sets `AWAITED`, so that this owner wakes it, and
//!   does not wake the threads that wait to acquire `writer_lock` if no reader waits. Then it
//!   reads, because each later writer sees its slot and waits for it.
//!
//! **The bound.** A reader with a slot waits for one write, that of the writer it met, before it
//! reads. Once a writer has set `CLOSED`, at most as many reads come before its write as there are
//! slots: the slots that were taken before. A writer that gives up writes nothing, and its
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
//! # Orderings
//!
//! There are five Dekker patterns. In each, both sides write and then read, by `SeqCst` accesses:
//!
//! | | a reader writes | then reads | a writer writes | then reads |
//! |---|---|---|---|---|
//! | 1 | its slot's word | `writer_lock` | `writer_lock` | the slots' words |
//! | 2 | its slot's word | `bias` | `bias`, not `WRITERS` | the slots' words |
//! | 3 | `bias`: `NONE` for `WRITERS` | `writer_lock` | `writer_lock` | `bias` |
//! | 4 | its slot's state | its word's `WAITERS` | that word's `WAITERS` | the slot's state |
//! | 5 | its slot's state | the phase lock | the phase lock | the slot's state |
//!
//! In the single order of all `SeqCst` accesses, one of the two writes is the first. The other side
//! reads after its own write, so it sees the first write. So each either sees the other or is seen:
//!
//! - **(1)** The bias is `NONE` or `AWAITED` for both. Either the writer sees the slot, or the
//!   reader sees that `writer_lock` is owned. If both see each other, the reader waits until the
//!   writer has set `CLOSED`, and the writer waits for the reader.
//! - **(2)** A reader that still sees the old bias is seen by the writer. In particular, a reader
//!   that saw `NONE` or `READERS` has a slot that is seen by each look of a later writer. So the
//!   bias does not become `WRITERS` before that reader has left its slot.
//! - **(3)** A writer that sees `WRITERS` does not look at the slots. A reader that sees `NONE` as
//!   any reader wrote it, after that, sees that `writer_lock` is owned.
//! - **(4)** Either the reader that waits for a phase lock sees `WAITERS` in its slot and wakes the
//!   writer, or the writer sees that the reader waits for it.
//! - **(5)** A reader that waited for a phase lock of a writer that gave up reads only if no other
//!   writer has closed the same lock: either that writer sees that the reader waits no longer, or
//!   the reader sees the lock closed.
//!
//! A reader that sees `CLOSED`, and then a phase lock closed, waits for that lock alone. Its owner
//! may be the writer that set `CLOSED`, or a later one, which sees the slot by (2). It is no
//! earlier one: the reader acquired what the writer knew that set `CLOSED`, and that writer saw the
//! other lock open. A phase lock is closed before `CLOSED` is set, and opened after it is replaced,
//! also by the thread that recovers a dead writer. So a reader that sees `CLOSED` and no closed
//! phase lock sees another bias when it looks again.
//!
//! Reads come after earlier writes: the release of `writer_lock` or of a phase lock synchronizes
//! with the load that sees it released. A reader that acts on the bias alone acquired it from a
//! thread that had acquired `writer_lock` before. Writes come after earlier reads: the release of a
//! slot synchronizes with the load that sees it free, and a writer that relies on `WRITERS`
//! acquired `writer_lock` from the thread that looked at the slots. `phase`, `quiet_writes`,
//! `quiet_goal` and `data_dirty` belong to the owner of `writer_lock`, which orders their accesses.
//!
//! The models cannot show that the `SeqCst` accesses suffice: their fences order more than these
//! do.
//!
//! `data_dirty` is set by an ordinary store before the data is touched, and a fence keeps the
//! compiler from exchanging the two. No fence of the processor is needed: a thread dies between two
//! instructions, and the kernel's mark, a full barrier, comes after all stores of that thread. It
//! is cleared by a release after the last access to the data.

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

/// The values of `bias`: see [above](self#the-bias).
pub(in crate::raw) mod bias {
    pub(in crate::raw) const NONE: u32 = 0;
    pub(in crate::raw) const AWAITED: u32 = 1;
    pub(in crate::raw) const READERS: u32 = 2;
    pub(in crate::raw) const WRITERS: u32 = 3;
    pub(in crate::raw) const LEANING: u32 = 4;
    pub(in crate::raw) const CLOSED: u32 = 5;
}

/// A readers-writer lock without data.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct RwLock<const N: usize = READER_SLOTS> {
    // These share a cache line.
    pub(in crate::raw) writer_lock: Robust,
    pub(in crate::raw) bias: AtomicU32,
    pub(in crate::raw) data_dirty: AtomicU32,
    pub(in crate::raw) quiet_writes: AtomicU32,
    pub(in crate::raw) quiet_goal: AtomicU32,
    pub(in crate::raw) phase: AtomicU32,
    pub(in crate::raw) phase_locks: [Robust; 2],
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
                bias: AtomicU32::new(bias::NONE),
                data_dirty: AtomicU32::new(0),
                quiet_writes: AtomicU32::new(0),
                quiet_goal: AtomicU32::new(0),
                phase: AtomicU32::new(0),
                phase_locks: [Robust::new(), Robust::new()],
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
        self.forget_bias();
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
        self.forget_bias();
    }

    /// Sets the bias with which each side looks at the other. No thread uses the lock. After a
    /// reboot, the bias may be older than the words: the pages were written by the kernel.
    fn forget_bias(&self) {
        self.bias.store(bias::NONE, Relaxed);
        self.quiet_writes.store(0, Relaxed);
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
        unsafe { self.writer_lock.mark_after_reboot() };
    }

    /// Acquires the lock for reading.
    #[inline(always)]
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
        let may_read = match self.bias.load(SeqCst) {
            bias::NONE | bias::AWAITED => self.writer_lock.is_released_seqcst(),
            bias => bias == bias::READERS,
        };
        if may_read {
            return Ok(ReadPosition(preferred as u32));
        }
        self.enter(current, preferred, mode, report_death)
    }

    /// Ends a read.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock for reading at `position`.
    #[inline(always)]
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
    #[inline(always)]
    pub(crate) fn write(
        &self,
        current: CurrentThread,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<(), AcquireError> {
        if !self.writer_lock.try_acquire_fast_ordered(current, SeqCst) {
            return self.write_slow(current, mode, report_death);
        }
        sys::dekker_fence();
        if self.bias.load(SeqCst) == bias::WRITERS {
            self.set_data_dirty();
            return Ok(());
        }
        self.begin_section_or_unlock(current, mode)
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
        self.acquire_writer_lock(current, mode, report_death)?;
        let outcome = self.admit_readers(current, mode);
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
    ) -> Result<(), AcquireError> {
        if self.writer_lock.is_in_process() {
            return self.lock_in_process(
                current,
                Some(LockMode::UpgradableRead),
                LockMode::Write,
                mode,
            );
        }
        let outcome = self.begin_section(current, mode);
        if outcome.is_err() {
            self.set_bias_to_readers();
        }
        outcome
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
    #[inline(always)]
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
        // With the next writer, and with a slot that no writer has seen, `WRITERS` would be wrong.
        self.set_bias_to_readers();
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
