//! Counters: [`SharedCounter`], [`SharedGauge`], and [`ShardedCounter`] for many writers.

use crate::sync::primitive_macros::impl_ownerless_primitive;
use crate::sys;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A number in shared memory that only grows, until it is reset. It wraps around at 2^64.
///
/// It counts and orders nothing else: to publish data use a lock, or an event.
///
/// # What a death does
///
/// Nothing is owned. Every `add` has happened whole or not at all, and what the dead have counted stays counted.
///
/// # Examples
///
/// ```
/// use pshared::{Shared, SharedCounter};
///
/// let hits = Shared::anonymous(SharedCounter::new(5))?;
/// assert_eq!(hits.add(2), 5); // the value before
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
    /// A counter that starts at `count`.
    pub const fn new(count: u64) -> Self {
        SharedCounter {
            count: AtomicU64::new(count),
        }
    }

    /// Adds `amount`, and gives the value before.
    #[inline]
    pub fn add(&self, amount: u64) -> u64 {
        self.count.fetch_add(amount, Relaxed)
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Starts again at 0, and gives the value before: no addition is lost between the two.
    pub fn reset(&self) -> u64 {
        self.count.swap(0, Relaxed)
    }
}

/// A number in shared memory that goes up and down: requests in flight, bytes in use. It wraps around at ±2^63.
///
/// # What a death does
///
/// Nothing is owned, and nobody takes back what a dead process has added: a gauge of things that die with their process
/// is better summed over the living.
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
    /// A gauge that starts at `level`.
    pub const fn new(level: i64) -> Self {
        SharedGauge {
            level: AtomicI64::new(level),
        }
    }

    /// Adds `amount`, and gives the value before.
    #[inline]
    pub fn add(&self, amount: i64) -> i64 {
        self.level.fetch_add(amount, Relaxed)
    }

    /// Subtracts `amount`, and gives the value before.
    #[inline]
    pub fn sub(&self, amount: i64) -> i64 {
        self.level.fetch_sub(amount, Relaxed)
    }

    /// Sets the level, and gives the one before.
    pub fn set(&self, level: i64) -> i64 {
        self.level.swap(level, Relaxed)
    }

    /// Raises the level to `level` where it is lower, for a high-water mark; gives the one before.
    pub fn raise_to(&self, level: i64) -> i64 {
        self.level.fetch_max(level, Relaxed)
    }

    /// The level.
    #[inline]
    pub fn get(&self) -> i64 {
        self.level.load(Relaxed)
    }
}

/// The number of shards of a [`ShardedCounter`].
const SHARDS: usize = 32;

/// One shard, alone in its pair of cache lines: processors fetch the neighbour too.
#[repr(C, align(128))]
#[derive(Debug, Default)]
struct Shard {
    count: AtomicU64,
}

/// A counter for many writers at once: 32 shards of 128 bytes, of which each thread adds to one.
///
/// Adding costs no cache line from another CPU; reading sums the shards. It wraps around at 2^64.
///
/// # What a death does
///
/// As for [`SharedCounter`]: what the dead have counted stays counted.
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
    /// A counter that starts at 0.
    pub const fn new() -> Self {
        ShardedCounter {
            shards: [const {
                Shard {
                    count: AtomicU64::new(0),
                }
            }; SHARDS],
        }
    }

    /// Adds `amount` to the calling thread's shard. Unlike [`SharedCounter::add`] it cannot tell the value before.
    #[inline]
    pub fn add(&self, amount: u64) {
        // Thread ids are given out in sequence, so that neighbours are the best spread there is.
        self.shards[sys::current_thread().tid() as usize % SHARDS]
            .count
            .fetch_add(amount, Relaxed);
    }

    /// The sum of the shards. Additions that happen meanwhile may be in it or not; of two sums by one thread the later is
    /// not smaller, unless the counter was reset or wrapped around.
    pub fn get(&self) -> u64 {
        self.shards
            .iter()
            .fold(0, |sum, shard| sum.wrapping_add(shard.count.load(Relaxed)))
    }

    /// Starts again at 0, and gives the sum before: no addition is lost, nor counted twice.
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
