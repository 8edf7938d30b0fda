//! Misfortune on request, for tests: a worker that dies or stops at a place of its code that nothing from outside would hit.

use nix::sys::signal::{Signal, raise};
use std::cell::Cell;

/// Where: inside what is locked there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Accept,
    Limiter,
    Cache,
}

/// What this worker was asked to suffer. Nothing, without `--faults`.
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

    /// Prepares what `/fault?QUERY` asks for; false where that is nothing, or not allowed.
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

    /// The worker is at this place.
    #[inline]
    pub fn strike(&self, place: Place) {
        if let Some((_, signal)) = self.next.get().filter(|(at, _)| *at == place) {
            self.next.set(None);
            // What cannot be raised is not suffered.
            let _ = raise(signal);
        }
    }
}
