//! Everything that forks or kills. One thread, and each test in a process of its own: see `harness`.

mod harness;

fn main() -> std::process::ExitCode {
    harness::run(vec![])
}
