//! How a process is told something while it waits for something else: signals as a descriptor.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The signals that the supervisor takes as signals. They are blocked before the first fork, and stay so in the workers, which
/// take one of them only: what a terminal sends to all of them is the supervisor's affair.
const ORDERS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// The supervisor's descriptor.
#[expect(
    unsafe_code,
    reason = "a handler could be one that does what it must not; none is installed here"
)]
pub fn of_the_supervisor() -> io::Result<SignalFd> {
    // Who starts this may have ignored its own children's ends, which is inherited: the kernel would reap the workers unseen.
    // SAFETY: it is the default, and no handler.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    let signals = SigSet::from_iter(ORDERS);
    signals.thread_block()?;
    descriptor(&signals)
}

fn descriptor(signals: &SigSet) -> io::Result<SignalFd> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(signals, flags)?)
}

/// A worker's ear for the order to leave, SIGTERM.
#[derive(Debug)]
pub struct Signals {
    signals: SignalFd,
    leaving: Cell<bool>,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// There is something to read.
    Readable,
    /// The worker is to leave, and was not before.
    Ordered,
    TimedOut,
}

impl Signals {
    /// In a child of who called [`of_the_supervisor`].
    pub fn of_a_worker() -> io::Result<Self> {
        Ok(Signals {
            signals: descriptor(&SigSet::from(Signal::SIGTERM))?,
            leaving: Cell::new(false),
        })
    }

    /// Whether the worker is to leave.
    pub fn are_to_leave(&self) -> bool {
        if !self.leaving.get() && matches!(self.signals.read_signal(), Ok(Some(_))) {
            self.leaving.set(true);
        }
        self.leaving.get()
    }

    /// Waits until `what` can be read, the order to leave comes, or the time is over. Where the order has come before, it waits for
    /// the other two.
    pub fn wait_for(&self, what: BorrowedFd<'_>, timeout: Duration) -> io::Result<Woken> {
        let deaf = self.leaving.get();
        let mut both = [
            PollFd::new(what, PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        let watched = if deaf { &mut both[..1] } else { &mut both[..] };
        match poll(watched, poll_timeout(timeout)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Woken::TimedOut),
            outcome => outcome?,
        };
        if both[0].any() == Some(true) {
            return Ok(Woken::Readable);
        }
        match self.are_to_leave() {
            true => Ok(Woken::Ordered),
            false => Ok(Woken::TimedOut),
        }
    }
}

/// Rounded up, so that who waits for a time does not come too early, again and again.
pub fn poll_timeout(timeout: Duration) -> PollTimeout {
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}

/// Lets time go by where there is nothing to wait for: the machine has no room, or others must be given time. A signal may end it.
pub fn pause(time: Duration) {
    let _ = poll(&mut [], poll_timeout(time));
}
