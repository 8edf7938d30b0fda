//! [`SharedRwLock`]: many readers or one writer, between processes, with reports of deaths.

pub(in crate::sync) mod guard;

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmData, ShmSafe};
use crate::raw::Robust;
use crate::raw::outcome::WaitMode;
use crate::raw::poison::Poison;
use crate::raw::rwlock::{READER_SLOTS, RwLock};
use crate::sync::holder::Holder;
use crate::sync::lock_error::{LockError, LockGuard, LockResult, Poisoned};
use crate::sync::rwlock::guard::{
    RawGuard, SharedRwLockReadGuard, SharedRwLockUpgradableReadGuard, SharedRwLockWriteGuard,
};
use crate::sys::{self, CurrentThread, Deadline, Owner};
use std::cell::{Cell, UnsafeCell};
use std::mem::offset_of;
use std::sync::{LockResult as StdLockResult, PoisonError};
use std::time::{Duration, Instant};

type Read<'a, T, const N: usize> = SharedRwLockReadGuard<'a, T, N>;
type Write<'a, T, const N: usize> = SharedRwLockWriteGuard<'a, T, N>;
type Upgradable<'a, T, const N: usize> = SharedRwLockUpgradableReadGuard<'a, T, N>;

/// A readers-writer lock for data in memory that several processes map, like [`std::sync::RwLock`].
///
/// Readers on different CPUs use different cache lines: each reader takes one of `N` padded slots
/// of 128 bytes, 16 by default ([`with_slots`](Self::with_slots)). Writers look at these slots only
/// while there are readers about. If writers have met none for some time, they do not look
/// any more, until a reader tells them to.
///
/// [`Shared`](crate::Shared) places the lock in a map. It then excludes the threads of every
/// process that uses the map. Before that, it is an ordinary lock of one process, and may be moved
/// and leaked.
///
/// # Fairness
///
/// Readers and writers take turns. A reader that waits for a writer goes before the next writer: it
/// waits for one critical section of a writer before its own begins. A writer that has excluded the
/// other writers and met a reader waits for at most `N` readers: those that have a slot at that
/// time. There are these limits:
///
/// - Writers compete with each other as the lockers of a mutex do.
/// - A reader that finds all slots taken queues with the writers. It does not count as a reader
///   that waits for a writer. At its turn, it immediately gets the first slot that is released, or
///   abandoned by a reader that died. It sleeps on all slots with one call of `futex_waitv(2)`.
///   Linux before 5.16 does not have this call. The reader then looks at the slots every two
///   milliseconds.
/// - A writer that gives up its wait has no critical section. The readers that waited for it may
///   have to wait for its successor.
/// - If a writer dies, the readers that waited for it queue again, with the writers.
///
/// # Several guards in one thread
///
/// A thread that reads may read again. If the second read would have to wait, for a writer or
/// because all slots are taken, its guard shares the slot of the first. Some readers have no slot
/// to share: a reader that [downgraded](SharedRwLockWriteGuard::downgrade) while all slots were
/// taken, and an upgradable reader. Their second read waits as long as all slots are taken.
///
/// A thread that reads cannot [`write`](Self::write): the call returns
/// [`Deadlock`](LockError::Deadlock). A thread that writes cannot read: that call returns
/// `Deadlock` too. An upgradable reader may read, but must drop the guard of that read before it
/// upgrades.
///
/// Before the lock is placed, it does not know its readers: a thread that reads and then writes
/// waits forever, as with `std`.
///
/// # What a death does
///
/// A process can be killed at any instruction. A dead **reader** has changed nothing, and its slot
/// is freed. If a **writer** dies in its critical section, the next locker acquires the lock, for
/// reading or for writing. It receives [`LockError::Poisoned`] with
/// [`Cause::Died`](crate::Cause::Died). Exactly one locker receives the first report of each death
/// ([`Poisoned::is_first_report`]). The poison stays until a writer repairs the data.
///
/// One waiter is woken at once and wakes the others. If the kernel could not mark the lock, the
/// waiters detect the death within a second. If a thread leaks its guard and ends while its process
/// lives, the lock stays held: lockers receive [`HolderThreadEnded`](LockError::HolderThreadEnded).
///
/// # Examples
///
/// ```
/// use pshared::{fork, LockError, Shared, SharedRwLock};
///
/// let prices = Shared::anonymous(SharedRwLock::new([3_u64, 4]))?;
/// let child = fork::spawn(|| prices.write().unwrap()[0] = 5)?;
/// assert!(child.wait()?.success());
/// {
///     let (mine, another) = (prices.read()?, prices.read()?);
///     assert_eq!((mine[0], another[1]), (5, 4));
/// }
///
/// // A child dies while it writes.
/// fork::spawn(|| {
///     let _guard = prices.write().unwrap();
///     std::process::abort();
/// })?
/// .wait()?;
/// assert!(matches!(
///     prices.read(),
///     Err(LockError::Poisoned(poisoned)) if poisoned.is_first_report()
/// ));
/// match prices.write() {
///     Err(LockError::Poisoned(poisoned)) => drop(poisoned.replace([5, 4])),
///     other => panic!("the death was not reported: {other:?}"),
/// }
/// assert_eq!(*prices.read()?, [5, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Reads, and writes only if needed:
///
/// ```
/// use pshared::{Shared, SharedRwLock, SharedRwLockUpgradableReadGuard, SharedRwLockWriteGuard};
///
/// let stock = Shared::anonymous(SharedRwLock::new(0_u64))?;
/// let guard = stock.upgradable_read()?;
/// if *guard == 0 {
///     let mut guard = SharedRwLockUpgradableReadGuard::upgrade(guard)?;
///     *guard = 10;
///     let guard = SharedRwLockWriteGuard::downgrade(guard);
///     assert_eq!(*guard, 10);
/// }
/// # Ok::<(), pshared::Error>(())
/// ```
///
/// # Source
///
/// Each reader has a slot of its own, as in the Linux kernel's per-CPU locks. A bias tells writers
/// whether they need look at the slots, and readers whether they need look for a writer: Dice and
/// Kogan, "BRAVO: Biased Locking for Reader-Writer Locks" (USENIX ATC 2019), has such a bias on the
/// side of the readers. Readers that waited for one writer go before the next. This is *phase
/// fairness*: Brandenburg and Anderson, "Reader-Writer Synchronization for Shared-Memory
/// Multiprocessor Real-Time Systems" (ECRTS 2009).
/// The lock words are those of [`SharedMutex`](crate::SharedMutex).
#[repr(C)]
pub struct SharedRwLock<T, const N: usize = READER_SLOTS> {
    pub(in crate::sync) raw: RwLock<N>,
    pub(in crate::sync) poison: Poison,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives `&mut T` to one thread at a time, which sends the `T`, or `&T` to several
// threads, which share it. `T` is `Sync`, and `ShmData` types are `Send`.
unsafe impl<T: ShmData + Sync, const N: usize> Sync for SharedRwLock<T, N> {}

impl<T: ShmData + Sync> SharedRwLock<T> {
    /// Creates an unlocked lock around `value`, with 16 slots for readers.
    pub const fn new(value: T) -> Self {
        SharedRwLock::with_slots(value)
    }
}

impl<T: ShmData + Sync, const N: usize> SharedRwLock<T, N> {
    /// Creates an unlocked lock around `value`, with `N` slots for readers.
    ///
    /// `N` must be 1 to 127. Other values do not compile:
    ///
    /// ```compile_fail
    /// pshared::SharedRwLock::<_, 128>::with_slots(0);
    /// ```
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Shared, SharedRwLock};
    ///
    /// // 64 processes read at once, and none of them waits for a slot.
    /// let prices = Shared::anonymous(SharedRwLock::<_, 64>::with_slots([3_u64, 4]))?;
    /// assert_eq!(prices.read()?[1], 4);
    /// # Ok::<(), pshared::Error>(())
    /// ```
    pub const fn with_slots(value: T) -> Self {
        const { assert!(N >= 1 && N <= 127, "there may be 1 to 127 slots") };
        SharedRwLock {
            raw: RwLock::new(),
            poison: Poison::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Acquires this lock for reading, blocking the current thread until it is able to do so.
    ///
    /// # Errors
    ///
    /// - [`LockError::Poisoned`] if the lock was acquired, but a writer died or panicked in its
    ///   critical section since the data was last repaired.
    /// - [`LockError::Deadlock`] if the calling thread writes.
    /// - [`LockError::HolderThreadEnded`] if the thread that wrote ended without releasing the
    ///   lock, and its process still runs.
    #[inline]
    pub fn read(&self) -> LockResult<Read<'_, T, N>> {
        self.read_with(WaitMode::Until(None))
    }

    /// Attempts to acquire this lock for reading without blocking.
    ///
    /// # Errors
    ///
    /// Returns [`LockError::WouldBlock`] if a thread writes, waits or tries to write, or begins an
    /// upgradable read, also if it is the calling thread, or if no slot is free. Otherwise as for
    /// [`read`](Self::read).
    #[inline]
    pub fn try_read(&self) -> LockResult<Read<'_, T, N>> {
        self.read_with(WaitMode::Try)
    }

