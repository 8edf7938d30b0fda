//! Why the data of a lock may be inconsistent.

use crate::sys::AtomicU32;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

/// What poisoned a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// A holder died inside its critical section: it was killed, or it called `exec` or `_exit`.
    /// The data may be a mixture of old and new bytes. Only a replacement of the whole data clears
    /// this, or a repair if any mixture is a valid value.
    Died,
    /// A holder panicked inside its critical section. The data is a whole value, but it may violate
    /// an invariant of the application.
    Panicked,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Died => "a holder died inside its section",
            Cause::Panicked => "a holder panicked inside its section",
        })
    }
}

/// The poison of a lock. Only the lock's holder writes it, except in `clear_panic` and
/// `take_unreported`.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Poison(AtomicU32);

const PANICKED: u32 = 1;
const DIED: u32 = 2;
/// Set together with `DIED`: the death has not been reported yet.
const UNREPORTED: u32 = 4;

impl Poison {
    pub(crate) const fn new() -> Self {
        Poison(AtomicU32::new(0))
    }

    /// Returns the most severe cause, if the lock is poisoned.
    pub(crate) fn cause(&self) -> Option<Cause> {
        match self.0.load(Relaxed) {
            0 => None,
            bits if bits & DIED != 0 => Some(Cause::Died),
            _ => Some(Cause::Panicked),
        }
    }

    #[inline]
    pub(crate) fn is_clear(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    pub(crate) fn set(&self, cause: Cause) {
        self.0.fetch_or(
            match cause {
                Cause::Panicked => PANICKED,
                Cause::Died => DIED,
            },
            Relaxed,
        );
    }

    /// Records a death that is to be reported to another caller.
    pub(crate) fn set_unreported_death(&self) {
        self.0.fetch_or(DIED | UNREPORTED, Relaxed);
    }

    /// Returns true if a death recorded by [`set_unreported_death`](Self::set_unreported_death) is
    /// still unreported. The caller then reports it; later calls return false.
    pub(crate) fn take_unreported(&self) -> bool {
        self.0.fetch_and(!UNREPORTED, Relaxed) & UNREPORTED != 0
    }

    /// Clears all causes. Only a holder may call this, and only if the data is whole.
    pub(crate) fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    /// Clears the poison of a panic, and keeps that of a death.
    pub(crate) fn clear_panic(&self) {
        self.0.fetch_and(!PANICKED, Relaxed);
    }
}
