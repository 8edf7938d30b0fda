//! The memory that the parent and the workers of one run have in common: the gate, the stop flag, the count, and a slot
//! for each worker.

use crate::contender::Failed;
use crate::mapped::Mapped;
use crate::{clock, futex};
use hdrhistogram::Histogram;
use pshared::zerocopy::FromZeros;
use std::io;
use std::ops::Deref;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// The most processes that a run can have.
pub const MOST_WORKERS: usize = 256;

/// Latencies are kept to two digits, up to a minute: fewer buckets than this.
const MOST_BUCKETS: usize = 5120;
const LONGEST: u64 = 60_000_000_000;

/// A value that shares no cache line, nor the pair of lines that is fetched at once, with another.
#[derive(Debug, FromZeros)]
#[repr(C, align(128))]
pub struct Line<T>(pub T);

impl<T> Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A number that a lock protects. It is loaded and stored, never added to in one step: these are the instructions of a plain
/// integer, so an update is lost where the lock excludes nobody, and the compiler knows that others look at it.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct Count(AtomicU64);

impl Count {
    #[inline]
    pub fn bump(&self) {
        self.bump_around(|| ());
    }

    /// Adds one, in a section that lasts as long as `work`: whoever else is in it meanwhile loses an update.
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

/// What one worker found. It alone writes it, and the parent reads it when the worker has ended.
#[derive(Debug, FromZeros)]
#[repr(C, align(128))]
pub struct Slot {
    /// Sections that the worker went through, written in the section. For the workloads that kill: its line is the worker's.
    pub tally: Line<Count>,
    /// The same, written once at the end.
    pub operations: AtomicU64,
    pub began: AtomicU64,
    pub ended: AtomicU64,
    pub cpu: AtomicU64,
    pub told: AtomicU32,
    text: [AtomicU8; 120],
    buckets: AtomicU32,
    latencies: [Bucket; MOST_BUCKETS],
}

impl Slot {
    /// Leaves word of what went wrong.
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

    /// Hands the worker's latencies over.
    pub fn hand_over(&self, latencies: &Histogram<u32>) {
        let mut used = 0;
        for (bucket, found) in self.latencies.iter().zip(latencies.iter_recorded()) {
            bucket.value.store(found.value_iterated_to(), Relaxed);
            bucket.times.store(found.count_at_value().into(), Relaxed);
            used += 1;
        }
        self.buckets.store(used, Relaxed);
    }
}

/// An empty histogram of latencies in ns.
pub fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, LONGEST, 2).expect("the bounds are valid")
}

/// What all share.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct Arena {
    ready: Line<AtomicU32>,
    open: Line<AtomicU32>,
    stop: Line<AtomicU32>,
    /// What the lock protects, for every contender on a line of its own: it would be faster beside the lock's word, but not
    /// every crate lets its user place the lock.
    pub count: Line<Count>,
    /// Who is in the section, its slot plus 1: whom to kill.
    pub inside: Line<AtomicU32>,
    /// How much of the count was not accounted for when a death was repaired.
    pub astray: Line<Count>,
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
    /// A worker says that it is ready, and waits until all start together.
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

    /// Whether the time is over. Written once, so its line stays in every worker's cache.
    #[inline]
    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed) != 0
    }

    pub fn stop(&self) {
        self.stop.store(1, Relaxed);
    }

    /// A worker's measured part: it waits at the gate, times `body`, which gives its operations, and writes its slot.
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

    /// What went wrong in one of the workers.
    pub fn first_note(&self, workers: usize) -> Option<String> {
        self.slots[..workers].iter().find_map(Slot::noted)
    }

    pub fn operations(&self, workers: usize) -> Vec<u64> {
        self.of(workers, |slot| slot.operations.load(Relaxed))
    }

    /// Seconds of CPU that the workers had.
    pub fn cpu_seconds(&self, workers: usize) -> f64 {
        let ns: u64 = self.of(workers, |slot| slot.cpu.load(Relaxed)).iter().sum();
        ns as f64 / 1e9
    }

    /// Seconds from the first worker's start to the last one's end.
    pub fn seconds(&self, workers: usize) -> f64 {
        let began = self.of(workers, |slot| slot.began.load(Relaxed));
        let ended = self.of(workers, |slot| slot.ended.load(Relaxed));
        let (Some(began), Some(ended)) = (began.iter().min(), ended.iter().max()) else {
            return 0.0;
        };
        ended.saturating_sub(*began) as f64 / 1e9
    }

    /// The sum of what the workers kept in their sections.
    pub fn tallies(&self) -> u64 {
        self.slots.iter().map(|slot| slot.tally.get()).sum()
    }

    /// The latencies of all workers.
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
