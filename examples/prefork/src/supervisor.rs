//! The parent: it keeps the workers at their number, replaces them, looks after those that hold something and do not move, and
//! ends the server. It takes no lock while there are workers, so that nothing that happens to one can stop it.

use crate::connection::{LINGER, PATIENCE};
use crate::listener::Listener;
use crate::log::log_line;
use crate::options::Options;
use crate::shared_state::{Doing, SharedState};
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

/// How long the last segment of a handshake may be on its way: a round trip, over land and sea.
const HANDSHAKE: Duration = Duration::from_millis(300);

/// Makes the state this server's own, and the signals its signals.
pub fn prepare(state: &SharedState, options: &Options) -> Result<SignalFd, Box<dyn Error>> {
    let signals = signals::of_the_supervisor()?;
    claim(state, options)?;
    Ok(signals)
}

/// Supervises workers until it is told to end, and they have left.
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
        next_look: Instant::now(),
        attentive_since: Instant::now(),
        closing_since: None,
    };
    supervisor.supervise(signals)?;
    state.supervisor.store(0, Relaxed);
    Ok(())
}

/// Makes the state this server's own, as it may come from another that has ended.
fn claim(state: &SharedState, options: &Options) -> Result<(), Box<dyn Error>> {
    if let Some(path) = &options.map {
        lock_for_life(path, state)?;
    }
    wait_for_those_of_another_time(state, options.drain())?;
    for slot in state.workers.slots() {
        slot.data.forget();
    }
    state.supervisor.store(process::id(), Relaxed);
    state.started.store(clock::now(), Relaxed);
    state.closing.store(false, Relaxed);
    limiter::start(&state.limiter, &state.reported)?;
    Ok(())
}

