//! Workers: forked, waited for with patience, and each killed by its id and reaped, whatever happens.

use crate::arena::Arena;
use crate::contender::Failed;
use crate::fault::Fault;
use crate::signal;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use pshared::fork::{self, Child};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// How long the parent sleeps between two looks at Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);

/// A slice of more than this says that everything stood still: a virtual machine was paused, or somebody stopped the bench.
/// What was measured meanwhile says nothing of the lock.
const STANDSTILL: Duration = Duration::from_secs(1);

/// A worker that failed, and said why in its slot.
const FAILED: i32 = 1;

/// The workers of one run. Those that are left when it is dropped are killed and reaped.
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

    /// Starts a worker, which has a slot. What its body says of a failure is left there.
    pub fn start(
        &mut self,
        slot: usize,
        body: impl FnOnce() -> Result<(), Failed>,
    ) -> Result<(), Fault> {
        let child = self.fork(slot, body)?;
        self.children.push(child);
        Ok(())
    }

    /// Kills a worker and puts another in its place.
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

    /// Kills a worker and reaps it. One that had ended before it was killed has failed: no worker does so of itself.
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
            self.look(until)?;
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Sleeps while the workers work. Returns early where one has failed.
    pub fn watch(&self, time: Duration) -> Result<(), Fault> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let slice = Instant::now();
            std::thread::sleep(left.min(SLICE));
            goes_on(slice)?;
            for child in &self.children {
                if let Some(status) = child.try_wait()?.filter(|status| !status.success()) {
                    return Err(self.explain(status.to_string()));
                }
            }
        }
    }

    /// Waits until all workers have come to their end.
    pub fn finish(&self, patience: Duration) -> Result<(), Fault> {
        (0..self.children.len()).try_for_each(|index| self.join(index, patience))
    }

    /// Waits until a worker has come to its end.
    pub fn join(&self, index: usize, patience: Duration) -> Result<(), Fault> {
        let until = Instant::now() + patience;
        loop {
            let slice = Instant::now();
            let status = self.children[index].wait_timeout(SLICE)?;
            goes_on(slice)?;
            match status {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.explain(status.to_string())),
                None => self.look(until)?,
            }
        }
    }

    fn look(&self, until: Instant) -> Result<(), Fault> {
        signal::check()?;
        // One that failed has left the others in the lurch.
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
            signal::leave_to_the_parent();
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            if std::os::unix::process::parent_id() != parent {
                return;
            }
            if let Err(failed) = body() {
                self.arena.slots[slot].note(&failed.to_string());
                // SAFETY: has no preconditions.
                unsafe { libc::_exit(FAILED) };
            }
        })
        .map_err(|error| Fault::Failed(error.to_string()))
    }
}

/// After a slice that began then: an error where everything stood still in it, or the user wants an end.
fn goes_on(slice: Instant) -> Result<(), Fault> {
    match slice.elapsed() > STANDSTILL {
        true => Err(Fault::Standstill),
        false => signal::check(),
    }
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        // All are killed before one is waited for: some spin, and leave little CPU to the others' ends.
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
