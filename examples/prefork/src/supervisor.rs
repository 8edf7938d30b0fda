//! The parent. It keeps the number of workers constant, replaces workers, kills workers that hold
//! something and give no heartbeat, and ends the server. It takes no lock while there are workers,
//! so that no event in a worker can block it.

use crate::connection::{CLIENT_TIMEOUT, LINGER};
use crate::listener::Listener;
use crate::log::log_line;
use crate::options::Options;
use crate::shared_state::{Activity, SharedState};
use crate::signals::{self, poll_timeout};
use crate::worker_pool::{Departure, Member, WorkerPool};
use crate::{clock, limiter};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The longest time that the last segment of a handshake may be in flight: one long-distance round
/// trip.
const HANDSHAKE: Duration = Duration::from_millis(300);

/// Claims the state for this server and blocks the signals that it handles.
pub fn prepare(state: &SharedState, options: &Options) -> Result<SignalFd, Box<dyn Error>> {
    let signals = signals::supervisor_signals()?;
    claim(state, options)?;
    Ok(signals)
}

/// Supervises workers until a signal ends the server and all workers have left.
pub fn run(
    state: &'static SharedState,
    listener: &Listener,
    options: &Options,
    signals: &SignalFd,
) -> Result<(), Box<dyn Error>> {
    let mut supervisor = Supervisor {
        state,
        listener,
        options,
        pool: WorkerPool::new(state, listener, options)?,
        to_replace: VecDeque::new(),
        replacing: None,
        next_check: Instant::now(),
        on_time_since: Instant::now(),
        closing_since: None,
    };
    supervisor.supervise(signals)?;
    state.supervisor.store(0, Relaxed);
    Ok(())
}

/// Claims the state for this server. It may come from an earlier server that has ended.
fn claim(state: &SharedState, options: &Options) -> Result<(), Box<dyn Error>> {
    if let Some(path) = &options.map {
        lock_file(path, state)?;
    }
    wait_for_earlier_workers(state, options.drain())?;
    for slot in state.workers.slots() {
        slot.data.reset_times();
    }
    state.supervisor.store(process::id(), Relaxed);
    state.started.store(clock::now(), Relaxed);
    state.closing.store(false, Relaxed);
    limiter::start(&state.limiter, &state.reported)?;
    Ok(())
}

