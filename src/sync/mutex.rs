//! [`SharedMutex`]: mutual exclusion between processes, and the news of a death.

use super::poison::{Cause, Poison};
use crate::memory::{Kind, Layout, Primitive, ShmData, ShmSafe, Walk};
use crate::raw::robust::{Acquired, Patience, Refused, Robust};
use crate::sys::{self, Deadline, Me};
use crate::Error;
use std::cell::UnsafeCell;
use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{LockResult, PoisonError};
use std::time::{Duration, Instant};
use zerocopy::FromBytes;

/// A mutex for data in memory that several processes map, in the manner of [`std::sync::Mutex`].
///
/// Placed in a map by [`Shared`](crate::Shared), it excludes the threads of every process that uses the map. Before it is
/// placed it is an ordinary mutex of this process, and may be moved and forgotten.
///
/// # What a death does
///
/// A process may be killed at any instruction. If it held the lock, the kernel frees it; the next [`lock`](Self::lock)
/// gets it inside [`LockError::Poisoned`], with [`Cause::Died`], and exactly one locker is told of each death as it
/// happens ([`Poisoned::is_fresh`]). The poison stays for the others until somebody repairs the data. Waiters do not hang:
/// one is woken at once, and where the kernel could not mark the lock, they find out within a second.
///
/// # Examples
///
/// ```
/// use pshared::{fork, LockError, Shared, SharedMutex};
///
/// let account = Shared::anonymous(SharedMutex::new(100_u64))?;
/// let child = fork::spawn(|| *account.lock().unwrap() -= 30)?;
/// *account.lock()? += 5;
/// assert!(child.wait()?.success());
/// assert_eq!(*account.lock()?, 75);
///
/// // A child that dies with the lock in its hands.
/// fork::spawn(|| {
///     let _guard = account.lock().unwrap();
///     std::process::abort();
/// })?
/// .wait()?;
/// match account.lock() {
///     Err(LockError::Poisoned(poisoned)) => drop(poisoned.replace(75)),
///     other => panic!("the death was not told: {other:?}"),
/// }
/// assert_eq!(*account.lock()?, 75);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// The lock word is described in the guide on what a crash does; the order of its steps is that of glibc's robust mutexes,
/// on the kernel's [robust futexes](https://docs.kernel.org/locking/robust-futex-ABI.html).
#[repr(C)]
pub struct SharedMutex<T> {
    raw: Robust,
    poison: Poison,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives `&mut T` to one thread at a time, so sharing the mutex only ever sends the `T`; `ShmData` is `Send`.
unsafe impl<T: ShmData> Sync for SharedMutex<T> {}

impl<T: ShmData> SharedMutex<T> {
    /// A free mutex around `value`.
    pub const fn new(value: T) -> Self {
        SharedMutex {
            raw: Robust::new(),
            poison: Poison::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Acquires the lock, waiting for it as long as it takes.
    ///
    /// # Errors
    ///
    /// - [`LockError::Poisoned`]: the lock was acquired, and a holder died or panicked in its section since the data was
    ///   last repaired.
    /// - [`LockError::Deadlock`]: the calling thread holds the lock already.
    /// - [`LockError::HolderThreadEnded`]: the thread that held the lock ended without releasing it, and its process lives.
    #[inline]
    pub fn lock(&self) -> Result<SharedMutexGuard<'_, T>, LockError<'_, T>> {
        self.lock_with(Patience::Endless)
    }

    /// Acquires the lock if nobody holds it, without waiting.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::WouldBlock`] where somebody holds the lock, the calling thread included.
    #[inline]
    pub fn try_lock(&self) -> Result<SharedMutexGuard<'_, T>, LockError<'_, T>> {
        self.lock_with(Patience::None)
    }

    /// Acquires the lock, waiting for it no longer than `timeout` of the monotonic clock.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::TimedOut`].
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<SharedMutexGuard<'_, T>, LockError<'_, T>> {
        self.lock_with(Patience::Until(Deadline::after(timeout)))
    }

    /// Acquires the lock, waiting for it until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::TimedOut`].
    pub fn lock_until(
        &self,
        deadline: Instant,
    ) -> Result<SharedMutexGuard<'_, T>, LockError<'_, T>> {
        self.lock_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether a holder died or panicked in its section since the data was last repaired.
    ///
    /// A death is only known here once somebody has locked after it.
    pub fn is_poisoned(&self) -> bool {
        !self.poison.is_clear()
    }

    /// Clears the poison that a panic left, as [`std::sync::Mutex::clear_poison`] does.
    ///
    /// What a death left stays: the data may be torn. It is cleared by [`Poisoned::replace`], or, after
    /// [`Poisoned::into_guard`], by [`SharedMutexGuard::clear_poison`].
    pub fn clear_poison(&self) {
        self.poison.clear_panic();
    }

    /// Who holds the lock, if anybody does. The answer may be out of date when it is read; it is for reports.
    ///
    /// The ids are those of the holder's own PID namespace.
    pub fn holder(&self) -> Option<Holder> {
        self.raw.holder().map(|who| Holder {
            process: sys::pid_of(who),
            thread: sys::tid_of(who),
        })
    }

    /// The data, through the exclusive borrow that only a mutex which is not placed can give.
    ///
    /// # Errors
    ///
    /// [`PoisonError`] where a holder panicked; it gives the data all the same.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let poisoned = self.is_poisoned();
        let data = self.data.get_mut();
        if poisoned { Err(PoisonError::new(data)) } else { Ok(data) }
    }

    /// The data of a mutex that is not placed.
    ///
    /// # Errors
    ///
    /// [`PoisonError`] where a holder panicked; it gives the data all the same.
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.is_poisoned();
        let data = self.data.into_inner();
        if poisoned { Err(PoisonError::new(data)) } else { Ok(data) }
    }

    #[inline]
    fn lock_with(&self, patience: Patience) -> Result<SharedMutexGuard<'_, T>, LockError<'_, T>> {
        let me = sys::me();
        let acquired = self.raw.acquire_by_the_slot(me);
        if acquired && self.poison.is_clear() {
            return Ok(self.guard(me));
        }
        self.lock_slowly(me, acquired, patience)
    }

    #[cold]
    fn lock_slowly(
        &self,
        me: Me,
        acquired: bool,
        patience: Patience,
    ) -> Result<SharedMutexGuard<'_, T>, LockError<'_, T>> {
        let outcome = match acquired {
            true => Ok(Acquired::Released),
            false => self.raw.acquire(me, patience),
        };
        let fresh = match outcome {
            Ok(Acquired::Released) => false,
            Ok(Acquired::OwnerDied) => {
                self.poison.set(Cause::Died);
                true
            }
            Err(Refused::WouldBlock) => return Err(LockError::WouldBlock),
            Err(Refused::TimedOut) => return Err(LockError::TimedOut),
            Err(Refused::Deadlock) => return Err(LockError::Deadlock),
            Err(Refused::HolderThreadEnded) => return Err(LockError::HolderThreadEnded),
        };
        let guard = self.guard(me);
        match self.poison.cause() {
            None => Ok(guard),
            Some(cause) => Err(LockError::Poisoned(Poisoned::new(guard, cause, fresh))),
        }
    }

    /// The guard of a lock that the thread has just acquired.
    #[inline]
    fn guard(&self, me: Me) -> SharedMutexGuard<'_, T> {
        SharedMutexGuard {
            held: Held {
                raw: &self.raw,
                poison: &self.poison,
                generation: me.generation(),
                was_panicking: std::thread::panicking(),
                stays_here: PhantomData,
            },
            data: &self.data,
        }
    }
}

/// The thread that held a lock when it was asked for; see [`SharedMutex::holder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The process's id, in its own PID namespace.
    pub process: u32,
    /// The thread's id, in its own PID namespace.
    pub thread: u32,
}

