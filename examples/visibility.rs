//! Shows which memory a parent and its child share: `fork` copies ordinary memory and shares a map.
//!
//! ```text
//! cargo run --example visibility
//! ```

#![forbid(unsafe_code)]

use clap::Parser;
use pshared::{Shared, SharedEvent, ShmSafe, fork};
use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Shows what a fork copies and what a map shares.
///
/// First, a child increments a number on the heap and a number in a map. The parent prints both
/// after the child has ended. Then the parent changes a global variable and a number in a map. A
/// child that was forked before the change prints both.
#[derive(Debug, Parser)]
#[command(name = "visibility", version)]
struct Options {}

/// A global variable. Each process has its own copy.
static VAR: AtomicU32 = AtomicU32::new(100);

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    a: AtomicU32,
    p: AtomicU32,
    written: SharedEvent,
}

fn main() -> ExitCode {
    let Options {} = Options::parse();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("visibility: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let state = Shared::anonymous(State {
        a: AtomicU32::new(1),
        p: AtomicU32::new(0),
        written: SharedEvent::new(),
    })?;

    print_row("", "on the heap", "in a map");
    let mut a = Box::new(1);
    let child = fork::spawn(|| {
        for _ in 0..3 {
            print_row("child", *a, state.a.load(Relaxed));
            *a += 1;
            state.a.fetch_add(1, Relaxed);
        }
    })?;
    succeeded(&child)?;
    print_row("parent, afterwards", *a, state.a.load(Relaxed));

    println!();
    print_row("", "in a global", "in a map");
    let child = fork::spawn(|| {
        // Without this wait, the child could read before the parent writes: a map does not block.
        state.written.wait();
        print_row(
            "child, afterwards",
            VAR.load(Relaxed),
            state.p.load(Relaxed),
        );
    })?;
    VAR.store(1000, Relaxed);
    state.p.store(7000, Relaxed);
    print_row("parent", VAR.load(Relaxed), state.p.load(Relaxed));
    state.written.set();
    succeeded(&child)
}

fn print_row(label: &str, private: impl ToString, shared: impl ToString) {
    println!(
        "{label:20}{:>12}{:>12}",
        private.to_string(),
        shared.to_string()
    );
}

fn succeeded(child: &fork::Child) -> Result<(), Box<dyn Error>> {
    let status = child.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the child failed: {status}").into())
    }
}
