//! The cells of a run, their order, and the contenders that are measured in each.

use crate::cli::Options;
use crate::clock::Pace;
use crate::contender::list::{Entry, OURS};
use crate::targets::{self, CROWD};
use crate::workload::{Cell, Placement, Terms, Workload};
use std::time::Duration;

/// The numbers of processes of the contended cells, unless the user chose some.
const PROCESSES: [u32; 6] = [1, 2, 4, 8, 16, 64];
const FEW_PROCESSES: [u32; 2] = [2, 8];

/// Work inside and outside the critical section, ns.
const WORK: [(u32, u32); 2] = [(0, 0), (50, 200)];

/// The number of processes of the workload with deaths.
const DEATHS_PROCESSES: u32 = 4;

/// The rounds of the cells that a target is about, and the rounds of the other cells, unless the
/// user chose a number.
const ROUNDS: u32 = 5;
const FEW_ROUNDS: u32 = 3;

pub struct Plan {
    pub cells: Vec<Cell>,
    pub rounds: u32,
    pub terms: Terms,
    /// The user chose the number of rounds, so all cells have that number.
    all_rounds: bool,
    contenders: Vec<&'static Entry>,
    crowds_for_all: bool,
}

/// The measurement of one contender in one cell, in one round.
#[derive(Clone, Copy)]
pub struct Job {
    pub round: u32,
    /// Index of the cell in the plan.
    pub cell: usize,
    pub entry: &'static Entry,
}

impl Plan {
    pub fn new(options: &Options) -> Self {
        let time = options.time();
        Plan {
            cells: cells(options),
            rounds: options
                .rounds
                .unwrap_or(if options.quick { 1 } else { ROUNDS }),
            all_rounds: options.rounds.is_some(),
            terms: Terms {
                time,
                // Must exceed the interval of the crate's liveness check, one second.
                hang_timeout: Duration::from_millis(if options.quick { 1500 } else { 3000 }),
                pace: Pace::measure(),
                kills: if options.quick { 10 } else { 40 },
                trials: if options.quick { 3 } else { 15 },
            },
            contenders: options.chosen(),
            crowds_for_all: options.names_contenders() || options.processes.is_some(),
        }
    }

    /// Returns all jobs: ordered by round, then by cell, then by contender. The contenders' order
    /// rotates from round to round, so that no contender is always first.
    pub fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for round in 0..self.rounds {
            for (index, cell) in self.cells.iter().enumerate() {
                if round >= FEW_ROUNDS && !self.all_rounds && !targets::has_target(cell) {
                    continue;
                }
                let mut entries: Vec<_> = self
                    .contenders
                    .iter()
                    .filter(|entry| self.takes_part(entry, cell))
                    .collect();
                if !entries.is_empty() {
                    let turn = round as usize % entries.len();
                    entries.rotate_left(turn);
                }
                jobs.extend(entries.into_iter().map(|&entry| Job {
                    round,
                    cell: index,
                    entry,
                }));
            }
        }
        jobs
    }

    fn takes_part(&self, entry: &Entry, cell: &Cell) -> bool {
        entry.takes_part(cell.workload)
            && (self.crowds_for_all || cell.processes != CROWD || entry.name == OURS)
    }

    /// Estimates how long a job takes.
    pub fn cost(&self, job: Job) -> Duration {
        let cell = self.cells[job.cell];
        let forks = Duration::from_millis(2) * cell.processes;
        match cell.workload {
            Workload::Contended => self.terms.time * 5 / 4 + forks * 2,
            Workload::Crash => Duration::from_millis(10) * self.terms.trials,
            _ => self.terms.time + forks,
        }
    }
}

fn cells(options: &Options) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |workload, processes, (inside_ns, outside_ns), placement| {
        if options.wants(workload) {
            cells.push(Cell {
                workload,
                processes,
                inside_ns,
                outside_ns,
                placement,
            });
        }
    };
    let all = Placement::AllCpus;
    add(Workload::Uncontended, 1, (0, 0), all);
    let work = match (options.inside, options.outside) {
        (None, None) => WORK.to_vec(),
        (inside, outside) => vec![(inside.unwrap_or(0), outside.unwrap_or(0))],
    };
    let by_default: &[u32] = if options.quick {
        &FEW_PROCESSES
    } else {
        &PROCESSES
    };
    let processes = options.processes.as_deref();
    for &processes in processes.unwrap_or(by_default) {
        for &work in &work {
            add(Workload::Contended, processes, work, all);
        }
    }
    if processes.is_none() {
        add(Workload::Contended, CROWD, (0, 0), all);
    }
    for placement in [all, Placement::OneCpu] {
        add(Workload::Handoff, 2, (0, 0), placement);
    }
    for processes in FEW_PROCESSES {
        add(Workload::ManyLocks, processes, (0, 0), all);
    }
    // Before the deaths: a contender that hangs here would also hang there.
    add(Workload::Crash, 2, (0, 0), all);
    add(Workload::Deaths, DEATHS_PROCESSES, WORK[1], all);
    cells
}
