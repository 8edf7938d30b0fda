//! How a reader of a [readers-writer lock](crate::raw::rwlock) waits: in its slot for the writer,
//! or as the owner of `writer_lock` for a slot.

use crate::raw::multi::lock_set::LockSet;
use crate::raw::outcome::{AcquireError, WaitMode};
use crate::raw::robust::Robust;
use crate::raw::robust::watch::WatchOutcome;
use crate::raw::rwlock::in_process::LockMode;
use crate::raw::rwlock::reader_slot::READING;
use crate::raw::rwlock::{ReadPosition, ReportDeath, RwLock, bias};
use crate::sys::{self, AtomicU32, CurrentThread};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// How often a reader looks for the phase lock that is closed. More than a few looks in succession
/// would each have to meet another writer, whose phase lock opens in between.
const MOST_LOOKS: u32 = 100;

/// What a thread does that has taken a slot.
enum InSlot {
    Reads,
    /// It reads in this other slot already, and begins another read there.
    ReadsAlready(usize),
    /// The writer that it waited for has died, which must be reported. It queues for `writer_lock`.
    WriterDied,
}

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
                sys::dekker_fence();
                return self.enter(current, slot, mode, report_death);
            }
        }
        match self.slot_of(current, None) {
            Some(slot) => Ok(self.recurse(slot)),
            None => self.read_under_writer_lock(current, preferred, mode, report_death),
        }
    }

    /// Waits for the writer, if there is one, in a slot that the thread has just taken.
    #[cold]
    pub(in crate::raw) fn enter(
        &self,
        current: CurrentThread,
        slot_index: usize,
        mode: WaitMode,
        report_death: ReportDeath<'_>,
    ) -> Result<ReadPosition, AcquireError> {
        let mut looks = 0;
        let outcome = loop {
            match self.bias.load(SeqCst) {
                bias::READERS => break Ok(InSlot::Reads),
                bias::NONE | bias::AWAITED => break self.wait_for_owner(current, slot_index, mode),
                bias::CLOSED => {
                    let closed = |lock: &usize| !self.phase_locks[*lock].is_released_seqcst();
                    match (0..2).find(closed) {
                        Some(number) => {
                            break self.wait_for_phase(current, slot_index, number, mode);
                        }
                        // That writer has ended its write, so the next look finds another bias.
                        None if looks < MOST_LOOKS => looks += 1,
                        // Other code has overwritten the bias.
                        None => break Ok(InSlot::WriterDied),
                    }
                }
                // From now on, writers look at the slots.
                bias::WRITERS => self.change_bias(bias::WRITERS, bias::NONE),
                // `LEANING`: another reader may wait that could not set `AWAITED`. Or a value that
                // other code has written.
                other => self.change_bias(other, bias::AWAITED),
            }
        };
        if let Ok(InSlot::Reads) = outcome {
            return Ok(ReadPosition(slot_index as u32));
        }
        // SAFETY: the calling thread owns the slot: the caller of this function took it.
        unsafe { self.slots[slot_index].release(current) };
        match (outcome?, mode) {
            (InSlot::ReadsAlready(own_slot), _) => Ok(self.recurse(own_slot)),
            (_, WaitMode::TryIfReleased) => Err(AcquireError::WouldBlock),
            _ => self.read_under_writer_lock(current, slot_index, mode, report_death),
        }
    }

    /// Changes the bias, on the reader's side of a Dekker pattern, if no other thread has.
    fn change_bias(&self, from: u32, to: u32) {
        let _ = self.bias.compare_exchange(from, to, SeqCst, Relaxed);
        sys::dekker_fence();
    }

    /// Waits for the owner of `writer_lock`, if there is one. The bias was `NONE` or `AWAITED`
    /// after the slot was taken, so each later writer sees the slot. So the thread may read as soon
    /// as this owner has released `writer_lock`, or sets `READERS`, or a later owner sets `CLOSED`
    /// and waits for the slot. The owner that writes may set `LEANING` before, which says nothing.
    fn wait_for_owner(
        &self,
        current: CurrentThread,
        slot_index: usize,
        mode: WaitMode,
    ) -> Result<InSlot, AcquireError> {
        if self.writer_lock.is_released_seqcst() {
            return Ok(InSlot::Reads);
        }
        if self.writer_lock.is_held_by(current) {
            return Err(mode.on_relock());
        }
        if let Some(own_slot) = self.slot_of(current, Some(slot_index)) {
            return Ok(InSlot::ReadsAlready(own_slot));
        }
        // Each time, because another owner may have changed `AWAITED` back since.
        let is_over = || match self.bias.load(SeqCst) {
            bias::NONE => (self.bias)
                .compare_exchange(bias::NONE, bias::AWAITED, SeqCst, SeqCst)
                .is_err_and(Self::admits),
            bias => Self::admits(bias),
        };
        let beside = Some(&self.bias);
        match self.watch_writer(current, &self.writer_lock, beside, mode, is_over) {
            WatchOutcome::TimedOut => Err(mode.on_timeout_of(&self.writer_lock.record)),
            WatchOutcome::Died => Ok(InSlot::WriterDied),
            WatchOutcome::Over | WatchOutcome::Released => Ok(InSlot::Reads),
        }
    }

    /// Whether a reader that waits for the owner of `writer_lock` may read with this bias.
    fn admits(bias: u32) -> bool {
        matches!(bias, bias::READERS | bias::CLOSED)
    }

    /// Waits for the owner of a phase lock. The phase lock that was seen closed, after the slot was
    /// taken, stays the one to wait for: every later writer sees the slot. The other phase lock may
    /// be closed when this one opens, but then its owner is such a later writer: see `rwlock` on
    /// orderings.
    fn wait_for_phase(
        &self,
        current: CurrentThread,
        slot_index: usize,
        number: usize,
        mode: WaitMode,
    ) -> Result<InSlot, AcquireError> {
        let (phase_lock, slot) = (&self.phase_locks[number], &self.slots[slot_index]);
        loop {
            if phase_lock.is_held_by(current) {
                return Err(mode.on_relock());
            }
            if let Some(own_slot) = self.slot_of(current, Some(slot_index)) {
                return Ok(InSlot::ReadsAlready(own_slot));
            }
            slot.state.swap(1 + number as u32, SeqCst);
            slot.lock.notify_watchers();
            let watched = self.watch_writer(current, phase_lock, None, mode, || false);
            slot.state.swap(READING, SeqCst);
            sys::dekker_fence();
            match watched {
                WatchOutcome::TimedOut => return Err(mode.on_timeout_of(&phase_lock.record)),
                WatchOutcome::Died | WatchOutcome::Over => return Ok(InSlot::WriterDied),
                WatchOutcome::Released if phase_lock.is_released_seqcst() => {
                    return Ok(InSlot::Reads);
                }
                // A writer gave up, and another one has closed the same phase lock.
                WatchOutcome::Released => {}
            }
        }
    }

    /// Watches a word that a writer owns.
    fn watch_writer(
        &self,
        current: CurrentThread,
        word: &Robust,
        beside: Option<&AtomicU32>,
        mode: WaitMode,
        is_over: impl Fn() -> bool,
    ) -> WatchOutcome {
        // If this thread is woken and dies before it has propagated the wake, the kernel wakes
        // another waiter.
        word.set_pending(current);
        let watched = word.watch_beside(beside, mode.deadline(), is_over);
        word.propagate_wake();
        word.keep_or_link_pending(current, false);
        watched
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
        if has_writer_lock && self.is_writing() {
            return Err(mode.on_relock());
        }
        if !has_writer_lock {
            self.acquire_writer_lock(current, mode, report_death)?;
        }
        let admitted = self.admit_readers(current, mode);
        let outcome = admitted.and_then(|()| self.acquire_any_slot(current, preferred, mode));
        if !has_writer_lock {
            // SAFETY: the calling thread acquired `writer_lock` above.
            unsafe { self.writer_lock.unlock(current) };
        }
        outcome
    }

    /// Waits for a slot. No thread writes, because the thread owns `writer_lock`. It is the only
    /// thread that sleeps on the slots.
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
