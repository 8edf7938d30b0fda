//! The command line.

use clap::{Parser, ValueEnum, value_parser};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A forking HTTP server: its workers share memory and may be killed at any instruction.
///
/// It serves / (a list of the pages), /count (a hit counter that all workers share),
/// /primes?below=N (expensive to compute, cached for all workers), /metrics (OpenMetrics, totals
/// over all workers, including dead ones) and /workers (a page about the workers).
///
/// SIGTERM and SIGINT end the server: it accepts no new connections and answers those that have
/// arrived. SIGHUP replaces the workers one by one. Each replacement is ready before the old worker
/// leaves.
#[derive(Debug, Clone, Parser)]
#[command(name = "prefork", version)]
pub struct Options {
    /// Address to listen on; port 0 selects any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Number of worker processes, 1 to 32
    ///
    /// A worker serves one connection at a time. If there are more connections than workers, the
    /// others wait until a connection is closed.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u16).range(1..=32))]
    pub workers: u16,

    /// The workers that may wait for a connection at the same time
    #[arg(long, value_enum, default_value_t = Accept::Mutex)]
    pub accept: Accept,

    /// Keep the state in this file, and continue with it if it exists [default: anonymous memory]
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,

    /// Requests per second admitted by one token bucket for all workers; others get status 429
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = value_parser!(u64).range(1..=10_000_000))]
    pub rate: u64,

    /// Time for which an idle connection is kept, in milliseconds; 0 closes it after each answer
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    keep_alive: u64,

    /// Time without a heartbeat, in milliseconds, after which a worker that holds a lock is killed
    /// as stuck
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = value_parser!(u64).range(100..=3_600_000))]
    stuck: u64,

    /// Time in milliseconds after which a worker that was asked to leave is killed
    ///
    /// When the server ends, it has the same time to answer the connections that have arrived.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    drain: u64,

    /// Share nothing, for comparison: no counters, latencies, rate limit or cache, and all workers
    /// accept
    #[arg(long, conflicts_with_all = ["accept", "rate"])]
    pub no_sharing: bool,

    /// Log only errors
    #[arg(long)]
    pub quiet: bool,

    /// Enable /fault?kill=PLACE and /fault?stop=PLACE, for tests
    ///
    /// The worker that serves the request is killed or stopped when it next reaches PLACE: accept,
    /// limiter or cache.
    #[arg(long)]
    pub faults: bool,

    /// Run the server under load, kill a worker every 200 ms, and check the counts
    ///
    /// The load runs for 3 seconds without kills and then for 10 seconds with kills. At the end the
    /// server's counts are compared with those of the clients.
    #[arg(long, conflicts_with_all = ["listen", "map", "no_sharing", "faults"])]
    pub demo: bool,
}

/// The workers that may wait for a connection at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Accept {
    /// One worker, the owner of a SharedMutex; the others sleep on it
    Mutex,
    /// Two workers, each with a permit of a SharedPermits
    Permits,
    /// All workers
    None,
}

impl Options {
    /// Parses the command line. If it is invalid, prints an error message and exits.
    pub fn from_command_line() -> Self {
        Options::parse()
    }

    pub fn accept(&self) -> Accept {
        match self.no_sharing {
            true => Accept::None,
            false => self.accept,
        }
    }

    pub fn keep_alive(&self) -> Duration {
        Duration::from_millis(self.keep_alive)
    }

    pub fn stuck(&self) -> Duration {
        Duration::from_millis(self.stuck)
    }

    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain)
    }

    /// Returns the interval at which a waiting worker gives a heartbeat.
    pub fn beat(&self) -> Duration {
        (self.stuck() / 4).min(Duration::from_secs(1))
    }
}
