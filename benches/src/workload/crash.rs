//! A holder is killed by SIGKILL. Measures when a process that sleeps on the lock acquires it, and
//! whether it receives an error. Then checks whether a process that comes after the death acquires
//! the lock, and whether it receives an error.

use super::{Figure, Outcome, Terms};
use crate::arena::SharedArena;
use crate::children::Crew;
use crate::clock;
use crate::contender::{Contender, DeathReport, Handle as _};
use crate::fault::Fault;
use std::fs;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// The slots of the two processes.
const HOLDER: usize = 0;
const LOCKER: usize = 1;

/// When the second process locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// While the holder is alive: the second process sleeps on the lock, or spins.
    Before,
    /// After the holder is dead and reaped.
    After,
}

/// The result of the second process.
struct Found {
    /// The time in ns from the call of kill(2) to the acquisition.
    recovery: u64,
    reported: bool,
}

pub fn run<C: Contender>(terms: &Terms) -> Outcome {
    let mut waiters = Vec::new();
    for _ in 0..terms.trials {
        match trial::<C>(terms, Comes::Before) {
            Err(Fault::Hangs) => return Ok(vec![Figure::verdict("hangs")]),
            found => waiters.push(found?),
        }
    }
    let late = match trial::<C>(terms, Comes::After) {
        Err(Fault::Hangs) => return Ok(vec![Figure::verdict("hangs")]),
        found => found?,
    };
    // Callers cannot rely on an error that is not always reported.
    let reported = late.reported && waiters.iter().all(|found| found.reported);
    waiters.sort_unstable_by_key(|found| found.recovery);
    let median = waiters.get(waiters.len() / 2);
    let mut figures = vec![Figure::verdict(if reported { "told" } else { "silent" })];
    figures.extend(median.map(|found| Figure::number("recovery", "ns", found.recovery as f64)));
    Ok(figures)
}

fn trial<C: Contender>(terms: &Terms, comes: Comes) -> Result<Found, Fault> {
    let contender = C::prepare(1)?;
    let arena = SharedArena::new()?;
    let mut crew = Crew::new(&arena);
    crew.start(HOLDER, || {
        contender.attach(0)?.with(|_| {
            arena.inside.store(HOLDER as u32 + 1, Release);
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        })
    })?;
    while arena.inside.load(Acquire) == 0 {
        crew.watch(Duration::from_micros(100))?;
    }
    let mut killed = 0;
    if comes == Comes::After {
        killed = clock::now();
        crew.kill(HOLDER)?;
    }
    crew.start(LOCKER, || {
        let mut handle = contender.attach(0)?;
        let slot = &arena.slots[LOCKER];
        slot.began.store(clock::now(), Release);
        handle.with(|death_report| {
            slot.ended.store(clock::now(), Relaxed);
            slot.reported
                .store((death_report == DeathReport::Died).into(), Relaxed);
        })
    })?;
    if comes == Comes::Before {
        while arena.slots[LOCKER].began.load(Acquire) == 0 {
            crew.watch(Duration::from_micros(50))?;
        }
        until_asleep(crew.id(LOCKER));
        killed = clock::now();
        crew.kill(HOLDER)?;
    }
    crew.join(LOCKER, terms.hang_timeout)?;
    let slot = &arena.slots[LOCKER];
    let Some(recovery) = slot.ended.load(Relaxed).checked_sub(killed) else {
        return Err(Fault::Broken(String::from(
            "the lock was acquired while its holder lived",
        )));
    };
    Ok(Found {
        recovery,
        reported: slot.reported.load(Relaxed) != 0,
    })
}

/// Waits until a process sleeps. If the process spins instead, returns after a short time.
fn until_asleep(id: u32) {
    let until = Instant::now() + Duration::from_millis(20);
    // The state follows the name in parentheses: proc_pid_stat(5).
    let asleep = || {
        fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| {
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('S'))
        })
    };
    while !asleep() && Instant::now() < until {
        std::thread::sleep(Duration::from_micros(200));
    }
}
