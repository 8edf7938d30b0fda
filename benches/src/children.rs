//! The workers: they are forked and waited for with a time limit. Each is killed by its id and
//! reaped on every path.

use crate::arena::Arena;
use crate::contender::Failed;
use crate::fault::Fault;
use crate::signal;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use pshared::fork::{self, Child};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// How long the parent sleeps between two checks for Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);

/// A slice longer than this means that everything was stopped: a virtual machine was paused, or the
/// benchmark received a stop signal. Measurements from such a slice say nothing about the lock.
const STANDSTILL: Duration = Duration::from_secs(1);

/// The exit status of a worker that failed and recorded the reason in its slot.
const FAILED: i32 = 1;

/// The workers of one run. Dropping it kills and reaps the workers that remain.
#[derive(Debug)]
pub struct Crew<'a> {
    arena: &'a Arena,
    children: Vec<Child>,
}

impl<'a> Crew<'a> {
    pub fn new(arena: &'a Arena) -> Self {
        Crew {
            arena,
            children: Vec::new(),
        }
    }

    /// Starts a worker with a slot. If its body fails, the slot records the error.
    pub fn start(
        &mut self,
        slot: usize,
        body: impl FnOnce() -> Result<(), Failed>,
    ) -> Result<(), Fault> {
        let child = self.fork(slot, body)?;
        self.children.push(child);
        Ok(())
    }

    /// Kills a worker and starts another in its place.
    pub fn replace(
        &mut self,
        index: usize,
        slot: usize,
        body: impl FnOnce() -> Result<(), Failed>,
    ) -> Result<(), Fault> {
        self.kill(index)?;
        self.children[index] = self.fork(slot, body)?;
        Ok(())
    }

    /// Kills a worker and reaps it. A worker that had ended before it was killed counts as failed,
    /// because no worker ends by itself.
    pub fn kill(&self, index: usize) -> Result<(), Fault> {
        let child = &self.children[index];
        child.kill()?;
        let status = child.wait()?;
        match status.signal() {
            Some(libc::SIGKILL) => Ok(()),
            _ => Err(self.explain(status.to_string())),
        }
    }

    pub fn id(&self, index: usize) -> u32 {
        self.children[index].id()
    }

    /// Waits until `count` workers are at the gate.
    pub fn gather(&self, count: usize) -> Result<(), Fault> {
        let until = Instant::now() + Duration::from_secs(20);
        while (self.arena.ready() as usize) < count {
            self.check(until)?;
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Sleeps while the workers run. Returns early if a worker has failed.
    pub fn watch(&self, time: Duration) -> Result<(), Fault> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let slice = Instant::now();
            std::thread::sleep(left.min(SLICE));
            check_slice(slice)?;
            for child in &self.children {
                if let Some(status) = child.try_wait()?.filter(|status| !status.success()) {
                    return Err(self.explain(status.to_string()));
                }
            }
        }
    }

    /// Waits until all workers have ended, each for at most `timeout`.
    pub fn finish(&self, timeout: Duration) -> Result<(), Fault> {
        (0..self.children.len()).try_for_each(|index| self.join(index, timeout))
    }

    /// Waits until a worker has ended, for at most `timeout`.
    pub fn join(&self, index: usize, timeout: Duration) -> Result<(), Fault> {
        let until = Instant::now() + timeout;
        loop {
            let slice = Instant::now();
            let status = self.children[index].wait_timeout(SLICE)?;
            check_slice(slice)?;
            match status {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.explain(status.to_string())),
                None => self.check(until)?,
            }
        }
    }

    fn check(&self, until: Instant) -> Result<(), Fault> {
        signal::check()?;
        // A worker that failed leaves the others waiting for it.
        if let Some(text) = self.first_note() {
            return Err(Fault::Failed(text));
        }
        match Instant::now() > until {
            true => Err(Fault::Hangs),
            false => Ok(()),
        }
    }

    fn first_note(&self) -> Option<String> {
        self.arena.first_note(self.children.len())
    }

    fn explain(&self, status: String) -> Fault {
        Fault::Failed(self.first_note().unwrap_or(status))
    }

    fn fork(&self, slot: usize, body: impl FnOnce() -> Result<(), Failed>) -> Result<Child, Fault> {
        let parent = std::process::id();
        fork::spawn(|| {
            signal::ignore_in_child();
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            if std::os::unix::process::parent_id() != parent {
                return;
            }
            if let Err(failed) = body() {
                self.arena.slots[slot].note(&failed.to_string());
                // SAFETY: `_exit` has no preconditions.
                unsafe { libc::_exit(FAILED) };
            }
        })
        .map_err(|error| Fault::Failed(error.to_string()))
    }
}

/// Checks a slice that began at `slice`. Returns an error if everything was stopped during it, or
/// if the user asked to end the run.
fn check_slice(slice: Instant) -> Result<(), Fault> {
    match slice.elapsed() > STANDSTILL {
        true => Err(Fault::Standstill),
        false => signal::check(),
    }
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        // Kill all workers before waiting for one: workers that spin would leave little CPU time
        // to the others for their exit.
        for child in &self.children {
            if matches!(child.try_wait(), Ok(None)) {
                let _ = child.kill();
            }
        }
        for child in &self.children {
            let _ = child.wait();
        }
    }
}