/// A lock that the calling thread holds, without its data. Releases it when dropped.
struct Held<'a> {
    raw: &'a Robust,
    poison: &'a Poison,
    /// The process that acquired it. In a child of that process the guard is a copy: the lock is the parent's.
    generation: u64,
    was_panicking: bool,
    /// The word, the robust list and the record name the acquiring thread.
    stays_here: PhantomData<*mut ()>,
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(me) = Me::of_generation(self.generation) else {
            return;
        };
        if !self.was_panicking && std::thread::panicking() {
            self.poison.set(Cause::Panicked);
        }
        // SAFETY: this thread acquired the lock in this process, and nothing but this drop releases it.
        unsafe { self.raw.unlock(me) };
    }
}

/// The data of a [`SharedMutex`], for as long as the lock is held. Dropping the guard releases the lock.
///
/// A guard stays in its thread: it is neither `Send` nor `Sync`. One that crosses a `fork` is the parent's; the child's
/// copy does nothing when it is dropped.
///
/// Forgetting a guard ([`std::mem::forget`], [`Box::leak`]) leaves the lock held, for as long as the thread lives, and
/// after that, since the data may have been handed on, for as long as its process lives.
#[must_use = "if unused the SharedMutex will immediately unlock"]
pub struct SharedMutexGuard<'a, T> {
    held: Held<'a>,
    data: &'a UnsafeCell<T>,
}

