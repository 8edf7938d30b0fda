//! A worker's life: it takes its seat, accepts, answers, and leaves when it is told to.

use super::accept::Entrance;
use super::board::{Board, Doing, Route};
use super::clock;
use super::connection::{Connection, Next, PATIENCE};
use super::faults::Faults;
use super::listener::Listener;
use super::options::Options;
use super::orders::Orders;
use super::routes::{self, Site};
use nix::sys::eventfd::EventFd;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use pshared::RosterSeat;
use std::cell::Cell;
use std::error::Error;
use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;

/// Requests after which a connection is closed, so that others get their turn.
const MOST_REQUESTS: u32 = 1000;

/// What a worker is given.
pub struct Post<'a> {
    pub board: &'static Board,
    pub listener: &'a Listener,
    pub options: &'a Options,
    /// Its seat's number.
    pub seat: usize,
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
        board,
        listener,
        options,
        ..
    } = *post;
    let orders = Orders::of_a_worker()?;
    let seat = board.workers.take_over(post.seat)?;
    if seat.previous_holder_died() {
        board.told.seat.add(1);
    }
    seat.start();
    let faults = Faults::new(options.faults);
    let entrance = Entrance::new(board, listener, &orders, &faults, options);
    let desk = Desk {
        seat: &seat,
        orders: &orders,
        site: Site {
            board,
            worker: &seat,
            faults: &faults,
            options,
            own_hits: Cell::new(0),
        },
    };
    seat.turn_to(Doing::Queueing);
    post.ready.write(1)?;
    while let Some(stream) = entrance.next(&seat)? {
        desk.serve(stream)?;
        if orders.are_to_leave() {
            break;
        }
    }
    seat.turn_to(Doing::Leaving);
    // Where the whole server ends, nobody comes after this worker to answer those who have come.
    while board.closing.load(Relaxed)
        && let Some(stream) = listener.accept()?
    {
        desk.serve(stream)?;
    }
    Ok(())
}

/// Where a worker answers.
struct Desk<'a> {
    seat: &'a RosterSeat<'static, super::board::Worker>,
    orders: &'a Orders,
    site: Site<'a>,
}

impl Desk<'_> {
    /// Answers what a client asks, until the connection is over. What breaks a connection is the client's affair; an error is one of
    /// a lock.
    fn serve(&self, stream: TcpStream) -> Result<(), pshared::Error> {
        let options = self.site.options;
        let Ok(mut connection) = Connection::new(stream, self.orders) else {
            return Ok(());
        };
        self.seat.connections.add(1);
        let shares = !options.no_sharing;
        for number in 1.. {
            if shares {
                self.seat.turn_to(Doing::Listening);
            }
            let idle = if number == 1 {
                PATIENCE
            } else {
                options.keep_alive()
            };
            let request = match connection.next(idle) {
                Ok(Next::Request(request)) => request,
                Ok(Next::Refused(status)) => {
                    if shares {
                        self.seat.count(Route::Other, status);
                        self.seat.turn_to(Doing::Sending);
                    }
                    let _ = connection.refuse(&routes::status(status));
                    break;
                }
                Ok(Next::Over) | Err(_) => break,
            };
            let since = if shares { clock::now() } else { 0 };
            if shares {
                self.seat.turn_to_at(Doing::Answering, since);
            }
            let (route, mut answer) = self.site.answer(&request)?;
            answer.last |= number == MOST_REQUESTS || options.keep_alive().is_zero();
            if shares {
                let now = clock::now();
                self.seat.count(route, answer.status);
                self.seat.durations.add(now - since);
                // Whose client takes its time is not stuck.
                self.seat.turn_to_at(Doing::Sending, now);
            }
            if !connection.answer(&request, &answer).unwrap_or(false) {
                break;
            }
        }
        Ok(())
    }
}
