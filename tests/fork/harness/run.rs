//! A test that runs in a child process of its own, under a watchdog.

use super::processes::{describe_threads, end_descendants, end_tree};
use super::{Body, Counts, Kills, SKIPPED, Test};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use pshared::Shared;
use std::fs::File;
use std::io::{self, Read, Seek, Write as _};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How a test ended.
pub enum Verdict {
    Passed,
    /// The test cannot run here, for this reason.
    Skipped(String),
    /// The report of a failure.
    Failed(String),
}

/// A test that runs in its child process.
pub struct Run {
    pub test: Test,
    pub child: Pid,
    /// The seed of a test of kills.
    pub seed: u64,
    /// What a test of kills counts.
    pub counts: Option<Shared<Counts>>,
    pub since: Instant,
    output: File,
    watchdog: Watchdog,
    /// The report of a test that made no progress, and was killed.
    hung: Option<String>,
}

/// Finds a test that makes no progress. The number of kills is the progress of a test of kills. For
/// another test, the time since its start counts.
struct Watchdog {
    limit: Duration,
    kills: u64,
    since: Instant,
}

impl Watchdog {
    fn expires(&mut self, kills: u64) -> bool {
        if kills != self.kills {
            (self.kills, self.since) = (kills, Instant::now());
        }
        self.since.elapsed() > self.limit
    }
}

impl Run {
    /// Starts a test. A test of kills makes `kills` kills from this seed.
    ///
    /// The test hangs if it makes no progress for `limit`.
    pub fn start(test: Test, kills: u64, seed: u64, limit: Duration) -> io::Result<Run> {
        let output = tempfile::tempfile()?;
        let counts = match test.body {
            Body::Once(_) => None,
            Body::Kills(_) => Some(Shared::anonymous(Counts::default()).map_err(io::Error::other)?),
        };
        // Flushes stdout, so that the child does not write buffered output a second time.
        let _ = io::stdout().flush();
        // SAFETY: the process has one thread.
        match unsafe { fork() }? {
            ForkResult::Child => {
                let _ = nix::unistd::dup2_stdout(output.as_fd());
                let _ = nix::unistd::dup2_stderr(output.as_fd());
                let _ = prctl::set_child_subreaper(true);
                // If the runner dies, the test dies too instead of running on unobserved.
                let _ = prctl::set_pdeathsig(Signal::SIGKILL);
                let body = || match (test.body, &counts) {
                    (Body::Kills(workload), Some(counts)) => {
                        println!("PSHARED_SEED={seed}");
                        (workload.run)(&Kills::new(kills, seed, counts));
                    }
                    (Body::Kills(_), None) => unreachable!("it has counts"),
                    (Body::Once(run), _) => run(),
                };
                let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_ok();
                end_descendants(Pid::this());
                std::process::exit(if passed { 0 } else { 101 });
            }
            ForkResult::Parent { child } => Ok(Run {
                test,
                child,
                seed,
                counts,
                since: Instant::now(),
                output,
                watchdog: Watchdog {
                    limit,
                    kills: 0,
                    since: Instant::now(),
                },
                hung: None,
            }),
        }
    }

    /// Returns the status of the test's process if it has ended. Kills the process if it hangs.
    pub fn try_wait(&mut self) -> Option<nix::Result<WaitStatus>> {
        match waitpid(self.child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {
                let kills = self
                    .counts
                    .as_ref()
                    .map_or(0, |counts| counts.kills.load(Relaxed));
                if self.hung.is_none() && self.watchdog.expires(kills) {
                    self.hung = Some(describe_threads(self.child));
                    end_tree(self.child);
                }
                None
            }
            status => Some(status),
        }
    }

    /// Judges a test whose process has ended.
    pub fn judge(&mut self, status: nix::Result<WaitStatus>) -> Verdict {
        let text = match self.read_output() {
            Ok(text) => text,
            Err(error) => return Verdict::Failed(format!("no output: {error}")),
        };
        match (self.hung.take(), status) {
            (Some(report), _) => {
                let limit = self.watchdog.limit;
                Verdict::Failed(format!("no progress for {limit:?}:\n{report}\n{text}"))
            }
            (None, Ok(WaitStatus::Exited(_, 0))) => Verdict::Passed,
            (None, Ok(WaitStatus::Exited(_, SKIPPED))) => Verdict::Skipped(text.trim().into()),
            (None, status) => Verdict::Failed(format!("{status:?}\n{text}")),
        }
    }

    fn read_output(&mut self) -> io::Result<String> {
        self.output.rewind()?;
        let mut bytes = Vec::new();
        self.output.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
