//! A worker: it occupies its slot, accepts connections, answers requests, and leaves on SIGTERM.

use crate::accept::Acceptor;
use crate::clock;
use crate::connection::{CLIENT_TIMEOUT, Connection, Next};
use crate::faults::Faults;
use crate::listener::Listener;
use crate::options::Options;
use crate::routes::{self, Site};
use crate::shared_state::{Activity, Route, SharedState};
use crate::signals::Signals;
use nix::sys::eventfd::EventFd;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use pshared::RosterSlot;
use std::cell::Cell;
use std::error::Error;
use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;

/// The number of requests after which a connection is closed, so that other clients are served.
const MAX_REQUESTS: u32 = 1000;

/// The parts that the supervisor passes to a new worker.
pub struct WorkerArgs<'a> {
    pub state: &'static SharedState,
    pub listener: &'a Listener,
    pub options: &'a Options,
    /// Its slot's number.
    pub slot: usize,
    /// Notifies the supervisor that the worker is ready.
    pub ready: &'a EventFd,
    pub supervisor: Pid,
}

/// Serves connections until the worker is asked to leave.
pub fn work(args: &WorkerArgs<'_>) -> Result<(), Box<dyn Error>> {
    // A worker must not outlive its supervisor. The supervisor may have died before this call, so
    // check the parent afterwards.
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    if getppid() != args.supervisor {
        return Ok(());
    }
    let WorkerArgs {
        state,
        listener,
        options,
        ..
    } = *args;
    let signals = Signals::for_worker()?;
    let slot = state.workers.adopt(args.slot)?;
    if slot.previous_holder_died() {
        state.reported.slot.add(1);
    }
    slot.start();
    let faults = Faults::new(options.faults);
    let acceptor = Acceptor::new(state, listener, &signals, &faults, options);
    let handler = RequestHandler {
        slot: &slot,
        signals: &signals,
        site: Site {
            state,
            worker: &slot,
            faults: &faults,
            options,
            own_hits: Cell::new(0),
        },
    };
    slot.set_activity(Activity::Queueing);
    args.ready.write(1)?;
    while let Some(stream) = acceptor.next(&slot)? {
        handler.serve(stream)?;
        if signals.asked_to_leave() {
            break;
        }
    }
    slot.set_activity(Activity::Leaving);
    // If the whole server ends, no other worker will answer the connections that have arrived.
    while state.closing.load(Relaxed)
        && let Some(stream) = listener.accept()?
    {
        handler.serve(stream)?;
    }
    Ok(())
}

/// The parts that a worker needs to answer requests.
struct RequestHandler<'a> {
    slot: &'a RosterSlot<'static, crate::shared_state::Worker>,
    signals: &'a Signals,
    site: Site<'a>,
}

impl RequestHandler<'_> {
    /// Answers the requests of a connection until it ends. An error of the connection only ends it.
    ///
    /// # Errors
    ///
    /// Returns an error of a lock.
    fn serve(&self, stream: TcpStream) -> Result<(), pshared::Error> {
        let options = self.site.options;
        let Ok(mut connection) = Connection::new(stream, self.signals) else {
            return Ok(());
        };
        self.slot.connections.add(1);
        let shares = !options.no_sharing;
        for number in 1.. {
            if shares {
                self.slot.set_activity(Activity::Listening);
            }
            let idle = if number == 1 {
                CLIENT_TIMEOUT
            } else {
                options.keep_alive()
            };
            let request = match connection.next(idle) {
                Ok(Next::Request(request)) => request,
                Ok(Next::Refused(status)) => {
                    if shares {
                        self.slot.count(Route::Other, status);
                        self.slot.set_activity(Activity::Sending);
                    }
                    let _ = connection.refuse(&routes::status(status));
                    break;
                }
                Ok(Next::Over) | Err(_) => break,
            };
            let since = if shares { clock::now() } else { 0 };
            if shares {
                self.slot.set_activity_at(Activity::Answering, since);
            }
            let (route, mut answer) = self.site.answer(&request)?;
            answer.last |= number == MAX_REQUESTS || options.keep_alive().is_zero();
            if shares {
                let now = clock::now();
                self.slot.count(route, answer.status);
                self.slot.durations.add(now - since);
                // A worker that waits for a slow client is not stuck.
                self.slot.set_activity_at(Activity::Sending, now);
            }
            if !connection.answer(&request, &answer).unwrap_or(false) {
                break;
            }
        }
        Ok(())
    }
}
