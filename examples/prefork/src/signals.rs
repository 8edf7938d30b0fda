//! Signals as a file descriptor, so that a process can wait for a signal and another event at once.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The signals that the supervisor handles.
///
/// They are blocked before the first fork and stay blocked in the workers. Workers handle only
/// SIGTERM. The signals that a terminal sends to the whole process group are handled by the
/// supervisor.
const SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Blocks the supervisor's signals and returns their descriptor.
#[expect(
    unsafe_code,
    reason = "a handler could call functions that are not async-signal-safe; none is installed"
)]
pub fn supervisor_signals() -> io::Result<SignalFd> {
    // The parent of this process may ignore SIGCHLD, and this disposition is inherited. The kernel
    // would then reap the workers, and the supervisor could not read their exit status.
    // SAFETY: `SigDfl` installs no handler.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    let signals = SigSet::from_iter(SIGNALS);
    signals.thread_block()?;
    descriptor(&signals)
}

fn descriptor(signals: &SigSet) -> io::Result<SignalFd> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(signals, flags)?)
}

/// Receives SIGTERM, which asks a worker to leave.
#[derive(Debug)]
pub struct Signals {
    signals: SignalFd,
    leaving: Cell<bool>,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The descriptor is readable.
    Readable,
    /// The worker has just been asked to leave.
    AskedToLeave,
    TimedOut,
}

impl Signals {
    /// Creates the descriptor in a child of the process that called [`supervisor_signals`].
    pub fn for_worker() -> io::Result<Self> {
        Ok(Signals {
            signals: descriptor(&SigSet::from(Signal::SIGTERM))?,
            leaving: Cell::new(false),
        })
    }

    /// Returns whether the worker has been asked to leave.
    pub fn asked_to_leave(&self) -> bool {
        if !self.leaving.get() && matches!(self.signals.read_signal(), Ok(Some(_))) {
            self.leaving.set(true);
        }
        self.leaving.get()
    }

    /// Waits until `what` is readable, SIGTERM arrives, or the timeout expires. If SIGTERM arrived
    /// before, waits only for the other two.
    pub fn wait_for(&self, what: BorrowedFd<'_>, timeout: Duration) -> io::Result<Woken> {
        let leaving = self.leaving.get();
        let mut both = [
            PollFd::new(what, PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        let watched = if leaving {
            &mut both[..1]
        } else {
            &mut both[..]
        };
        match poll(watched, poll_timeout(timeout)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Woken::TimedOut),
            outcome => outcome?,
        };
        if both[0].any() == Some(true) {
            return Ok(Woken::Readable);
        }
        match self.asked_to_leave() {
            true => Ok(Woken::AskedToLeave),
            false => Ok(Woken::TimedOut),
        }
    }
}

/// Converts a timeout to milliseconds, rounded up. If it were rounded down, a caller that waits for
/// a deadline would wake too early and poll repeatedly.
pub fn poll_timeout(timeout: Duration) -> PollTimeout {
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}

/// Sleeps for `time`, for cases without an event to wait for: resources are exhausted, or other
/// processes need time. A signal may end the sleep early.
pub fn pause(time: Duration) {
    let _ = poll(&mut [], poll_timeout(time));
}
