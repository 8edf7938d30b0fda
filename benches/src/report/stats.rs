//! Summarizes the rounds of a record: a median and a spread for each figure, and the verdicts at
//! each spot.

use super::contenders::Contender;
use super::{Record, Row};
use std::collections::{BTreeMap, BTreeSet};

/// The work of the processes, and where they were allowed to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell<'a> {
    pub inside_ns: u32,
    pub outside_ns: u32,
    pub placement: &'a str,
}

/// What a figure describes: everything that its rounds have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot<'a> {
    pub workload: &'a str,
    pub cell: Cell<'a>,
    pub processes: u32,
    pub contender: &'a str,
}

/// A figure over its rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Stat {
    /// The middle round, or the mean of the two middle rounds.
    pub median: f64,
    /// The lowest and the highest round. With few rounds, a quantile would claim more than is
    /// known.
    pub low: f64,
    pub high: f64,
    pub rounds: usize,
    pub unit: String,
}

impl Stat {
    pub fn of(mut values: Vec<f64>, unit: &str) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let (&low, &high) = (values.first()?, values.last()?);
        let half = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[half - 1] + values[half]) / 2.0,
            _ => values[half],
        };
        Some(Stat {
            median,
            low,
            high,
            rounds: values.len(),
            unit: unit.to_owned(),
        })
    }

    /// Returns whether the ranges of the rounds overlap. If they do, it is not known which is
    /// ahead.
    pub fn overlaps(&self, other: &Stat) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// The results at a spot.
#[derive(Debug, Default)]
pub struct Found<'a> {
    stats: BTreeMap<&'a str, Stat>,
    verdicts: Vec<&'a str>,
}

impl<'a> Found<'a> {
    /// Returns the verdict of a broken round, if there is one. One broken round invalidates the
    /// other rounds of its spot.
    pub fn broken(&self) -> Option<&'a str> {
        self.verdicts
            .iter()
            .copied()
            .find(|verdict| verdict.starts_with("BROKEN"))
    }

    /// Returns the word to show instead of a figure. One bad round is enough for `BROKEN` and
    /// `HANGS`.
    pub fn failed(&self) -> Option<&'static str> {
        if self.broken().is_some() {
            return Some("BROKEN");
        }
        if self.verdicts.contains(&"hangs") {
            return Some("HANGS");
        }
        let failed = self
            .verdicts
            .iter()
            .any(|verdict| verdict.starts_with("failed"));
        (failed && self.stats.is_empty()).then_some("FAILED")
    }

    /// Returns the figure, or `None` if the lock failed: the speed of a failed lock is useless.
    pub fn stat(&self, figure: &str) -> Option<&Stat> {
        if self.failed().is_some() {
            return None;
        }
        self.stats.get(figure)
    }

    /// Returns the figure, or the word to show instead, or `None` if there is neither.
    pub fn stat_or_word(&self, figure: &str) -> Option<Result<&Stat, &'static str>> {
        self.failed().map(Err).or_else(|| self.stat(figure).map(Ok))
    }

    pub fn verdicts(&self) -> &[&'a str] {
        &self.verdicts
    }
}

/// A record, indexed for lookups.
#[derive(Debug)]
pub struct Run<'a> {
    /// In the order of the rows.
    pub contenders: Vec<Contender<'a>>,
    /// Sorted.
    spots: Vec<(Spot<'a>, Found<'a>)>,
}

impl<'a> Run<'a> {
    pub fn new(record: &'a Record) -> Self {
        let mut values: BTreeMap<(Spot, &str), (Vec<f64>, &str)> = BTreeMap::new();
        let mut spots: BTreeMap<Spot, Found> = BTreeMap::new();
        for row in &record.rows {
            let found = spots.entry(spot(row)).or_default();
            match row.number() {
                Some(number) if row.figure != "verdict" => {
                    let (values, unit) = values.entry((spot(row), &row.figure)).or_default();
                    values.push(number);
                    *unit = &row.unit;
                }
                // A value that is not a number is a remark, which is shown.
                _ => found.verdicts.push(&row.value),
            }
        }
        for ((spot, figure), (values, unit)) in values {
            if let (Some(stat), Some(found)) = (Stat::of(values, unit), spots.get_mut(&spot)) {
                found.stats.insert(figure, stat);
            }
        }
        Run {
            contenders: Contender::all(&record.rows),
            spots: spots.into_iter().collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.spots.is_empty()
    }

    pub fn spots(&self, workload: &str) -> impl Iterator<Item = (&Spot<'a>, &Found<'a>)> {
        self.spots
            .iter()
            .filter(move |(spot, _)| spot.workload == workload)
            .map(|(spot, found)| (spot, found))
    }

    pub fn found(
        &self,
        workload: &str,
        cell: Cell,
        processes: u32,
        contender: &str,
    ) -> Option<&Found<'a>> {
        let wanted = Spot {
            workload,
            cell,
            processes,
            contender,
        };
        let index = self
            .spots
            .binary_search_by(|(spot, _)| spot.cmp(&wanted))
            .ok()?;
        Some(&self.spots[index].1)
    }

