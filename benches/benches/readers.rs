//! Measures how many reads per second concurrent processes perform: this crate's lock compared with
//! glibc's `pthread_rwlock_t`, and the ratio of the two.
//!
//! Run it with `cargo bench -p pshared-bench --bench readers`. Each round measures both, one after
//! the other. The result is the median of the rounds' ratios.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use pshared::{Shared, SharedCounter, SharedEvent, SharedRwLock, ShmSafe, fork};
use pshared_bench::glibc;
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: usize = 60;
const TIME: Duration = Duration::from_millis(40);
/// A round counts only if every process had its CPU for at least this share of the time, with both
/// locks. Reads that do not run at the same time do not contend.
const ENOUGH: f64 = 0.9;
/// Reads between two checks of the clock.
const BATCH: u64 = 1_000;

#[derive(ShmSafe)]
#[repr(C)]
struct Arena {
    start: SharedEvent,
    reads: SharedCounter,
    /// The number of processes that had their CPU.
    undisturbed: SharedCounter,
    lock: SharedRwLock<u64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:>9} {:>7} {:>12} {:>12} {:>7}",
        "processes", "rounds", "ours Mop/s", "glibc Mop/s", "ratio"
    );
    let cpus = std::thread::available_parallelism()?.get();
    for processes in [1, 2, 4, 8] {
        if processes > cpus {
            break;
        }
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let (one, other, lock) = (arena()?, arena()?, glibc::RwLock::new()?);
            let ours = reads_a_second(&one, processes, || *one.lock.read().unwrap())?;
            let theirs = reads_a_second(&other, processes, || lock.read())?;
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                rounds.push((ours / theirs, ours, theirs));
            }
        }
        rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        match rounds.get(rounds.len() / 2) {
            Some((ratio, ours, theirs)) => println!(
                "{processes:>9} {:>7} {ours:>12.1} {theirs:>12.1} {ratio:>7.2}",
                rounds.len()
            ),
            None => println!("{processes:>9} {:>7}: other programs used the CPUs", 0),
        }
    }
    Ok(())
}

/// Pins the calling process to one of its allowed CPUs, so that no two processes share a CPU while
/// another CPU is idle.
fn pin(process: usize) {
    let here = Pid::this();
    let allowed = sched_getaffinity(here).expect("sched_getaffinity failed");
    let cpus: Vec<_> = (0..CpuSet::count())
        .filter(|&cpu| allowed.is_set(cpu) == Ok(true))
        .collect();
    let mut own = CpuSet::new();
    own.set(cpus[process % cpus.len()]).expect("no such CPU");
    sched_setaffinity(here, &own).expect("sched_setaffinity failed");
}

fn arena() -> Result<Shared<Arena>, pshared::Error> {
    Shared::anonymous(Arena {
        start: SharedEvent::new(),
        reads: SharedCounter::new(0),
        undisturbed: SharedCounter::new(0),
        lock: SharedRwLock::new(0),
    })
}

/// Returns the millions of reads per second, summed over all processes. Returns `None` if other
/// programs used their CPUs.
fn reads_a_second(
    arena: &Arena,
    processes: usize,
    read: impl Fn() -> u64,
) -> Result<Option<f64>, Box<dyn Error>> {
    let mut children = Vec::new();
    for process in 0..processes {
        children.push(fork::spawn(|| {
            pin(process);
            arena.start.wait();
            let (since, had, mut reads) = (Instant::now(), cpu_time(), 0);
            while since.elapsed() < TIME {
                (0..BATCH).for_each(|_| {
                    black_box(read());
                });
                reads += BATCH;
            }
            arena.reads.add(reads);
            let had = cpu_time() - had;
            let enough = had.as_secs_f64() > since.elapsed().as_secs_f64() * ENOUGH;
            arena.undisturbed.add(enough.into());
        })?);
    }
    arena.start.set();
    for child in children {
        assert!(child.wait()?.success(), "a reader failed");
    }
    let together = arena.undisturbed.get() == processes as u64;
    Ok(together.then_some(arena.reads.get() as f64 / TIME.as_secs_f64() / 1e6))
}

/// Returns the CPU time of the calling thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec that may be written.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(answer, 0, "clock_gettime failed");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