/// Excludes other servers from the file until this process ends.
///
/// A stored process id is not sufficient: after a crash or a reboot, another process may have the
/// same id. A POSIX record lock belongs to the process: children do not inherit it, and the kernel
/// releases it when its owner dies.
fn lock_file(path: &Path, state: &SharedState) -> Result<(), Box<dyn Error>> {
    let file = File::options().read(true).write(true).open(path)?;
    let whole = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
        Ok(_) => {
            // The kernel releases the lock when this process closes any descriptor of the file.
            mem::forget(file);
            Ok(())
        }
        Err(Errno::EAGAIN | Errno::EACCES) => {
            let other = state.supervisor.load(Relaxed);
            Err(format!("this map belongs to another server, process {other}. Stop it first, or choose another file with --map").into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits for the workers of an earlier server to end.
///
/// If their supervisor was killed, they leave by themselves. A stopped worker does not, and no
/// process can take the locks that it holds.
fn wait_for_earlier_workers(state: &SharedState, time: Duration) -> Result<(), Box<dyn Error>> {
    let until = Instant::now() + time;
    while let Some((process, slot)) = state.live_workers().next() {
        if Instant::now() >= until {
            return Err(format!("a worker of an earlier server, process {process}, still occupies slot {slot} of this map. Stop it first, or choose another file with --map").into());
        }
        signals::pause(Duration::from_millis(10));
    }
    Ok(())
}

struct Supervisor<'a> {
    state: &'static SharedState,
    listener: &'a Listener,
    options: &'a Options,
    pool: WorkerPool<'a>,
    /// The process ids of the workers that are still to be replaced after SIGHUP, and that of the
    /// worker that is being replaced.
    to_replace: VecDeque<u32>,
    replacing: Option<u32>,
    /// When to check again for stuck workers, and since when these checks have been on time.
    next_check: Instant,
    on_time_since: Instant,
    /// Since when no new connections are admitted.
    closing_since: Option<Instant>,
}

impl Supervisor<'_> {
    fn supervise(&mut self, signals: &SignalFd) -> Result<(), Box<dyn Error>> {
        loop {
            while let Some(order) = signals.read_signal()? {
                match Signal::try_from(order.ssi_signo.cast_signed())? {
                    Signal::SIGHUP => self.begin_replacement(),
                    _ => self.begin_shutdown(),
                }
            }
            for gone in self.pool.reap()? {
                self.log_departure(&gone);
            }
            let now = Instant::now();
            match self.closing_since {
                None => self.keep_worker_count()?,
                Some(_) if !self.pool.members.is_empty() => {}
                Some(since) if self.listener.has_pending_connection() => {
                    if since + self.options.drain() <= now {
                        self.log(
                            "the drain time is over; connections that still wait are not answered",
                        );
                        return Ok(());
                    }
                    // A connection arrived after the last worker had checked for one.
                    if self.pool.pause().is_none() {
                        self.pool.start_worker()?;
                        self.ask_all_to_leave();
                    }
                }
                Some(since) if since + HANDSHAKE > now => {}
                Some(_) => return Ok(()),
            }
            self.pool.kill_overdue();
            self.kill_stuck_workers();
            self.wait(signals)?;
        }
    }

    /// Sleeps until a signal, an event or a deadline.
    fn wait(&self, signals: &SignalFd) -> Result<(), Errno> {
        let times = self
            .pool
            .members
            .iter()
            .filter(|member| !member.is_killed)
            .filter_map(|member| member.leaves_by);
        // No worker is left to accept, and connections may still arrive.
        let is_last = self.closing_since.is_some() && self.pool.members.is_empty();
        let handshakes = self.closing_since.map(|since| since + HANDSHAKE);
        let next = times
            .chain(self.pool.pause())
            .chain(handshakes.filter(|_| is_last))
            .chain([self.next_check])
            .min();
        let left = next.map(|time| time.saturating_duration_since(Instant::now()));
        let children = self.pool.members.iter().map(|member| member.child.as_fd());
        let listener = (is_last && self.pool.pause().is_none()).then(|| self.listener.as_fd());
        let mut all: Vec<PollFd<'_>> = [signals.as_fd(), self.pool.ready.as_fd()]
            .into_iter()
            .chain(children)
            .chain(listener)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut all, left.map_or(PollTimeout::NONE, poll_timeout)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        // The value is irrelevant: it only says that a worker became ready.
        match self.pool.ready.read() {
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Starts the missing workers. Asks the worker that is being replaced to leave when all others
    /// are ready.
    fn keep_worker_count(&mut self) -> Result<(), Box<dyn Error>> {
        let number = usize::from(self.options.workers);
        let is_member = |pool: &WorkerPool<'_>, process| {
            pool.members
                .iter()
                .any(|member| member.child.id() == process)
        };
        self.replacing = self
            .replacing
            .filter(|process| is_member(&self.pool, *process));
        while self.replacing.is_none()
            && let Some(next) = self.to_replace.pop_front()
        {
            self.replacing = Some(next).filter(|process| is_member(&self.pool, *process));
        }
        let stays = |process: &u32| {
            self.pool
                .staying()
                .any(|member| member.child.id() == *process)
        };
        let more = usize::from(self.replacing.as_ref().is_some_and(stays));
        while self.pool.staying().count() < number + more && self.pool.pause().is_none() {
            self.pool.start_worker()?;
        }
        if more == 1
            && let Some(old) = self.replacing
        {
            let others = self
                .pool
                .staying()
                .filter(|member| member.child.id() != old);
            if others.filter(|member| self.pool.is_ready(member)).count() >= number {
                let by = Instant::now() + self.options.drain();
                self.pool.ask_to_leave(old, by);
                self.state.replaced.add(1);
            }
        }
        Ok(())
    }

    fn begin_replacement(&mut self) {
        if self.closing_since.is_some() {
            return;
        }
        self.log(&format!(
            "replacing {} workers one by one",
            self.pool.staying().count()
        ));
        self.to_replace = self
            .pool
            .staying()
            .map(|member| member.child.id())
            .collect();
    }

    fn begin_shutdown(&mut self) {
        if self.closing_since.is_some() {
            return;
        }
        self.closing_since = Some(Instant::now());
        self.state.closing.store(true, Relaxed);
        self.log("shutting down: new connections are refused, pending ones are answered");
        if let Err(error) = self.listener.refuse_new_connections() {
            log_line(format_args!(
                "cannot refuse new connections, so they may break: {error}"
            ));
        }
        self.ask_all_to_leave();
    }

    fn ask_all_to_leave(&mut self) {
        // A worker that starts while the server ends has the same deadline as the others.
        let by = self.closing_since.unwrap_or_else(Instant::now) + self.options.drain();
        let all: Vec<u32> = self
            .pool
            .staying()
            .map(|member| member.child.id())
            .collect();
        for process in all {
            self.pool.ask_to_leave(process, by);
        }
    }

    /// Kills workers that hold something, or serve a client, and have given no heartbeat for the
    /// configured time. Such a worker was stopped or hangs.
    ///
    /// A worker that waits for something that a stuck worker holds gives no heartbeat either,
    /// although it is not stuck. So owners are checked first, and the other workers have twice the
    /// time. The readers of the cache are not recorded. So only one of the other workers is killed,
    /// the one with the oldest heartbeat. The next check finds whether this was sufficient.
    fn kill_stuck_workers(&mut self) {
        let now = Instant::now();
        if now < self.next_check {
            return;
        }
        // If this process did not run in time (Ctrl-Z, or too few CPUs), the workers may not have
        // run either.
        if now > self.next_check + self.options.beat() {
            self.on_time_since = now;
        }
        self.next_check = now + self.options.beat();
        // With `--no-sharing`, workers give no heartbeats while they serve a connection.
        if self.options.no_sharing {
            return;
        }
        let holders: Vec<(&str, u32)> = self.state.holders().collect();
        let mut found = false;
        for number in 0..self.pool.members.len() {
            let member = &self.pool.members[number];
            let process = member.child.id();
            let held = holders.iter().find(|(_, holder)| *holder == process);
            if let Some((lock, _)) = held
                && let Some(silence) = self.silence(member, self.options.stuck())
            {
                self.kill(number, &format!("has held {lock}"), silence);
                found = true;
            }
        }
        if found {
            return;
        }
        let mut longest = None;
        for (number, member) in self.pool.members.iter().enumerate() {
            let (what, limit) = match self.activity(member) {
                Activity::Accepting => ("has been accepting", self.options.stuck()),
                // A worker that listens gives no heartbeat until the client's time is over.
                Activity::Listening => (
                    "has been waiting for a request",
                    2 * self.options.stuck()
                        + self.options.keep_alive().max(CLIENT_TIMEOUT)
                        + CLIENT_TIMEOUT,
                ),
                Activity::Sending => (
                    "has been sending an answer",
                    2 * self.options.stuck() + CLIENT_TIMEOUT + LINGER,
                ),
                Activity::Starting => (
                    "has been starting",
                    2 * self.options.stuck() + Duration::from_secs(10),
                ),
                _ => ("has been working", 2 * self.options.stuck()),
            };
            if let Some(silence) = self.silence(member, limit)
                && longest.is_none_or(|(_, _, other)| silence > other)
            {
                longest = Some((number, what, silence));
            }
        }
        if let Some((number, what, silence)) = longest {
            self.kill(number, what, silence);
        }
    }

    fn activity(&self, member: &Member) -> Activity {
        match self.pool.is_ready(member) {
            true => self.pool.data(member).activity(),
            false => Activity::Starting,
        }
    }

    /// Returns the seconds since a worker's last heartbeat, if they exceed `limit`.
    fn silence(&self, member: &Member, limit: Duration) -> Option<f64> {
        // The data in the slot may still be that of its previous worker.
        let silence = self.pool.data(member).silence();
        let silence = silence
            .min(clock::seconds_since(member.forked_at))
            .min(self.on_time_since.elapsed().as_secs_f64());
        let is_late = silence > limit.as_secs_f64() && !member.is_killed;
        is_late.then_some(silence)
    }

    fn kill(&mut self, number: usize, what: &str, silence: f64) {
        let member = &mut self.pool.members[number];
        member.kill();
        let (process, slot) = (member.child.id(), member.slot);
        self.log(&format!(
            "worker {process} (slot {slot}) {what} and has given no heartbeat for {silence:.1} s: killed"
        ));
        self.state.stuck.add(1);
    }

    fn log_departure(&self, gone: &Departure) {
        let how = match (gone.status.signal(), gone.status.code()) {
            (Some(number), _) => match Signal::try_from(number) {
                Ok(signal) => format!("was killed by {signal}"),
                Err(_) => format!("was killed by signal {number}"),
            },
            (None, Some(0)) if gone.was_asked_to_leave => return,
            (None, code) => format!("exited with code {}", code.unwrap_or_default()),
        };
        let next = match gone.delay {
            _ if gone.was_asked_to_leave || self.state.closing.load(Relaxed) => {
                "not replaced".to_owned()
            }
            None => "a replacement starts".to_owned(),
            Some(delay) => format!("a replacement starts in {delay:?}"),
        };
        self.log(&format!(
            "worker {} (slot {}) {how}; {next}",
            gone.process, gone.slot
        ));
    }

    fn log(&self, what: &str) {
        if !self.options.quiet {
            log_line(format_args!("{what}"));
        }
    }
}
