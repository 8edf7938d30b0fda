//! Why a lock's data may not be what it should be.

use crate::sys::AtomicU32;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

/// What poisoned a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// A holder died in the middle of its section: it was killed, or it called `exec` or `_exit`. The data may be a
    /// mixture of old and new bytes. Only replacing it whole, or repairing it where any mixture is a valid value, clears
    /// this.
    Died,
    /// A holder panicked in its section. The data is a whole value, though perhaps one that breaks a rule of yours.
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

/// A lock's poison. Written only by the lock's holder, but for `clear_panic` and `take_unreported`.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Poison(AtomicU32);

const PANICKED: u32 = 1;
const DIED: u32 = 2;
/// Beside `DIED`: nobody has been told of it.
const UNREPORTED: u32 = 4;

impl Poison {
    pub(crate) const fn new() -> Self {
        Poison(AtomicU32::new(0))
    }

    /// The worst cause there is, if any.
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

    /// Notes a death for somebody else to be told of.
    pub(crate) fn set_unreported_death(&self) {
        self.0.fetch_or(DIED | UNREPORTED, Relaxed);
    }

    /// Whether the caller is the first who is told of a death that was noted so.
    pub(crate) fn take_unreported(&self) -> bool {
        self.0.fetch_and(!UNREPORTED, Relaxed) & UNREPORTED != 0
    }

    /// Clears everything. Only for a holder whose data is whole.
    pub(crate) fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    /// Clears what a panic left, and nothing that a death left.
    pub(crate) fn clear_panic(&self) {
        self.0.fetch_and(!PANICKED, Relaxed);
    }
}
