//! Processes choose among many locks at random. Most acquires meet no contention, but find the
//! lock's cache line in the cache of another CPU.

use super::{Cell, Figure, Outcome, Terms};
use crate::arena::{Count, Line, SharedArena};
use crate::children::Crew;
use crate::contender::{Contender, Handle as _};
use crate::fault::Fault;
use crate::mapped::Mapped;
use fastrand::Rng;

const LOCKS: usize = 1024;

pub fn run<C: Contender>(cell: &Cell, terms: &Terms) -> Outcome {
    let contender = C::prepare(LOCKS)?;
    let counts = Mapped::<Line<Count>>::new(LOCKS)?;
    let arena = SharedArena::new()?;
    let (inside, outside) = (
        terms.pace.work(cell.inside_ns),
        terms.pace.work(cell.outside_ns),
    );
    let workers = cell.processes as usize;
    let mut crew = Crew::new(&arena);
    for slot in 0..workers {
        crew.start(slot, || {
            let mut handles = (0..LOCKS)
                .map(|lock| contender.attach(lock))
                .collect::<Result<Vec<_>, _>>()?;
            let mut random = Rng::with_seed(slot as u64);
            arena.measure(slot, || {
                let mut operations = 0;
                while !arena.stopped() {
                    let chosen = random.usize(..LOCKS);
                    handles[chosen].with(|_| counts[chosen].bump_around(|| inside.run()))?;
                    operations += 1;
                    outside.run();
                }
                Ok(operations)
            })
        })?;
    }
    crew.gather(workers)?;
    arena.open_gate();
    crew.watch(terms.time)?;
    arena.stop();
    crew.finish(Terms::GRACE)?;
    let total: u64 = arena.operations(workers).iter().sum();
    let counted: u64 = counts.iter().map(|count| count.get()).sum();
    if counted != total {
        return Err(Fault::Broken(format!(
            "the counts are {counted} after {total} operations"
        )));
    }
    let millions = total as f64 / 1e6;
    Ok(vec![
        Figure::number("throughput", "Mops/s", millions / arena.seconds(workers)),
        Figure::number("cpu", "s/Mop", arena.cpu_seconds(workers) / millions),
        Figure::verdict("ok"),
    ])
}
