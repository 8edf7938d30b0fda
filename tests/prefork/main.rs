//! The forking server, as a program, under real clients: its books balance whatever happens to its workers.
//!
//! Its map is a file, which these tests open as strangers: so they know who holds what, and whom to kill.

mod clients;
#[path = "../fork/disk.rs"]
mod disk;
#[path = "../fork/harness.rs"]
mod harness;
mod kills;
mod orders;
#[path = "../fork/program.rs"]
mod program;
mod protocol;
mod server;
mod trouble;

/// The server's own account of what its processes share.
#[path = "../../examples/prefork"]
#[allow(dead_code, reason = "the server uses the rest")]
mod prefork {
    pub mod board;
    pub mod cache;
    pub mod clock;
    pub mod faults;
    pub mod histogram;
    pub mod limiter;
}

fn main() -> std::process::ExitCode {
    harness::run(
        [
            protocol::tests(),
            kills::tests(),
            orders::tests(),
            trouble::tests(),
        ]
        .concat(),
    )
}
