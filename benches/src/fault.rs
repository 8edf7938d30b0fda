//! Why a cell has no figure.

use crate::contender::Failed;
use std::{fmt, io};

/// Why a run gave no figure.
#[derive(Debug)]
pub enum Fault {
    /// A worker did not end.
    Hangs,
    /// The lock lost an update.
    Broken(String),
    /// Another error.
    Failed(String),
    /// Everything was stopped during the measurement, which must be repeated.
    Standstill,
    /// Ctrl-C.
    Interrupted,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Hangs => f.write_str("hangs"),
            Fault::Broken(how) => write!(f, "BROKEN: {how}"),
            Fault::Failed(how) => write!(f, "failed: {how}"),
            Fault::Standstill => {
                f.write_str("failed: the machine or the benchmark was stopped in every try")
            }
            Fault::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<Failed> for Fault {
    fn from(failed: Failed) -> Self {
        Fault::Failed(failed.to_string())
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Failed(error.to_string())
    }
}
