//! The command line.

use clap::{Parser, ValueEnum, value_parser};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// An HTTP server that forks: its workers share memory, and may be killed at any instruction.
///
/// It answers at / (what there is), /count (a hit counter that all workers share), /primes?below=N (dear to make, cached for all),
/// /metrics (OpenMetrics, totals over all workers, the dead included) and /workers (a page about the workers).
///
/// SIGTERM and SIGINT end it: no connection more is let in, and what has come is answered. SIGHUP replaces the workers one by one, each
/// by one that answers before the old one leaves.
#[derive(Debug, Clone, Parser)]
#[command(name = "prefork", version)]
pub struct Options {
    /// Where to listen; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// How many processes answer, 1 to 32
    ///
    /// A worker has one connection at a time. More connections than workers wait until one is given up.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u16).range(1..=32))]
    pub workers: u16,

    /// Who may wait for a connection
    #[arg(long, value_enum, default_value_t = Accept::Mutex)]
    pub accept: Accept,

    /// Keep the state in this file, and go on with it if it is there [default: memory without a file]
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,

    /// Requests a second that are let through, by a token bucket for all workers; others get status 429
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = value_parser!(u64).range(1..=10_000_000))]
    pub rate: u64,

    /// How long an idle connection is kept, in milliseconds; 0 closes after each answer
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    keep_alive: u64,

    /// After how many milliseconds without a sign of life a worker that holds a lock counts as stuck, and is killed
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = value_parser!(u64).range(100..=3_600_000))]
    stuck: u64,

    /// How long a worker may take to leave, in milliseconds, before it is killed; and the server to answer all who have come when it ends
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    drain: u64,

    /// Share nothing, to compare: no counters, no latencies, no rate limit, no cache, and everybody accepts
    #[arg(long, conflicts_with_all = ["accept", "rate"])]
    pub no_sharing: bool,

    /// Say nothing of workers that come and go
    #[arg(long)]
    pub quiet: bool,

    /// Let /fault?kill=PLACE and /fault?stop=PLACE make a worker die or stop inside accept, limiter or cache: for tests
    #[arg(long)]
    pub faults: bool,

    /// Start the server and load it; look on for three seconds, then kill a worker every 200 ms for ten; and balance the books
    #[arg(long, conflicts_with_all = ["listen", "map", "no_sharing", "faults"])]
    pub demo: bool,
}

/// Who may wait for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Accept {
    /// One worker, who has a SharedMutex; the others sleep on it
    Mutex,
    /// Two workers, who have a permit each of a SharedPermits
    Permits,
    /// All of them
    None,
}

impl Options {
    /// The options, or the end of the process with a message that says what is wrong with them.
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

    /// How often a worker that waits gives a sign of life.
    pub fn beat(&self) -> Duration {
        (self.stuck() / 4).min(Duration::from_secs(1))
    }
}