    pub fn stat(
        &self,
        workload: &str,
        cell: Cell,
        processes: u32,
        contender: &str,
        figure: &str,
    ) -> Option<&Stat> {
        self.found(workload, cell, processes, contender)?
            .stat(figure)
    }

    /// Returns the largest number of rounds of any figure.
    pub fn rounds(&self) -> usize {
        let stats = self
            .spots
            .iter()
            .flat_map(|(_, found)| found.stats.values());
        stats.map(|stat| stat.rounds).max().unwrap_or(0)
    }

    pub fn workloads(&self) -> Vec<&'a str> {
        self.spots
            .iter()
            .map(|(spot, _)| spot.workload)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    pub fn cells(&self, workload: &str) -> Vec<Cell<'a>> {
        self.spots(workload)
            .map(|(spot, _)| spot.cell)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    pub fn processes(&self, workload: &str) -> Vec<u32> {
        self.spots(workload)
            .map(|(spot, _)| spot.processes)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Returns the number of processes in the record that is nearest, as a ratio, to the wanted
    /// one.
    pub fn nearest(&self, workload: &str, wanted: u32) -> Option<u32> {
        let far = |processes: u32| (f64::from(processes.max(1)) / f64::from(wanted)).ln().abs();
        self.processes(workload)
            .into_iter()
            .min_by(|&a, &b| far(a).total_cmp(&far(b)))
    }

    /// Returns the figures of the workload, with the best-known ones first.
    pub fn figures(&self, workload: &str) -> Vec<&'a str> {
        const KNOWN: [&str; 9] = [
            "throughput",
            "fairness",
            "cpu",
            "p50",
            "p99",
            "p99.9",
            "max",
            "round trip",
            "recovery",
        ];
        let mut figures: Vec<&str> = self
            .spots(workload)
            .flat_map(|(_, found)| found.stats.keys().copied())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        figures.sort_by_key(|figure| {
            KNOWN
                .iter()
                .position(|known| known == figure)
                .unwrap_or(KNOWN.len())
        });
        figures
    }

    /// Returns the cell that represents the workload: the one in which most contenders were
    /// measured. Among several, prefers the most contended one that still does some work. A loop
    /// that only locks flatters a lock that keeps the same owner.
    pub fn main_cell(&self, workload: &str) -> Option<Cell<'a>> {
        self.cells(workload).into_iter().max_by_key(|cell| {
            let here = self.spots(workload).filter(|(spot, _)| spot.cell == *cell);
            let measured = here
                .map(|(spot, _)| spot.contender)
                .collect::<BTreeSet<_>>()
                .len();
            let works = cell.inside_ns > 0 && cell.outside_ns > 0;
            let work = u64::from(cell.inside_ns) + u64::from(cell.outside_ns);
            (
                measured,
                works,
                std::cmp::Reverse(work),
                cell.placement == "all CPUs",
            )
        })
    }

    /// Returns whether the contender hung in a workload that kills no process, or was broken in
    /// any. Such a contender is not compared with.
    pub fn unsound(&self, contender: &str) -> bool {
        let mut failed = self.broken().map(|(spot, _)| spot).chain(self.hanging());
        failed.any(|spot| spot.contender == contender)
    }

    /// Returns the spots that hung although no process was killed.
    pub fn hanging(&self) -> impl Iterator<Item = &Spot<'a>> {
        let killed = |spot: &Spot| matches!(spot.workload, "crash" | "deaths");
        let hung = self
            .spots
            .iter()
            .filter(|(_, found)| found.failed() == Some("HANGS"));
        hung.filter(move |(spot, _)| !killed(spot))
            .map(|(spot, _)| spot)
    }

    pub fn broken(&self) -> impl Iterator<Item = (&Spot<'a>, &'a str)> {
        self.spots
            .iter()
            .filter_map(|(spot, found)| Some((spot, found.broken()?)))
    }
}

fn spot(row: &Row) -> Spot<'_> {
    let cell = Cell {
        inside_ns: row.inside_ns,
        outside_ns: row.outside_ns,
        placement: &row.placement,
    };
    Spot {
        workload: &row.workload,
        cell,
        processes: row.processes,
        contender: &row.contender,
    }
}
