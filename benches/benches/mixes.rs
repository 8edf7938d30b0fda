//! Measures readers-writer locks under mixes of reads and writes, back to back: this crate's lock
//! between processes, those of glibc and rustix-futex-sync between processes, and parking_lot's
//! between threads.
//!
//! Run it with `cargo bench -p pshared-bench --bench mixes`. The locks take turns in every round.
//! The table shows the median of the rounds, and for each other lock the median of the ratios
//! within a round, with the lowest and the highest. After each cell, the number under the lock must
//! be the number of writes.

use fastrand::Rng;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use pshared::{Shared, SharedCounter, SharedEvent, SharedRwLock, ShmSafe, fork};
use pshared_bench::glibc;
use rustix_futex_sync::shm;
use std::error::Error;
use std::hint::black_box;
use std::num::NonZero;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const TIME: Duration = Duration::from_millis(60);
/// Operations between two checks of the clock.
const BATCH: u64 = 256;
/// Writes of a hundred operations.
const MIXES: [u32; 4] = [1, 10, 50, 100];
const WORKERS: [usize; 5] = [1, 2, 4, 8, 16];

/// A lock around a number.
trait Lock {
    fn read(&self) -> u64;
    fn write(&self);
}

impl Lock for SharedRwLock<u64> {
    fn read(&self) -> u64 {
        *SharedRwLock::read(self).unwrap()
    }

    fn write(&self) {
        *SharedRwLock::write(self).unwrap() += 1;
    }
}

impl Lock for glibc::RwLock {
    fn read(&self) -> u64 {
        glibc::RwLock::read(self)
    }

    fn write(&self) {
        glibc::RwLock::write(self);
    }
}

impl Lock for shm::RwLock<u64> {
    fn read(&self) -> u64 {
        *shm::RwLock::read(self)
    }

    fn write(&self) {
        *shm::RwLock::write(self) += 1;
    }
}

impl Lock for parking_lot::RwLock<u64> {
    fn read(&self) -> u64 {
        *parking_lot::RwLock::read(self)
    }

    fn write(&self) {
        *parking_lot::RwLock::write(self) += 1;
    }
}

/// What the workers of a cell share.
#[derive(ShmSafe)]
#[repr(C)]
struct Arena {
    start: SharedEvent,
    operations: SharedCounter,
    writes: SharedCounter,
}

impl Arena {
    fn new() -> Result<Shared<Self>, pshared::Error> {
        Shared::anonymous(Arena {
            start: SharedEvent::new(),
            operations: SharedCounter::new(0),
            writes: SharedCounter::new(0),
        })
    }

    fn work(&self, lock: &(impl Lock + ?Sized), worker: usize, percent: u32) {
        let mut random = Rng::with_seed(worker as u64);
        let (mut operations, mut writes) = (0, 0);
        self.start.wait();
        let begun = Instant::now();
        while begun.elapsed() < TIME {
            for _ in 0..BATCH {
                if random.u32(0..100) < percent {
                    lock.write();
                    writes += 1;
                } else {
                    black_box(lock.read());
                }
            }
            operations += BATCH;
        }
        self.operations.add(operations);
        self.writes.add(writes);
    }

    /// Millions of operations a second, or an error if the number is wrong.
    fn rate(&self, number: u64) -> Result<f64, Box<dyn Error>> {
        let writes = self.writes.get();
        if number != writes {
            return Err(format!("the number is {number} after {writes} writes").into());
        }
        Ok(self.operations.get() as f64 / TIME.as_secs_f64() / 1e6)
    }
}

fn between_processes(
    lock: &impl Lock,
    workers: usize,
    percent: u32,
) -> Result<f64, Box<dyn Error>> {
    let arena = Arena::new()?;
    let mut children = Vec::new();
    for worker in 0..workers {
        children.push(fork::spawn(|| arena.work(lock, worker, percent))?);
    }
    arena.start.set();
    for child in children {
        if !child.wait()?.success() {
            return Err("a worker failed".into());
        }
    }
    arena.rate(lock.read())
}

fn between_threads(
    lock: &(impl Lock + Sync),
    workers: usize,
    percent: u32,
) -> Result<f64, Box<dyn Error>> {
    let arena = Arena::new()?;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let arena = &*arena;
            scope.spawn(move || arena.work(lock, worker, percent));
        }
        arena.start.set();
    });
    arena.rate(lock.read())
}

/// Puts a value in memory that children share. It is never unmapped.
fn shared<T>(value: T) -> Result<&'static T, Box<dyn Error>> {
    let size = NonZero::new(size_of::<T>()).ok_or("no size")?;
    let (protection, flags) = (
        ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        MapFlags::MAP_SHARED,
    );
    // SAFETY: a new map at an address that the kernel chooses.
    let place = unsafe { mmap_anonymous(None, size, protection, flags) }?.cast::<T>();
    // SAFETY: the map is large enough, aligned to a page, and stays.
    unsafe {
        place.write(value);
        Ok(place.as_ref())
    }
}

/// The others, in the order of the columns.
const OTHERS: [&str; 3] = ["glibc", "rustix-futex-sync", "parking_lot (threads)"];

fn round(workers: usize, percent: u32) -> Result<[f64; 1 + OTHERS.len()], Box<dyn Error>> {
    let ours = Shared::anonymous(SharedRwLock::new(0_u64))?;
    let rustix = shared(shm::RwLock::new(0_u64))?;
    Ok([
        between_processes(&*ours, workers, percent)?,
        between_processes(&glibc::RwLock::new()?, workers, percent)?,
        between_processes(rustix, workers, percent)?,
        between_threads(&parking_lot::RwLock::new(0), workers, percent)?,
    ])
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn main() -> Result<(), Box<dyn Error>> {
    print!("{:>7} {:>8} {:>12}", "writes", "workers", "ours Mop/s");
    OTHERS
        .iter()
        .for_each(|other| print!(" {:>22}", format!("over {other}")));
    println!("\n{}", "-".repeat(29 + 23 * OTHERS.len()));
    for percent in MIXES {
        for workers in WORKERS {
            let rounds = (0..ROUNDS)
                .map(|_| round(workers, percent))
                .collect::<Result<Vec<_>, _>>()?;
            let ours = sorted(rounds.iter().map(|round| round[0]));
            print!("{percent:>6}% {workers:>8} {:>12.1}", ours[ROUNDS / 2]);
            for other in 1..=OTHERS.len() {
                let ratios = sorted(rounds.iter().map(|round| round[0] / round[other]));
                let (low, median, high) = (ratios[0], ratios[ROUNDS / 2], ratios[ROUNDS - 1]);
                print!(" {:>22}", format!("{median:.2} ({low:.2}-{high:.2})"));
            }
            println!();
        }
    }
    Ok(())
}
