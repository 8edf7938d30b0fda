//! Why a shared initialization did not run.

use crate::Error;
use crate::raw::outcome::AcquireError;

/// Why the initialization was not completed.
pub(super) enum InitError<E> {
    /// The calling thread did not get the turn to initialize.
    Acquire(AcquireError),
    /// `make` failed.
    Failed(E),
}

impl<E> InitError<E> {
    /// Returns the error of `make`, for a call without a deadline. Panics if the thread did not get
    /// the turn.
    pub(super) fn failed(self) -> E {
        match self {
            InitError::Acquire(error) => unreachable_or_panic(error),
            InitError::Failed(error) => error,
        }
    }

    /// Returns the error of a call that does not wait, or has a deadline.
    pub(super) fn into_error(self) -> E
    where
        E: From<Error>,
    {
        match self {
            InitError::Acquire(error) => Error::from_acquire(error).into(),
            InitError::Failed(error) => error,
        }
    }
}

/// Panics for a call without a deadline that did not get the turn to initialize.
#[cold]
pub(super) fn unreachable_or_panic(error: AcquireError) -> ! {
    match error {
        AcquireError::Deadlock => {
            panic!("a shared initialization may not be performed recursively")
        }
        AcquireError::HolderThreadEnded => panic!(
            "the thread that ran a shared initialization ended without a return or a panic, and its process still runs"
        ),
        AcquireError::WouldBlock | AcquireError::TimedOut | AcquireError::HolderDumpsCore => {
            unreachable!("a wait without a deadline timed out")
        }
    }
}
