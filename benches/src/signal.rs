//! Handles Ctrl-C with a flag and without a thread, because the parent forks.

use crate::fault::Fault;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const SIGNALS: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn remember(_signal: i32) {
    ASKED.store(true, Relaxed);
}

/// Makes Ctrl-C abort the current measurement and end the run, instead of terminating the program.
/// The results so far are kept.
pub fn catch() -> io::Result<()> {
    set(SigHandler::Handler(remember))
}

/// Ignores the signals in a child: only the parent ends the run, and it kills its children.
pub fn ignore_in_child() {
    let _ = set(SigHandler::SigIgn);
}

fn set(handler: SigHandler) -> io::Result<()> {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    for signal in SIGNALS {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

pub fn asked_to_end() -> bool {
    ASKED.load(Relaxed)
}

/// Returns an error if the user asked to end the run.
pub fn check() -> Result<(), Fault> {
    match asked_to_end() {
        true => Err(Fault::Interrupted),
        false => Ok(()),
    }
}
