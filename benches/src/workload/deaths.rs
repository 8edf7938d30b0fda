//! Workers contend for a lock, are killed by SIGKILL at random instants, preferably inside the
//! critical section, and are replaced.
//!
//! **Accounting.** In the critical section a worker adds one to its own tally, then to the count.
//! At whichever instruction it is killed, the count is the sum of the tallies, or one less. A
//! locker that receives a notification of a death sets the count to the sum, and records the
//! difference. If the difference is more than one, the lock has also lost updates. If every death
//! was reported, the count is exact at the end.

use super::{Cell, Figure, Outcome, Terms};
use crate::arena::{Arena, SharedArena};
use crate::children::Crew;
use crate::contender::{Contender, DeathReport, Failed, Handle as _};
use crate::fault::Fault;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::compiler_fence;
use std::time::{Duration, Instant};

pub fn run<C: Contender>(cell: &Cell, terms: &Terms) -> Outcome {
    let contender = C::prepare(1)?;
    let arena = SharedArena::new()?;
    let (inside, outside) = (
        terms.pace.work(cell.inside_ns),
        terms.pace.work(cell.outside_ns),
    );
    let work = |slot: usize| {
        let (contender, arena) = (&contender, &arena);
        move || -> Result<(), Failed> {
            let mut handle = contender.attach(0)?;
            arena.pass_gate();
            while !arena.stopped() {
                handle.with(|death_report| {
                    repair(arena, death_report);
                    turn(arena, slot);
                    inside.run();
                    arena.inside.store(0, Relaxed);
                })?;
                outside.run();
            }
            Ok(())
        }
    };
    let workers = cell.processes as usize;
    let mut crew = Crew::new(&arena);
    for slot in 0..workers {
        crew.start(slot, work(slot))?;
    }
    crew.gather(workers)?;
    let began = Instant::now();
    arena.open_gate();
    let interval = terms.time / (terms.kills + 1);
    for _ in 0..terms.kills {
        let us = interval.as_micros() as u64;
        crew.watch(Duration::from_micros(fastrand::u64(us / 2..=us * 3 / 2)))?;
        let chosen = match arena.inside.load(Relaxed) {
            0 => fastrand::usize(..workers),
            inside => inside as usize - 1,
        };
        crew.replace(chosen, chosen, work(chosen))?;
    }
    crew.watch(interval)?;
    let seconds = began.elapsed().as_secs_f64();
    let tallies = arena.tallies();
    arena.stop();
    crew.finish(terms.hang_timeout)?;
    // The last death may not have been reported yet.
    crew.start(workers, || {
        contender
            .attach(0)?
            .with(|death_report| repair(&arena, death_report))
    })?;
    crew.join(workers, terms.hang_timeout)?;
    Ok(vec![
        Figure::number("throughput", "Mops/s", tallies as f64 / 1e6 / seconds),
        Figure::verdict(verdict(&arena, terms.kills)?),
    ])
}

/// Runs one critical section and accounts for it. The fence keeps the compiler from reordering the
/// tally after the count.
fn turn(arena: &Arena, slot: usize) {
    arena.inside.store(slot as u32 + 1, Relaxed);
    let mine = &arena.slots[slot].tally;
    mine.bump();
    compiler_fence(SeqCst);
    arena.count.bump();
}

fn repair(arena: &Arena, death_report: DeathReport) {
    if death_report == DeathReport::None {
        return;
    }
    let sum = arena.tallies();
    let missing = sum.abs_diff(arena.count.get());
    arena
        .largest_error
        .set(arena.largest_error.get().max(missing));
    arena.count.set(sum);
    arena.slots[0].reported.fetch_add(1, Relaxed);
}

fn verdict(arena: &Arena, kills: u32) -> Result<&'static str, Fault> {
    let (count, sum, largest_error) = (
        arena.count.get(),
        arena.tallies(),
        arena.largest_error.get(),
    );
    let missing = sum.abs_diff(count);
    let reported = arena.slots[0].reported.load(Relaxed);
    if largest_error > 1 {
        return Err(Fault::Broken(format!(
            "one death left the count {largest_error} off"
        )));
    }
    match (missing, reported) {
        (0, _) => Ok("ok"),
        // No death was reported, so no worker could repair the count: it is off by at most one for
        // each kill.
        (_, 0) if missing <= kills.into() => Ok("silent"),
        _ => Err(Fault::Broken(format!(
            "the count is {count} after {sum} operations"
        ))),
    }
}
