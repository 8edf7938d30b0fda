//! Measures how many additions per second two processes perform on one counter: a sharded counter
//! compared with one shared atomic.
//!
//! Run it with `cargo bench -p pshared-bench --bench counting`. Each round measures both, one after
//! the other. The result is the median of the rounds' ratios.

use pshared::fork::{self, Child};
use pshared::{ShardedCounter, Shared, SharedCounter, SharedEvent, ShmSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const TIME: Duration = Duration::from_millis(300);

/// The lowest ratio that meets the project's target.
const AT_LEAST: f64 = 3.0;

fn main() {
    let sharded = Shared::anonymous(ShardedCounter::new()).expect("mmap failed");
    let atomic = Shared::anonymous(AtomicU64::new(0)).expect("mmap failed");
    let ours = || million_times_a_second(&|| sharded.add(1));
    let theirs = || {
        million_times_a_second(&|| {
            atomic.fetch_add(1, Relaxed);
        })
    };
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|round| {
            // Drift of the machine's speed affects both sides, because the order changes from
            // round to round.
            if round % 2 == 0 {
                (ours(), theirs())
            } else {
                let theirs = theirs();
                (ours(), theirs)
            }
        })
        .collect();
    rounds.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let ratio = |round: (f64, f64)| round.0 / round.1;
    let (ours, theirs) = rounds[ROUNDS / 2];
    let found = ratio((ours, theirs));
    println!("two processes add                           Mops/s     other   ratio  limit");
    println!(
        "ShardedCounter::add / AtomicU64::fetch_add {ours:7.2} {theirs:9.2} {found:7.2} {AT_LEAST:6.2} {}",
        if found >= AT_LEAST { "ok" } else { "MISSED" },
    );
    println!(
        "spread of the ratio over {ROUNDS} rounds: {:.2} to {:.2}",
        ratio(rounds[0]),
        ratio(rounds[ROUNDS - 1]),
    );
}

#[derive(ShmSafe)]
#[repr(C)]
struct Stage {
    ready: SharedCounter,
    start: SharedEvent,
    stop: AtomicBool,
    /// Operations performed, and the nanoseconds they took.
    operations: SharedCounter,
    nanoseconds: SharedCounter,
}

fn million_times_a_second(body: &impl Fn()) -> f64 {
    let stage = Shared::anonymous(Stage {
        ready: SharedCounter::new(0),
        start: SharedEvent::new(),
        stop: AtomicBool::new(false),
        operations: SharedCounter::new(0),
        nanoseconds: SharedCounter::new(0),
    })
    .expect("mmap failed");
    let children: Vec<Child> = (0..2)
        .map(|_| fork::spawn(|| work(&stage, body)).expect("fork failed"))
        .collect();
    while stage.ready.get() < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    stage.start.set();
    std::thread::sleep(TIME);
    stage.stop.store(true, Relaxed);
    for child in children {
        let status = child.wait().expect("wait failed");
        assert!(status.success(), "a worker failed: {status}");
    }
    // The sum of the workers' rates.
    stage.operations.get() as f64 / (stage.nanoseconds.get() as f64 / 2.0) * 1e3
}

fn work(stage: &Stage, body: &impl Fn()) {
    stage.ready.add(1);
    stage.start.wait();
    let since = Instant::now();
    let mut operations = 0;
    while !stage.stop.load(Relaxed) {
        for _ in 0..64 {
            body();
        }
        operations += 64;
    }
    stage.nanoseconds.add(since.elapsed().as_nanos() as u64);
    stage.operations.add(operations);
}
