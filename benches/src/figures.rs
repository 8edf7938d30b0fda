//! The record's rows, grouped by cell and contender, and their summary over the rounds.

use crate::record::{Record, Row};
use std::collections::BTreeMap;

/// A cell as the record names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellName {
    pub workload: String,
    pub processes: u32,
    pub work: (u32, u32),
    pub placement: String,
}

/// The figures of a record.
pub struct Figures<'a>(&'a Record);

/// The values of a figure by round.
pub type ByRound = BTreeMap<u32, f64>;

impl<'a> Figures<'a> {
    pub fn new(record: &'a Record) -> Self {
        Figures(record)
    }

    /// Returns the cells, in the order of their first measurement.
    pub fn cells(&self) -> Vec<CellName> {
        let mut cells = Vec::new();
        for row in &self.0.rows {
            let cell = CellName::of(row);
            if !cells.contains(&cell) {
                cells.push(cell);
            }
        }
        cells
    }

    /// Returns the contenders measured in a cell, each with its family, in the order of the first
    /// round, which is the order of the list.
    pub fn contenders(&self, cell: &CellName) -> Vec<(&'a str, &'a str)> {
        let mut names: Vec<(&str, &str)> = Vec::new();
        for row in self.rows(cell) {
            let name = (row.contender.as_str(), row.family.as_str());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Returns a figure's value in each round.
    pub fn by_round(&self, cell: &CellName, contender: &str, figure: &str) -> ByRound {
        self.rows(cell)
            .filter(|row| row.contender == contender && row.figure == figure)
            .filter_map(|row| Some((row.round, row.number()?)))
            .collect()
    }

    /// Returns the verdict. If a later round has a different verdict, returns the later one. (No
    /// further round follows a bad verdict.)
    pub fn verdict(&self, cell: &CellName, contender: &str) -> Option<&'a str> {
        let mut verdicts = self
            .rows(cell)
            .filter(|row| row.contender == contender && row.figure == "verdict")
            .map(|row| row.value.as_str());
        let first = verdicts.next()?;
        Some(verdicts.find(|later| *later != first).unwrap_or(first))
    }

    fn rows(&self, cell: &CellName) -> impl Iterator<Item = &'a Row> {
        self.0.rows.iter().filter(move |row| cell.is_of(row))
    }
}

/// Returns whether a verdict belongs to a cell that produced figures.
pub fn is_fine(verdict: &str) -> bool {
    matches!(verdict, "ok" | "told" | "silent")
}

impl CellName {
    fn of(row: &Row) -> Self {
        CellName {
            workload: row.workload.clone(),
            processes: row.processes,
            work: (row.inside_ns, row.outside_ns),
            placement: row.placement.clone(),
        }
    }

    fn is_of(&self, row: &Row) -> bool {
        self.workload == row.workload
            && self.processes == row.processes
            && self.work == (row.inside_ns, row.outside_ns)
            && self.placement == row.placement
    }

    /// Returns the cell as a heading.
    pub fn title(&self) -> String {
        let processes = match self.processes {
            1 => String::from("1 process"),
            many => format!("{many} processes"),
        };
        let work = match self.work {
            (0, 0) => String::new(),
            (inside, outside) => format!(", {inside} ns inside, {outside} ns outside"),
        };
        let work = match self.workload.as_str() {
            "contended" if work.is_empty() => String::from(", back to back"),
            _ => work,
        };
        let placement = match self.workload.as_str() {
            "handoff" => format!(", {}", self.placement),
            _ => String::new(),
        };
        format!("{}: {processes}{work}{placement}", self.workload)
    }
}

/// Returns the ratios of the rounds that both have.
pub fn ratios(above: &ByRound, below: &ByRound) -> Vec<f64> {
    above
        .iter()
        .filter_map(|(round, above)| Some(above / below.get(round)?))
        .collect()
}

pub fn values(by_round: &ByRound) -> Vec<f64> {
    by_round.values().copied().collect()
}

/// Returns the middle value, or the mean of the two middle values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}
