//! Everything that forks or kills. One thread, and each test in a process of its own: see `harness`.

mod breakers;
mod counters;
mod ends;
mod event;
mod examples;
mod exclusion;
mod files;
mod glibc;
mod harness;
mod identity;
mod kills;
mod kit;
mod net;
mod pthread;
mod scenarios;
mod semaphore;
mod steps;
mod strangers;

fn main() -> std::process::ExitCode {
    if let Ok(socket) = std::env::var(strangers::ROLE) {
        return strangers::as_stranger(&socket);
    }
    harness::run([scenarios::tests(), identity::tests(), glibc::tests(), ends::tests(), breakers::tests(), examples::tests(), exclusion::tests(), kills::tests(), net::tests(), files::tests(), strangers::tests(), semaphore::tests(), event::tests(), counters::tests()].concat())
}
