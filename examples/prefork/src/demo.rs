//! `--demo`: runs the server under load, kills its workers, and compares the counts of both sides.

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

const WITHOUT_KILLS: Duration = Duration::from_secs(3);
const WITH_KILLS: Duration = Duration::from_secs(10);
const BETWEEN_KILLS: Duration = Duration::from_millis(200);

/// Runs the demonstration. Returns true if every check passes.
pub fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let state = SharedState::place(None)?;
    let load = Shared::anonymous(Load::default())?;
    let listener = Listener::bind("127.0.0.1:0".parse()?)?;
    // One client fewer than workers, so that a worker waits to accept when a kill happens.
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
        "{} workers listen on http://{address}/workers, {} clients send requests",
        options.workers, clients
    );
    // Only the server keeps the socket: a connection must not wait at a socket without an acceptor.
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
    let (before, with_kills) = outcome?;
    demo.balance(before, with_kills, ended.success())
}

struct Demo<'a> {
    state: &'static SharedState,
    load: &'a Load,
    kills: u64,
    line: ProgressBar,
    /// When the line was last written, and the number of answered requests at that time.
    last: (Instant, u64),
}

impl Demo<'_> {
    /// Returns the answered requests per second, without kills and with kills.
    fn play(&mut self, server: &Child) -> Result<(f64, f64), Box<dyn Error>> {
        // The first requests wait until the first workers are ready.
        while self.load.answered.get() == 0 {
            wait(server, Duration::from_millis(10))?;
        }
        let without_kills = self.watch(server, "undisturbed", WITHOUT_KILLS, false)?;
        let with_kills = self.watch(server, "a kill every 200 ms", WITH_KILLS, true)?;
        Ok((without_kills, with_kills))
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
            // On a busy machine the previous target may still be alive. It would be killed and
            // counted twice.
            if kills && self.state.deaths() >= self.kills && self.kill_one()? {
                self.kills += 1;
            }
            self.show(what);
        }
        let answered = self.load.answered.get() - before;
        Ok(answered as f64 / start.elapsed().as_secs_f64())
    }

    /// Kills a random worker. Returns false if there is none at the moment.
    fn kill_one(&self) -> nix::Result<bool> {
        let workers: Vec<u32> = self
            .state
            .live_workers()
            .map(|(process, _)| process)
            .collect();
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

    /// Returns how many deaths were reported to the next owner of a lock, permit or slot.
    fn recoveries(&self) -> u64 {
        let reported = &self.state.reported;
        reported.accept.get() + reported.limiter.get() + reported.cache.get() + reported.slot.get()
    }

    fn balance(
        &self,
        before: f64,
        with_kills: f64,
        ended_well: bool,
    ) -> Result<bool, Box<dyn Error>> {
        let (state, load) = (self.state, self.load);
        println!("undisturbed  {} requests/s", grouped(before as u64));
        println!(
            "with kills   {} requests/s, {:.2} of that; {} workers were killed in {} s",
            grouped(with_kills as u64),
            with_kills / before,
            self.kills,
            WITH_KILLS.as_secs()
        );
        let reported = &state.reported;
        println!(
            "notified     {} new owners of a worker slot, {} of the accept lock or a permit, {} of the rate limiter, {} of the cache",
            reported.slot.get(),
            reported.accept.get(),
            reported.limiter.get(),
            reported.cache.get()
        );
        // Other clients may request /workers, so only the routes of the demonstration are compared.
        let counted = state.answered_at(&load::ROUTES);
        let answered = load.answered.get() + load.refused.get();
        let (broken, kills) = (load.broken.get(), self.kills);
        let held: Vec<&str> = state.holders().map(|(lock, _)| lock).collect();
        let checks = [
            (
                counted >= answered && counted - answered <= kills,
                format!(
                    "the workers counted {counted} requests, the clients received {answered} answers: {} more, at most one per kill",
                    counted as i128 - answered as i128
                ),
            ),
            (
                broken <= kills,
                format!("{broken} connections broke, at most one per kill"),
            ),
            (
                state.deaths() == kills,
                format!(
                    "the supervisor saw {} workers die and replaced them",
                    state.deaths()
                ),
            ),
            (
                held.is_empty()
                    && state.acceptors.available() == crate::shared_state::ACCEPTORS
                    && state.live_workers().count() == 0,
                format!("no lock, permit or slot is still held{}", held.join(", ")),
            ),
            (ended_well, "the server shut down cleanly".to_owned()),
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

/// Waits for `time`. Returns an error if the server ends meanwhile.
fn wait(server: &Child, time: Duration) -> Result<(), Box<dyn Error>> {
    match server.wait_timeout(time)? {
        None => Ok(()),
        Some(status) => Err(format!("the server ended: {status}").into()),
    }
}