impl<'a, T> SharedMutexGuard<'a, T> {
    /// Clears the poison of the guard's mutex, that of a death included: you have repaired the data.
    ///
    /// An associated function, as for `std`'s guards: `SharedMutexGuard::clear_poison(&guard)`.
    pub fn clear_poison(guard: &Self) {
        guard.held.poison.clear();
    }

    /// A guard for a part of the data.
    ///
    /// An associated function, as for `std`'s guards: `SharedMutexGuard::map(guard, |table| &mut table.row)`.
    pub fn map<U: ?Sized>(
        guard: Self,
        part: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedSharedMutexGuard<'a, U> {
        // SAFETY: the lock is held, and `guard` is consumed, so this is the only borrow of the data.
        let data = NonNull::from(part(unsafe { &mut *guard.data.get() }));
        MappedSharedMutexGuard {
            _held: guard.held,
            data,
            borrow: PhantomData,
        }
    }
}

impl<T> Deref for SharedMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held by this guard, whose borrow the reference shares.
        unsafe { &*self.data.get() }
    }
}

impl<T> DerefMut for SharedMutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held by this guard, which is borrowed exclusively.
        unsafe { &mut *self.data.get() }
    }
}

impl<T: fmt::Debug> fmt::Debug for SharedMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T: fmt::Display> fmt::Display for SharedMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

/// A part of the data of a [`SharedMutex`]; see [`SharedMutexGuard::map`]. Dropping it releases the whole lock.
#[must_use = "if unused the SharedMutex will immediately unlock"]
pub struct MappedSharedMutexGuard<'a, U: ?Sized> {
    _held: Held<'a>,
    data: NonNull<U>,
    borrow: PhantomData<&'a mut U>,
}

impl<U: ?Sized> Deref for MappedSharedMutexGuard<'_, U> {
    type Target = U;

    fn deref(&self) -> &U {
        // SAFETY: points into the data of the lock that is held, and was made from its only borrow.
        unsafe { self.data.as_ref() }
    }
}

impl<U: ?Sized> DerefMut for MappedSharedMutexGuard<'_, U> {
    fn deref_mut(&mut self) -> &mut U {
        // SAFETY: as in `deref`, and the guard is borrowed exclusively.
        unsafe { self.data.as_mut() }
    }
}

