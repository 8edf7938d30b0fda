//! [`wait_any`]: whichever of several things comes first.

use super::{SharedEvent, SharedPermits, SharedRoster};
use crate::Error;
use crate::memory::ShmSafe;
use crate::raw::multi::wait_any::{self, WaitSource};
use crate::sys::{Deadline, WaitvSet};
use std::time::{Duration, Instant};

/// What [`wait_any`] can wait for. It is sealed.
///
/// | of | ready where | words |
/// |---|---|---|
/// | [`SharedEvent`] | it is set | 1 |
/// | [`SharedPermits<N>`](SharedPermits) | a permit can be had, or its holder died | `N` |
/// | [`SharedRoster<T, N>`](SharedRoster) | a death has vacated a slot | `N` |
pub trait Waitable: sealed::Sealed {}

mod sealed {
    use super::WaitSource;

    pub trait Sealed {
        /// Calls `then` with what is waited for.
        #[allow(private_interfaces, reason = "nobody outside can name or call it")]
        fn with_source(&self, then: &mut dyn FnMut(&dyn WaitSource));
    }
}

impl<S: sealed::Sealed + ?Sized> Waitable for S {}

impl sealed::Sealed for SharedEvent {
    #[allow(private_interfaces, reason = "as the trait says")]
    fn with_source(&self, then: &mut dyn FnMut(&dyn WaitSource)) {
        then(self.raw());
    }
}

impl<const N: usize> sealed::Sealed for SharedPermits<N> {
    #[allow(private_interfaces, reason = "as the trait says")]
    fn with_source(&self, then: &mut dyn FnMut(&dyn WaitSource)) {
        then(&self.lock_set());
    }
}

impl<T: ShmSafe, const N: usize> sealed::Sealed for SharedRoster<T, N> {
    #[allow(private_interfaces, reason = "as the trait says")]
    fn with_source(&self, then: &mut dyn FnMut(&dyn WaitSource)) {
        then(&self.abandoned_slots());
    }
}

/// Waits until one of `things` is ready, and gives its index: the first one, where there are several. It takes nothing; whoever is
/// told goes and tries, and may find that somebody else was faster.
///
/// A permit or a slot of a dead one is ready from its mark on, and refused until that one's process is gone. Where a thread ended with
/// it, that may take as long as its process lives; who tries and waits here by turns does not sleep meanwhile.
///
/// # Errors
///
/// [`Error::FutexWaitvUnsupported`]: Linux 5.16 or later is needed, but for one word alone.
///
/// # Panics
///
/// Where there are no things, or they have more than 128 [words](Waitable) together.
///
/// # What a death does
///
/// Who dies while it waits here disturbs nobody, but for one case: where it was woken for a permit or a slot that somebody else
/// waits for too, and dies before it could wake that one, that one gets it within a second.
///
/// # Examples
///
/// ```
/// use pshared::{Shared, SharedCounter, SharedEvent, SharedRoster, ShmSafe, fork, wait_any};
///
/// #[derive(ShmSafe, Default)]
/// #[repr(C)]
/// struct Board { stop: SharedEvent, workers: SharedRoster<SharedCounter, 4> }
///
/// let board = Shared::anonymous(Board::default())?;
/// let worker = fork::spawn(|| {
///     let _slot = board.workers.join().unwrap();
///     std::process::abort();
/// })?;
/// // A supervisor sleeps until it is told to stop, or a worker dies.
/// assert_eq!(wait_any(&[&board.stop, &board.workers])?, 1);
/// board.stop.set();
/// assert_eq!(wait_any(&[&board.stop, &board.workers])?, 0);
/// # worker.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait_any(things: &[&dyn Waitable]) -> Result<usize, Error> {
    wait_with(things, None)
}

/// As [`wait_any`], no longer than `timeout` of the monotonic clock.
///
/// # Errors
///
/// As [`wait_any`], and [`Error::TimedOut`].
///
/// # Panics
///
/// As [`wait_any`].
pub fn wait_any_timeout(things: &[&dyn Waitable], timeout: Duration) -> Result<usize, Error> {
    wait_with(things, Some(Deadline::after(timeout)))
}

/// As [`wait_any_timeout`], but until `deadline`.
///
/// # Errors
///
/// As [`wait_any_timeout`].
///
/// # Panics
///
/// As [`wait_any`].
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
        outcome = wait_any::wait_any(sources, deadline).map_err(Error::from_missed);
    });
    outcome
}

/// Calls `then` with the sources of all things.
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
