//! [`SharedRwLock`]: many readers or one writer, between processes, and the news of a death.

pub(in crate::sync) mod guard;

use crate::Error;
use crate::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor, ShmData, ShmSafe};
use crate::raw::Robust;
use crate::raw::outcome::WaitMode;
use crate::raw::poison::Poison;
use crate::raw::rwlock::RwLock;
use crate::sync::holder::Holder;
use crate::sync::lock_error::{LockError, LockGuard, LockResult, Poisoned};
use crate::sync::rwlock::guard::{
    RawGuard, SharedRwLockReadGuard, SharedRwLockUpgradableReadGuard, SharedRwLockWriteGuard,
};
use crate::sys::{self, CurrentThread, Deadline};
use std::cell::UnsafeCell;
use std::mem::offset_of;
use std::sync::{LockResult as StdLockResult, PoisonError};
use std::time::{Duration, Instant};

type Read<'a, T> = SharedRwLockReadGuard<'a, T>;
type Write<'a, T> = SharedRwLockWriteGuard<'a, T>;
type Upgradable<'a, T> = SharedRwLockUpgradableReadGuard<'a, T>;

/// A readers-writer lock for data in memory that several processes map, in the manner of [`std::sync::RwLock`].
///
/// Readers on different CPUs do not touch each other's memory: each takes one of 16 padded slots. Placed in a map by
/// [`Shared`](crate::Shared), the lock excludes the threads of every process that uses the map. Before it is placed it is an
/// ordinary lock of this process, and may be moved and forgotten.
///
/// # Who goes first
///
/// Readers and writers take turns. A reader that waits for a writer goes before the next one: it sees one section written
/// before its own begins. A writer that has excluded the other writers waits for at most 16 readers, those that have a slot by
/// then. Two limits: writers among themselves are as the lockers of a mutex, and a reader that finds all 16 slots taken
/// lines up with them, without being counted among those who wait for a writer. In its turn it gets the first slot that is left, or
/// whose reader dies, at once. (It sleeps on all slots by one call, `futex_waitv(2)`. Before Linux 5.16, which has none, it sleeps
/// on one of them, and sees another that is left within a second, and writers wait as long.) A writer that gives up its wait has no
/// section. Where one dies, those who waited for it line up anew.
///
/// # One thread, several guards
///
/// A thread that reads may read again: the second guard shares the first one's slot where the thread would have to wait, for a
/// writer or because the row is full. (One that [downgraded](SharedRwLockWriteGuard::downgrade) while the row was full, or reads
/// upgradably, has no slot to share, and waits for one as long as the row is full.) It may not [`write`](Self::write): that is [`Deadlock`](LockError::Deadlock). So is
/// reading where it writes. It may read where it reads upgradably, and then has to drop the one guard to upgrade the other.
/// Before the lock is placed it does not know its readers: writing where one reads waits for ever, as with `std`'s.
///
/// # What a death does
///
/// A process may be killed at any instruction. A dead **reader** has changed nothing, and its slot is freed. If a dead
/// **writer** had the data in its hands, whoever gets the lock next, for reading or for writing, gets it inside
/// [`LockError::Poisoned`] with [`Cause::Died`](crate::Cause::Died), and exactly one is told of each death as it happens
/// ([`Poisoned::is_first_report`]). The poison stays until a writer repairs the data. One who waits is woken at once and wakes the
/// others; where the kernel could not mark the lock, they find out within a second. A thread
/// that ends with its guard forgotten while its process lives keeps the lock:
/// [`HolderThreadEnded`](LockError::HolderThreadEnded).
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
/// // A child that dies while it writes.
/// fork::spawn(|| {
///     let _guard = prices.write().unwrap();
///     std::process::abort();
/// })?
/// .wait()?;
/// assert!(matches!(prices.read(), Err(LockError::Poisoned(poisoned)) if poisoned.is_first_report()));
/// match prices.write() {
///     Err(LockError::Poisoned(poisoned)) => drop(poisoned.replace([5, 4])),
///     other => panic!("the death was not told: {other:?}"),
/// }
/// assert_eq!(*prices.read()?, [5, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Read, and write only if there is need to:
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
/// Slots of their own for readers are those of the Linux kernel's per-CPU locks; that who waited for one writer goes before the
/// next is *phase fairness*: Brandenburg and Anderson, "Reader-Writer Synchronization for Shared-Memory Multiprocessor Real-Time
/// Systems" (ECRTS 2009). The words are [`SharedMutex`](crate::SharedMutex)'s.
#[repr(C)]
pub struct SharedRwLock<T> {
    pub(in crate::sync) raw: RwLock,
    pub(in crate::sync) poison: Poison,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives `&mut T` to one thread at a time, which sends the `T`, or `&T` to several, which shares it.
unsafe impl<T: ShmData + Sync> Sync for SharedRwLock<T> {}

impl<T: ShmData + Sync> SharedRwLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        SharedRwLock {
            raw: RwLock::new(),
            poison: Poison::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Acquires the lock for reading, waiting for it as long as it takes.
    ///
    /// # Errors
    ///
    /// - [`LockError::Poisoned`]: the lock was acquired, and a writer died or panicked in its section since the data was last
    ///   repaired.
    /// - [`LockError::Deadlock`]: the calling thread writes.
    /// - [`LockError::HolderThreadEnded`]: the thread that wrote ended without releasing the lock, and its process lives.
    #[inline]
    pub fn read(&self) -> LockResult<Read<'_, T>> {
        self.read_with(WaitMode::Until(None))
    }

