//! `--demo`: the server under load while its workers are killed, and the books of both sides.

use crate::listener::Listener;
use crate::load::{self, Load};
use crate::options::Options;
use crate::pages::grouped;
use crate::shared_state::SharedState;
use crate::supervisor;
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pshared::Shared;
use pshared::fork::{self, Child};
use std::error::Error;
use std::io::{IsTerminal, stderr};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const UNDISTURBED: Duration = Duration::from_secs(3);
const UNDER_FIRE: Duration = Duration::from_secs(10);
const BETWEEN_KILLS: Duration = Duration::from_millis(200);

/// Runs all of it; true where the books balance.
pub fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let state = SharedState::place(None)?;
    let load = Shared::anonymous(Load::default())?;
    let listener = Listener::bind("127.0.0.1:0".parse()?)?;
    // One fewer than workers, so that somebody is at the door when the killer comes.
    let clients = (options.workers - 1).max(1);
    let mut options = options.clone();
    options.quiet = true;
    let server = fork::spawn(|| {
        let _ = prctl::set_pdeathsig(Signal::SIGTERM);
        let served = supervisor::prepare(state, &options)
            .and_then(|signals| supervisor::run(state, &listener, &options, &signals));
        if let Err(error) = served {
            eprintln!("prefork: {error}");
            std::process::exit(1);
        }
    })?;
    let address = listener.address();
    println!(
        "{} workers answer at http://{address}/workers, {} clients ask",
        options.workers, clients
    );
    // The server's are enough: a connection must not wait at a socket that nobody accepts from.
    drop(listener);
    let crowd = fork::spawn(|| {
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        load::run(&load, address, clients);
    })?;
    let mut demo = Demo {
        state,
        load: &load,
        kills: 0,
        line: line(),
        last: (Instant::now(), 0),
    };
    let outcome = demo.play(&server);
    load.stop.store(true, Relaxed);
    crowd.wait()?;
    kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGTERM)?;
    let ended = server.wait()?;
    demo.line.finish_and_clear();
    let (before, under_fire) = outcome?;
    demo.balance(before, under_fire, ended.success())
}

struct Demo<'a> {
    state: &'static SharedState,
    load: &'a Load,
    kills: u64,
    line: ProgressBar,
    /// When the line was last written, and how many requests there were then.
    last: (Instant, u64),
}

impl Demo<'_> {
    /// Answered requests a second: while nobody disturbs, and under fire.
    fn play(&mut self, server: &Child) -> Result<(f64, f64), Box<dyn Error>> {
        // The first requests wait for the first workers.
        while self.load.answered.get() == 0 {
            wait(server, Duration::from_millis(10))?;
        }
        let undisturbed = self.watch(server, "undisturbed", UNDISTURBED, false)?;
        let under_fire = self.watch(server, "a kill every 200 ms", UNDER_FIRE, true)?;
        Ok((undisturbed, under_fire))
    }

    fn watch(
        &mut self,
        server: &Child,
        what: &str,
        time: Duration,
        kills: bool,
    ) -> Result<f64, Box<dyn Error>> {
        let (start, before) = (Instant::now(), self.load.answered.get());
        self.last = (start, before);
        while start.elapsed() < time {
            wait(server, BETWEEN_KILLS)?;
            // On a busy machine the last one may not be dead yet, and would be killed, and counted, twice.
            if kills && self.state.deaths() >= self.kills && self.kill_one()? {
                self.kills += 1;
            }
            self.show(what);
        }
        let answered = self.load.answered.get() - before;
        Ok(answered as f64 / start.elapsed().as_secs_f64())
    }

    /// Kills any worker; false where there is none just now.
    fn kill_one(&self) -> nix::Result<bool> {
        let workers: Vec<u32> = self.state.at_work().map(|(process, _)| process).collect();
        let Some(process) = fastrand::choice(workers) else {
            return Ok(false);
        };
        match kill(Pid::from_raw(process.cast_signed()), Signal::SIGKILL) {
            Ok(()) => Ok(true),
            Err(nix::errno::Errno::ESRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn show(&mut self, what: &str) {
        let ((then, before), now) = (self.last, Instant::now());
        let is_terminal = !self.line.is_hidden();
        let each = Duration::from_millis(if is_terminal { 400 } else { 1000 });
        if now - then < each {
            self.line.tick();
            return;
        }
        let answered = self.load.answered.get();
        self.last = (now, answered);
        let rate = (answered - before) as f64 / (now - then).as_secs_f64();
        let message = format!(
            "{what}: {} requests/s, {} kills, {} recoveries, {} errors",
            grouped(rate as u64),
            self.kills,
            self.recoveries(),
            self.load.broken.get(),
        );
        match is_terminal {
            true => self.line.set_message(message),
            false => println!("{message}"),
        }
    }

    /// How often somebody was told of a death: at a lock, or at a slot.
    fn recoveries(&self) -> u64 {
        let reported = &self.state.reported;
        reported.accept.get() + reported.limiter.get() + reported.cache.get() + reported.slot.get()
    }

    fn balance(
        &self,
        before: f64,
        under_fire: f64,
        ended_well: bool,
    ) -> Result<bool, Box<dyn Error>> {
        let (state, load) = (self.state, self.load);
        println!("undisturbed  {} requests/s", grouped(before as u64));
        println!(
            "under fire   {} requests/s, {:.2} of that; {} workers were killed in {} s",
            grouped(under_fire as u64),
            under_fire / before,
            self.kills,
            UNDER_FIRE.as_secs()
        );
        let reported = &state.reported;
        println!(
            "told         {} successors of a dead worker, {} who got its turn to accept, {} its limiter, {} its cache",
            reported.slot.get(),
            reported.accept.get(),
            reported.limiter.get(),
            reported.cache.get()
        );
        // Others may look on, at /workers.
        let counted = state.answered_at(&load::ROUTES);
        let answered = load.answered.get() + load.refused.get();
        let (broken, kills) = (load.broken.get(), self.kills);
        let held: Vec<&str> = state.holders().map(|(lock, _)| lock).collect();
        let checks = [
            (
                counted >= answered && counted - answered <= kills,
                format!(
                    "the workers counted {counted} requests, the clients had {answered} answered: {} more, at most one for each kill",
                    counted as i128 - answered as i128
                ),
            ),
            (
                broken <= kills,
                format!("{broken} connections broke, at most one for each kill"),
            ),
            (
                state.deaths() == kills,
                format!(
                    "the supervisor saw {} workers die, and hired others",
                    state.deaths()
                ),
            ),
            (
                held.is_empty()
                    && state.acceptors.available() == crate::shared_state::ACCEPTORS
                    && state.at_work().count() == 0,
                format!(
                    "no lock, no permit and no slot is left behind{}",
                    held.join(", ")
                ),
            ),
            (ended_well, "the server ended in order".to_owned()),
        ];
        for (holds, what) in &checks {
            println!("{}{what}", if *holds { "ok      " } else { "FAILED  " });
        }
        Ok(checks.iter().all(|(holds, _)| *holds))
    }
}

fn line() -> ProgressBar {
    match stderr().is_terminal() {
        true => ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner()),
        false => ProgressBar::hidden(),
    }
}

/// Lets time go by; an error where the server ends meanwhile.
fn wait(server: &Child, time: Duration) -> Result<(), Box<dyn Error>> {
    match server.wait_timeout(time)? {
        None => Ok(()),
        Some(status) => Err(format!("the server ended: {status}").into()),
    }
}
