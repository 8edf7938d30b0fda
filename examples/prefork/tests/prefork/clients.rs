//! Clients that send requests until they are stopped, and count the outcomes.

use crate::server::until;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;
use std::time::Duration;
use ureq::{Agent, Error};

/// The requests that a client sends.
#[derive(Debug, Clone, Copy)]
pub enum Wants {
    /// The same page on one kept connection.
    Page,
    /// Requests for all kinds of pages (counted, cached, limited), with an occasional new
    /// connection.
    Everything,
    /// The same page, on a new connection for each request.
    NewConnections,
}

/// The clients' counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Complete answers, with any status.
    pub answered: AtomicU64,
    /// Complete answers with a status other than 200.
    pub refused: AtomicU64,
    /// Requests that failed on an established connection.
    pub broken: AtomicU64,
    /// Clients that could not connect any more. Each client stops at its first refused connection.
    pub refused_connections: AtomicU64,
    stop: AtomicBool,
}

/// Clients that run in threads of the test.
pub struct Clients {
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

/// Returns an agent that neither retries a request nor uses a proxy.
pub fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .proxy(None)
        .build()
        .into()
}

impl Clients {
    pub fn start(address: &str, number: usize, wants: Wants) -> Self {
        let counts = Arc::new(Counts::default());
        let ask = |_| {
            let (counts, address) = (counts.clone(), address.to_owned());
            std::thread::spawn(move || ask(&counts, &address, wants))
        };
        let threads = (0..number).map(ask).collect();
        Clients { counts, threads }
    }

    pub fn answered(&self) -> u64 {
        self.counts.answered.load(SeqCst)
    }

    /// Waits until `more` further requests are answered.
    pub fn wait_for(&self, more: u64) {
        let enough = self.answered() + more;
        until(|| self.answered() >= enough);
    }

    /// Waits until each client's connection was refused: the server is gone.
    pub fn wait_until_refused(&self) {
        until(|| self.counts.refused_connections.load(SeqCst) >= self.threads.len() as u64);
    }

    /// Stops the clients after their current requests and returns the counts.
    pub fn stop(self) -> Arc<Counts> {
        self.counts.stop.store(true, SeqCst);
        for thread in self.threads {
            thread.join().expect("no client panics");
        }
        self.counts
    }
}

fn ask(counts: &Counts, address: &str, wants: Wants) {
    let mut agent = agent();
    while !counts.stop.load(SeqCst) {
        let path = match wants {
            Wants::Page | Wants::NewConnections => "/".to_owned(),
            Wants::Everything => match fastrand::u8(..10) {
                0..2 => "/count".to_owned(),
                2 => "/metrics".to_owned(),
                3..7 => format!("/primes?below={}", fastrand::u32(..500)),
                _ => "/".to_owned(),
            },
        };
        let on_new_connection = match wants {
            Wants::Page => false,
            Wants::Everything => fastrand::u8(..16) == 0,
            Wants::NewConnections => true,
        };
        if on_new_connection {
            agent = self::agent();
        }
        let outcome = agent.get(format!("http://{address}{path}")).call();
        let whole = outcome.and_then(|mut answer| {
            answer.body_mut().read_to_string()?;
            Ok(answer.status())
        });
        match whole {
            Ok(status) => {
                if status != 200 {
                    counts.refused.fetch_add(1, SeqCst);
                }
                counts.answered.fetch_add(1, SeqCst);
            }
            Err(error) if is_connection_refused(&error) => {
                counts.refused_connections.fetch_add(1, SeqCst);
                return;
            }
            Err(error) => {
                eprintln!("{path}: {error:?}");
                counts.broken.fetch_add(1, SeqCst);
            }
        }
    }
}

fn is_connection_refused(error: &Error) -> bool {
    match error {
        Error::ConnectionFailed => true,
        Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}
