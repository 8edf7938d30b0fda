//! Processes share one lock: throughput, fairness, CPU time, and, measured separately, the latency
//! of an acquire.

use super::{Cell, Figure, Outcome, Terms};
use crate::arena::{self, Arena, SharedArena};
use crate::children::Crew;
use crate::clock::{self, Work};
use crate::contender::{Contender, Failed, Handle};
use crate::fault::Fault;
use fastrand::Rng;

/// The latency is not measured with more processes than this, because the scheduler would dominate
/// it.
const MOST_TIMED: u32 = 64;

pub fn run<C: Contender>(cell: &Cell, terms: &Terms) -> Outcome {
    let section = Section {
        inside: terms.pace.work(cell.inside_ns),
        outside: terms.pace.work(cell.outside_ns),
    };
    let mut figures = throughput::<C>(cell, terms, section)?;
    if cell.processes <= MOST_TIMED {
        figures.extend(latency::<C>(cell, terms, section)?);
    }
    figures.push(Figure::verdict("ok"));
    Ok(figures)
}

/// The work of one turn.
#[derive(Debug, Clone, Copy)]
struct Section {
    inside: Work,
    outside: Work,
}

impl Section {
    #[inline]
    fn turn(self, arena: &Arena) {
        arena.count.bump_around(|| self.inside.run());
    }
}

fn throughput<C: Contender>(
    cell: &Cell,
    terms: &Terms,
    section: Section,
) -> Result<Vec<Figure>, Fault> {
    let arena = SharedArena::new()?;
    together::<C>(cell, terms.time, &arena, |_, handle| {
        let mut operations = 0;
        while !arena.stopped() {
            handle.with(|_| section.turn(&arena))?;
            operations += 1;
            section.outside.run();
        }
        Ok(operations)
    })?;
    let workers = cell.processes as usize;
    let operations = arena.operations(workers);
    let total: u64 = operations.iter().sum();
    let shares = operations.iter().min().zip(operations.iter().max());
    let fairness = shares.map_or(0.0, |(&least, &most)| least as f64 / most.max(1) as f64);
    let millions = total as f64 / 1e6;
    Ok(vec![
        Figure::number("throughput", "Mops/s", millions / arena.seconds(workers)),
        Figure::number("fairness", "min/max", fairness),
        Figure::number("cpu", "s/Mop", arena.cpu_seconds(workers) / millions),
    ])
}

/// Measures the latency in a separate and shorter run, so that reading the clock does not reduce
/// the throughput. About one acquire in 16 is timed, at random distances. Timing each acquire would
/// put two clock reads between any two critical sections, which is a different workload. The result
/// includes one read of the clock.
fn latency<C: Contender>(
    cell: &Cell,
    terms: &Terms,
    section: Section,
) -> Result<Vec<Figure>, Fault> {
    let arena = SharedArena::new()?;
    together::<C>(cell, terms.time / 4, &arena, |slot, handle| {
        let mut random = Rng::with_seed(slot as u64);
        let mut latencies = arena::histogram();
        let mut operations = 0;
        while !arena.stopped() {
            for _ in 0..random.u32(0..=30) {
                if arena.stopped() {
                    break;
                }
                handle.with(|_| section.turn(&arena))?;
                operations += 1;
                section.outside.run();
            }
            let asked = clock::now();
            let mut got = asked;
            handle.with(|_| {
                got = clock::now();
                section.turn(&arena);
            })?;
            operations += 1;
            latencies.saturating_record(got.saturating_sub(asked));
            section.outside.run();
        }
        arena.slots[slot].store_latencies(&latencies);
        Ok(operations)
    })?;
    let latencies = arena.latencies(cell.processes as usize);
    let quantile =
        |name, quantile| Figure::number(name, "ns", latencies.value_at_quantile(quantile) as f64);
    Ok(vec![
        quantile("p50", 0.5),
        quantile("p99", 0.99),
        quantile("p99.9", 0.999),
        Figure::number("max", "ns", latencies.max() as f64),
    ])
}

/// Runs `turns` in all processes of the cell at once, and checks the count.
fn together<C: Contender>(
    cell: &Cell,
    time: std::time::Duration,
    arena: &Arena,
    turns: impl Fn(usize, &mut C::Handle<'_>) -> Result<u64, Failed>,
) -> Result<(), Fault> {
    let contender = C::prepare(1)?;
    let workers = cell.processes as usize;
    let mut crew = Crew::new(arena);
    for slot in 0..workers {
        crew.start(slot, || {
            let mut handle = contender.attach(0)?;
            arena.measure(slot, || turns(slot, &mut handle))
        })?;
    }
    crew.gather(workers)?;
    arena.open_gate();
    crew.watch(time)?;
    arena.stop();
    crew.finish(Terms::GRACE)?;
    let operations: u64 = arena.operations(workers).iter().sum();
    let count = arena.count.get();
    if count != operations {
        return Err(Fault::Broken(format!(
            "the count is {count} after {operations} operations"
        )));
    }
    Ok(())
}
