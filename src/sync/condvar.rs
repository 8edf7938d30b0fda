//! [`SharedCondvar`]: a condition variable for threads of several processes.

use crate::memory::ShmData;
use crate::raw::RawLock;
use crate::raw::condvar::Condvar;
use crate::raw::outcome::WaitMode;
use crate::sync::lock_error::{LockError, LockResult};
use crate::sync::mutex::guard::SharedMutexGuard;
use crate::sync::primitive_macros::impl_ownerless_primitive;
use crate::sys::{Deadline, RecheckTimer};
use std::time::{Duration, Instant};

/// A condition variable in memory that several processes map, like [`std::sync::Condvar`].
///
/// A waiting call takes a [`SharedMutexGuard`], releases its mutex, and sleeps until it is
/// notified. It locks the mutex again before it returns. One condition variable works with mutexes
/// of every strategy, and with several mutexes at once. Each waiter should wait for a change of the
/// data that its own mutex protects. A wait may end without a notification (a spurious wakeup);
/// [`wait_while`](Self::wait_while) then checks the condition again.
///
/// [`notify_one`](Self::notify_one) and [`notify_all`](Self::notify_all) never block, and may be
/// called with or without the mutex locked. They make no system call if no thread sleeps. The
/// exception is a waiter that timed out or died: it may cost a notifier one unnecessary call. All
/// threads that `notify_all` wakes lock the same mutex, one after the other. If one woken thread is
/// enough, `notify_one` is the cheaper call.
///
/// # What a death does
///
/// A waiter can be killed at any instruction, while it sleeps or while it wakes up. This does not
/// disturb other threads: the waiter's mutex was released, or is marked like any mutex of a holder
/// that died. If the waiter consumed a notification that another waiter could have used, the other
/// waiter returns within a second. The same holds if a notifier dies after its notification and
/// before it has woken a thread.
///
/// A process that dies while it holds the mutex notifies no waiter. The waiters detect the death
/// within a second, and the waiting call of one of them reports it.
/// [`wait_while`](Self::wait_while), [`wait_timeout_while`](Self::wait_timeout_while) and
/// [`wait_until_while`](Self::wait_until_while) also check the condition once a second without a
/// notification. So they detect a change even if the process that made it was killed before it
/// could notify.
///
/// The process-shared condition variable of glibc does not survive such deaths: after three of its
/// waiters were killed, the next `pthread_cond_signal` blocks forever.
///
/// # Errors
///
/// Every wait locks the mutex again, and then returns what [`lock`](crate::SharedMutex::lock)
/// returns. After [`LockError::Poisoned`] the mutex is locked, its data may be inconsistent, and
/// the condition was not checked.
///
/// # Limits
///
/// If a waiter's process is stopped, and exactly 2^30 notifications (or a multiple) are sent before
/// it continues, the waiter misses them. It then waits for the next notification.
///
/// After a `fork`, an existing guard belongs to the parent. The child may wait with its copy of the
/// guard. The wait then releases nothing, and returns a guard of the child once it was notified and
/// has locked the mutex.
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
/// A sequence number in a futex word, as in `std`'s `library/std/src/sys/sync/condvar/futex.rs`,
/// and a count of the sleeping threads in the same word.
#[repr(transparent)]
#[derive(Debug)]
pub struct SharedCondvar {
    raw: Condvar,
}

/// Whether a wait with a timeout or a deadline timed out; see [`SharedCondvar::wait_timeout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Returns whether the wait timed out before a notification came. For a wait with a condition:
    /// whether the wait timed out while the condition was still true.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// The result of a wait with a timeout or a deadline: the guard, and whether the wait timed out.
