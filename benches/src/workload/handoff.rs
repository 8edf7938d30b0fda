//! Two processes wake each other in turn: the time of a round trip.

use super::{Cell, Figure, Outcome, Placement, Subject, Terms};
use crate::arena::{Arena, SharedArena};
use crate::children::Crew;
use crate::contender::Failed;
use crate::contender::signals::Signals;
use crate::fault::Fault;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::Relaxed;

/// The slots of the two processes, and also the number of the signal that each waits for.
const FIRST: usize = 0;
const SECOND: usize = 1;

/// Signals as a subject.
pub struct Handoff<S>(PhantomData<S>);

impl<S> Handoff<S> {
    pub const NEW: Self = Handoff(PhantomData);
}

impl<S: Signals> Subject for Handoff<S> {
    fn run(&self, cell: &Cell, terms: &Terms) -> Outcome {
        let signals = S::prepare()?;
        let arena = SharedArena::new()?;
        let mut crew = Crew::new(&arena);
        for side in [FIRST, SECOND] {
            crew.start(side, || {
                if cell.placement == Placement::OneCpu {
                    stay_on_one_cpu()?;
                }
                arena.measure(side, || match side {
                    FIRST => lead(&arena, &signals),
                    _ => follow(&arena, &signals),
                })
            })?;
        }
        crew.gather(2)?;
        arena.open_gate();
        crew.watch(terms.time)?;
        arena.stop();
        crew.finish(Terms::GRACE)?;
        let trips = arena.operations(2);
        if trips[FIRST] != trips[SECOND] {
            return Err(Fault::Broken(format!(
                "{} signals were answered {} times",
                trips[FIRST], trips[SECOND]
            )));
        }
        let trips = trips[FIRST] as f64;
        Ok(vec![
            Figure::number("round trip", "ns", arena.seconds(1) * 1e9 / trips),
            Figure::number("cpu", "s/Mop", arena.cpu_seconds(2) / trips * 1e6),
            Figure::verdict("ok"),
        ])
    }
}

/// Starts each round trip, and marks the last one.
fn lead(arena: &Arena, signals: &impl Signals) -> Result<u64, Failed> {
    let mut trips = 0;
    while !arena.stopped() {
        signals.give(SECOND)?;
        signals.take(FIRST)?;
        trips += 1;
    }
    // The signal orders this store: a write before `give` is visible after the matching `take`.
    arena.inside.store(1, Relaxed);
    signals.give(SECOND)?;
    Ok(trips)
}

fn follow(arena: &Arena, signals: &impl Signals) -> Result<u64, Failed> {
    let mut trips = 0;
    loop {
        signals.take(SECOND)?;
        if arena.inside.load(Relaxed) == 1 {
            return Ok(trips);
        }
        signals.give(FIRST)?;
        trips += 1;
    }
}

/// Restricts the calling process to the first of its allowed CPUs.
fn stay_on_one_cpu() -> Result<(), Failed> {
    let refused = |errno: nix::errno::Errno| Failed::by("sched_setaffinity", errno as i32);
    let this_process = Pid::from_raw(0);
    let all = sched_getaffinity(this_process).map_err(refused)?;
    let first = (0..CpuSet::count()).find(|&cpu| all.is_set(cpu) == Ok(true));
    let mut one = CpuSet::new();
    one.set(first.unwrap_or(0)).map_err(refused)?;
    sched_setaffinity(this_process, &one).map_err(refused)
}
