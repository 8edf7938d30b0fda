//! A token bucket for the whole server, protected by one mutex.

use crate::clock;
use crate::faults::{Faults, Place};
use crate::shared_state::Reported;
use pshared::{Error, FromBytes, LockError, SharedMutex, SharedMutexGuard, ShmData};

/// Tokens, one for each request, refilled at a constant rate.
///
/// Any bytes that a dead owner leaves are a valid bucket. So the bucket can be repaired in place:
/// see `repair`.
#[derive(ShmData, FromBytes, Default)]
#[repr(C)]
pub struct Bucket {
    /// In billionths of a token, so that the refill of a nanosecond is a whole number.
    tokens: u64,
    /// The time of the [clock], in nanoseconds, up to which tokens were added.
    filled: u64,
}

const TOKEN: u64 = 1_000_000_000;

impl Bucket {
    /// Takes a token if there is one. `rate` is both the refill in tokens per second and the
    /// capacity.
    fn take(&mut self, rate: u64, now: u64) -> bool {
        let elapsed = now.saturating_sub(self.filled);
        let brought = elapsed.saturating_mul(rate);
        self.tokens = self
            .tokens
            .saturating_add(brought)
            .min(rate.saturating_mul(TOKEN));
        self.filled = self.filled.max(now);
        let has = self.tokens >= TOKEN;
        if has {
            self.tokens -= TOKEN;
        }
        has
    }

    /// Repairs the bucket: limits `filled` to `now`.
    ///
    /// Each field is written by one store. So a dead owner leaves too many or too few tokens, but
    /// never a time in the future. A file that was copied from another machine, or that survived a
    /// reboot, can hold such a time.
    fn repair(&mut self, now: u64) {
        self.filled = self.filled.min(now);
    }
}

/// Returns whether a request is admitted.
pub fn admits(
    bucket: &SharedMutex<Bucket>,
    rate: u64,
    reported: &Reported,
    faults: &Faults,
) -> Result<bool, Error> {
    let mut bucket = locked(bucket, reported)?;
    faults.raise_at(Place::Limiter);
    Ok(bucket.take(rate, clock::now()))
}

/// Locks the bucket. If its previous owner died, repairs it first.
fn locked<'a>(
    bucket: &'a SharedMutex<Bucket>,
    reported: &Reported,
) -> Result<SharedMutexGuard<'a, Bucket>, Error> {
    let poisoned = match bucket.lock() {
        Err(LockError::Poisoned(poisoned)) => poisoned,
        other => return Ok(other?),
    };
    if poisoned.is_first_report() {
        reported.limiter.add(1);
    }
    let mut bucket = poisoned.into_guard();
    bucket.repair(clock::now());
    SharedMutexGuard::clear_poison(&bucket);
    Ok(bucket)
}

/// Repairs the bucket at the server's start: its time may be that of another boot.
pub fn start(bucket: &SharedMutex<Bucket>, reported: &Reported) -> Result<(), Error> {
    locked(bucket, reported)?.repair(clock::now());
    Ok(())
}
