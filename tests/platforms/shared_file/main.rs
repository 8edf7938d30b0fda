//! Processes that are linked to different C libraries share one file.
//!
//! Each party is a supervisor with two workers. The workers take numbers under locks until all
//! numbers are taken. With `kills`, the supervisors kill them at random instants and start
//! replacements. `check` prints whether each number was taken exactly once.
//!
//! ```text
//! shared-file FILE peace|kills PARTY     (1, 2 and 3, at the same time)
//! shared-file FILE peace|kills check
//! ```

#![deny(unsafe_op_in_unsafe_fn)]

mod board;

use board::{Board, PARTIES};
use pshared::fork::{self, Child};
use std::error::Error;
use std::ffi::CStr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::Duration;

const WORKERS: usize = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [file, mode @ ("peace" | "kills"), "check"] => check(file, mode == "peace"),
        [file, mode @ ("peace" | "kills"), party] => work(file, mode == "peace", party),
        _ => Err("usage: shared-file FILE peace|kills PARTY|check".into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("shared-file: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(file: &str, peace: bool) -> Result<bool, Box<dyn Error>> {
    Ok(Board::open(file)?.report(peace)?)
}

/// Runs a party until all numbers are taken.
fn work(file: &str, peace: bool, party: &str) -> Result<bool, Box<dyn Error>> {
    let party: u8 = party.parse()?;
    if !(1..=PARTIES).contains(&usize::from(party)) {
        return Err(format!("no party {party}: there are {PARTIES}").into());
    }
    // SAFETY: glibc returns a constant string.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    println!("party {party}: glibc {}", version.to_string_lossy());
    let board = Board::open(file)?;
    board.start_together()?;
    let start = || {
        fork::spawn(
            || {
                while board.round(party, peace).expect("a round of all locks") {}
            },
        )
    };
    let mut workers = (0..WORKERS)
        .map(|_| start())
        .collect::<Result<Vec<Child>, _>>()?;
    while !workers.is_empty() {
        let chosen = fastrand::usize(..workers.len());
        let instant = Duration::from_micros(fastrand::u64(..5000));
        if workers[chosen].wait_timeout(instant)?.is_none() {
            if peace {
                continue;
            }
            workers[chosen].kill()?;
        }
        let status = workers[chosen].wait()?;
        if status.signal() == Some(libc::SIGKILL) {
            board.count_kill(party);
            workers[chosen] = start()?;
        } else if status.success() {
            workers.swap_remove(chosen);
        } else {
            return Err(format!("a worker failed: {status}").into());
        }
    }
    Ok(true)
}
