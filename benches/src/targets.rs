//! The performance targets of the crate's locks, each with the measured value.

use crate::contender::list::{BARE, MEASURE, OUR_CONDVAR, OUR_EVENT, OURS};
use crate::figures::{ByRound, CellName, Figures, median, ratios, values};
use crate::workload::{Cell, Workload};
use std::fmt::Write as _;

/// The number of processes of the crowd cell, which share one lock. It is a target of the crate.
/// Other contenders take long in it, so they are measured in it only if they are named or if the
/// number of processes is given.
pub const CROWD: u32 = 200;

/// The numbers of processes of the contended targets, and of the latency targets.
const PROCESSES: [u32; 3] = [2, 4, 8];
const TIMED: [u32; 2] = [2, 8];

const BACK_TO_BACK: (u32, u32) = (0, 0);
const WITH_WORK: (u32, u32) = (50, 200);

/// The limit of a value.
#[derive(Clone, Copy)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// Returns the lines of the targets with measured cells.
pub fn text(figures: &Figures<'_>) -> String {
    let mut targets = Targets {
        figures,
        lines: String::new(),
    };
    targets.contended();
    targets.handoff();
    targets.crowd();
    targets.recovery();
    match targets.lines.is_empty() {
        true => String::new(),
        false => format!(
            "\n{:90} {:>9} {:>9}\n{}",
            "targets", "measured", "limit", targets.lines
        ),
    }
}

/// Returns whether a target is about a cell.
pub fn has_target(cell: &Cell) -> bool {
    match cell.workload {
        Workload::Contended => {
            PROCESSES.contains(&cell.processes)
                && [BACK_TO_BACK, WITH_WORK].contains(&(cell.inside_ns, cell.outside_ns))
        }
        Workload::Handoff | Workload::Crash => true,
        Workload::Uncontended | Workload::ManyLocks | Workload::Deaths => false,
    }
}

struct Targets<'a> {
    figures: &'a Figures<'a>,
    lines: String,
}

impl Targets<'_> {
    fn contended(&mut self) {
        let cells = |work| PROCESSES.map(|processes| contended(processes, work));
        for cell in cells(BACK_TO_BACK) {
            let rivals = self.best(&cell, |family| matches!(family, "glibc" | "crate"));
            self.ratio(
                &cell,
                "throughput / best of glibc and the crates",
                OURS,
                "throughput",
                &rivals,
                Limit::AtLeast(2.0),
            );
        }
        for cell in cells(WITH_WORK) {
            let all = self.best(&cell, |_| true);
            self.ratio(
                &cell,
                "throughput / best of all",
                OURS,
                "throughput",
                &all,
                Limit::AtLeast(0.97),
            );
        }
        for cell in cells(BACK_TO_BACK).into_iter().chain(cells(WITH_WORK)) {
            let fairness = values(&self.figures.by_round(&cell, OURS, "fairness"));
            self.line(&cell, "fairness", median(fairness), Limit::AtLeast(0.5));
            self.beside(
                &cell,
                "cpu",
                "CPU / glibc pshared robust",
                Limit::AtMost(1.1),
            );
        }
        for work in [BACK_TO_BACK, WITH_WORK] {
            for processes in TIMED {
                let cell = contended(processes, work);
                self.beside(
                    &cell,
                    "p99.9",
                    "p99.9 / glibc pshared robust",
                    Limit::AtMost(1.0),
                );
            }
        }
    }

    fn handoff(&mut self) {
        for (placement, limit) in [("all CPUs", 0.1), ("one CPU", 1.3)] {
            let cell = CellName {
                workload: String::from("handoff"),
                processes: 2,
                work: (0, 0),
                placement: String::from(placement),
            };
            let bare = self.figures.by_round(&cell, BARE, "round trip");
            for ours in [OUR_EVENT, OUR_CONDVAR] {
                self.ratio(
                    &cell,
                    &format!("{ours} / bare futex"),
                    ours,
                    "round trip",
                    &bare,
                    Limit::AtMost(limit),
                );
            }
        }
    }

    /// The count must be exact, and all workers must have ended.
    fn crowd(&mut self) {
        let cell = contended(CROWD, BACK_TO_BACK);
        if let Some(verdict) = self.figures.verdict(&cell, OURS) {
            let mark = if verdict == "ok" { "ok" } else { "MISSED" };
            let what = format!("{}: exact count, no hang", cell.title());
            let _ = writeln!(self.lines, "{what:90} {verdict:>9} {:>9} {mark}", "");
        }
    }

    fn recovery(&mut self) {
        let cell = CellName {
            workload: String::from("crash"),
            processes: 2,
            work: (0, 0),
            placement: String::from("all CPUs"),
        };
        self.beside(
            &cell,
            "recovery",
            "recovery / glibc pshared robust",
            Limit::AtMost(1.1),
        );
    }

    /// Compares a figure of the crate's mutex with that of glibc's robust mutex.
    fn beside(&mut self, cell: &CellName, figure: &str, what: &str, limit: Limit) {
        let measure = self.figures.by_round(cell, MEASURE, figure);
        self.ratio(cell, what, OURS, figure, &measure, limit);
    }

    fn ratio(
        &mut self,
        cell: &CellName,
        what: &str,
        ours: &str,
        figure: &str,
        theirs: &ByRound,
        limit: Limit,
    ) {
        let ours = self.figures.by_round(cell, ours, figure);
        self.line(cell, what, median(ratios(&ours, theirs)), limit);
    }

    fn line(&mut self, cell: &CellName, what: &str, found: Option<f64>, limit: Limit) {
        let Some(found) = found else {
            return;
        };
        let (sign, limit, holds) = match limit {
            Limit::AtLeast(limit) => (">=", limit, found >= limit),
            Limit::AtMost(limit) => ("<=", limit, found <= limit),
        };
        let what = format!("{}: {what}", cell.title());
        let limit = format!("{sign} {limit:.2}");
        let mark = if holds { "ok" } else { "MISSED" };
        let _ = writeln!(self.lines, "{what:90} {found:9.3} {limit:>9} {mark}");
    }

    /// Returns the best throughput of each round among the contenders of the chosen families.
    fn best(&self, cell: &CellName, family_counts: impl Fn(&str) -> bool) -> ByRound {
        let mut best = ByRound::new();
        for (contender, family) in self.figures.contenders(cell) {
            if !family_counts(family) {
                continue;
            }
            for (round, value) in self.figures.by_round(cell, contender, "throughput") {
                let best = best.entry(round).or_insert(value);
                *best = best.max(value);
            }
        }
        best
    }
}

fn contended(processes: u32, work: (u32, u32)) -> CellName {
    CellName {
        workload: String::from("contended"),
        processes,
        work,
        placement: String::from("all CPUs"),
    }
}
