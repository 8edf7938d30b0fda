//! One process, nobody else about: the price of a lock and an unlock.

use super::{Figure, Outcome, Terms};
use crate::arena::SharedArena;
use crate::children::Crew;
use crate::contender::{Contender, Handle as _};
use crate::fault::Fault;

/// Sections between two looks at the stop flag.
const BATCH: u64 = 1024;

pub fn run<C: Contender>(terms: &Terms) -> Outcome {
    let contender = C::prepare(1)?;
    let arena = SharedArena::new()?;
    let mut crew = Crew::new(&arena);
    // In a child, as everywhere else: the parent's memory stays as it is for the next.
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
    // By the CPU's time: the process never sleeps, and what else the machine does is not the lock's price.
    let throughput = operations as f64 / arena.cpu_seconds(1) / 1e6;
    Ok(vec![
        Figure::number("throughput", "Mops/s", throughput),
        Figure::verdict("ok"),
    ])
}
