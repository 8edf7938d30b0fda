//! The parent: it keeps the workers at their number, replaces them, looks after those that hold something and do not move, and
//! ends the server. It takes no lock while there are workers, so that nothing that happens to one can stop it.

use super::board::{Board, Doing};
use super::connection::{LINGER, PATIENCE};
use super::listener::Listener;
use super::log::tell;
use super::options::Options;
use super::orders::{self, poll_timeout};
use super::staff::{Departure, Member, Staff};
use super::{clock, limiter};
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

/// Makes the board this server's own, and the signals its orders.
pub fn prepare(board: &Board, options: &Options) -> Result<SignalFd, Box<dyn Error>> {
    let signals = orders::of_the_supervisor()?;
    claim(board, options)?;
    Ok(signals)
}

/// Supervises workers until it is told to end, and they have left.
pub fn run(
    board: &'static Board,
    listener: &Listener,
    options: &Options,
    signals: &SignalFd,
) -> Result<(), Box<dyn Error>> {
    let mut supervisor = Supervisor {
        board,
        listener,
        options,
        staff: Staff::new(board, listener, options)?,
        to_replace: VecDeque::new(),
        replacing: None,
        next_look: Instant::now(),
        attentive_since: Instant::now(),
        closing_since: None,
    };
    supervisor.supervise(signals)?;
    board.supervisor.store(0, Relaxed);
    Ok(())
}

/// Makes the board this server's own, as it may come from another that has ended.
fn claim(board: &Board, options: &Options) -> Result<(), Box<dyn Error>> {
    if let Some(path) = &options.map {
        lock_for_life(path, board)?;
    }
    wait_for_those_of_another_time(board, options.drain())?;
    for seat in board.workers.seats() {
        seat.data.forget();
    }
    board.supervisor.store(process::id(), Relaxed);
    board.started.store(clock::now(), Relaxed);
    board.closing.store(false, Relaxed);
    limiter::start(&board.limiter, &board.told)?;
    Ok(())
}