    /// Acquires the lock for reading if nobody writes, or waits or tries to, without waiting.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and [`LockError::WouldBlock`] where somebody writes or waits to, the calling thread included.
    #[inline]
    pub fn try_read(&self) -> LockResult<Read<'_, T>> {
        self.read_with(WaitMode::Try)
    }

    /// Acquires the lock for reading, waiting for it no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and [`LockError::TimedOut`].
    pub fn read_timeout(&self, timeout: Duration) -> LockResult<Read<'_, T>> {
        self.read_with(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// As [`read_timeout`](Self::read_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`read_timeout`](Self::read_timeout).
    pub fn read_until(&self, deadline: Instant) -> LockResult<Read<'_, T>> {
        self.read_with(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Acquires the lock for writing, waiting for it as long as it takes.
    ///
    /// # Errors
    ///
    /// - [`LockError::Poisoned`]: the lock was acquired, and a writer died or panicked in its section since the data was last
    ///   repaired.
    /// - [`LockError::Deadlock`]: the calling thread reads or writes.
    /// - [`LockError::HolderThreadEnded`]: a thread that read or wrote ended without releasing the lock, and its process
    ///   lives.
    pub fn write(&self) -> LockResult<Write<'_, T>> {
        self.write_with(WaitMode::Until(None))
    }

    /// Acquires the lock for writing if nobody has it, without waiting.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and [`LockError::WouldBlock`] where somebody has the lock, the calling thread included.
    pub fn try_write(&self) -> LockResult<Write<'_, T>> {
        self.write_with(WaitMode::Try)
    }

    /// Acquires the lock for writing, waiting for it no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and [`LockError::TimedOut`].
    pub fn write_timeout(&self, timeout: Duration) -> LockResult<Write<'_, T>> {
        self.write_with(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// As [`write_timeout`](Self::write_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`write_timeout`](Self::write_timeout).
    pub fn write_until(&self, deadline: Instant) -> LockResult<Write<'_, T>> {
        self.write_with(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Acquires the lock for reading, with the right to [write](SharedRwLockUpgradableReadGuard::upgrade) later, waiting for it as
    /// long as it takes. Others may read meanwhile, but neither write nor read upgradably.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn upgradable_read(&self) -> LockResult<Upgradable<'_, T>> {
        self.upgradable_read_with(WaitMode::Until(None))
    }

    /// The same, without waiting.
    ///
    /// # Errors
    ///
    /// As [`try_write`](Self::try_write).
    pub fn try_upgradable_read(&self) -> LockResult<Upgradable<'_, T>> {
        self.upgradable_read_with(WaitMode::Try)
    }

    /// The same, waiting no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// As [`write_timeout`](Self::write_timeout).
    pub fn upgradable_read_timeout(&self, timeout: Duration) -> LockResult<Upgradable<'_, T>> {
        self.upgradable_read_with(WaitMode::Until(Some(Deadline::after(timeout))))
    }

    /// As [`upgradable_read_timeout`](Self::upgradable_read_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`upgradable_read_timeout`](Self::upgradable_read_timeout).
    pub fn upgradable_read_until(&self, deadline: Instant) -> LockResult<Upgradable<'_, T>> {
        self.upgradable_read_with(WaitMode::Until(Some(Deadline::at(deadline))))
    }

    /// Whether a writer died or panicked in its section since the data was last repaired.
    ///
    /// A death is only known here once somebody has locked after it.
    pub fn is_poisoned(&self) -> bool {
        !self.poison.is_clear()
    }

    /// Clears the poison that a panic left, as [`std::sync::RwLock::clear_poison`] does.
    ///
    /// What a death left stays, until [`Poisoned::replace`] or [`SharedRwLockWriteGuard::clear_poison`].
    pub fn clear_poison(&self) {
        self.poison.clear_panic();
    }

    /// Who writes, or waits to write for readers to leave, or reads upgradably, or is the first in line for a slot where all are
    /// taken. The answer may be out of date when it is read; it is for reports. Readers that have a slot are not told.
    ///
    /// The ids are those of the holder's own PID namespace.
    pub fn holder(&self) -> Option<Holder> {
        self.raw.holder().map(Holder::new)
    }

    /// The data, through the exclusive borrow that only a lock which is not placed can give.
    ///
    /// # Errors
    ///
    /// [`PoisonError`] where a writer panicked; it gives the data all the same.
    pub fn get_mut(&mut self) -> StdLockResult<&mut T> {
        match (self.is_poisoned(), self.data.get_mut()) {
            (true, data) => Err(PoisonError::new(data)),
            (false, data) => Ok(data),
        }
    }

    /// The data of a lock that is not placed.
    ///
    /// # Errors
    ///
    /// [`PoisonError`] where a writer panicked; it gives the data all the same.
    pub fn into_inner(self) -> StdLockResult<T> {
        match (self.is_poisoned(), self.data.into_inner()) {
            (true, data) => Err(PoisonError::new(data)),
            (false, data) => Ok(data),
        }
    }

    #[inline]
    fn read_with(&self, mode: WaitMode) -> LockResult<Read<'_, T>> {
        let current = sys::current_thread();
        let report_death = || self.poison.set_unreported_death();
        match self.raw.read(current, mode, &report_death) {
            Ok(position) => {
                // SAFETY: acquired just now, for this guard.
                let guard =
                    unsafe { SharedRwLockReadGuard::new(self.raw_guard(current), position) };
                if self.poison.is_clear() {
                    return Ok(guard);
                }
                self.to_result(guard)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn write_with(&self, mode: WaitMode) -> LockResult<Write<'_, T>> {
        let current = sys::current_thread();
        self.raw
            .write(current, mode, &|| self.poison.set_unreported_death())?;
        // SAFETY: acquired just now, for this guard.
        self.to_result(unsafe { SharedRwLockWriteGuard::new(self.raw_guard(current)) })
    }

    fn upgradable_read_with(&self, mode: WaitMode) -> LockResult<Upgradable<'_, T>> {
        let current = sys::current_thread();
        let report_death = || self.poison.set_unreported_death();
        self.raw.upgradable_read(current, mode, &report_death)?;
        // SAFETY: acquired just now, for this guard.
        self.to_result(unsafe { SharedRwLockUpgradableReadGuard::new(self.raw_guard(current)) })
    }

    #[inline]
    pub(in crate::sync) fn raw_guard(&self, current: CurrentThread) -> RawGuard<'_, T> {
        RawGuard::new(&self.raw, &self.poison, &self.data, current)
    }

    /// The guard, or what happened to its data.
    fn to_result<G: LockGuard>(&self, guard: G) -> LockResult<G> {
        match self.poison.cause() {
            None => Ok(guard),
            Some(cause) => {
                let is_first_report = self.poison.take_unreported();
                Err(LockError::Poisoned(Poisoned::new(
                    guard,
                    cause,
                    is_first_report,
                )))
            }
        }
    }
}