    /// Acquires this lock for reading, blocking the current thread for at most `timeout`, measured
    /// on the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`LockError::TimedOut`] if the lock was not acquired within `timeout`. Otherwise as
    /// for [`read`](Self::read).
    pub fn read_timeout(&self, timeout: Duration) -> LockResult<Read<'_, T, N>> {
        self.read_with(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// Acquires this lock for reading, blocking the current thread until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`read_timeout`](Self::read_timeout).
    pub fn read_until(&self, deadline: Instant) -> LockResult<Read<'_, T, N>> {
        self.read_with(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Acquires this lock for writing, blocking the current thread until it is able to do so.
    ///
    /// # Errors
    ///
    /// - [`LockError::Poisoned`] if the lock was acquired, but a writer died or panicked in its
    ///   critical section since the data was last repaired.
    /// - [`LockError::Deadlock`] if the calling thread reads, reads upgradably or writes.
    /// - [`LockError::HolderThreadEnded`] if a thread that read or wrote ended without releasing
    ///   the lock, and its process still runs.
    #[inline]
    pub fn write(&self) -> LockResult<Write<'_, T, N>> {
        self.write_with(WaitMode::Until(None))
    }

    /// Attempts to acquire this lock for writing without blocking.
    ///
    /// # Errors
    ///
    /// Returns [`LockError::WouldBlock`] if the lock is held, also if the calling thread holds it.
    /// Otherwise as for [`write`](Self::write).
    #[inline]
    pub fn try_write(&self) -> LockResult<Write<'_, T, N>> {
        self.write_with(WaitMode::Try)
    }