/// Keeps other servers from the file for as long as this process lives. A number of a process would not do: after a crash or a
/// reboot it is that of any other. This kind of lock is the process's own: children do not have it, and it ends with its owner.
fn lock_for_life(path: &Path, state: &SharedState) -> Result<(), Box<dyn Error>> {
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
            // The first descriptor of the file that this process closes would end the lock.
            mem::forget(file);
            Ok(())
        }
        Err(Errno::EAGAIN | Errno::EACCES) => {
            let other = state.supervisor.load(Relaxed);
            Err(format!("this map is that of another server, process {other}. End it first, or give another file by --map").into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Workers whose supervisor was killed are on their way out. One that is stopped is not, and what it holds nobody takes from it.
fn wait_for_those_of_another_time(
    state: &SharedState,
    time: Duration,
) -> Result<(), Box<dyn Error>> {
    let until = Instant::now() + time;
    while let Some((process, slot)) = state.at_work().next() {
        if Instant::now() >= until {
            return Err(format!("a worker of an earlier server, process {process}, still has slot {slot} of this map. End it first, or give another file by --map").into());
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
    /// Those who are replaced on SIGHUP, by their processes; and the one who is just now.
    to_replace: VecDeque<u32>,
    replacing: Option<u32>,
    /// When to look again for workers that do not move; and since when that was done in time.
    next_look: Instant,
    attentive_since: Instant,
    /// Since when nobody is let in any more.
    closing_since: Option<Instant>,
}

impl Supervisor<'_> {
    fn supervise(&mut self, signals: &SignalFd) -> Result<(), Box<dyn Error>> {
        loop {
            while let Some(order) = signals.read_signal()? {
                match Signal::try_from(order.ssi_signo.cast_signed())? {
                    Signal::SIGHUP => self.begin_to_replace(),
                    _ => self.begin_to_close(),
                }
            }
            for gone in self.pool.reap()? {
                self.say_who_left(&gone);
            }
            let now = Instant::now();
            match self.closing_since {
                None => self.keep_the_number()?,
                Some(_) if !self.pool.members.is_empty() => {}
                Some(since) if self.listener.has_one() => {
                    if since + self.options.drain() <= now {
                        self.say(
                            "does not get to who else has come, in the time that it has to drain",
                        );
                        return Ok(());
                    }
                    // Somebody was on the way in when the last one looked.
                    if self.pool.pause().is_none() {
                        self.pool.hire()?;
                        self.tell_all_to_leave();
                    }
                }
                Some(since) if since + HANDSHAKE > now => {}
                Some(_) => return Ok(()),
            }
            self.pool.kill_the_late();
            self.look_after_the_silent();
            self.wait(signals)?;
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self, signals: &SignalFd) -> Result<(), Errno> {
        let times = self
            .pool
            .members
            .iter()
            .filter(|member| !member.is_killed)
            .filter_map(|member| member.leaves_by);
        // Nobody is there to accept, and somebody may still come.
        let is_last = self.closing_since.is_some() && self.pool.members.is_empty();
        let handshakes = self.closing_since.map(|since| since + HANDSHAKE);
        let next = times
            .chain(self.pool.pause())
            .chain(handshakes.filter(|_| is_last))
            .chain([self.next_look])
            .min();
        let left = next.map(|time| time.saturating_duration_since(Instant::now()));
        let children = self.pool.members.iter().map(|member| member.child.as_fd());
        let door = (is_last && self.pool.pause().is_none()).then(|| self.listener.as_fd());
        let mut all: Vec<PollFd<'_>> = [signals.as_fd(), self.pool.ready.as_fd()]
            .into_iter()
            .chain(children)
            .chain(door)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut all, left.map_or(PollTimeout::NONE, poll_timeout)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        // Only that there was something counts.
        match self.pool.ready.read() {
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Hires as many as are missing, and lets the one go who is replaced, once all others are ready.
    fn keep_the_number(&mut self) -> Result<(), Box<dyn Error>> {
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
            self.pool.hire()?;
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
                self.pool.tell_to_leave(old, by);
                self.state.replaced.add(1);
            }
        }
        Ok(())
    }

    fn begin_to_replace(&mut self) {
        if self.closing_since.is_some() {
            return;
        }
        self.say(&format!(
            "{} workers are replaced one by one",
            self.pool.staying().count()
        ));
        self.to_replace = self
            .pool
            .staying()
            .map(|member| member.child.id())
            .collect();
    }

    fn begin_to_close(&mut self) {
        if self.closing_since.is_some() {
            return;
        }
        self.closing_since = Some(Instant::now());
        self.state.closing.store(true, Relaxed);
        self.say("lets nobody in any more, and answers who has come");
        if let Err(error) = self.listener.let_nobody_in() {
            log_line(format_args!("connections that come now may break: {error}"));
        }
        self.tell_all_to_leave();
    }

    fn tell_all_to_leave(&mut self) {
        // Who is hired while the server ends has no more time than the others.
        let by = self.closing_since.unwrap_or_else(Instant::now) + self.options.drain();
        let all: Vec<u32> = self
            .pool
            .staying()
            .map(|member| member.child.id())
            .collect();
        for process in all {
            self.pool.tell_to_leave(process, by);
        }
    }

    /// Kills workers that hold something, or a client, and have given no sign of life for the set time: they were stopped, or hang.
    ///
    /// Those who wait for what such a worker holds are silent too, through no fault of their own. So holders come first, and
    /// the others have twice the time. Nobody knows who reads the cache: so of the others only the one that has been silent for the
    /// longest time is killed, and the next look tells whether that was all.
    fn look_after_the_silent(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        // Where this process did not get to run, by Ctrl-Z or for want of CPUs, the workers may not have either.
        if now > self.next_look + self.options.beat() {
            self.attentive_since = now;
        }
        self.next_look = now + self.options.beat();
        // Who shares nothing gives no sign either.
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
            let (what, limit) = match self.doing(member) {
                Doing::Accepting => ("has had a turn to accept", self.options.stuck()),
                // Who listens gives no sign until the client has had its time.
                Doing::Listening => (
                    "has waited for a request",
                    2 * self.options.stuck() + self.options.keep_alive().max(PATIENCE) + PATIENCE,
                ),
                Doing::Sending => (
                    "has sent an answer",
                    2 * self.options.stuck() + PATIENCE + LINGER,
                ),
                Doing::Starting => (
                    "has started",
                    2 * self.options.stuck() + Duration::from_secs(10),
                ),
                _ => ("has worked", 2 * self.options.stuck()),
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

    fn doing(&self, member: &Member) -> Doing {
        match self.pool.is_ready(member) {
            true => self.pool.data(member).doing(),
            false => Doing::Starting,
        }
    }

    /// Seconds since a worker's last sign of life, where these are more than `limit`.
    fn silence(&self, member: &Member, limit: Duration) -> Option<f64> {
        // What lies at the slot may still be its predecessor's.
        let silence = self.pool.data(member).silence();
        let silence = silence
            .min(clock::seconds_since(member.hired))
            .min(self.attentive_since.elapsed().as_secs_f64());
        let is_late = silence > limit.as_secs_f64() && !member.is_killed;
        is_late.then_some(silence)
    }

    fn kill(&mut self, number: usize, what: &str, silence: f64) {
        let member = &mut self.pool.members[number];
        member.kill();
        let (process, slot) = (member.child.id(), member.slot);
        self.say(&format!(
            "worker {process} (slot {slot}) {what}, and has not moved for {silence:.1} s: killed"
        ));
        self.state.stuck.add(1);
    }

    fn say_who_left(&self, gone: &Departure) {
        let how = match (gone.status.signal(), gone.status.code()) {
            (Some(number), _) => match Signal::try_from(number) {
                Ok(signal) => format!("was killed by {signal}"),
                Err(_) => format!("was killed by signal {number}"),
            },
            (None, Some(0)) if gone.was_told => return,
            (None, code) => format!("left with exit code {}", code.unwrap_or_default()),
        };
        let next = match gone.delay {
            _ if gone.was_told || self.state.closing.load(Relaxed) => "nobody follows".to_owned(),
            None => "another starts".to_owned(),
            Some(delay) => format!("another starts in {delay:?}"),
        };
        self.say(&format!(
            "worker {} (slot {}) {how}; {next}",
            gone.process, gone.slot
        ));
    }

    fn say(&self, what: &str) {
        if !self.options.quiet {
            log_line(format_args!("{what}"));
        }
    }
}
