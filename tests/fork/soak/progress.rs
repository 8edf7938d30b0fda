//! The counts of a soak: which test is next, when there were enough kills, the line of progress,
//! and the table at the end.

use crate::harness::{Body, Run, Test, Workload};
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A test of the soak, and what its ended runs have counted.
pub struct Row {
    pub test: Test,
    pub workload: Workload,
    total: Total,
    skipped: Option<String>,
}

#[derive(Clone, Copy, Default)]
struct Total {
    runs: u64,
    kills: u64,
    operations: u64,
    reports: u64,
    /// How long the runs took, added up.
    time: Duration,
}

impl Total {
    fn of(run: &Run) -> Total {
        let counts = run.counts.as_ref().expect("a test of kills");
        Total {
            runs: 1,
            kills: counts.kills.load(Relaxed),
            operations: counts.operations.load(Relaxed),
            reports: counts.reports.load(Relaxed),
            time: run.since.elapsed(),
        }
    }

    fn add(&mut self, other: Total) {
        self.runs += other.runs;
        self.kills += other.kills;
        self.operations += other.operations;
        self.reports += other.reports;
        self.time += other.time;
    }
}

impl Row {
    pub fn new(test: Test, workload: Workload) -> Self {
        Row {
            test,
            workload,
            total: Total::default(),
            skipped: None,
        }
    }
}

pub struct Progress {
    rows: Vec<Row>,
    goal: Option<u64>,
    time: Option<Duration>,
    seed: u64,
    since: Instant,
    shown: Instant,
    is_terminal: bool,
}

impl Progress {
    pub fn new(rows: Vec<Row>, goal: Option<u64>, time: Option<Duration>, seed: u64) -> Self {
        let now = Instant::now();
        Progress {
            rows,
            goal,
            time,
            seed,
            since: now,
            shown: now,
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// The test with the fewest kills, and of these the first.
    pub fn next(&self, running: &[Run]) -> (Test, Workload) {
        let planned = |row: &&Row| {
            let runs = running.iter().filter(|run| run.test.name == row.test.name);
            row.total.kills + runs.count() as u64 * row.workload.kills
        };
        let open = self.rows.iter().filter(|row| row.skipped.is_none());
        let row = open.min_by_key(planned).expect("there are tests");
        (row.test, row.workload)
    }

    /// Whether no further run has to be started.
    pub fn is_enough(&self, running: &[Run]) -> bool {
        let planned: u64 = running.iter().map(|run| planned_kills(run.test)).sum();
        self.time.is_some_and(|time| self.since.elapsed() >= time)
            || (self.goal).is_some_and(|goal| self.ended().kills + planned >= goal)
    }

    pub fn has_tests(&self) -> bool {
        self.rows.iter().any(|row| row.skipped.is_none())
    }

    /// Adds the counts of a run that has ended.
    pub fn count(&mut self, run: &Run) {
        self.row(run).total.add(Total::of(run));
    }

    pub fn skip(&mut self, run: &Run, reason: &str) {
        self.row(run).skipped = Some(reason.into());
    }

    fn row(&mut self, run: &Run) -> &mut Row {
        let name = run.test.name;
        let row = self.rows.iter_mut().find(|row| row.test.name == name);
        row.expect("a test of this soak")
    }

    fn ended(&self) -> Total {
        let mut sum = Total::default();
        self.rows.iter().for_each(|row| sum.add(row.total));
        sum
    }

    /// Shows a line of progress: each second on a terminal, and each half minute elsewhere.
    pub fn show(&mut self, running: &[Run]) {
        let interval = Duration::from_secs(if self.is_terminal { 1 } else { 30 });
        if self.shown.elapsed() < interval {
            return;
        }
        self.shown = Instant::now();
        let line = self.line(running);
        let _ = match self.is_terminal {
            true => write!(std::io::stderr(), "\r\x1b[K{line}"),
            false => writeln!(std::io::stderr(), "{line}"),
        };
    }

    fn line(&self, running: &[Run]) -> String {
        let mut total = self.ended();
        running.iter().for_each(|run| total.add(Total::of(run)));
        let seconds = self.since.elapsed().as_secs_f64();
        let rate = total.kills as f64 / seconds;
        let by_kills = self
            .goal
            .map(|goal| goal.saturating_sub(total.kills) as f64 / rate);
        let by_time = self.time.map(|time| time.as_secs_f64() - seconds);
        let left = by_kills
            .unwrap_or(f64::MAX)
            .min(by_time.unwrap_or(f64::MAX));
        let primitives: Vec<_> = running.iter().map(|run| primitive(run.test)).collect();
        format!(
            "{} kills{}, {} operations, {} deaths reported, {rate:.0} kills/s, {} left; now: {}",
            grouped(total.kills),
            (self.goal).map_or(String::new(), |goal| format!(" of {}", grouped(goal))),
            grouped(total.operations),
            grouped(total.reports),
            clock(left),
            primitives.join(", "),
        )
    }

    /// Ends the line of progress.
    pub fn end_line(&self) {
        if self.is_terminal {
            eprintln!();
        }
    }

    /// Prints the table on standard output.
    pub fn finish(&self) {
        self.end_line();
        let line = |name: &str, cells: [&str; 5]| {
            let [runs, kills, operations, reports, rate] = cells;
            println!("{name:<28} {runs:>6} {kills:>10} {operations:>16} {reports:>10} {rate:>8}");
        };
        let counts = |name: &str, total: Total, time: Duration| {
            let rate = total.kills as f64 / time.as_secs_f64();
            let [runs, kills, operations, reports] =
                [total.runs, total.kills, total.operations, total.reports].map(grouped);
            line(
                name,
                [&runs, &kills, &operations, &reports, &format!("{rate:.0}")],
            );
        };
        line(
            "primitive",
            ["runs", "kills", "operations", "reports", "kills/s"],
        );
        for row in &self.rows {
            match &row.skipped {
                Some(reason) => println!("{:<28} skipped: {reason}", row.workload.primitive),
                None => counts(row.workload.primitive, row.total, row.total.time),
            }
        }
        counts("all", self.ended(), self.since.elapsed());
        println!(
            "seed {}, {}",
            self.seed,
            clock(self.since.elapsed().as_secs_f64())
        );
    }
}

fn workload(test: Test) -> Workload {
    match test.body {
        Body::Kills(workload) => workload,
        Body::Once(_) => unreachable!("a soak has only tests of kills"),
    }
}

fn primitive(test: Test) -> &'static str {
    workload(test).primitive
}

fn planned_kills(test: Test) -> u64 {
    workload(test).kills
}

/// A number with a comma between each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time as hours, minutes and seconds.
fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours}:{minutes:02}:{:02}", seconds % 60)
}