    /// Acquires this lock for writing, blocking the current thread for at most `timeout`, measured
    /// on the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`LockError::TimedOut`] if the lock was not acquired within `timeout`. Otherwise as
    /// for [`write`](Self::write).
    pub fn write_timeout(&self, timeout: Duration) -> LockResult<Write<'_, T, N>> {
        self.write_with(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// Acquires this lock for writing, blocking the current thread until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`write_timeout`](Self::write_timeout).
    pub fn write_until(&self, deadline: Instant) -> LockResult<Write<'_, T, N>> {
        self.write_with(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Acquires this lock for an upgradable read, blocking the current thread until it is able to
    /// do so.
    ///
    /// The guard can be [upgraded](SharedRwLockUpgradableReadGuard::upgrade) to write later. Other
    /// threads may read meanwhile, but neither write nor read upgradably.
    ///
    /// # Errors
    ///
    /// - [`LockError::Poisoned`] as for [`write`](Self::write).
    /// - [`LockError::Deadlock`] if the calling thread writes or reads upgradably. Also if it
    ///   reads, and would have to wait for another thread.
    /// - [`LockError::HolderThreadEnded`] if a thread that wrote or read upgradably ended without
    ///   releasing the lock, and its process still runs.
    pub fn upgradable_read(&self) -> LockResult<Upgradable<'_, T, N>> {
        self.upgradable_read_with(WaitMode::Until(None))
    }

    /// Attempts to acquire this lock for an upgradable read without blocking.
    ///
    /// # Errors
    ///
    /// Returns [`LockError::WouldBlock`] if a thread writes, waits to write or reads upgradably,
    /// also if it is the calling thread, or if a reader waits for a slot. Otherwise as for
    /// [`upgradable_read`](Self::upgradable_read).
    pub fn try_upgradable_read(&self) -> LockResult<Upgradable<'_, T, N>> {
        self.upgradable_read_with(WaitMode::Try)
    }

