//! A forking HTTP server: workers that share counters, latencies, a rate limit, a cache and the turn to accept, and that may be
//! killed at any instruction.
//!
//! ```text
//! cargo run --release --example prefork                        # then look at http://127.0.0.1:8080/workers
//! cargo run --release --example prefork -- --demo              # the server under load, a worker killed every 200 ms
//! cargo run --release --example prefork -- --accept permits --workers 8 --map /var/tmp/board
//! ```
//!
//! The parent maps the [board](prefork::board) and listens, then forks. It never locks anything: whatever happens to a worker,
//! the [supervisor](prefork::supervisor) is not part of it. The [workers](prefork::worker) are blocking, a connection at a time, and
//! know of each other only what the board says. SIGTERM drains, SIGHUP replaces the workers one by one.

#![deny(unsafe_code)]

mod prefork {
    pub mod accept;
    pub mod board;
    pub mod cache;
    pub mod clock;
    pub mod connection;
    pub mod demo;
    pub mod faults;
    pub mod histogram;
    pub mod limiter;
    pub mod listener;
    pub mod load;
    pub mod log;
    pub mod metrics;
    pub mod options;
    pub mod orders;
    pub mod pages;
    pub mod routes;
    pub mod staff;
    pub mod supervisor;
    pub mod worker;
}

use prefork::board::Board;
use prefork::listener::Listener;
use prefork::options::Options;
use prefork::{demo, supervisor};
use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::from_command_line();
    let outcome = match options.demo {
        true => demo::run(&options),
        false => serve(&options).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("prefork: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let board = Board::place(options.map.as_deref())?;
    // Before anybody is told whom to signal, or can connect.
    let signals = supervisor::prepare(board, options)?;
    let listener = Listener::bind(options.listen)?;
    // Nobody has to read it.
    let _ = writeln!(
        stdout(),
        "prefork: {} workers answer at http://{}/ (the supervisor is process {})",
        options.workers,
        listener.address(),
        std::process::id()
    );
    supervisor::run(board, &listener, options, &signals)
}
