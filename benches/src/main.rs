//! A benchmark of locks between processes. See `pshared-bench --help`.
//!
//! The method and its reasons:
//!
//! - The parent creates a contender's lock and the arena, forks the workers, opens the gate, sets
//!   the stop flag when the time is over, and checks the count. It sleeps in between.
//! - Workers time themselves and write into their own slots in the arena. Their loops are compiled
//!   for each contender, so no measured operation contains a dynamic call.
//! - The protected data of every contender has a cache line of its own, because not every crate
//!   lets its caller place the lock. A lock that shares its line with its data is faster than shown
//!   here.
//! - CPU time is the worker's own CPU clock, read at its start and at its end, so forks do not
//!   count.
//! - Ratios are taken within a round, and the median of the ratios is shown. A disturbance that
//!   lasts longer than a round affects both sides alike.
//! - No wait is unbounded. A worker that does not end is killed by its id and reaped, and the
//!   contender gets the verdict `hangs`. Workers die with the parent.

mod arena;
mod children;
mod cli;
mod clock;
mod contender;
mod fault;
mod figures;
mod futex;
mod machine;
mod mapped;
mod plan;
mod progress;
mod run;
mod signal;
mod table;
mod targets;
mod workload;

use crate::cli::Options;
use crate::figures::Figures;
use crate::plan::Plan;
use crate::workload::Workload;
use pshared_bench::record::{self, Record, Row};
use pshared_bench::report;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(&Options::from_command_line()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    if options.list {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    let record = match &options.from_csv {
        Some(path) => read(path)?,
        None => run::all(&Plan::new(options))?,
    };
    if !options.measures_for_figures() {
        return Ok(check(&record));
    }
    let places = write(options, &record)?;
    let figures = Figures::new(&record);
    let tables = table::text(&figures);
    let targets = targets::text(&figures);
    // Ignore the error: the reader of a pipe may have closed it.
    let _ = write!(io::stdout(), "{tables}{targets}\n{places}");
    Ok(verdict(&record))
}

fn list() {
    for entry in contender::list::ALL {
        let workloads: Vec<_> = <Workload as clap::ValueEnum>::value_variants()
            .iter()
            .filter(|workload| entry.takes_part(**workload))
            .map(|workload| workload.name())
            .collect();
        let unless = if entry.by_default() {
            ""
        } else {
            " (only if named)"
        };
        println!(
            "{:26} {:10} {}{unless}",
            entry.name,
            entry.family.name(),
            workloads.join(", ")
        );
    }
}

fn read(path: &Path) -> Result<Record, String> {
    File::open(path)
        .and_then(|file| Record::read(BufReader::new(file)))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes the record and the page, and returns a text with their paths.
fn write(options: &Options, record: &Record) -> Result<String, String> {
    let (csv, html) = options.outputs();
    let mut places = String::new();
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    for path in [&csv, &html] {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
        }
    }
    // A record that was read is not written again.
    if options.from_csv.is_none() {
        File::create(&csv)
            .and_then(|file| record.write(BufWriter::new(file)))
            .map_err(|error| failed(&csv, error))?;
        places = format!("record: {}\n", csv.display());
    }
    fs::write(&html, report::html(record)).map_err(|error| failed(&html, error))?;
    Ok(format!("{places}page:   {}\n", html.display()))
}

/// Checks for `--check` that every lock counts correctly and that the contender without a lock does
/// not. Otherwise the check of the count would detect nothing.
fn check(record: &Record) -> ExitCode {
    let as_it_should = |row: &Row| match row.contender.as_str() {
        "none" => row.value.starts_with("BROKEN"),
        _ => row.value == "ok",
    };
    let verdicts = || record.rows.iter().filter(|row| row.figure == "verdict");
    for row in verdicts() {
        println!("{}: {}: {}", row.workload, row.contender, row.value);
    }
    match verdicts().all(as_it_should) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Returns a failure if one of the crate's locks is broken, or hangs in a workload that kills no
/// process.
fn verdict(record: &Record) -> ExitCode {
    let bad = |row: &&Row| {
        row.family == "pshared"
            && row.figure == "verdict"
            && !figures::is_fine(&row.value)
            && !(row.value == "hangs" && matches!(row.workload.as_str(), "crash" | "deaths"))
    };
    match record.rows.iter().find(bad) {
        None => ExitCode::SUCCESS,
        Some(row) => {
            eprintln!("{}, {}: {}", row.workload, row.contender, row.value);
            ExitCode::FAILURE
        }
    }
}
