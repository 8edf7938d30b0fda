//! The workers as children of the supervisor.

use crate::clock;
use crate::listener::Listener;
use crate::log::log_line;
use crate::options::Options;
use crate::shared_state::{SharedState, WORKER_SLOTS, Worker};
use crate::worker::{self, WorkerArgs};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pshared::SlotState;
use pshared::fork::{self, Child};
use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// The delay before a retry after the first worker that failed to start, and the longest such
/// delay.
const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// The workers.
pub struct WorkerPool<'a> {
    state: &'static SharedState,
    listener: &'a Listener,
    options: &'a Options,
    /// Becomes readable when a worker is ready.
    pub ready: EventFd,
    pub members: Vec<Member>,
    /// The number of consecutive failures to start a worker: forks that failed, and workers that
    /// died before they were ready.
    failures: u32,
    not_before: Instant,
}

/// One worker.
pub struct Member {
    pub child: Child,
    pub slot: usize,
    /// When the worker was forked, by the [clock].
    pub forked_at: u64,
    /// The deadline of a worker that was asked to leave. It is killed if it has not left by then.
    pub leaves_by: Option<Instant>,
    /// The worker was killed but has not ended yet. This can take some time on a busy machine.
    pub is_killed: bool,
}

impl Member {
    /// Kills the worker, once.
    pub fn kill(&mut self) {
        if !self.is_killed {
            self.is_killed = true;
            signal(&self.child, Signal::SIGKILL);
        }
    }
}

/// A worker that has ended.
pub struct Departure {
    pub process: u32,
    pub slot: usize,
    pub status: ExitStatus,
    pub was_asked_to_leave: bool,
    /// How long no worker is started because of it.
    pub delay: Option<Duration>,
}

impl<'a> WorkerPool<'a> {
    pub fn new(
        state: &'static SharedState,
        listener: &'a Listener,
        options: &'a Options,
    ) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(WorkerPool {
            state,
            listener,
            options,
            ready: EventFd::from_flags(flags)?,
            members: Vec::new(),
            failures: 0,
            not_before: Instant::now(),
        })
    }

    /// Returns the workers that have not been asked to leave.
    pub fn staying(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| member.leaves_by.is_none())
    }

    /// Returns the time before which no worker is started, if it is in the future.
    pub fn pause(&self) -> Option<Instant> {
        Some(self.not_before).filter(|time| *time > Instant::now())
    }

    /// Forks a worker for a free slot.
    pub fn start_worker(&mut self) -> Result<(), fork::Error> {
        let slot = self
            .free_slot()
            .expect("there are twice as many slots as workers");
        let args = WorkerArgs {
            state: self.state,
            listener: self.listener,
            options: self.options,
            slot,
            ready: &self.ready,
            supervisor: Pid::this(),
        };
        let forked_at = clock::now();
        let child = fork::spawn(|| {
            if let Err(error) = worker::work(&args) {
                let process = std::process::id();
                log_line(format_args!("worker {process} (slot {slot}): {error}"));
                std::process::exit(1);
            }
        });
        let child = match child {
            // The machine may lack resources for a process or a descriptor at the moment.
            Err(
                error @ (fork::Error::Os { .. }
                | fork::Error::NoDescriptors { .. }
                | fork::Error::Unchecked { .. }),
            ) => {
                let delay = self.delay();
                log_line(format_args!(
                    "cannot start a worker: {error}; retrying in {delay:?}"
                ));
                return Ok(());
            }
            other => other?,
        };
        self.members.push(Member {
            child,
            slot,
            forked_at,
            leaves_by: None,
            is_killed: false,
        });
        Ok(())
    }

    fn free_slot(&self) -> Option<usize> {
        let mut slots = self.state.workers.slots();
        let given = |number| self.members.iter().any(|member| member.slot == number);
        let free = slots
            .find(|slot| !matches!(slot.state, SlotState::Occupied { .. }) && !given(slot.number));
        free.map(|slot| slot.number)
            .filter(|slot| *slot < WORKER_SLOTS)
    }

    /// Asks a worker to leave, once.
    pub fn ask_to_leave(&mut self, process: u32, by: Instant) {
        let mut members = self.members.iter_mut();
        if let Some(member) = members.find(|member| member.child.id() == process)
            && member.leaves_by.is_none()
        {
            member.leaves_by = Some(by);
            signal(&member.child, Signal::SIGTERM);
        }
    }

    /// Kills workers that were asked to leave and have not left by their deadline.
    pub fn kill_overdue(&mut self) {
        let now = Instant::now();
        let is_late = |member: &&mut Member| member.leaves_by.is_some_and(|by| by <= now);
        for member in self.members.iter_mut().filter(is_late) {
            member.kill();
        }
    }

    /// Removes the workers that have ended from the list and returns them.
    pub fn reap(&mut self) -> io::Result<Vec<Departure>> {
        let mut gone = Vec::new();
        let mut number = 0;
        while number < self.members.len() {
            match self.members[number].child.try_wait()? {
                None => number += 1,
                Some(status) => {
                    let member = self.members.swap_remove(number);
                    gone.push(self.departure(&member, status));
                }
            }
        }
        Ok(gone)
    }

    fn departure(&mut self, member: &Member, status: ExitStatus) -> Departure {
        let data = self.data(member);
        let is_death = !status.success();
        if is_death {
            data.deaths.add(1);
        }
        let was_asked_to_leave = member.leaves_by.is_some();
        // The death of a worker that was ready says nothing about its replacement. If workers die
        // before they are ready, a delay prevents a fork loop.
        let was_ready = data.is_ready_since(member.forked_at);
        if was_ready {
            self.failures = 0;
        }
        let delay = (is_death && !was_ready && !was_asked_to_leave).then(|| self.delay());
        Departure {
            process: member.child.id(),
            slot: member.slot,
            status,
            was_asked_to_leave,
            delay,
        }
    }

    /// Starts a delay in which no worker is started, twice as long as the previous one, and returns
    /// it.
    fn delay(&mut self) -> Duration {
        let factor = 1 << self.failures.min(16);
        let delay = (FIRST_DELAY * factor).min(LONGEST_DELAY);
        self.failures += 1;
        self.not_before = Instant::now() + delay;
        delay
    }

    /// Returns whether a worker is ready to answer.
    pub fn is_ready(&self, member: &Member) -> bool {
        self.data(member).is_ready_since(member.forked_at)
    }

    /// Returns the data of a worker's slot.
    pub fn data(&self, member: &Member) -> &'static Worker {
        let mut slots = self.state.workers.slots();
        slots.nth(member.slot).expect("the slot exists").data
    }
}

/// Sends a signal to a child. A child that has ended remains a zombie until it is reaped, so its id
/// cannot belong to another process.
pub fn signal(child: &Child, signal: Signal) {
    match kill(Pid::from_raw(child.id().cast_signed()), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => log_line(format_args!("{signal} to worker {}: {error}", child.id())),
    }
}
