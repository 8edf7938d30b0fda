//! The memory that the parent and the workers of one run share: the gate, the stop flag, the count,
//! and a slot for each worker.

use crate::contender::Failed;
use crate::mapped::Mapped;
use crate::{clock, futex};
use hdrhistogram::Histogram;
use pshared::zerocopy::FromZeros;
use std::io;
use std::ops::Deref;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// The maximum number of processes in a run.
pub const MOST_WORKERS: usize = 256;

/// Latencies are kept to two digits, up to a minute. That needs fewer buckets than this.
const MOST_BUCKETS: usize = 5120;
const LONGEST: u64 = 60_000_000_000;

/// A value that shares neither its cache line nor the pair of lines that is fetched at once with
/// another value.
#[derive(Debug, FromZeros)]
#[repr(C, align(128))]
pub struct Line<T>(pub T);

impl<T> Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A number that a lock protects. It is loaded and stored, never incremented in one atomic step.
/// These are the instructions of a plain integer, so an update is lost if the lock does not
/// exclude. The atomic tells the compiler that other processes access the number.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct Count(AtomicU64);

impl Count {
    #[inline]
    pub fn bump(&self) {
        self.bump_around(|| ());
    }

    /// Adds one in a critical section that lasts as long as `work`. If another process is in the
    /// critical section at the same time, an update is lost.
    #[inline]
    pub fn bump_around(&self, work: impl FnOnce()) {
        let before = self.get();
        work();
        self.set(before + 1);
    }

    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}

#[derive(Debug, FromZeros)]
#[repr(C)]
struct Bucket {
    value: AtomicU64,
    times: AtomicU64,
}

/// The results of one worker. Only the worker writes it. The parent reads it after the worker has
/// ended.
#[derive(Debug, FromZeros)]
#[repr(C, align(128))]
pub struct Slot {
    /// The critical sections that the worker completed, written inside the critical section. Used
    /// by the workloads that kill. The cache line belongs to the worker.
    pub tally: Line<Count>,
    /// The same number, written once at the end.
    pub operations: AtomicU64,
    pub began: AtomicU64,
    pub ended: AtomicU64,
    pub cpu: AtomicU64,
    pub reported: AtomicU32,
    text: [AtomicU8; 120],
    buckets: AtomicU32,
    latencies: [Bucket; MOST_BUCKETS],
}

impl Slot {
    /// Records what went wrong.
    pub fn note(&self, text: &str) {
        for (place, byte) in self.text.iter().zip(text.bytes()) {
            place.store(byte, Relaxed);
        }
    }

    fn noted(&self) -> Option<String> {
        let bytes: Vec<u8> = self.text.iter().map(|byte| byte.load(Relaxed)).collect();
        let len = bytes.iter().position(|&byte| byte == 0)?;
        (len > 0).then(|| String::from_utf8_lossy(&bytes[..len]).into_owned())
    }

    /// Copies the worker's latencies into the slot.
    pub fn store_latencies(&self, latencies: &Histogram<u32>) {
        let mut used = 0;
        for (bucket, found) in self.latencies.iter().zip(latencies.iter_recorded()) {
            bucket.value.store(found.value_iterated_to(), Relaxed);
            bucket.times.store(found.count_at_value().into(), Relaxed);
            used += 1;
        }
        self.buckets.store(used, Relaxed);
    }
}

/// Returns an empty histogram of latencies in ns.
pub fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, LONGEST, 2).expect("the bounds are valid")
}

/// The data that all processes share.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct Arena {
    ready: Line<AtomicU32>,
    open: Line<AtomicU32>,
    stop: Line<AtomicU32>,
    /// The count that the lock protects. It has a cache line of its own for every contender. It
    /// would be faster on the line of the lock's word, but not every crate lets its caller place
    /// the lock.
    pub count: Line<Count>,
    /// The slot of the worker in the critical section, plus 1: the worker to kill.
    pub inside: Line<AtomicU32>,
    /// The largest difference between the count and the sum of the tallies that was found when a
    /// death was repaired.
    pub largest_error: Line<Count>,
    pub slots: [Slot; MOST_WORKERS],
}

