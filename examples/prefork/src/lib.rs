//! A forking HTTP server. Its workers share counters, latencies, a rate limit, a cache and the
//! accept lock, and may be killed at any instruction.
//!
//! ```text
//! cargo run --release -p pshared-prefork            # then open http://127.0.0.1:8080/workers
//! cargo run --release -p pshared-prefork -- --demo  # under load, a worker is killed every 200 ms
//! cargo run --release -p pshared-prefork -- --accept permits --workers 8 --map /var/tmp/state
//! ```
//!
//! The parent maps the [state](shared_state), listens and then forks. While there are workers, the
//! [supervisor] takes no lock, so no event in a worker can block it. The
//! [workers](worker) are blocking and serve one connection at a time. They communicate only through
//! the state. SIGTERM drains the server. SIGHUP replaces the workers one by one.

#![deny(unsafe_code)]

pub mod accept;
pub mod cache;
pub mod clock;
pub mod connection;
pub mod demo;
pub mod faults;
pub mod histogram;
pub mod limiter;
pub mod listener;
pub mod load;
pub mod log;
pub mod metrics;
pub mod options;
pub mod pages;
pub mod routes;
pub mod shared_state;
pub mod signals;
pub mod supervisor;
pub mod worker;
pub mod worker_pool;