impl<T: ShmData + Sync + Default> Default for SharedRwLock<T> {
    fn default() -> Self {
        SharedRwLock::new(T::default())
    }
}

impl<T: ShmData + Sync> From<T> for SharedRwLock<T> {
    fn from(value: T) -> Self {
        SharedRwLock::new(value)
    }
}

// SAFETY: `repr(C)` over atomics and a `ShmData`; the links mean something only to the thread that holds a word. The whole
// state is told, and the one primitive visited. Zero bytes are a free, unarmed lock around zero bytes of `T`.
#[diagnostic::do_not_recommend]
unsafe impl<T: ShmData + Sync> ShmSafe for SharedRwLock<T> {
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

impl<T: ShmData + Sync> Primitive for SharedRwLock<T> {
    fn kind(&self) -> PrimitiveKind {
        PrimitiveKind("rwlock")
    }

    unsafe fn init(&self) -> Result<(), Error> {
        sys::check_robust_list()?;
        // SAFETY: the caller's promise.
        unsafe { self.raw.init() };
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        self.raw.words().any(Robust::is_held_by_this_process)
    }

    fn was_leaked_by_this_process(&self) -> bool {
        self.raw.words().any(Robust::was_leaked_by_this_process)
    }

    unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.raw.reset() };
    }

    unsafe fn mark_inconsistent(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.raw.mark() };
    }
}

// 16 slots of 128 bytes, 256 for the writers' words, and the data.
static_assertions::assert_eq_size!(SharedRwLock<()>, [u8; 128 * 19]);
static_assertions::assert_impl_all!(SharedRwLock<u64>: Sync, Send, ShmSafe);
static_assertions::assert_not_impl_any!(SharedRwLock<u64>: ShmData);
static_assertions::assert_not_impl_any!(SharedRwLock<std::cell::Cell<u64>>: Sync, ShmSafe);