    /// Acquires this lock for an upgradable read, blocking the current thread for at most
    /// `timeout`, measured on the monotonic clock.
    ///
    /// # Errors
    ///
    /// Returns [`LockError::TimedOut`] if the lock was not acquired within `timeout`. Otherwise as
    /// for [`upgradable_read`](Self::upgradable_read).
    pub fn upgradable_read_timeout(&self, timeout: Duration) -> LockResult<Upgradable<'_, T, N>> {
        self.upgradable_read_with(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// Acquires this lock for an upgradable read, blocking the current thread until `deadline` at
    /// the latest.
    ///
    /// # Errors
    ///
    /// As for [`upgradable_read_timeout`](Self::upgradable_read_timeout).
    pub fn upgradable_read_until(&self, deadline: Instant) -> LockResult<Upgradable<'_, T, N>> {
        self.upgradable_read_with(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Returns whether the lock is poisoned: a writer died or panicked in its critical section
    /// since the data was last repaired.
    ///
    /// After a death, this may return false until a thread has acquired the lock.
    pub fn is_poisoned(&self) -> bool {
        !self.poison.is_clear()
    }

    /// Clears the poison that a panic left, as [`std::sync::RwLock::clear_poison`] does.
    ///
    /// The poison that a death left stays until [`Poisoned::replace`] or
    /// [`SharedRwLockWriteGuard::clear_poison`].
    pub fn clear_poison(&self) {
        self.poison.clear_panic();
    }

    /// Returns the thread that writes, waits for readers before it writes, or reads upgradably, if
    /// there is one. It may also be the first reader in the queue for a slot, or a reader that
    /// [downgraded](SharedRwLockWriteGuard::downgrade) while all slots were taken. Readers that
    /// have a slot are not reported. The result may be out of date as soon as it is returned; use
    /// it only for reports.
    ///
    /// The ids are those in the PID namespace of the holder.
    pub fn holder(&self) -> Option<Holder> {
        self.raw.owner().map(Holder::of)
    }

    /// Returns a mutable reference to the data. Only a lock that is not placed can be borrowed
    /// exclusively.
    ///
    /// # Errors
    ///
    /// Returns [`PoisonError`] if the lock is poisoned. The error holds the data.
    pub fn get_mut(&mut self) -> StdLockResult<&mut T> {
        match (self.is_poisoned(), self.data.get_mut()) {
            (true, data) => Err(PoisonError::new(data)),
            (false, data) => Ok(data),
        }
    }

    /// Consumes the lock, which is not placed, and returns the data.
    ///
    /// # Errors
    ///
    /// Returns [`PoisonError`] if the lock is poisoned. The error holds the data.
    pub fn into_inner(self) -> StdLockResult<T> {
        match (self.is_poisoned(), self.data.into_inner()) {
            (true, data) => Err(PoisonError::new(data)),
            (false, data) => Ok(data),
        }
    }

    #[inline(always)]
    fn read_with(&self, mode: WaitMode) -> LockResult<Read<'_, T, N>> {
        let current = sys::current_thread();
        let dead = Cell::new(None);
        let report_death = |owner| self.record_death(&dead, owner);
        match self.raw.read(current, mode, &report_death) {
            Ok(position) => {
                // SAFETY: the lock was acquired above, for this guard.
                let guard =
                    unsafe { SharedRwLockReadGuard::new(self.raw_guard(current), position) };
                if self.poison.is_clear() {
                    return Ok(guard);
                }
                self.to_result(guard, dead.get())
            }
            Err(error) => Err(error.into()),
        }
    }

    #[inline(always)]
    fn write_with(&self, mode: WaitMode) -> LockResult<Write<'_, T, N>> {
        let current = sys::current_thread();
        let dead = Cell::new(None);
        let report_death = |owner| self.record_death(&dead, owner);
        self.raw.write(current, mode, &report_death)?;
        // SAFETY: the lock was acquired above, for this guard.
        let guard = unsafe { SharedRwLockWriteGuard::new(self.raw_guard(current)) };
        if self.poison.is_clear() {
            return Ok(guard);
        }
        self.to_result(guard, dead.get())
    }

