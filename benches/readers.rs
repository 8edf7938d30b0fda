//! What processes pay that read together: reads in a second, ours beside glibc's `pthread_rwlock_t`, and their ratio.
//!
//! `cargo bench --bench readers`. Each round measures both, one after the other; the medians of the rounds' ratios count.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use pshared::{Shared, SharedCounter, SharedEvent, SharedRwLock, ShmSafe, fork};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

#[allow(dead_code, reason = "the other benchmark uses the rest of it")]
mod glibc;

const ROUNDS: usize = 7;
const TIME: Duration = Duration::from_millis(300);
/// Reads between two looks at the clock.
const BATCH: u64 = 1_000;

#[derive(ShmSafe)]
#[repr(C)]
struct Arena {
    start: SharedEvent,
    reads: SharedCounter,
    lock: SharedRwLock<u64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:>9} {:>12} {:>12} {:>7}",
        "processes", "ours Mop/s", "glibc Mop/s", "ratio"
    );
    for processes in [1, 2, 4] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let (one, other, lock) = (arena()?, arena()?, glibc::RwLock::new()?);
            let ours = reads_a_second(&one, processes, || *one.lock.read().unwrap())?;
            let theirs = reads_a_second(&other, processes, || lock.read())?;
            rounds.push((ours / theirs, ours, theirs));
        }
        rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, ours, theirs) = rounds[ROUNDS / 2];
        println!("{processes:>9} {ours:>12.1} {theirs:>12.1} {ratio:>7.2}");
    }
    Ok(())
}

/// Keeps the calling process on one of the CPUs that it may use, so that no two share one while another is idle.
fn pin(process: usize) {
    let here = Pid::this();
    let allowed = sched_getaffinity(here).expect("no affinity");
    let cpus: Vec<_> = (0..CpuSet::count())
        .filter(|&cpu| allowed.is_set(cpu) == Ok(true))
        .collect();
    let mut own = CpuSet::new();
    own.set(cpus[process % cpus.len()]).expect("no such CPU");
    sched_setaffinity(here, &own).expect("not pinned");
}

fn arena() -> Result<Shared<Arena>, pshared::Error> {
    Shared::anonymous(Arena {
        start: SharedEvent::new(),
        reads: SharedCounter::new(0),
        lock: SharedRwLock::new(0),
    })
}

/// Millions of reads in a second, by all processes together.
fn reads_a_second(
    arena: &Arena,
    processes: usize,
    read: impl Fn() -> u64,
) -> Result<f64, Box<dyn Error>> {
    let mut children = Vec::new();
    for process in 0..processes {
        children.push(fork::spawn(|| {
            pin(process);
            arena.start.wait();
            let (since, mut reads) = (Instant::now(), 0);
            while since.elapsed() < TIME {
                (0..BATCH).for_each(|_| {
                    black_box(read());
                });
                reads += BATCH;
            }
            arena.reads.add(reads);
        })?);
    }
    arena.start.set();
    for child in children {
        assert!(child.wait()?.success(), "a reader failed");
    }
    Ok(arena.reads.get() as f64 / TIME.as_secs_f64() / 1e6)
}
