//! Request durations in the map. One worker increments the buckets of its slot. All processes read
//! them.

use pshared::{SharedCounter, ShmSafe};

/// Returns the buckets' upper bounds in nanoseconds. The first is 1 µs, and each next one is twice
/// as large. One more bucket counts the durations above the last bound.
pub fn bounds() -> impl Iterator<Item = u64> {
    (0..BOUNDS as u32).map(|number| 1_000 << number)
}

const BOUNDS: usize = 22;

/// The durations of the requests that were counted in one worker slot.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub struct Histogram {
    buckets: [SharedCounter; BOUNDS + 1],
    nanoseconds: SharedCounter,
}

impl Histogram {
    pub fn add(&self, nanoseconds: u64) {
        let bucket = bounds().take_while(|bound| *bound < nanoseconds).count();
        self.buckets[bucket].add(1);
        self.nanoseconds.add(nanoseconds);
    }
}

/// The sum of several histograms.
#[derive(Debug, Default)]
pub struct Durations {
    /// The number of requests in each bucket, in the order of the bounds.
    pub buckets: [u64; BOUNDS + 1],
    pub seconds: f64,
}

impl Durations {
    pub fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut sum = Durations::default();
        for histogram in histograms {
            for (sum, bucket) in sum.buckets.iter_mut().zip(&histogram.buckets) {
                *sum += bucket.get();
            }
            sum.seconds += histogram.nanoseconds.get() as f64 / 1e9;
        }
        sum
    }

    /// Returns the smallest bound, in nanoseconds, that at least `share` of the requests did not
    /// exceed. Returns `None` if there are no requests, or if no bound is large enough.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let total: u64 = self.buckets.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut so_far = 0;
        let bounded = bounds().zip(self.buckets).find(|(_, count)| {
            so_far += count;
            so_far >= wanted && total > 0
        });
        bounded.map(|(bound, _)| bound)
    }
}