    fn upgradable_read_with(&self, mode: WaitMode) -> LockResult<Upgradable<'_, T, N>> {
        let current = sys::current_thread();
        let dead = Cell::new(None);
        let report_death = |owner| self.record_death(&dead, owner);
        self.raw.upgradable_read(current, mode, &report_death)?;
        // SAFETY: the lock was acquired above, for this guard.
        let guard = unsafe { SharedRwLockUpgradableReadGuard::new(self.raw_guard(current)) };
        self.to_result(guard, dead.get())
    }

    /// Records a writer's death for the next guard, and the writer for the calling thread.
    #[cold]
    fn record_death(&self, dead: &Cell<Option<Owner>>, owner: Option<Owner>) {
        self.poison.set_unreported_death();
        dead.set(owner);
    }

    #[inline(always)]
    pub(in crate::sync) fn raw_guard(&self, current: CurrentThread) -> RawGuard<'_, T, N> {
        RawGuard::new(&self.raw, &self.poison, &self.data, current)
    }

    /// Returns the guard, or an error if the lock is poisoned.
    #[cold]
    fn to_result<G: LockGuard>(&self, guard: G, dead: Option<Owner>) -> LockResult<G> {
        match self.poison.cause() {
            None => Ok(guard),
            Some(cause) => {
                let is_first_report = self.poison.take_unreported();
                Err(LockError::Poisoned(Poisoned::new(
                    guard,
                    cause,
                    is_first_report,
                    dead,
                )))
            }
        }
    }
}

impl<T: ShmData + Sync + Default, const N: usize> Default for SharedRwLock<T, N> {
    fn default() -> Self {
        SharedRwLock::with_slots(T::default())
    }
}

impl<T: ShmData + Sync> From<T> for SharedRwLock<T> {
    fn from(value: T) -> Self {
        SharedRwLock::new(value)
    }
}

// SAFETY: the type is `repr(C)` over atomics and a `ShmData`. The links have a meaning only for the
// thread that holds the word. The whole state is described, and the only primitive is visited. Zero
// bytes are a free lock, not yet initialized, around zero bytes of `T`.
#[diagnostic::do_not_recommend]
unsafe impl<T: ShmData + Sync, const N: usize> ShmSafe for SharedRwLock<T, N> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(PrimitiveKind("rwlock"));
        layout.field("data", offset_of!(Self, data), T::describe);
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.primitive(self);
    }
}

impl<T: ShmData + Sync, const N: usize> Primitive for SharedRwLock<T, N> {
    fn kind(&self) -> PrimitiveKind {
        PrimitiveKind("rwlock")
    }

    unsafe fn init(&self) -> Result<(), Error> {
        sys::check_robust()?;
        // SAFETY: guaranteed by the caller.
        unsafe { self.raw.init() };
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        self.raw.words().any(Robust::is_held_by_this_process)
    }

    fn owners_in_this_process(&self, each: &mut dyn FnMut(u32)) {
        self.raw
            .words()
            .filter_map(Robust::owner_in_this_process)
            .for_each(each);
    }

    unsafe fn reset(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.raw.reset() };
    }

    unsafe fn mark_inconsistent(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.raw.mark_after_reboot() };
    }
}

// 16 slots of 128 bytes, 256 bytes for the writers' words, and 128 bytes for the poison and the
// data.
static_assertions::assert_eq_size!(SharedRwLock<()>, [u8; 128 * 19]);
static_assertions::assert_impl_all!(SharedRwLock<u64>: Sync, Send, ShmSafe);
static_assertions::assert_not_impl_any!(SharedRwLock<u64>: ShmData);
static_assertions::assert_not_impl_any!(SharedRwLock<Cell<u64>>: Sync, ShmSafe);
