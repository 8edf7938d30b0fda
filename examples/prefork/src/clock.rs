//! Time that all processes of the machine agree on.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
}

/// Seconds since `since`, a time of [`now`]. 0 where that lies ahead: a worker may stamp while somebody looks.
pub fn seconds_since(since: u64) -> f64 {
    now().saturating_sub(since) as f64 / 1e9
}
