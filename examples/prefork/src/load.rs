//! Clients that send requests as fast as they are answered and count the answers.

use crate::shared_state::Route;
use pshared::{SharedCounter, ShmSafe};
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;
use ureq::Agent;

/// The routes that the clients request.
pub const ROUTES: [Route; 3] = [Route::Home, Route::Count, Route::Primes];

/// The state that the clients share with the demonstration: their counts, and the flag that stops
/// them.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub struct Load {
    /// Requests with a complete answer: `answered` with status 200, `refused` with another status.
    pub answered: SharedCounter,
    pub refused: SharedCounter,
    /// Requests that failed before the answer was complete.
    pub broken: SharedCounter,
    pub stop: AtomicBool,
}

/// Runs `clients` clients, each with its own connection, until `load.stop` is set.
pub fn run(load: &Load, address: SocketAddr, clients: u16) {
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| ask(load, address));
        }
    });
}

fn ask(load: &Load, address: SocketAddr) {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .proxy(None)
        .build()
        .into();
    while !load.stop.load(Relaxed) {
        let path = match fastrand::u8(..20) {
            0..3 => "/count".to_owned(),
            3..6 => format!("/primes?below={}", 100 * fastrand::u32(..100)),
            _ => "/".to_owned(),
        };
        let answer = agent.get(format!("http://{address}{path}")).call();
        let whole = answer.and_then(|mut answer| {
            answer.body_mut().read_to_string()?;
            Ok(answer.status())
        });
        match whole {
            Ok(status) if status == 200 => load.answered.add(1),
            Ok(_) => load.refused.add(1),
            Err(_) => load.broken.add(1),
        };
    }
}
