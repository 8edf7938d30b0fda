//! A clock that all processes of the machine share.

use nix::time::{ClockId, clock_gettime};

/// Returns the time of the monotonic clock in nanoseconds.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
}

/// Returns the seconds since `since`, a time returned by [`now`]. Returns 0 if `since` is in the
/// future: a worker may store a new time while the caller reads.
pub fn seconds_since(since: u64) -> f64 {
    now().saturating_sub(since) as f64 / 1e9
}
