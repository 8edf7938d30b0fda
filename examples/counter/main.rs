//! A parent and its children increment a count in shared memory. The program then checks the
//! result.
//!
//! Books on `mmap` end with this program: processes print a number and add one to it, and a lock
//! prevents two of them from taking the same number. `--lock none` shows what happens without a
//! lock. `--kill` kills workers at random instants, and the result is still exact.
//!
//! ```text
//! cargo run --release --example counter
//! cargo run --release --example counter -- --workers 4 --loops 1000000 --map file
//! cargo run --release --example counter -- --lock none
//! cargo run --release --example counter -- --kill
//! ```

#![deny(unsafe_code)]

mod counting;
mod options;

use counting::Counting;
use indicatif::{ProgressBar, ProgressStyle};
use options::Options;
use pshared::fork::{self, Child};
use std::error::Error;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    match run(&Options::from_command_line()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("counter: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Counts and prints the report. Returns true if every check passed.
fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let counting = Counting::new(options)?;
    let progress = progress_bar(options);
    let kills = match options.kill {
        false => count_together(&counting, options, &progress).map(|()| None),
        true => count_with_kills(&counting, options, &progress).map(Some),
    }?;
    progress.finish_and_clear();
    if options.prints_numbers() {
        println!();
    }
    println!("{}", options.summary());
    Ok(counting.report(kills)?)
}

/// Runs the parent as the first worker and forks the others.
fn count_together(
    counting: &Counting,
    options: &Options,
    progress: &ProgressBar,
) -> Result<(), Box<dyn Error>> {
    let children = (2..=options.workers)
        .map(|worker| fork::spawn(|| work(counting, worker, options.loops())))
        .collect::<Result<Vec<_>, _>>()?;
    for turn in 0..options.loops() {
        counting.turn(1)?;
        if turn % 1024 == 0 {
            progress.set_position(counting.so_far());
        }
    }
    for child in children {
        while child.wait_timeout(Duration::from_millis(100))?.is_none() {
            progress.set_position(counting.so_far());
        }
        has_succeeded(&child)?;
    }
    Ok(())
}

/// Kills workers at random instants and starts replacements until all numbers are taken.
///
/// The parent only supervises. It kills the worker in the critical section, or a random worker if
/// the critical section is empty. Returns the number of workers that it killed.
fn count_with_kills(
    counting: &Counting,
    options: &Options,
    progress: &ProgressBar,
) -> Result<u64, Box<dyn Error>> {
    // A worker runs until all numbers are taken. So a replacement need not know how many numbers
    // the dead worker took.
    let start = |worker| fork::spawn(move || work(counting, worker, u64::MAX));
    let mut workers = (1..=options.workers)
        .map(|worker| Ok((worker, start(worker)?)))
        .collect::<Result<Vec<_>, fork::Error>>()?;
    let mut kills = 0;
    while !workers.is_empty() {
        let mut chosen = fastrand::usize(..workers.len());
        let instant = Duration::from_micros(fastrand::u64(..2000));
        if workers[chosen].1.wait_timeout(instant)?.is_none() {
            let inside = counting.worker_inside();
            chosen = workers
                .iter()
                .position(|(worker, _)| *worker == inside)
                .unwrap_or(chosen);
            workers[chosen].1.kill()?;
        }
        let (worker, child) = &mut workers[chosen];
        // The worker may have exited before the kill.
        if child.wait()?.signal() == Some(9) {
            kills += 1;
            *child = start(*worker)?;
        } else {
            has_succeeded(child)?;
            workers.swap_remove(chosen);
        }
        progress.set_position(counting.so_far());
    }
    Ok(kills)
}

/// Runs a child: takes `turns` numbers, or fewer if all numbers are already taken.
fn work(counting: &Counting, worker: u16, turns: u64) {
    for _ in 0..turns {
        match counting.turn(worker) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => panic!("worker {worker}: {error}"),
        }
    }
}

fn has_succeeded(child: &Child) -> Result<(), String> {
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "the worker with process id {} failed: {status}",
            child.id()
        ))
    }
}

/// Returns a progress bar, hidden for a run that prints its numbers. It draws nothing if standard
/// error is not a terminal.
fn progress_bar(options: &Options) -> ProgressBar {
    if options.prints_numbers() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} numbers, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(options.total()).with_style(style)
}
