//! [`wait_any`]: waits for the first of several things.

use super::{SharedEvent, SharedPermits, SharedRoster};
use crate::Error;
use crate::memory::ShmSafe;
use crate::raw::multi::wait_any::{self, WaitSource};
use crate::sys::{Deadline, WaitvSet};
use std::time::{Duration, Instant};

/// What [`wait_any`] can wait for. This trait is sealed.
///
/// | type | ready if | words |
/// |---|---|---|
/// | [`SharedEvent`] | it is set | 1 |
/// | [`SharedPermits<N>`](SharedPermits) | a permit is available, or its holder died | `N` |
/// | [`SharedRoster<T, N>`](SharedRoster) | a slot is abandoned | `N` |
pub trait Waitable: sealed::Sealed {}

mod sealed {
    use super::WaitSource;

    pub trait Sealed {
        /// Calls `then` with the source to wait for.
        #[allow(private_interfaces, reason = "no other crate can name or call it")]
        fn with_source(&self, then: &mut dyn FnMut(&dyn WaitSource));
    }
}

impl<S: sealed::Sealed + ?Sized> Waitable for S {}

impl sealed::Sealed for SharedEvent {
    #[allow(private_interfaces, reason = "as for the trait")]
    fn with_source(&self, then: &mut dyn FnMut(&dyn WaitSource)) {
        then(self.raw());
    }
}

impl<const N: usize> sealed::Sealed for SharedPermits<N> {
    #[allow(private_interfaces, reason = "as for the trait")]
    fn with_source(&self, then: &mut dyn FnMut(&dyn WaitSource)) {
        then(&self.lock_set());
    }
}

impl<T: ShmSafe, const N: usize> sealed::Sealed for SharedRoster<T, N> {
    #[allow(private_interfaces, reason = "as for the trait")]
    fn with_source(&self, then: &mut dyn FnMut(&dyn WaitSource)) {
        then(&self.abandoned_slots());
    }
}

/// Waits until one of `things` is ready, and returns its index. If several are ready, returns the
/// lowest index.
///
/// This call takes no permit or slot. The caller then tries to take one, and may find that another
/// thread was faster.
///
/// A permit or slot of a dead holder is ready as soon as it is marked. It cannot be taken until the
/// holder's process is gone. If only the holder's thread ended, that may take as long as the
/// process lives. A caller that alternates between trying and waiting does not sleep during that
/// time.
///
/// The thread sleeps on all words by one call of `futex_waitv(2)`, Linux 5.16. Without that call,
/// it looks at them every two milliseconds.
///
/// # Errors
///
/// None at present. The type leaves room for a kernel that refuses the wait.
///
/// # Panics
///
/// Panics if `things` is empty, or if they have more than 128 [words](Waitable) in total.
///
/// # What a death does
///
/// The death of a waiter affects other threads in one case only: it was woken for a permit or slot
/// that another thread waits for too, and dies before it can wake that thread. The other thread
/// then continues within a second.
///
/// # Examples
///
/// ```
/// use pshared::{Shared, SharedCounter, SharedEvent, SharedRoster, ShmSafe, fork, wait_any};
///
/// #[derive(ShmSafe, Default)]
/// #[repr(C)]
/// struct State { stop: SharedEvent, workers: SharedRoster<SharedCounter, 4> }
///
/// let state = Shared::anonymous(State::default())?;
/// let worker = fork::spawn(|| {
///     let _slot = state.workers.join().unwrap();
///     std::process::abort();
/// })?;
/// // A supervisor sleeps until it must stop, or a worker dies.
/// assert_eq!(wait_any(&[&state.stop, &state.workers])?, 1);
/// state.stop.set();
/// assert_eq!(wait_any(&[&state.stop, &state.workers])?, 0);
/// # worker.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait_any(things: &[&dyn Waitable]) -> Result<usize, Error> {
    wait_with(things, None)
}

/// Waits like [`wait_any`], for at most `timeout` on the monotonic clock.
///
/// # Errors
///
/// As for [`wait_any`], and [`Error::TimedOut`] if nothing was ready in time.
///
/// # Panics
///
/// As for [`wait_any`].
pub fn wait_any_timeout(things: &[&dyn Waitable], timeout: Duration) -> Result<usize, Error> {
    wait_with(things, Some(Deadline::after(timeout)))
}

/// Waits like [`wait_any_timeout`], but until `deadline`.
///
/// # Errors
///
/// As for [`wait_any_timeout`].
///
/// # Panics
///
/// As for [`wait_any`].
pub fn wait_any_until(things: &[&dyn Waitable], deadline: Instant) -> Result<usize, Error> {
    wait_with(things, Some(Deadline::at(deadline)))
}

fn wait_with(things: &[&dyn Waitable], deadline: Option<Deadline>) -> Result<usize, Error> {
    assert!(!things.is_empty(), "there is nothing to wait for");
    let mut outcome = Err(Error::TimedOut);
    with_sources(things, &mut Vec::new(), &mut |sources| {
        let words: usize = sources.iter().map(|source| source.words()).sum();
        assert!(
            words <= WaitvSet::MAX,
            "{words} words were to be waited on together: the kernel takes {}",
            WaitvSet::MAX
        );
        outcome = wait_any::wait_any(sources, deadline).map_err(Error::from_acquire);
    });
    outcome
}

/// Calls `then` with the sources of all `things`.
fn with_sources(
    things: &[&dyn Waitable],
    sources: &mut Vec<&dyn WaitSource>,
    then: &mut dyn FnMut(&[&dyn WaitSource]),
) {
    match things {
        [] => then(sources),
        [first, rest @ ..] => first.with_source(&mut |source| {
            let mut all: Vec<&dyn WaitSource> = sources.to_vec();
            all.push(source);
            with_sources(rest, &mut all, then);
        }),
    }
}
