//! The forking server, as a program, under real clients: its books balance whatever happens to its workers.
//!
//! Its map is a file, which these tests open as strangers: so they know who holds what, and whom to kill.

mod clients;
#[path = "../../../../tests/fork/disk.rs"]
mod disk;
mod faults;
#[path = "../../../../tests/fork/harness.rs"]
mod harness;
mod kills;
mod protocol;
mod server;
mod signals;

fn main() -> std::process::ExitCode {
    harness::run(
        [
            protocol::tests(),
            kills::tests(),
            signals::tests(),
            faults::tests(),
        ]
        .concat(),
    )
}
