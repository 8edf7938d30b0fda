//! Counters: [`SharedCounter`], [`SharedGauge`], and [`ShardedCounter`] for many writers.

use crate::sync::primitive_macros::impl_ownerless_primitive;
use crate::sys;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A counter in shared memory. It only grows until it is reset, and wraps around at 2^64.
///
/// Its operations have relaxed ordering, so they publish no other data. To publish data, use a lock
/// or an event.
///
/// # What a death does
///
/// A counter has no owner. Every `add` happens completely or not at all, and what a dead process
/// has added stays.
///
/// # Examples
///
/// ```
/// use pshared::{Shared, SharedCounter};
///
/// let hits = Shared::anonymous(SharedCounter::new(5))?;
/// assert_eq!(hits.add(2), 5); // the previous value
/// assert_eq!(hits.get(), 7);
/// assert_eq!(hits.reset(), 7);
/// # Ok::<(), pshared::Error>(())
/// ```
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct SharedCounter {
    count: AtomicU64,
}

impl SharedCounter {
    /// Creates a counter that starts at `count`.
    pub const fn new(count: u64) -> Self {
        SharedCounter {
            count: AtomicU64::new(count),
        }
    }

    /// Adds `amount`, and returns the previous value.
    #[inline]
    pub fn add(&self, amount: u64) -> u64 {
        self.count.fetch_add(amount, Relaxed)
    }

    /// Returns the value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Resets the counter to 0, and returns the previous value. No addition is lost.
    pub fn reset(&self) -> u64 {
        self.count.swap(0, Relaxed)
    }
}

/// A number in shared memory that goes up and down, such as requests in flight or bytes in use. It
/// wraps around at the limits of an `i64`.
///
/// # What a death does
///
/// A gauge has no owner. What a dead process has added stays, because no other process subtracts
/// it. For resources that end with their process, keep one gauge for each process and add up those
/// of live processes.
///
/// # Examples
///
/// ```
/// use pshared::{Shared, SharedGauge};
///
/// let busy = Shared::anonymous(SharedGauge::new(0))?;
/// assert_eq!(busy.add(3), 0);
/// assert_eq!(busy.sub(1), 3);
/// busy.set(10);
/// assert_eq!(busy.get(), 10);
/// # Ok::<(), pshared::Error>(())
/// ```
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct SharedGauge {
    level: AtomicI64,
}

impl SharedGauge {
    /// Creates a gauge that starts at `level`.
    pub const fn new(level: i64) -> Self {
        SharedGauge {
            level: AtomicI64::new(level),
        }
    }

    /// Adds `amount`, and returns the previous level.
    #[inline]
    pub fn add(&self, amount: i64) -> i64 {
        self.level.fetch_add(amount, Relaxed)
    }

    /// Subtracts `amount`, and returns the previous level.
    #[inline]
    pub fn sub(&self, amount: i64) -> i64 {
        self.level.fetch_sub(amount, Relaxed)
    }

    /// Sets the level, and returns the previous one.
    pub fn set(&self, level: i64) -> i64 {
        self.level.swap(level, Relaxed)
    }

    /// Raises the level to `level` if it is lower, for a high-water mark. Returns the previous
    /// level.
    pub fn raise_to(&self, level: i64) -> i64 {
        self.level.fetch_max(level, Relaxed)
    }

    /// Returns the level.
    #[inline]
    pub fn get(&self) -> i64 {
        self.level.load(Relaxed)
    }
}

/// The number of shards of a [`ShardedCounter`].
const SHARDS: usize = 32;

/// One shard, alone in its pair of cache lines, because processors also fetch the adjacent line.
#[repr(C, align(128))]
#[derive(Debug, Default)]
struct Shard {
    count: AtomicU64,
}

/// A counter for many concurrent writers: 32 shards of 128 bytes. Each thread adds to one of them.
///
/// Threads that add to different shards do not contend for a cache line. A read adds up the shards.
/// The counter wraps around at 2^64.
///
/// # What a death does
///
/// As for [`SharedCounter`]: what a dead process has added stays.
///
/// # Examples
///
/// ```
/// use pshared::{Shared, ShardedCounter};
///
/// let requests = Shared::anonymous(ShardedCounter::new())?;
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         scope.spawn(|| (0..1000).for_each(|_| requests.add(1)));
///     }
/// });
/// assert_eq!(requests.get(), 4000);
/// # Ok::<(), pshared::Error>(())
/// ```
#[repr(C)]
#[derive(Debug)]
pub struct ShardedCounter {
    shards: [Shard; SHARDS],
}

impl ShardedCounter {
    /// Creates a counter that starts at 0.
    pub const fn new() -> Self {
        ShardedCounter {
            shards: [const {
                Shard {
                    count: AtomicU64::new(0),
                }
            }; SHARDS],
        }
    }

    /// Adds `amount` to the calling thread's shard. Unlike [`SharedCounter::add`], it cannot return
    /// the previous value.
    #[inline]
    pub fn add(&self, amount: u64) {
        // Thread ids are assigned in sequence, so the remainder spreads the threads evenly over the
        // shards.
        self.shards[sys::current_thread().tid() as usize % SHARDS]
            .count
            .fetch_add(amount, Relaxed);
    }

    /// Returns the sum of the shards. It may or may not include additions that happen during the
    /// call. If one thread reads two sums, the later one is not smaller, unless the counter was
    /// reset or wrapped around.
    pub fn get(&self) -> u64 {
        self.shards
            .iter()
            .fold(0, |sum, shard| sum.wrapping_add(shard.count.load(Relaxed)))
    }

    /// Resets the counter to 0, and returns the previous sum. No addition is lost or counted twice.
    pub fn reset(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| {
            sum.wrapping_add(shard.count.swap(0, Relaxed))
        })
    }
}

impl Default for ShardedCounter {
    fn default() -> Self {
        ShardedCounter::new()
    }
}

impl_ownerless_primitive!(SharedCounter, "counter", has_primitives: false);
impl_ownerless_primitive!(SharedGauge, "gauge", has_primitives: false);
impl_ownerless_primitive!(ShardedCounter, "sharded-counter", has_primitives: false);

static_assertions::assert_eq_size!(SharedCounter, u64);
static_assertions::assert_eq_size!(SharedGauge, i64);
static_assertions::assert_eq_size!(ShardedCounter, [u8; 128 * SHARDS]);
static_assertions::const_assert_eq!(align_of::<ShardedCounter>(), 128);
