//! A worker's life: it takes its slot, accepts, answers, and leaves when it is told to.

use crate::accept::Entrance;
use crate::clock;
use crate::connection::{Connection, Next, PATIENCE};
use crate::faults::Faults;
use crate::listener::Listener;
use crate::options::Options;
use crate::routes::{self, Site};
use crate::shared_state::{Doing, Route, SharedState};
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

/// Requests after which a connection is closed, so that others get their turn.
const MOST_REQUESTS: u32 = 1000;

/// What a worker is given.
pub struct Post<'a> {
    pub state: &'static SharedState,
    pub listener: &'a Listener,
    pub options: &'a Options,
    /// Its slot's number.
    pub slot: usize,
    /// Where it tells the supervisor that it is ready.
    pub ready: &'a EventFd,
    pub supervisor: Pid,
}

/// Works until it is told to leave.
pub fn work(post: &Post<'_>) -> Result<(), Box<dyn Error>> {
    // A worker does not outlive its supervisor, who might have died before this call.
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    if getppid() != post.supervisor {
        return Ok(());
    }
    let Post {
        state,
        listener,
        options,
        ..
    } = *post;
    let signals = Signals::of_a_worker()?;
    let slot = state.workers.adopt(post.slot)?;
    if slot.previous_holder_died() {
        state.reported.slot.add(1);
    }
    slot.start();
    let faults = Faults::new(options.faults);
    let entrance = Entrance::new(state, listener, &signals, &faults, options);
    let desk = Desk {
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
    slot.turn_to(Doing::Queueing);
    post.ready.write(1)?;
    while let Some(stream) = entrance.next(&slot)? {
        desk.serve(stream)?;
        if signals.are_to_leave() {
            break;
        }
    }
    slot.turn_to(Doing::Leaving);
    // Where the whole server ends, nobody comes after this worker to answer those who have come.
    while state.closing.load(Relaxed)
        && let Some(stream) = listener.accept()?
    {
        desk.serve(stream)?;
    }
    Ok(())
}

/// Where a worker answers.
struct Desk<'a> {
    slot: &'a RosterSlot<'static, crate::shared_state::Worker>,
    signals: &'a Signals,
    site: Site<'a>,
}

impl Desk<'_> {
    /// Answers what a client asks, until the connection is over. What breaks a connection is the client's affair; an error is one of
    /// a lock.
    fn serve(&self, stream: TcpStream) -> Result<(), pshared::Error> {
        let options = self.site.options;
        let Ok(mut connection) = Connection::new(stream, self.signals) else {
            return Ok(());
        };
        self.slot.connections.add(1);
        let shares = !options.no_sharing;
        for number in 1.. {
            if shares {
                self.slot.turn_to(Doing::Listening);
            }
            let idle = if number == 1 {
                PATIENCE
            } else {
                options.keep_alive()
            };
            let request = match connection.next(idle) {
                Ok(Next::Request(request)) => request,
                Ok(Next::AcquireError(status)) => {
                    if shares {
                        self.slot.count(Route::Other, status);
                        self.slot.turn_to(Doing::Sending);
                    }
                    let _ = connection.refuse(&routes::status(status));
                    break;
                }
                Ok(Next::Over) | Err(_) => break,
            };
            let since = if shares { clock::now() } else { 0 };
            if shares {
                self.slot.turn_to_at(Doing::Answering, since);
            }
            let (route, mut answer) = self.site.answer(&request)?;
            answer.last |= number == MOST_REQUESTS || options.keep_alive().is_zero();
            if shares {
                let now = clock::now();
                self.slot.count(route, answer.status);
                self.slot.durations.add(now - since);
                // Whose client takes its time is not stuck.
                self.slot.turn_to_at(Doing::Sending, now);
            }
            if !connection.answer(&request, &answer).unwrap_or(false) {
                break;
            }
        }
        Ok(())
    }
}