impl<U: ?Sized + fmt::Debug> fmt::Debug for MappedSharedMutexGuard<'_, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        U::fmt(self, f)
    }
}

/// A lock that was acquired, with the news that its data may be broken.
///
/// Dropped as it is, it releases the lock and leaves the poison for the next locker.
pub struct Poisoned<'a, T> {
    guard: SharedMutexGuard<'a, T>,
    cause: Cause,
    fresh: bool,
}

impl<'a, T> Poisoned<'a, T> {
    fn new(mut guard: SharedMutexGuard<'a, T>, cause: Cause, fresh: bool) -> Self {
        // Until it is handed out, a panic does not concern the data.
        guard.held.was_panicking = true;
        Poisoned { guard, cause, fresh }
    }

    /// What happened: the worst of it, where both did.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Whether this lock call is the one that is told of the death: true for exactly one locker a death.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Replaces the data whole, clears the poison, and gives the guard.
    pub fn replace(self, value: T) -> SharedMutexGuard<'a, T>
    where
        T: ShmData,
    {
        let guard = self.hand_out();
        // SAFETY: the lock is held. The old bytes may be no `T`, so they are not dropped; `ShmData` has nothing to drop.
        unsafe { guard.data.get().write(value) };
        SharedMutexGuard::clear_poison(&guard);
        guard
    }

    /// The guard, for data of which any mixture of bytes is a valid value. Repair it in place, then
    /// [`SharedMutexGuard::clear_poison`]; until then the lock stays poisoned.
    pub fn into_guard(self) -> SharedMutexGuard<'a, T>
    where
        T: FromBytes,
    {
        self.hand_out()
    }

    /// The guard, where a panic is all that happened: the data is whole then, as in `std`.
    ///
    /// # Errors
    ///
    /// Itself, where a holder died.
    pub fn into_whole(self) -> Result<SharedMutexGuard<'a, T>, Self> {
        match self.cause {
            Cause::Panicked => Ok(self.hand_out()),
            Cause::Died => Err(self),
        }
    }

    /// The guard, whatever happened.
    ///
    /// # Safety
    ///
    /// The bytes are a valid `T`. A holder that died in the middle of an assignment leaves a mixture of two values.
    pub unsafe fn assume_valid(self) -> SharedMutexGuard<'a, T> {
        self.hand_out()
    }

    fn hand_out(self) -> SharedMutexGuard<'a, T> {
        let mut guard = self.guard;
        guard.held.was_panicking = std::thread::panicking();
        guard
    }
}

impl<T> fmt::Debug for Poisoned<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poisoned")
            .field("cause", &self.cause)
            .field("fresh", &self.fresh)
            .finish_non_exhaustive()
    }
}

/// Why a lock was not acquired as asked.
///
/// It borrows the mutex, since [`Poisoned`](LockError::Poisoned) holds the lock; `?` turns it into [`Error`] or into a
/// `Box<dyn Error>`, which do not, and releases it.
#[non_exhaustive]
pub enum LockError<'a, T> {
    /// The lock was acquired; a holder died or panicked in its section.
    Poisoned(Poisoned<'a, T>),
    /// The calling thread holds the lock; waiting for it would never end.
    Deadlock,
    /// The thread that held the lock ended without releasing it, so its guard was forgotten, and its process lives: the
    /// data may have been handed on there. Once that process is gone, the next locker is told of a death.
    HolderThreadEnded,
    /// Somebody holds the lock, and the call was one that does not wait.
    WouldBlock,
    /// Somebody held the lock until the time was over.
    TimedOut,
}

/// The error of [`SharedMutex::try_lock`], under the name that it has in `std`.
pub type TryLockError<'a, T> = LockError<'a, T>;

impl<T> fmt::Debug for LockError<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Poisoned(poisoned) => f.debug_tuple("Poisoned").field(poisoned).finish(),
            LockError::Deadlock => f.write_str("Deadlock"),
            LockError::HolderThreadEnded => f.write_str("HolderThreadEnded"),
            LockError::WouldBlock => f.write_str("WouldBlock"),
            LockError::TimedOut => f.write_str("TimedOut"),
        }
    }
}

