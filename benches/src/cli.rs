//! The command line.

use crate::arena::MOST_WORKERS;
use crate::contender::list::{ALL, Entry};
use crate::workload::Workload;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, value_parser};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Measures locks between processes: the locks of the crate pshared and their alternatives.
///
/// A cell of the table is a workload with its sizes. The processes of a contender start together,
/// run for the cell's time, and time themselves. Then the count that they kept under the lock is
/// compared with the number of their operations. A lock with a wrong count is BROKEN and gets no
/// figure. The contenders take turns within a round, in a different order each round, so that a
/// drift of the machine's speed affects all of them. The tables show the median, the lowest and the
/// highest of the rounds. Ratios are medians of the ratios within each round.
#[derive(Debug, Parser)]
#[command(
    name = "pshared-bench",
    version,
    after_help = EXAMPLES,
)]
pub struct Options {
    /// Numbers of processes that share a lock [default: 1,2,4,8,16,64, or 2,8 with --quick; and 200
    /// for the crate's mutex alone]
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = value_parser!(u32).range(1..=MOST_WORKERS as i64))]
    pub processes: Option<Vec<u32>>,

    /// Work inside the critical section, in ns [default: one cell with 0 inside and 0 outside, one
    /// with 50 inside and 200 outside]
    #[arg(long, value_name = "NS")]
    pub inside: Option<u32>,

    /// Work outside the critical section, in ns
    #[arg(long, value_name = "NS")]
    pub outside: Option<u32>,

    /// How long each cell is measured, in seconds [default: 1; with --quick 0.1]
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,

    /// How often each cell is measured [default: 5, or 3 for a cell that no target is about; with
    /// --quick 1]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,

    /// Contenders, by name or by a part of the name, which may match several
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    contenders: Option<Vec<String>>,

    /// Workloads to run [default: all]
    #[arg(long, value_enum, value_name = "WORKLOAD,..", value_delimiter = ',')]
    workloads: Option<Vec<Workload>>,

    /// Measure every cell briefly, in under a minute; the figures are rough
    #[arg(long)]
    pub quick: bool,

    /// List the contenders and exit
    #[arg(long)]
    pub list: bool,

    /// File for the record [default: target/pshared-bench/strategies.csv, or
    /// pshared-bench/strategies.csv if there is no directory `target`]
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// File for the HTML page [default: strategies.html in the same directory]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Measure nothing; make the tables and the page from a record
    #[arg(long, value_name = "FILE")]
    pub from_csv: Option<PathBuf>,

    /// Run every contender briefly, and report only whether each counts correctly
    #[arg(long)]
    pub check: bool,
}

const EXAMPLES: &str = "\
Examples:
  pshared-bench --quick
      all cells, with rough figures
  pshared-bench --workloads contended --processes 2,8 --inside 50 --outside 200
      one kind of cell, with precise figures
  pshared-bench --contenders SharedMutex,robust --workloads crash,deaths
      behaviour after a kill, of the crate's mutex and every contender with `robust` in its name
  pshared-bench --contenders none --workloads contended --processes 2
      no lock at all, which is reported as BROKEN
  pshared-bench --from-csv target/pshared-bench/strategies.csv
      the tables and the page of the last run again";

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|error| format!("{error}"))?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    let sensible = Duration::from_millis(1)..=Duration::from_secs(3600);
    match sensible.contains(&duration) {
        true => Ok(duration),
        false => Err(String::from("must be between 0.001 and 3600 seconds")),
    }
}

impl Options {
    /// Parses the command line. If it is invalid, prints a message and exits.
    pub fn from_command_line() -> Self {
        let mut options = Options::parse();
        if !options.measures_for_figures() {
            options.become_a_check();
        }
        options
    }

    /// Returns whether the run produces figures, rather than only a check of the benchmark.
    pub fn measures_for_figures(&self) -> bool {
        !self.check || self.list || self.from_csv.is_some()
    }

    fn become_a_check(&mut self) {
        self.processes.get_or_insert(vec![2]);
        // Long critical sections: without a lock, a process that is interrupted inside one loses an
        // update, even on one CPU.
        self.inside.get_or_insert(1000);
        self.seconds.get_or_insert(Duration::from_millis(50));
        self.rounds.get_or_insert(1);
        self.workloads
            .get_or_insert(vec![Workload::Contended, Workload::Handoff]);
    }

    pub fn time(&self) -> Duration {
        let default = if self.quick { 0.1 } else { 1.0 };
        self.seconds.unwrap_or(Duration::from_secs_f64(default))
    }

    pub fn wants(&self, workload: Workload) -> bool {
        self.workloads
            .as_ref()
            .is_none_or(|workloads| workloads.contains(&workload))
    }

    /// Returns whether the user named contenders.
    pub fn names_contenders(&self) -> bool {
        self.contenders.is_some()
    }

    /// Returns the contenders of the run. If a name matches none, prints all names and exits.
    pub fn chosen(&self) -> Vec<&'static Entry> {
        let Some(patterns) = &self.contenders else {
            // A check also checks itself, with the contender that has no lock: see `main`.
            let all = !self.measures_for_figures();
            return ALL
                .iter()
                .filter(|entry| all || entry.by_default())
                .collect();
        };
        let fitting: Vec<_> = patterns.iter().map(|pattern| fits(pattern)).collect();
        if let Some(unknown) = fitting.iter().position(Vec::is_empty) {
            let asked = format!(
                "no contender matches '{}'; the contenders are:\n  {}",
                patterns[unknown],
                names().join("\n  ")
            );
            Options::command()
                .error(ErrorKind::InvalidValue, asked)
                .exit();
        }
        ALL.iter()
            .filter(|entry| fitting.iter().flatten().any(|name| *name == entry.name))
            .collect()
    }

    /// Returns the paths of the record and of the page.
    pub fn outputs(&self) -> (PathBuf, PathBuf) {
        let target = Path::new("target");
        let directory = match target.is_dir() {
            true => target.join("pshared-bench"),
            false => PathBuf::from("pshared-bench"),
        };
        let file =
            |chosen: &Option<PathBuf>, name| chosen.clone().unwrap_or_else(|| directory.join(name));
        (
            file(&self.csv, "strategies.csv"),
            file(&self.html, "strategies.html"),
        )
    }
}

/// Returns the contender with exactly this name, or otherwise all contenders with it in their name.
fn fits(pattern: &str) -> Vec<&'static str> {
    let pattern = pattern.to_lowercase();
    let by = |fit: &dyn Fn(&str) -> bool| -> Vec<&'static str> {
        names()
            .into_iter()
            .filter(|name| fit(&name.to_lowercase()))
            .collect()
    };
    match by(&|name| name == pattern) {
        exact if !exact.is_empty() => exact,
        _ => by(&|name| name.contains(&pattern)),
    }
}

/// Returns all names, each once.
fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for entry in ALL {
        if !names.contains(&entry.name) {
            names.push(entry.name);
        }
    }
    names
}
