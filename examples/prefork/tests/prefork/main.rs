//! Runs the forking server as a program under real clients. Its counts must match those of the
//! clients, whatever happens to its workers.
//!
//! The server's map is a file that the tests also open. So they know the owner of each lock and can
//! kill it.

mod clients;
#[path = "../../../../tests/fork/disk.rs"]
mod disk;
mod faults;
#[allow(
    dead_code,
    unused_imports,
    reason = "the library's own tests use more of it"
)]
#[path = "../../../../tests/fork/harness/mod.rs"]
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
