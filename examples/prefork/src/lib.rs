//! A forking HTTP server: workers that share counters, latencies, a rate limit, a cache and the turn to accept, and that may be
//! killed at any instruction.
//!
//! ```text
//! cargo run --release -p pshared-prefork                        # then look at http://127.0.0.1:8080/workers
//! cargo run --release -p pshared-prefork -- --demo              # the server under load, a worker killed every 200 ms
//! cargo run --release -p pshared-prefork -- --accept permits --workers 8 --map /var/tmp/state
//! ```
//!
//! The parent maps the [state](shared_state) and listens, then forks. It never locks anything: whatever happens to a worker,
//! the [supervisor](supervisor) is not part of it. The [workers](worker) are blocking, a connection at a time, and
//! know of each other only what the state says. SIGTERM drains, SIGHUP replaces the workers one by one.

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
