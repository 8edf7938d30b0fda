//! Measures the cost of sharing and of kills for the forking server. It also measures how soon
//! another worker accepts when the owner of the accept lock is killed.
//!
//! Run it with `cargo bench -p pshared-prefork`. It uses loopback and `wrk` (the Debian package
//! `wrk`). Each round measures both sides of a ratio one after the other, and the order alternates.
//! The result is the median of the rounds' ratios.

use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prefork::shared_state::SharedState;
use pshared::Shared;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Measures the forking server with wrk.
#[derive(Parser)]
struct Options {
    /// Time for which each of the two sides of a round is measured, in seconds
    #[arg(long, default_value_t = 2)]
    seconds: u32,

    /// Number of rounds; the result is their median
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Number of kills of the owner of the accept lock
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    kills: u32,

    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    if Command::new("wrk").arg("-v").output().is_err() {
        eprintln!("this benchmark requires wrk (Debian: apt-get install wrk)");
        std::process::exit(1);
    }
    let directory = tempfile::tempdir().expect("a directory");
    println!(
        "{:66} median  spread         limit",
        "the forking server, 4 workers, 3 connections, GET /"
    );
    let sharing = {
        let shared = Server::start(&[]);
        let alone = Server::start(&["--no-sharing"]);
        rounds(
            &options,
            "with sharing, over without",
            || shared.load(&options),
            || alone.load(&options),
        )
    };
    report(
        "requests/s with the shared state, over --no-sharing",
        sharing,
        0.95,
    );
    let kills = {
        let map = directory.path().join("kills");
        let server = Server::start(&["--quiet", "--map", &map.to_string_lossy()]);
        let state = open(&map);
        rounds(
            &options,
            "with kills, over without",
            || with_kills(&state, || server.load(&options)),
            || server.load(&options),
        )
    };
    report(
        "requests/s with a worker killed every 200 ms, over no kills",
        kills,
        0.85,
    );
    let map = directory.path().join("turn");
    let server = Server::start(&["--quiet", "--map", &map.to_string_lossy()]);
    let mut times = next_accepts(&server, &open(&map), options.kills);
    times.sort();
    let of = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{:66} {:5.2}   {:.2} to {:<6.2} <= 5 {}",
        "ms from the kill of the accept lock's owner to the next answer",
        of(0.5),
        of(0.05),
        of(0.95),
        if of(0.5) <= 5.0 { "ok" } else { "MISSED" }
    );
}

fn report(what: &str, mut ratios: Vec<f64>, limit: f64) {
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!(
        "{what:66} {median:5.3}   {:.3} to {:.3} >= {limit} {}",
        ratios[0],
        ratios[ratios.len() - 1],
        if median >= limit { "ok" } else { "MISSED" }
    );
}

/// Returns the ratios of `one` over `other`.
fn rounds(
    options: &Options,
    what: &str,
    one: impl Fn() -> f64,
    other: impl Fn() -> f64,
) -> Vec<f64> {
    // Warm up, so that the first measurement is not cold.
    other();
    (0..options.rounds)
        .map(|round| {
            let (one, other) = match round % 2 {
                0 => (one(), other()),
                _ => {
                    let other = other();
                    (one(), other)
                }
            };
            eprintln!(
                "  round {} of {}: {what}: {one:.0} and {other:.0} requests/s",
                round + 1,
                options.rounds
            );
            one / other
        })
        .collect()
}

/// A running server. Drop ends it.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_prefork"))
            .args(["--listen", "127.0.0.1:0", "--workers", "4"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split('/').next());
        let address = address.expect("an address").to_owned();
        Server { process, address }
    }

    /// Returns the requests per second, measured by wrk.
    fn load(&self, options: &Options) -> f64 {
        let output = Command::new("wrk")
            .args(["-t1", "-c3", &format!("-d{}", options.seconds)])
            .arg(format!("http://{}/", self.address))
            .output()
            .expect("wrk runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Requests/sec:"));
        let rate = line.and_then(|rate| rate.trim().parse().ok());
        rate.unwrap_or_else(|| panic!("wrk printed no rate: {text}"))
    }

    /// Opens a new connection and waits for an answer.
    fn answer(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        match answer.starts_with(b"HTTP/1.1 200 ") {
            true => Ok(()),
            false => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill(
            Pid::from_raw(self.process.id().cast_signed()),
            Signal::SIGTERM,
        );
        let _ = self.process.wait();
    }
}

fn open(map: &Path) -> Shared<SharedState> {
    // SAFETY: the file is in a directory that this program created. Only the server and this
    // program use it, and both use it by the same type.
    unsafe { Shared::open(map) }.expect("the server's map")
}

/// Returns the result of `load`, measured while a worker is killed every 200 ms.
fn with_kills(state: &SharedState, load: impl Fn() -> f64) -> f64 {
    let (end, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let ended = ended;
            while ended.recv_timeout(Duration::from_millis(200))
                == Err(mpsc::RecvTimeoutError::Timeout)
            {
                let all: Vec<u32> = state.live_workers().map(|(process, _)| process).collect();
                fastrand::choice(all).into_iter().for_each(sigkill);
            }
        });
        let found = load();
        drop(end);
        found
    })
}

fn sigkill(process: u32) {
    let _ = kill(Pid::from_raw(process.cast_signed()), Signal::SIGKILL);
}

/// Kills the owner of the accept lock and then sends a request, `kills` times. Returns the times
/// from each kill until another worker has accepted and answered.
fn next_accepts(server: &Server, state: &SharedState, kills: u32) -> Vec<Duration> {
    (0..kills)
        .map(|_| {
            // Wait until all workers are present and the owner of the accept lock waits for a
            // connection.
            let holder = loop {
                let waits = |process: u32| {
                    let mut slots = state.live_workers();
                    slots.any(|(other, slot)| {
                        let activity = state
                            .workers
                            .slots()
                            .nth(slot)
                            .expect("a slot")
                            .data
                            .activity();
                        other == process && activity == prefork::shared_state::Activity::Accepting
                    })
                };
                if let Some(holder) = state.accept.holder()
                    && state.live_workers().count() == 4
                    && waits(holder.process)
                {
                    break holder.process;
                }
                // No event tells of this state. The pause only leaves the CPU to the workers.
                std::thread::sleep(Duration::from_millis(1));
            };
            let start = Instant::now();
            sigkill(holder);
            // The dying worker may still accept a connection. Then the request fails and is sent
            // again.
            while server.answer().is_err() {}
            start.elapsed()
        })
        .collect()
}
