//! One process without contention: the cost of a lock and an unlock.

use super::{Figure, Outcome, Terms};
use crate::arena::SharedArena;
use crate::children::Crew;
use crate::contender::{Contender, Handle as _};
use crate::fault::Fault;

/// Critical sections between two checks of the stop flag.
const BATCH: u64 = 1024;

pub fn run<C: Contender>(terms: &Terms) -> Outcome {
    let contender = C::prepare(1)?;
    let arena = SharedArena::new()?;
    let mut crew = Crew::new(&arena);
    // In a child, as in the other workloads, so that the parent's memory stays unchanged for the
    // next job.
    crew.start(0, || {
        let mut handle = contender.attach(0)?;
        arena.measure(0, || {
            let mut operations = 0;
            while !arena.stopped() {
                for _ in 0..BATCH {
                    handle.with(|_| arena.count.bump())?;
                }
                operations += BATCH;
            }
            Ok(operations)
        })
    })?;
    crew.gather(1)?;
    arena.open_gate();
    crew.watch(terms.time)?;
    arena.stop();
    crew.finish(Terms::GRACE)?;
    let operations = arena.operations(1)[0];
    let count = arena.count.get();
    if count != operations {
        return Err(Fault::Broken(format!(
            "the count is {count} after {operations} operations"
        )));
    }
    // The rate per CPU time: the process never sleeps, and other load on the machine is not a cost
    // of the lock.
    let throughput = operations as f64 / arena.cpu_seconds(1) / 1e6;
    Ok(vec![
        Figure::number("throughput", "Mops/s", throughput),
        Figure::verdict("ok"),
    ])
}
