//! Building blocks of the tests: signals between processes that share nothing else, interruptions,
//! pseudorandom numbers, and namespaces.

use crate::disk::enter_new;
use crate::harness::skip;
use crate::support::{child, sleeps, until};
use nix::sched::CloneFlags;
use nix::sys::signal::{
    SIGUSR1, SaFlags, SigAction, SigHandler, SigSet, kill as signal, sigaction,
};
use nix::unistd::Pid;
use pshared::fork::Child;
use pshared::{Shared, SharedCounter};
use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::sync::OnceLock;

/// A signal from one process to another. Both have it by a fork. Each call of `give` lets one
/// `wait` return.
pub struct Signal {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Signal {
    pub fn new() -> Self {
        let (reader, writer) = pipe().unwrap();
        Signal { reader, writer }
    }

    pub fn give(&self) {
        (&self.writer).write_all(&[1]).unwrap();
    }

    pub fn wait(&self) {
        (&self.reader).read_exact(&mut [0]).unwrap();
    }
}

/// The system call of pause(3). Linux has no pause(2) on processors that it came to later.
pub const SYS_PAUSE: libc::c_long = {
    #[cfg(target_arch = "x86_64")]
    {
        libc::SYS_pause
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        libc::SYS_ppoll
    }
};

/// Whether the first thread of the process sleeps in this system call.
pub fn sleeps_in(process: u32, call: libc::c_long) -> bool {
    let line = fs::read_to_string(format!("/proc/{process}/syscall")).unwrap_or_default();
    line.split(' ')
        .next()
        .is_some_and(|number| number == call.to_string())
}

/// Pseudorandom numbers, the same for each seed: xorshift64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Skips the test if [`enter_new`] is not permitted.
pub fn need_new(namespaces: CloneFlags) {
    let probe = child(|| enter_new(namespaces).unwrap());
    if !probe.wait().unwrap().success() {
        skip(&format!(
            "new namespaces ({namespaces:?}) are not permitted here"
        ));
    }
}

/// Waits until `holds` returns true. Sleeps between two checks, so that other processes get the
/// CPU.
pub fn until_idly(mut holds: impl FnMut() -> bool) {
    while !holds() {
        let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(1u8));
    }
}

static INTERRUPTIONS: OnceLock<&'static SharedCounter> = OnceLock::new();

/// Signals that interrupt a child's system calls.
pub struct Interruptions(());

impl Interruptions {
    /// Prepares the interruptions. Must be called before the child is forked.
    pub fn new() -> Self {
        INTERRUPTIONS.get_or_init(|| Shared::anonymous(SharedCounter::new(0)).unwrap().leak());
        Interruptions(())
    }

    /// Lets SIGUSR1 end system calls with EINTR from now on. Called in the child.
    pub fn allow(&self) {
        extern "C" fn count(_: libc::c_int) {
            if let Some(interruptions) = INTERRUPTIONS.get() {
                interruptions.add(1);
            }
        }
        // Without SA_RESTART, system calls are not restarted.
        let action = SigAction::new(
            SigHandler::Handler(count),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler adds to an atomic and does nothing else.
        unsafe { sigaction(SIGUSR1, &action) }.unwrap();
    }

    /// Interrupts the child several times while it sleeps on a futex. Called in the parent.
    pub fn send(&self, child: &Child) {
        self.send_when(child, sleeps);
    }

    /// Interrupts the child several times while `sleeps` returns true for it. Called in the parent.
    pub fn send_when(&self, child: &Child, sleeps: impl Fn(u32) -> bool) {
        for _ in 0..20 {
            until(|| sleeps(child.id()));
            let before = INTERRUPTIONS.get().unwrap().get();
            signal(Pid::from_raw(child.id().cast_signed()), SIGUSR1).unwrap();
            until(|| INTERRUPTIONS.get().unwrap().get() > before);
        }
        until(|| sleeps(child.id()));
    }
}