impl<T> fmt::Display for LockError<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Error::from_lock(self).fmt(f)
    }
}

impl<T> From<LockError<'_, T>> for Error {
    fn from(error: LockError<'_, T>) -> Self {
        Error::from_lock(&error)
    }
}

// `LockError` is no `std::error::Error` itself, as `anyhow::Error` is none: it holds a borrow of the mutex, which a
// `Box<dyn Error>` could not, and so `?` would not compile where it is wanted most.
impl<T> From<LockError<'_, T>> for Box<dyn StdError> {
    fn from(error: LockError<'_, T>) -> Self {
        Box::new(Error::from_lock(&error))
    }
}

impl<T> From<LockError<'_, T>> for Box<dyn StdError + Send + Sync> {
    fn from(error: LockError<'_, T>) -> Self {
        Box::new(Error::from_lock(&error))
    }
}

impl Error {
    fn from_lock<T>(error: &LockError<'_, T>) -> Self {
        match error {
            LockError::Poisoned(poisoned) => Error::Poisoned { cause: poisoned.cause },
            LockError::Deadlock => Error::Deadlock,
            LockError::HolderThreadEnded => Error::HolderThreadEnded,
            LockError::WouldBlock => Error::WouldBlock,
            LockError::TimedOut => Error::TimedOut,
        }
    }
}

impl<T: ShmData + Default> Default for SharedMutex<T> {
    fn default() -> Self {
        SharedMutex::new(T::default())
    }
}

impl<T: ShmData> From<T> for SharedMutex<T> {
    fn from(value: T) -> Self {
        SharedMutex::new(value)
    }
}

impl<T: ShmData + fmt::Debug> fmt::Debug for SharedMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("SharedMutex");
        match self.try_lock() {
            Ok(guard) => out.field("data", &&*guard),
            Err(LockError::Poisoned(poisoned)) => out.field("poisoned", &poisoned.cause),
            Err(_) => out.field("held_by", &self.holder()),
        };
        out.finish_non_exhaustive()
    }
}

const KIND: Kind = Kind("mutex");

// SAFETY: `repr(C)` over atomics and a `ShmData`; the links mean something only to the thread that holds the lock. The
// whole state is told, and the one primitive visited. Zero bytes are a free, unarmed lock around zero bytes of `T`.
#[diagnostic::do_not_recommend]
unsafe impl<T: ShmData> ShmSafe for SharedMutex<T> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(KIND);
        layout.field("data", offset_of!(Self, data), T::describe);
    }

    fn walk(&self, walk: &mut Walk<'_>) {
        walk.primitive(self);
    }
}

impl<T: ShmData> Primitive for SharedMutex<T> {
    fn kind(&self) -> Kind {
        KIND
    }

    unsafe fn arm(&self) -> Result<(), Error> {
        sys::check_robust_list()?;
        // SAFETY: the caller's promise.
        unsafe { self.raw.arm() };
        Ok(())
    }

    fn is_held_here(&self) -> bool {
        self.raw.is_held_here()
    }

    unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.raw.reset() };
    }
}

static_assertions::assert_eq_size!(SharedMutex<()>, [u8; 48]);
static_assertions::assert_impl_all!(SharedMutex<std::cell::Cell<u64>>: Sync, Send, ShmSafe);
static_assertions::assert_not_impl_any!(SharedMutex<u64>: ShmData);
static_assertions::assert_not_impl_any!(SharedMutexGuard<'static, u64>: Send, Sync);
static_assertions::assert_not_impl_any!(MappedSharedMutexGuard<'static, u64>: Send, Sync);
static_assertions::assert_not_impl_any!(Poisoned<'static, u64>: Send, Sync);
