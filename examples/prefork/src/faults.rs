//! Fault injection for tests: a worker dies or stops at a place in its code that an external signal
//! would hardly ever hit.

use nix::sys::signal::{Signal, raise};
use std::cell::Cell;

/// A place inside a critical section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Accept,
    Limiter,
    Cache,
}

/// The fault that this worker was asked to raise. Without `--faults` there is none.
#[derive(Debug)]
pub struct Faults {
    allowed: bool,
    next: Cell<Option<(Place, Signal)>>,
}

impl Faults {
    pub fn new(allowed: bool) -> Self {
        Faults {
            allowed,
            next: Cell::new(None),
        }
    }

    /// Prepares the fault that `/fault?QUERY` asks for. Returns false if the query is invalid or
    /// faults are not allowed.
    pub fn prepare(&self, query: &str) -> bool {
        let Some((act, place)) = query.split_once('=') else {
            return false;
        };
        let signal = match act {
            "kill" => Signal::SIGKILL,
            "stop" => Signal::SIGSTOP,
            _ => return false,
        };
        let place = match place {
            "accept" => Place::Accept,
            "limiter" => Place::Limiter,
            "cache" => Place::Cache,
            _ => return false,
        };
        if self.allowed {
            self.next.set(Some((place, signal)));
        }
        self.allowed
    }

    /// Raises the prepared fault if it is for this place.
    #[inline]
    pub fn raise_at(&self, place: Place) {
        if let Some((_, signal)) = self.next.get().filter(|(at, _)| *at == place) {
            self.next.set(None);
            // If the signal cannot be raised, there is no fault.
            let _ = raise(signal);
        }
    }
}
