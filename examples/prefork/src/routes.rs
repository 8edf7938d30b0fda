//! Maps requests to answers.

use crate::connection::{Answer, Request};
use crate::faults::Faults;
use crate::options::Options;
use crate::shared_state::{Route, SharedState, Worker};
use crate::{cache, limiter, metrics, pages};
use arrayvec::ArrayString;
use pshared::Error;
use std::cell::Cell;
use std::fmt::Write;

/// The largest `N` of `/primes?below=N`.
const MAX_LIMIT: u64 = 1_000_000;

/// The site, as served by one worker.
pub struct Site<'a> {
    pub state: &'static SharedState,
    pub worker: &'a Worker,
    pub faults: &'a Faults,
    pub options: &'a Options,
    /// The count of `/count` if nothing is shared.
    pub own_hits: Cell<u64>,
}

impl Site<'_> {
    /// Returns the answer, and the route under which it is counted.
    ///
    /// # Errors
    ///
    /// Returns an error of a lock. It is a fault of the worker, not of the client.
    pub fn answer(&self, request: &Request) -> Result<(Route, Answer), Error> {
        let route = route(&request.path);
        if !self.options.no_sharing {
            let rate = self.options.rate;
            if !limiter::admits(&self.state.limiter, rate, &self.state.reported, self.faults)? {
                return Ok((route, status(429)));
            }
        }
        let answer = match route {
            Route::Home => text("text/html; charset=utf-8", pages::home()),
            Route::Count => plain(format!("{}\n", self.hit())),
            Route::Primes => self.primes(&request.query)?,
            Route::Metrics if !self.options.no_sharing => {
                text(metrics::KIND, metrics::text(self.state))
            }
            Route::Workers if !self.options.no_sharing => Answer {
                // A browser reloads the page each second and would occupy a worker permanently.
                last: true,
                ..text("text/html; charset=utf-8", pages::workers(self.state))
            },
            Route::Other if request.path == "/fault" && self.faults.prepare(&request.query) => {
                plain(format!(
                    "process {} prepared the fault\n",
                    std::process::id()
                ))
            }
            _ => status(404),
        };
        Ok((route, answer))
    }

    fn hit(&self) -> u64 {
        if self.options.no_sharing {
            self.own_hits.set(self.own_hits.get() + 1);
            return self.own_hits.get();
        }
        self.state.hits.add(1) + 1
    }

    fn primes(&self, query: &str) -> Result<Answer, Error> {
        let below = query.strip_prefix("below=").map(str::parse);
        let Some(Ok(below @ 0..=MAX_LIMIT)) = below else {
            return Ok(Answer {
                status: 400,
                ..plain(format!(
                    "use /primes?below=N with N from 0 to {MAX_LIMIT}\n"
                ))
            });
        };
        let make = || {
            let mut line = ArrayString::new();
            let count = primes_below(below as usize);
            writeln!(line, "{count} primes are less than {below}").expect("the line fits");
            line
        };
        let line = match self.options.no_sharing {
            true => make(),
            false => cache::answer(self.state, self.worker, self.faults, below, make)?,
        };
        Ok(plain(line.to_string()))
    }
}

fn route(path: &str) -> Route {
    let known = Route::ALL.into_iter().find(|route| route.name() == path);
    known.unwrap_or(Route::Other)
}

/// Counts the primes less than `limit` by the sieve of Eratosthenes.
fn primes_below(limit: usize) -> usize {
    let mut is_composite = vec![false; limit];
    let mut count = 0;
    for number in 2..limit {
        if is_composite[number] {
            continue;
        }
        count += 1;
        for multiple in (number * number..limit).step_by(number) {
            is_composite[multiple] = true;
        }
    }
    count
}

fn text(kind: &'static str, body: String) -> Answer {
    Answer {
        status: 200,
        kind,
        body,
        field: None,
        last: false,
    }
}

fn plain(body: String) -> Answer {
    text("text/plain; charset=utf-8", body)
}

/// Returns an answer that only explains its status.
pub fn status(status: u16) -> Answer {
    let (body, field) = match status {
        404 => ("not found; / lists the pages\n", None),
        405 => (
            "only GET and HEAD are supported\n",
            Some(("Allow", "GET, HEAD")),
        ),
        408 => ("the request did not arrive in time\n", None),
        413 => ("requests with a body are not supported\n", None),
        429 => (
            "too many requests: try again in a second\n",
            Some(("Retry-After", "1")),
        ),
        431 => ("the request head is too long\n", None),
        500 => ("internal server error\n", None),
        505 => ("only HTTP/1.0 and HTTP/1.1 are supported\n", None),
        _ => ("the request is malformed\n", None),
    };
    Answer {
        status,
        field,
        ..plain(body.to_owned())
    }
}
