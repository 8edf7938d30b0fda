#!/usr/bin/env bash
# A child process inherits its parent's timer slack, and the kernel may end each timed sleep of the
# child that much later. So a lock's timeout of 20 ms can take seconds in a process that set nothing
# itself.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "timer-slack"
version = "0.0.0"
edition = "2021"

[dependencies]
libc = "=0.2.189"
parking_lot = "=0.12.5"
TOML
cat >src/main.rs <<'RUST'
use parking_lot::{Condvar, Mutex};
use std::process::Command;
use std::time::{Duration, Instant};

/// Waits for 20 ms in four ways, and prints how long each wait took.
fn wait() {
    let timeout = Duration::from_millis(20);
    let timed = |name: &str, wait: &mut dyn FnMut()| {
        let start = Instant::now();
        wait();
        println!("{name} {}", start.elapsed().as_millis());
    };
    let (lock, other, condvar) = (Mutex::new(0), Mutex::new(0), Condvar::new());
    let _held = lock.lock();
    timed("try_lock_for", &mut || {
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(lock.try_lock_for(timeout).is_none()));
        });
    });
    timed("condvar", &mut || {
        assert!(condvar.wait_for(&mut other.lock(), timeout).timed_out());
    });
    timed("park_timeout", &mut || std::thread::park_timeout(timeout));
    timed("sleep", &mut || std::thread::sleep(timeout));
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("wait") => wait(),
        Some(slack) => {
            let slack: libc::c_ulong = slack.parse().unwrap();
            // SAFETY: the operation takes a number.
            assert_eq!(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack) }, 0);
            // The child sets nothing.
            let program = std::env::current_exe().unwrap();
            let child = Command::new(program).arg("wait").status().unwrap();
            assert!(child.success());
        }
        None => unreachable!("an argument is given"),
    }
}
RUST
cargo build --quiet --release
program=target/release/timer-slack

echo "Linux $(uname -r), $(rustc --version), parking_lot 0.12.5"
echo 'expected: a timeout of 20 ms ends after about 20 ms'
echo 'found, with the default slack of the kernel (50 us):'
"$program" 50000 | tee default
echo 'found, in a child of a process that set its own slack to 1 s:'
"$program" 1000000000 | tee large
echo 'source: prctl(2), PR_SET_TIMERSLACK; kernel/futex/waitwake.c passes the slack of the thread to'
echo '  its timer. Only real-time scheduling has no slack.'

# The default must be quick at least once, so that a busy machine alone cannot make the difference.
awk '$2 < 500 { quick++ } END { exit quick >= 3 ? 0 : 1 }' default
awk '$2 >= 500 { late++ } END { exit late >= 3 ? 0 : 1 }' large
echo 'as described'
