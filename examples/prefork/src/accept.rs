//! Selects the worker that accepts the next connection.

use crate::faults::{Faults, Place};
use crate::listener::Listener;
use crate::options::{Accept, Options};
use crate::shared_state::{Activity, SharedState, Worker};
use crate::signals::{Signals, Woken};
use pshared::{Error, LockError, SharedMutexGuard};
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

/// The parts that a worker needs to accept a connection.
pub struct Acceptor<'a> {
    state: &'a SharedState,
    listener: &'a Listener,
    signals: &'a Signals,
    faults: &'a Faults,
    strategy: Accept,
    /// The longest time without a heartbeat.
    beat: Duration,
}

impl<'a> Acceptor<'a> {
    pub fn new(
        state: &'a SharedState,
        listener: &'a Listener,
        signals: &'a Signals,
        faults: &'a Faults,
        options: &Options,
    ) -> Self {
        Acceptor {
            state,
            listener,
            signals,
            faults,
            strategy: options.accept(),
            beat: options.beat(),
        }
    }

    /// Returns the worker's next connection, or `None` if the worker has been asked to leave.
    pub fn next(&self, worker: &Worker) -> io::Result<Option<TcpStream>> {
        worker.set_activity(Activity::Queueing);
        match self.strategy {
            Accept::Mutex => {
                let Some(_turn) = self.turn(worker)? else {
                    return Ok(None);
                };
                self.accept(worker)
            }
            Accept::Permits => loop {
                match self.state.acceptors.acquire_timeout(self.beat) {
                    Ok(permit) => {
                        if permit.previous_holder_died() {
                            self.state.reported.accept.add(1);
                        }
                        break self.accept(worker);
                    }
                    Err(Error::TimedOut | Error::HolderDumpsCore) => worker.beat(),
                    Err(error) => break Err(io::Error::other(error)),
                }
                if self.signals.asked_to_leave() {
                    break Ok(None);
                }
            },
            Accept::None => self.accept(worker),
        }
    }

    /// Waits for the accept lock. Returns `None` if the worker has been asked to leave.
    ///
    /// A thread cannot sleep on a lock and on a signal at once, so this checks for SIGTERM at each
    /// heartbeat.
    fn turn(&self, worker: &Worker) -> io::Result<Option<SharedMutexGuard<'a, ()>>> {
        loop {
            match self.state.accept.lock_timeout(self.beat) {
                Ok(turn) => return Ok(Some(turn)),
                // The previous owner died. There is nothing to repair.
                Err(LockError::Poisoned(poisoned)) => {
                    if poisoned.is_first_report() {
                        self.state.reported.accept.add(1);
                    }
                    return Ok(Some(poisoned.replace(())));
                }
                Err(LockError::TimedOut | LockError::HolderDumpsCore) => worker.beat(),
                Err(other) => return Err(io::Error::other(Error::from(other))),
            }
            if self.signals.asked_to_leave() {
                return Ok(None);
            }
        }
    }

    fn accept(&self, worker: &Worker) -> io::Result<Option<TcpStream>> {
        worker.set_activity(Activity::Accepting);
        self.faults.raise_at(Place::Accept);
        loop {
            if self.signals.asked_to_leave() {
                return Ok(None);
            }
            match self.signals.wait_for(self.listener.as_fd(), self.beat)? {
                Woken::Readable => match self.listener.accept()? {
                    Some(connection) => return Ok(Some(connection)),
                    // Another worker was faster, or resources are exhausted.
                    None => worker.beat(),
                },
                Woken::AskedToLeave => return Ok(None),
                Woken::TimedOut => worker.beat(),
            }
        }
    }
}
