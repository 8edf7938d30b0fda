//! A soak: runs the tests of kills by turns, until there were enough kills.
//!
//! Each run of a test has the number of kills of an ordinary test run. So the command that runs one
//! test repeats a failed run.

mod interrupt;
mod options;
mod progress;

use crate::harness::descendants;
use crate::harness::{
    Body, Run, Test, Verdict, adopt_orphans, cpus, end_strays, named, pause, reap,
};
use crate::steps::until_idly;
use clap::Parser;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use options::Options;
use progress::{Progress, Row};
use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// The exit code of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

crate::tests!(
    a_soak_makes_the_kills_that_it_was_asked_for,
    an_interrupted_soak_ends_all_of_its_processes,
);

/// Reads the command line, and soaks the tests of kills among these tests.
pub fn run(tests: Vec<Test>, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let options = Options::parse_from(std::iter::once("cargo soak".into()).chain(arguments));
    let rows: Vec<Row> = named(tests)
        .into_iter()
        .filter_map(|test| match test.body {
            Body::Kills(workload) => Some(Row::new(test, workload)),
            Body::Once(_) => None,
        })
        .filter(|row| is_selected(&options.filters, row))
        .collect();
    if rows.is_empty() {
        eprintln!("no test matches {:?}; --list lists them", options.filters);
        return ExitCode::from(2);
    }
    if options.list {
        for row in &rows {
            println!("{}: {}", row.test.name, row.workload.primitive);
        }
        return ExitCode::SUCCESS;
    }
    adopt_orphans();
    interrupt::prepare();
    Soak::new(options, rows).run()
}

fn is_selected(filters: &[String], row: &Row) -> bool {
    let names = [row.test.name, row.workload.primitive];
    filters.is_empty()
        || (filters.iter()).any(|filter| names.iter().any(|name| name.contains(filter.as_str())))
}

struct Soak {
    jobs: usize,
    stall: Duration,
    seeds: fastrand::Rng,
    running: Vec<Run>,
    progress: Progress,
}

/// Why a soak ends.
enum End {
    Enough,
    Interrupted,
    Failed,
}

impl Soak {
    fn new(options: Options, rows: Vec<Row>) -> Self {
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        let time = match options.kills {
            None => Some(options.time.unwrap_or(Duration::from_secs(60))),
            Some(_) => options.time,
        };
        Soak {
            jobs: options.jobs.map_or_else(cpus, |jobs| jobs as usize),
            stall: options.stall,
            seeds: fastrand::Rng::with_seed(seed),
            running: Vec::new(),
            progress: Progress::new(rows, options.kills, time, seed),
        }
    }

    fn run(mut self) -> ExitCode {
        let end = loop {
            if interrupt::is_requested() {
                break End::Interrupted;
            }
            if let Err(report) = self.step() {
                self.progress.end_line();
                eprintln!("{report}");
                break End::Failed;
            }
            if self.running.is_empty() && self.progress.is_enough(&[]) {
                break End::Enough;
            }
            self.progress.show(&self.running);
            pause();
        };
        for run in std::mem::take(&mut self.running) {
            self.progress.count(&run);
        }
        // Every process below the runner now belongs to no running test.
        end_strays(&[]);
        self.progress.finish();
        match end {
            End::Enough => ExitCode::SUCCESS,
            End::Interrupted => ExitCode::from(INTERRUPTED),
            End::Failed => ExitCode::FAILURE,
        }
    }

    /// Starts as many runs as are allowed, and judges the runs that have ended. Returns the report
    /// of a failure.
    fn step(&mut self) -> Result<(), String> {
        while self.running.len() < self.jobs && !self.progress.is_enough(&self.running) {
            let (test, workload) = self.progress.next(&self.running);
            let run = Run::start(test, workload.kills, self.seeds.u64(..), self.stall)
                .map_err(|error| format!("{} was not started: {error}", test.name))?;
            self.running.push(run);
        }
        for (run, verdict) in reap(&mut self.running) {
            self.progress.count(&run);
            match verdict {
                Verdict::Passed => {}
                Verdict::Skipped(reason) => self.progress.skip(&run, &reason),
                Verdict::Failed(report) => return Err(describe(&run, &report)),
            }
        }
        match self.progress.has_tests() {
            true => Ok(()),
            false => Err("none of the tests can run here".into()),
        }
    }
}

fn describe(run: &Run, report: &str) -> String {
    let name = run.test.name;
    format!(
        "FAILED {name} (seed {seed}):\n{report}\n\
         Repeat the run, possibly many times, because the instants of the kills vary:\n\
         PSHARED_SEED={seed} cargo test --release --test fork -- --exact {name}\n\
         cargo soak --time 10m {name}\n",
        seed = run.seed,
    )
}

/// This program as a soak of the counters.
fn soak_of_counters(options: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test program"));
    command.arg("--soak").args(options).arg("counters");
    command
}

fn a_soak_makes_the_kills_that_it_was_asked_for() {
    let output = soak_of_counters(&["--kills", "100"]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{table}");
    // Two runs of 64 kills.
    let row = table.lines().find(|line| line.starts_with("counters"));
    let cells: Vec<_> = row.expect("a row").split_whitespace().collect();
    assert_eq!(cells[1..3], ["2", "128"], "{table}");
}

/// The orphans of the soak would be this process's children.
fn an_interrupted_soak_ends_all_of_its_processes() {
    let mut command = soak_of_counters(&["--time", "1h"]);
    let mut soak = command.stdout(Stdio::piped()).spawn().unwrap();
    let id = Pid::from_raw(soak.id().cast_signed());
    until_idly(|| descendants(id).len() >= 2);
    signal::kill(id, Signal::SIGINT).unwrap();
    let status = soak.wait().unwrap();
    assert_eq!(status.code(), Some(INTERRUPTED.into()));
    assert_eq!(descendants(Pid::this()), []);
}
