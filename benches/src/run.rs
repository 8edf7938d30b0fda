//! Performs a run: all jobs in order. A contender that hangs or is broken in a cell is not measured
//! there again.

use crate::fault::Fault;
use crate::figures::is_fine;
use crate::machine;
use crate::plan::{Job, Plan};
use crate::progress::{Progress, in_words};
use crate::record::{Record, Row};
use crate::signal;
use crate::workload::{Cell, Figure, Outcome, Workload};
use std::error::Error;
use std::time::Duration;

/// How often a cell is measured if everything was stopped during the measurement.
const TRIES: u32 = 3;

/// How many CPUs other programs may keep busy without a warning.
const MOST_BUSY: f64 = 0.2;

/// Performs all jobs, or those before Ctrl-C.
pub fn all(plan: &Plan) -> Result<Record, Box<dyn Error>> {
    signal::catch()?;
    let jobs = plan.jobs();
    let total: Duration = jobs.iter().map(|&job| plan.cost(job)).sum();
    eprintln!(
        "{} cells, {} rounds, {} measurements: about {}",
        plan.cells.len(),
        plan.rounds,
        jobs.len(),
        in_words(total)
    );
    if let Some(busy) = machine::busy_cpus().filter(|busy| *busy > MOST_BUSY) {
        eprintln!(
            "warning: other programs keep {busy:.1} CPUs busy; processes that rarely run at the same time rarely contend"
        );
    }
    let mut record = Record {
        about: machine::about(),
        rows: Vec::new(),
    };
    let mut progress = Progress::new(total);
    let mut given_up = Vec::new();
    for job in jobs {
        let cell = &plan.cells[job.cell];
        progress.start(format!(
            "round {} of {}: {cell}: {}",
            job.round + 1,
            plan.rounds,
            job.entry.name
        ));
        let figures = match outcome(plan, job, &given_up) {
            Ok(figures) => figures,
            Err(Fault::Interrupted) => {
                progress.print_line("interrupted: the results below cover the rounds so far");
                break;
            }
            Err(fault) => vec![Figure::verdict(fault)],
        };
        if let Some(verdict) = figures.iter().find(|figure| figure.name == "verdict")
            && !is_fine(&verdict.value)
        {
            given_up.push(GivenUp {
                contender: job.entry.name,
                cell: job.cell,
                after_a_death: verdict.value == "hangs" && cell.workload == Workload::Crash,
            });
        }
        record.rows.extend(rows(cell, job, figures));
        progress.done(plan.cost(job));
    }
    progress.finish();
    Ok(record)
}

/// A contender that hung or was broken in a cell, and is not measured there again.
struct GivenUp {
    contender: &'static str,
    cell: usize,
    /// It hung after the holder was killed.
    after_a_death: bool,
}

fn outcome(plan: &Plan, job: Job, given_up: &[GivenUp]) -> Outcome {
    let mut mine = given_up
        .iter()
        .filter(|given_up| given_up.contender == job.entry.name);
    if mine.clone().any(|given_up| given_up.cell == job.cell) {
        return Ok(Vec::new());
    }
    let cell = &plan.cells[job.cell];
    // The workers would only queue behind the first worker killed in the critical section.
    if cell.workload == Workload::Deaths && mine.any(|given_up| given_up.after_a_death) {
        return Err(Fault::Hangs);
    }
    let mut outcome = job.entry.subject.run(cell, &plan.terms);
    for _ in 1..TRIES {
        if !matches!(outcome, Err(Fault::Standstill)) {
            break;
        }
        outcome = job.entry.subject.run(cell, &plan.terms);
    }
    outcome
}

fn rows(cell: &Cell, job: Job, figures: Vec<Figure>) -> impl Iterator<Item = Row> {
    figures.into_iter().map(move |figure| Row {
        workload: cell.workload.name().to_owned(),
        contender: job.entry.name.to_owned(),
        family: job.entry.family.name().to_owned(),
        processes: cell.processes,
        inside_ns: cell.inside_ns,
        outside_ns: cell.outside_ns,
        placement: cell.placement.name().to_owned(),
        round: job.round,
        figure: figure.name.to_owned(),
        unit: figure.unit.to_owned(),
        value: figure.value,
    })
}
