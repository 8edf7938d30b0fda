//! [`SharedCondvar`]: waiting for what a mutex guards to change.

use crate::memory::ShmData;
use crate::raw::RawLock;
use crate::raw::condvar::Condvar;
use crate::raw::outcome::WaitMode;
use crate::sync::lock_error::{LockError, LockResult};
use crate::sync::mutex::guard::SharedMutexGuard;
use crate::sync::primitive_macros::impl_ownerless_primitive;
use crate::sys::{Deadline, RecheckTimer};
use std::time::{Duration, Instant};

/// A condition variable in memory that several processes map, in the manner of [`std::sync::Condvar`].
///
/// A waiter gives its [`SharedMutexGuard`] away and sleeps until it is notified; then it has the mutex again. It works with
/// the mutexes of every strategy, and with any number of them at once, though each waiter should wait for what its own
/// mutex guards. As everywhere a wait may end without a notification: [`wait_while`](Self::wait_while) looks again.
///
/// [`notify_one`](Self::notify_one) and [`notify_all`](Self::notify_all) never wait for anybody, make no system call where
/// nobody sleeps, and may be called with the mutex held or without. Everybody whom `notify_all` wakes wants the same mutex
/// next, and they get it one after the other: where one of them is enough, `notify_one` is the cheaper call.
///
/// # What a death does
///
/// A waiter may be killed at any instruction, asleep or as it was woken, and disturbs nobody: its mutex was released, or is
/// marked as any mutex of a dead holder. If it takes with it a notification that another waiter could have used, that one
/// returns within a second; so it does where a notifier dies after its notification and before it could wake anybody.
///
/// A process that dies with the mutex in its hands notifies nobody. The waiters see that within a second, and one of them is
/// told of the death, by the call that waits. [`wait_while`](Self::wait_while) and
/// [`wait_timeout_while`](Self::wait_timeout_while) also look at the condition themselves, once a second, so they see a
/// change whose maker was killed before it could notify.
///
/// This is what glibc's shared condition variable cannot do: after three of its waiters were killed, the next
/// `pthread_cond_signal` sleeps for ever.
///
/// # Errors
///
/// Every wait gives what [`lock`](crate::SharedMutex::lock) gives when it has locked the mutex again. With
/// [`LockError::Poisoned`] the mutex is locked, and its data may be torn; the condition was not looked at.
///
/// # Limits
///
/// A waiter whose whole process is stopped meanwhile, and for which exactly 2^30 notifications come before it goes on, or a
/// multiple of that, waits for the next one.
///
/// A guard that crossed a `fork` is the parent's. The child may wait with its copy: it releases nothing, and returns with a
/// guard of its own when it has been notified and the mutex is free.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedCondvar, SharedMutex, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Mailbox { letters: SharedMutex<u32>, arrived: SharedCondvar }
///
/// let mailbox = Shared::anonymous(Mailbox {
///     letters: SharedMutex::new(0),
///     arrived: SharedCondvar::new(),
/// })?;
/// let child = fork::spawn(|| {
///     *mailbox.letters.lock().unwrap() += 1;
///     mailbox.arrived.notify_one();
/// })?;
/// let letters = mailbox.letters.lock()?;
/// let mut letters = mailbox.arrived.wait_while(letters, |letters| *letters == 0)?;
/// *letters -= 1;
/// drop(letters);
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// A sequence in a futex word, as in `std`'s `library/std/src/sys/sync/condvar/futex.rs`, with a count of the sleepers beside
/// it.
#[repr(transparent)]
#[derive(Debug)]
pub struct SharedCondvar {
    raw: Condvar,
}

