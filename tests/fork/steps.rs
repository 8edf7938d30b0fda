//! What the tests of files have in common: signals between processes that share nothing else, and new namespaces.

use crate::harness::skip;
use crate::kit::child;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};

/// A signal from one process to another, both of which have it by a fork: given once, it lets one wait through.
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

/// Whether the process's first thread is asleep in this system call.
pub fn sleeps_in(process: u32, call: libc::c_long) -> bool {
    let line = fs::read_to_string(format!("/proc/{process}/syscall")).unwrap_or_default();
    line.split(' ').next().is_some_and(|number| number == call.to_string())
}

/// Numbers in no order, the same in each run: xorshift64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Moves the process into new namespaces, and into a new user namespace too where it is not root.
pub fn enter_new(namespaces: CloneFlags) -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return Ok(unshare(namespaces)?);
    }
    unshare(namespaces | CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// Skips the test where [`enter_new`] is not permitted.
pub fn need_new(namespaces: CloneFlags) {
    let probe = child(|| enter_new(namespaces).unwrap());
    if !probe.wait().unwrap().success() {
        skip(&format!("new namespaces ({namespaces:?}) are not permitted here"));
    }
}
