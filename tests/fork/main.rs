//! Everything that forks or kills. One thread, and each test in a process of its own: see `harness`.

mod examples;
mod exclusion;
mod files;
mod harness;
mod kills;
mod kit;
mod net;
mod pthread;
mod steps;
mod strangers;

fn main() -> std::process::ExitCode {
    if let Ok(socket) = std::env::var(strangers::ROLE) {
        return strangers::as_stranger(&socket);
    }
    harness::run([examples::tests(), exclusion::tests(), kills::tests(), net::tests(), files::tests(), strangers::tests()].concat())
}
