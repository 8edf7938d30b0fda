//! Ctrl-C, which asks a soak to end.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Notes SIGINT and SIGTERM from now on, instead of ending the process.
///
/// Children inherit this. So Ctrl-C, which a terminal sends to all of them, ends no test by itself:
/// the runner ends them in order.
pub fn prepare() {
    extern "C" fn note(_: libc::c_int) {
        REQUESTED.store(true, Relaxed);
    }
    let action = SigAction::new(
        SigHandler::Handler(note),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe { sigaction(signal, &action) }.expect("a valid signal");
    }
}

pub fn is_requested() -> bool {
    REQUESTED.load(Relaxed)
}
