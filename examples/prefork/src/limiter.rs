//! A token bucket for the whole server, under one mutex.

use crate::clock;
use crate::faults::{Faults, Place};
use crate::shared_state::Reported;
use pshared::{Error, FromBytes, LockError, SharedMutex, SharedMutexGuard, ShmData};

/// Tokens, one a request, that come back as time goes by.
///
/// Whatever bytes a dead holder leaves are a valid bucket, so it can be repaired in place: see [`mended`](Self::mended).
#[derive(ShmData, FromBytes, Default)]
#[repr(C)]
pub struct Bucket {
    /// In billionths, so that what a nanosecond brings is a whole number.
    tokens: u64,
    /// The time of the [clock] up to which tokens were given.
    filled: u64,
}

const TOKEN: u64 = 1_000_000_000;

impl Bucket {
    /// Takes a token, if there is one. `rate` is how many come back in a second, and how many the bucket holds.
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

    /// Each field was written by one store, so what is left is a token too many or too few, and never a time that lies ahead.
    /// A file that was copied about, or survived a reboot, could have one.
    fn mended(&mut self, now: u64) {
        self.filled = self.filled.min(now);
    }
}

/// Whether a request may pass.
pub fn admits(
    bucket: &SharedMutex<Bucket>,
    rate: u64,
    reported: &Reported,
    faults: &Faults,
) -> Result<bool, Error> {
    let mut bucket = locked(bucket, reported)?;
    faults.strike(Place::Limiter);
    Ok(bucket.take(rate, clock::now()))
}

/// The bucket, put right where its last holder died.
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
    bucket.mended(clock::now());
    SharedMutexGuard::clear_poison(&bucket);
    Ok(bucket)
}

/// A bucket as a server finds it when it starts: time has been another's.
pub fn start(bucket: &SharedMutex<Bucket>, reported: &Reported) -> Result<(), Error> {
    locked(bucket, reported)?.mended(clock::now());
    Ok(())
}
