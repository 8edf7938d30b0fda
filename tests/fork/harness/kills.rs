//! What a test of kills is given: how many kills to make, its seed, and the counts that the runner
//! reads while the test runs.

use pshared::ShmSafe;
use pshared::fork::Child;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counts of a test of kills, in memory that its process and the runner share.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub struct Counts {
    pub kills: AtomicU64,
    /// Critical sections, rounds, sets and the like, of all processes of the test.
    pub operations: AtomicU64,
    /// Reports of a death.
    pub reports: AtomicU64,
}

/// One run of a test of kills.
pub struct Kills<'a> {
    goal: u64,
    seed: u64,
    counts: &'a Counts,
}

impl<'a> Kills<'a> {
    pub fn new(goal: u64, seed: u64, counts: &'a Counts) -> Self {
        Kills { goal, seed, counts }
    }

    /// The number of kills that the test makes, at least.
    pub fn goal(&self) -> u64 {
        self.goal
    }

    pub fn made(&self) -> u64 {
        self.counts.kills.load(Relaxed)
    }

    /// Whether the test has kills left to make.
    pub fn go_on(&self) -> bool {
        self.made() < self.goal
    }

    /// Kills and reaps a child that would not have exited by itself.
    #[track_caller]
    pub fn kill(&self, child: &Child) {
        kill(child);
        self.count(1);
    }

    /// Kills and reaps a child that may have exited by itself.
    #[track_caller]
    pub fn kill_or_reap(&self, child: &Child) {
        child.kill().expect("not killed");
        child.wait().expect("no status");
        self.count(1);
    }

    /// Counts deaths that the test caused by itself.
    pub fn count(&self, deaths: u64) {
        self.counts.kills.fetch_add(deaths, Relaxed);
    }

    /// Records how many operations and reports of a death there were since the start.
    pub fn note(&self, operations: u64, reports: u64) {
        self.counts.operations.store(operations, Relaxed);
        self.counts.reports.store(reports, Relaxed);
    }

    /// Adds to the recorded operations and reports of a death.
    pub fn add(&self, operations: u64, reports: u64) {
        self.counts.operations.fetch_add(operations, Relaxed);
        self.counts.reports.fetch_add(reports, Relaxed);
    }

    /// The seed of the run's pseudorandom numbers.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

/// Kills and reaps a child that would not have exited by itself.
#[track_caller]
pub fn kill(child: &Child) {
    child.kill().expect("not killed");
    let status = child.wait().expect("no status");
    assert_eq!(
        status.signal(),
        Some(libc::SIGKILL),
        "child {}: {status}",
        child.id()
    );
}