/// An [`Arena`] in a map.
#[derive(Debug)]
pub struct SharedArena(Mapped<Arena>);

impl SharedArena {
    pub fn new() -> io::Result<Self> {
        Mapped::new(1).map(SharedArena)
    }
}

impl Deref for SharedArena {
    type Target = Arena;

    fn deref(&self) -> &Arena {
        &self.0[0]
    }
}

impl Arena {
    /// Reports that the calling worker is ready, and waits until all workers start together.
    pub fn pass_gate(&self) {
        self.ready.fetch_add(1, Release);
        while self.open.load(Acquire) == 0 {
            futex::wait(&self.open, 0);
        }
    }

    pub fn ready(&self) -> u32 {
        self.ready.load(Acquire)
    }

    pub fn open_gate(&self) {
        self.open.store(1, Release);
        futex::wake(&self.open, i32::MAX);
    }

    /// Returns whether the time is over. The flag is written once, so its line stays in every
    /// worker's cache.
    #[inline]
    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed) != 0
    }

    pub fn stop(&self) {
        self.stop.store(1, Relaxed);
    }

    /// Runs the measured part of a worker: waits at the gate, times `body`, which returns its
    /// number of operations, and writes the slot.
    pub fn measure(
        &self,
        slot: usize,
        body: impl FnOnce() -> Result<u64, Failed>,
    ) -> Result<(), Failed> {
        let slot = &self.slots[slot];
        self.pass_gate();
        let (began, cpu) = (clock::now(), clock::cpu());
        let operations = body()?;
        slot.cpu.store(clock::cpu() - cpu, Relaxed);
        slot.ended.store(clock::now(), Relaxed);
        slot.began.store(began, Relaxed);
        slot.operations.store(operations, Relaxed);
        Ok(())
    }

    /// Returns what went wrong in the first worker that recorded a failure.
    pub fn first_note(&self, workers: usize) -> Option<String> {
        self.slots[..workers].iter().find_map(Slot::noted)
    }

    pub fn operations(&self, workers: usize) -> Vec<u64> {
        self.of(workers, |slot| slot.operations.load(Relaxed))
    }

    /// Returns the seconds of CPU time that the workers used.
    pub fn cpu_seconds(&self, workers: usize) -> f64 {
        let ns: u64 = self.of(workers, |slot| slot.cpu.load(Relaxed)).iter().sum();
        ns as f64 / 1e9
    }

    /// Returns the seconds from the first worker's start to the last worker's end.
    pub fn seconds(&self, workers: usize) -> f64 {
        let began = self.of(workers, |slot| slot.began.load(Relaxed));
        let ended = self.of(workers, |slot| slot.ended.load(Relaxed));
        let (Some(began), Some(ended)) = (began.iter().min(), ended.iter().max()) else {
            return 0.0;
        };
        ended.saturating_sub(*began) as f64 / 1e9
    }

    /// Returns the sum of the workers' tallies.
    pub fn tallies(&self) -> u64 {
        self.slots.iter().map(|slot| slot.tally.get()).sum()
    }

    /// Returns the latencies of all workers.
    pub fn latencies(&self, workers: usize) -> Histogram<u32> {
        let mut all = histogram();
        for slot in &self.slots[..workers] {
            let used = slot.buckets.load(Relaxed) as usize;
            for bucket in &slot.latencies[..used] {
                let times = bucket.times.load(Relaxed) as u32;
                all.saturating_record_n(bucket.value.load(Relaxed), times);
            }
        }
        all
    }

    fn of(&self, workers: usize, get: impl Fn(&Slot) -> u64) -> Vec<u64> {
        self.slots[..workers].iter().map(get).collect()
    }
}