/// Keeps other servers from the file for as long as this process lives. A number of a process would not do: after a crash or a
/// reboot it is that of any other. This kind of lock is the process's own: children do not have it, and it ends with its owner.
fn lock_for_life(path: &Path, board: &Board) -> Result<(), Box<dyn Error>> {
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
            let other = board.supervisor.load(Relaxed);
            Err(format!("this map is that of another server, process {other}. End it first, or give another file by --map").into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Workers whose supervisor was killed are on their way out. One that is stopped is not, and what it holds nobody takes from it.
fn wait_for_those_of_another_time(board: &Board, time: Duration) -> Result<(), Box<dyn Error>> {
    let until = Instant::now() + time;
    while let Some((process, seat)) = board.at_work().next() {
        if Instant::now() >= until {
            return Err(format!("a worker of an earlier server, process {process}, still has seat {seat} of this map. End it first, or give another file by --map").into());
        }
        orders::pause(Duration::from_millis(10));
    }
    Ok(())
}

struct Supervisor<'a> {
    board: &'static Board,
    listener: &'a Listener,
    options: &'a Options,
    staff: Staff<'a>,
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
            for gone in self.staff.reap()? {
                self.say_who_left(&gone);
            }
            let now = Instant::now();
            match self.closing_since {
                None => self.keep_the_number()?,
                Some(_) if !self.staff.members.is_empty() => {}
                Some(since) if self.listener.has_one() => {
                    if since + self.options.drain() <= now {
                        self.say(
                            "does not get to who else has come, in the time that it has to drain",
                        );
                        return Ok(());
                    }
                    // Somebody was on the way in when the last one looked.
                    if self.staff.pause().is_none() {
                        self.staff.hire()?;
                        self.tell_all_to_leave();
                    }
                }
                Some(since) if since + HANDSHAKE > now => {}
                Some(_) => return Ok(()),
            }
            self.staff.kill_the_late();
            self.look_after_the_silent();
            self.wait(signals)?;
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self, signals: &SignalFd) -> Result<(), Errno> {
        let times = self
            .staff
            .members
            .iter()
            .filter(|member| !member.is_killed)
            .filter_map(|member| member.leaves_by);
        // Nobody is there to accept, and somebody may still come.
        let is_last = self.closing_since.is_some() && self.staff.members.is_empty();
        let handshakes = self.closing_since.map(|since| since + HANDSHAKE);
        let next = times
            .chain(self.staff.pause())
            .chain(handshakes.filter(|_| is_last))
            .chain([self.next_look])
            .min();
        let left = next.map(|time| time.saturating_duration_since(Instant::now()));
        let children = self.staff.members.iter().map(|member| member.child.as_fd());
        let door = (is_last && self.staff.pause().is_none()).then(|| self.listener.as_fd());
        let mut all: Vec<PollFd<'_>> = [signals.as_fd(), self.staff.ready.as_fd()]
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
        match self.staff.ready.read() {
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Hires as many as are missing, and lets the one go who is replaced, once all others are ready.
    fn keep_the_number(&mut self) -> Result<(), Box<dyn Error>> {
        let number = usize::from(self.options.workers);
        let is_member = |staff: &Staff<'_>, process| {
            staff
                .members
                .iter()
                .any(|member| member.child.id() == process)
        };
        self.replacing = self
            .replacing
            .filter(|process| is_member(&self.staff, *process));
        while self.replacing.is_none()
            && let Some(next) = self.to_replace.pop_front()
        {
            self.replacing = Some(next).filter(|process| is_member(&self.staff, *process));
        }
        let stays = |process: &u32| {
            self.staff
                .staying()
                .any(|member| member.child.id() == *process)
        };
        let more = usize::from(self.replacing.as_ref().is_some_and(stays));
        while self.staff.staying().count() < number + more && self.staff.pause().is_none() {
            self.staff.hire()?;
        }
        if more == 1
            && let Some(old) = self.replacing
        {
            let others = self
                .staff
                .staying()
                .filter(|member| member.child.id() != old);
            if others.filter(|member| self.staff.is_ready(member)).count() >= number {
                let by = Instant::now() + self.options.drain();
                self.staff.tell_to_leave(old, by);
                self.board.replaced.add(1);
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
            self.staff.staying().count()
        ));
        self.to_replace = self
            .staff
            .staying()
            .map(|member| member.child.id())
            .collect();
    }

    fn begin_to_close(&mut self) {
        if self.closing_since.is_some() {
            return;
        }
        self.closing_since = Some(Instant::now());
        self.board.closing.store(true, Relaxed);
        self.say("lets nobody in any more, and answers who has come");
        if let Err(error) = self.listener.let_nobody_in() {
            tell(format_args!("connections that come now may break: {error}"));
        }
        self.tell_all_to_leave();
    }

    fn tell_all_to_leave(&mut self) {
        // Who is hired while the server ends has no more time than the others.
        let by = self.closing_since.unwrap_or_else(Instant::now) + self.options.drain();
        let all: Vec<u32> = self
            .staff
            .staying()
            .map(|member| member.child.id())
            .collect();
        for process in all {
            self.staff.tell_to_leave(process, by);
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
        let holders: Vec<(&str, u32)> = self.board.holders().collect();
        let mut found = false;
        for number in 0..self.staff.members.len() {
            let member = &self.staff.members[number];
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
        for (number, member) in self.staff.members.iter().enumerate() {
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
        match self.staff.is_ready(member) {
            true => self.staff.data(member).doing(),
            false => Doing::Starting,
        }
    }

    /// Seconds since a worker's last sign of life, where these are more than `limit`.
    fn silence(&self, member: &Member, limit: Duration) -> Option<f64> {
        // What lies at the seat may still be its predecessor's.
        let silence = self.staff.data(member).silence();
        let silence = silence
            .min(clock::seconds_since(member.hired))
            .min(self.attentive_since.elapsed().as_secs_f64());
        let is_late = silence > limit.as_secs_f64() && !member.is_killed;
        is_late.then_some(silence)
    }

    fn kill(&mut self, number: usize, what: &str, silence: f64) {
        let member = &mut self.staff.members[number];
        member.kill();
        let (process, seat) = (member.child.id(), member.seat);
        self.say(&format!(
            "worker {process} (seat {seat}) {what}, and has not moved for {silence:.1} s: killed"
        ));
        self.board.stuck.add(1);
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
            _ if gone.was_told || self.board.closing.load(Relaxed) => "nobody follows".to_owned(),
            None => "another starts".to_owned(),
            Some(delay) => format!("another starts in {delay:?}"),
        };
        self.say(&format!(
            "worker {} (seat {}) {how}; {next}",
            gone.process, gone.seat
        ));
    }

    fn say(&self, what: &str) {
        if !self.options.quiet {
            tell(format_args!("{what}"));
        }
    }
}
