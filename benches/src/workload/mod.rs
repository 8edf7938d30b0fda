//! The workloads, one file each.

use crate::clock::Pace;
use crate::contender::Contender;
use crate::fault::Fault;
use clap::ValueEnum;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::time::Duration;

mod contended;
mod crash;
mod deaths;
pub mod handoff;
mod many_locks;
mod uncontended;

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// One process locks and unlocks
    Uncontended,
    /// Processes share one lock
    Contended,
    /// Two processes wake each other in turn
    Handoff,
    /// Processes choose among 1,024 locks at random
    ManyLocks,
    /// A holder is killed: whether the next locker receives an error, and when
    Crash,
    /// Workers are killed while they contend for a lock, and replaced
    Deaths,
}

impl Workload {
    /// The name in the record.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Uncontended => "uncontended",
            Workload::Contended => "contended",
            Workload::Handoff => "handoff",
            Workload::ManyLocks => "many locks",
            Workload::Crash => "crash",
            Workload::Deaths => "deaths",
        }
    }
}

/// Where the processes may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    AllCpus,
    OneCpu,
}

impl Placement {
    /// The name in the record.
    pub fn name(self) -> &'static str {
        match self {
            Placement::AllCpus => "all CPUs",
            Placement::OneCpu => "one CPU",
        }
    }
}

/// A workload with its sizes. Each contender is measured in it once per round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub workload: Workload,
    pub processes: u32,
    pub inside_ns: u32,
    pub outside_ns: u32,
    pub placement: Placement,
}

impl Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, P = {}", self.workload.name(), self.processes)?;
        if matches!(self.workload, Workload::Contended | Workload::ManyLocks) {
            write!(f, ", {}/{} ns", self.inside_ns, self.outside_ns)?;
        }
        if self.workload == Workload::Handoff {
            write!(f, ", {}", self.placement.name())?;
        }
        Ok(())
    }
}

/// The terms that all cells of a run share.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long a cell is measured.
    pub time: Duration,
    /// How long a locker may wait after a death before it counts as hanging.
    pub hang_timeout: Duration,
    pub pace: Pace,
    /// Kills per round in the workload with deaths.
    pub kills: u32,
    /// Holders killed per round to measure the recovery time.
    pub trials: u32,
}

impl Terms {
    /// How long workers may take to end after the stop flag is set. If no process is killed, a lock
    /// has no reason to hang.
    pub const GRACE: Duration = Duration::from_secs(10);
}

/// A figure of one round.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub value: String,
}

impl Figure {
    pub fn number(name: &'static str, unit: &'static str, value: f64) -> Self {
        Figure {
            name,
            unit,
            // Six significant digits, so that a person can read the CSV.
            value: format!("{:?}", format!("{value:.5e}").parse().unwrap_or(value)),
        }
    }

    pub fn verdict(verdict: impl Display) -> Self {
        Figure {
            name: "verdict",
            unit: "",
            value: verdict.to_string(),
        }
    }
}

/// The figures of a cell, or the reason why there are none.
pub type Outcome = Result<Vec<Figure>, Fault>;

/// A contender with its type erased: one dynamic call for each cell, none for an operation.
pub trait Subject {
    fn run(&self, cell: &Cell, terms: &Terms) -> Outcome;
}

/// A lock as a subject.
pub struct Lock<C>(PhantomData<C>);

impl<C> Lock<C> {
    pub const NEW: Self = Lock(PhantomData);
}

impl<C: Contender> Subject for Lock<C> {
    fn run(&self, cell: &Cell, terms: &Terms) -> Outcome {
        match cell.workload {
            Workload::Uncontended => uncontended::run::<C>(terms),
            Workload::Contended => contended::run::<C>(cell, terms),
            Workload::ManyLocks => many_locks::run::<C>(cell, terms),
            Workload::Crash => crash::run::<C>(terms),
            Workload::Deaths => deaths::run::<C>(cell, terms),
            Workload::Handoff => Err(Fault::Failed(String::from(
                "a lock cannot run the handoff workload",
            ))),
        }
    }
}