type TimeoutResult<'a, T, R> =
    Result<(SharedMutexGuard<'a, T, R>, WaitTimeoutResult), LockError<SharedMutexGuard<'a, T, R>>>;

impl SharedCondvar {
    /// Creates a condition variable without waiters.
    pub const fn new() -> Self {
        SharedCondvar {
            raw: Condvar::new(),
        }
    }

    /// Blocks the current thread until this condition variable is notified.
    ///
    /// This call releases the mutex, waits for a notification, and locks the mutex again. A
    /// notification that is sent after the mutex was released is not missed. The wait may also end
    /// without a notification.
    ///
    /// # Errors
    ///
    /// As for [`SharedMutex::lock`](crate::SharedMutex::lock).
    pub fn wait<'a, T: ShmData, R: RawLock>(
        &self,
        guard: SharedMutexGuard<'a, T, R>,
    ) -> LockResult<SharedMutexGuard<'a, T, R>> {
        self.wait_once(guard, None, &mut RecheckTimer::new(), R::check_owner_died)
            .map(|(guard, _)| guard)
    }

    /// Blocks the current thread as long as `condition` returns true.
    ///
    /// The mutex is locked while `condition` runs: before the first wait, and after each wait.
    ///
    /// # Errors
    ///
    /// As for [`SharedMutex::lock`](crate::SharedMutex::lock).
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

    /// Like [`wait`](Self::wait), but waits for a notification for at most `timeout`, measured on
    /// the monotonic clock. Locking the mutex again may take longer.
    ///
    /// # Errors
    ///
    /// As for [`SharedMutex::lock`](crate::SharedMutex::lock). An error does not say whether the
    /// wait timed out.
    pub fn wait_timeout<'a, T: ShmData, R: RawLock>(
        &self,
        guard: SharedMutexGuard<'a, T, R>,
        timeout: Duration,
    ) -> TimeoutResult<'a, T, R> {
        self.wait_deadline(guard, Deadline::after(timeout))
    }

    /// Like [`wait_timeout`](Self::wait_timeout), but waits for a notification until `deadline` at
    /// the latest.
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout`](Self::wait_timeout).
    pub fn wait_until<'a, T: ShmData, R: RawLock>(
        &self,
        guard: SharedMutexGuard<'a, T, R>,
        deadline: Instant,
    ) -> TimeoutResult<'a, T, R> {
        self.wait_deadline(guard, Deadline::at(deadline))
    }

    /// Like [`wait_while`](Self::wait_while), but waits for at most `timeout` in total, measured on
    /// the monotonic clock. The wait timed out if the condition is still true at the last check.
    /// Locking the mutex again may take longer.
    ///
    /// # Errors
    ///
    /// As for [`SharedMutex::lock`](crate::SharedMutex::lock).
    pub fn wait_timeout_while<'a, T: ShmData, R: RawLock>(
        &self,
        guard: SharedMutexGuard<'a, T, R>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> TimeoutResult<'a, T, R> {
        self.wait_deadline_while(guard, Deadline::after(timeout), condition)
    }

    /// Like [`wait_timeout_while`](Self::wait_timeout_while), but waits until `deadline` at the
    /// latest.
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout_while`](Self::wait_timeout_while).
    pub fn wait_until_while<'a, T: ShmData, R: RawLock>(
        &self,
        guard: SharedMutexGuard<'a, T, R>,
        deadline: Instant,
        condition: impl FnMut(&mut T) -> bool,
    ) -> TimeoutResult<'a, T, R> {
        self.wait_deadline_while(guard, Deadline::at(deadline), condition)
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

    fn wait_deadline<'a, T: ShmData, R: RawLock>(
        &self,
        guard: SharedMutexGuard<'a, T, R>,
        deadline: Deadline,
    ) -> TimeoutResult<'a, T, R> {
        let mut timer = RecheckTimer::new();
        self.wait_once(guard, Some(deadline), &mut timer, R::check_owner_died)
    }

    fn wait_deadline_while<'a, T: ShmData, R: RawLock>(
        &self,
        mut guard: SharedMutexGuard<'a, T, R>,
        deadline: Deadline,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> TimeoutResult<'a, T, R> {
        let mut timer = RecheckTimer::new();
        while condition(&mut guard) {
            if deadline.has_passed() {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            (guard, _) = self.wait_once(guard, Some(deadline), &mut timer, |_| true)?;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    /// Waits once. Each time the recheck timer expires without a notification, `has_cause` decides
    /// whether the wait ends all the same.
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