/// Whether a wait with a timeout ended by it; see [`SharedCondvar::wait_timeout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time was over before a notification came, or, of a wait for a condition, before that held.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// What a wait with a timeout returns: the guard, and whether the timeout expired.
type TimeoutResult<'a, T, R> =
    Result<(SharedMutexGuard<'a, T, R>, WaitTimeoutResult), LockError<SharedMutexGuard<'a, T, R>>>;

impl SharedCondvar {
    /// A condition variable that nobody waits for.
    pub const fn new() -> Self {
        SharedCondvar {
            raw: Condvar::new(),
        }
    }

    /// Releases the mutex, waits for a notification, and locks the mutex again.
    ///
    /// A notification that comes after the mutex was released is not missed. The wait may also end without one.
    ///
    /// # Errors
    ///
    /// As [`SharedMutex::lock`](crate::SharedMutex::lock).
    pub fn wait<'a, T: ShmData, R: RawLock>(
        &self,
        guard: SharedMutexGuard<'a, T, R>,
    ) -> LockResult<SharedMutexGuard<'a, T, R>> {
        self.wait_once(guard, None, &mut RecheckTimer::new(), R::owner_is_dead)
            .map(|(guard, _)| guard)
    }

    /// Waits as long as `condition` holds.
    ///
    /// It is looked at with the mutex held: before the first wait, and after each.
    ///
    /// # Errors
    ///
    /// As [`SharedMutex::lock`](crate::SharedMutex::lock).
    pub fn wait_while<'a, T: ShmData, R: RawLock>(
        &self,
        mut guard: SharedMutexGuard<'a, T, R>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<SharedMutexGuard<'a, T, R>> {
        let mut timer = RecheckTimer::new();
        while condition(&mut guard) {
            (guard, _) = self.wait_once(guard, None, &mut timer, |_| true)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Self::wait), but waits for a notification no longer than `timeout` of the monotonic clock. To lock the
    /// mutex again may take longer.
    ///
    /// # Errors
    ///
    /// As [`SharedMutex::lock`](crate::SharedMutex::lock); whether the time was over is not told then.
    pub fn wait_timeout<'a, T: ShmData, R: RawLock>(
        &self,
        guard: SharedMutexGuard<'a, T, R>,
        timeout: Duration,
    ) -> TimeoutResult<'a, T, R> {
        let deadline = Deadline::after(timeout);
        self.wait_once(
            guard,
            Some(deadline),
            &mut RecheckTimer::new(),
            R::owner_is_dead,
        )
    }

    /// As [`wait_timeout`](Self::wait_timeout), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Self::wait_timeout).
    pub fn wait_until<'a, T: ShmData, R: RawLock>(
        &self,
        guard: SharedMutexGuard<'a, T, R>,
        deadline: Instant,
    ) -> TimeoutResult<'a, T, R> {
        let deadline = Deadline::at(deadline);
        self.wait_once(
            guard,
            Some(deadline),
            &mut RecheckTimer::new(),
            R::owner_is_dead,
        )
    }

    /// As [`wait_while`](Self::wait_while), but no longer than `timeout` of the monotonic clock in all. It timed out where
    /// the condition still holds at the last look.
    ///
    /// # Errors
    ///
    /// As [`SharedMutex::lock`](crate::SharedMutex::lock).
    pub fn wait_timeout_while<'a, T: ShmData, R: RawLock>(
        &self,
        mut guard: SharedMutexGuard<'a, T, R>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> TimeoutResult<'a, T, R> {
        let deadline = Deadline::after(timeout);
        let mut timer = RecheckTimer::new();
        while condition(&mut guard) {
            if deadline.has_passed() {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            (guard, _) = self.wait_once(guard, Some(deadline), &mut timer, |_| true)?;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    /// As [`wait_timeout_while`](Self::wait_timeout_while), but until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout_while`](Self::wait_timeout_while).
    pub fn wait_until_while<'a, T: ShmData, R: RawLock>(
        &self,
        mut guard: SharedMutexGuard<'a, T, R>,
        deadline: Instant,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> TimeoutResult<'a, T, R> {
        let deadline = Deadline::at(deadline);
        let mut timer = RecheckTimer::new();
        while condition(&mut guard) {
            if deadline.has_passed() {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            (guard, _) = self.wait_once(guard, Some(deadline), &mut timer, |_| true)?;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    /// Wakes one waiter, if there is one.
    #[inline]
    pub fn notify_one(&self) {
        self.raw.notify_one();
    }

    /// Wakes every waiter.
    #[inline]
    pub fn notify_all(&self) {
        self.raw.notify_all();
    }

    /// One wait. When a timer ends without news, `has_cause` is asked whether to look all the same.
    fn wait_once<'a, T: ShmData, R: RawLock>(
        &self,
        guard: SharedMutexGuard<'a, T, R>,
        deadline: Option<Deadline>,
        timer: &mut RecheckTimer,
        has_cause: impl Fn(&R) -> bool,
    ) -> TimeoutResult<'a, T, R> {
        let mutex = guard.mutex();
        let seen = self.raw.sequence();
        drop(guard);
        let raw = &mutex.raw;
        let in_time = self.raw.wait_past(seen, deadline, timer, || has_cause(raw));
        let guard = mutex.lock(WaitMode::Until(None))?;
        Ok((guard, WaitTimeoutResult(!in_time)))
    }
}

impl Default for SharedCondvar {
    fn default() -> Self {
        SharedCondvar::new()
    }
}

impl_ownerless_primitive!(SharedCondvar, "condvar", has_primitives: true);
static_assertions::assert_eq_size!(SharedCondvar, u32);
