//! Measures the cost of each primitive for one thread without contention, compared with its
//! alternatives, and the ratios.
//!
//! `cargo bench -p pshared-bench --bench uncontended` measures with criterion, then prints a table
//! of the medians. Compare only the ratios of one run: the speed of the machine cancels out in
//! them.

use criterion::{BenchmarkId, Criterion};
use pshared::{
    ShardedCounter, Shared, SharedCounter, SharedMutex, SharedPermits, SharedRwLock,
    SharedSemaphore, SysvSemaphore,
};
use pshared_bench::glibc;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A row of the table: the group, the primitive, what it is compared with, and the ratio that it
/// must not exceed.
const RATIOS: [(&str, &str, &str, f64); 9] = [
    ("mutex", "SharedMutex", "std::sync::Mutex", 1.10),
    ("mutex", "SharedMutex", "glibc pshared robust", 0.65),
    ("read", "SharedRwLock", "glibc pshared rwlock", 1.15),
    ("write", "SharedRwLock", "glibc pshared rwlock", 1.30),
    ("semaphore", "SharedSemaphore", "sem_t", 1.10),
    ("semaphore", "SharedPermits", "sem_t", 1.5),
    ("semaphore", "SharedPermits", "SysvSemaphore", 0.05),
    ("counter", "SharedCounter", "AtomicU64", 1.05),
    ("counter", "ShardedCounter", "AtomicU64", f64::INFINITY),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    mutexes(&mut criterion)?;
    rwlocks(&mut criterion)?;
    semaphores(&mut criterion)?;
    counters(&mut criterion)?;
    criterion.final_summary();
    print_ratios();
    Ok(())
}

fn mutexes(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let shared = Shared::anonymous(SharedMutex::new(0_u64))?;
    let shared: &SharedMutex<u64> = &shared;
    let std = std::sync::Mutex::new(0_u64);
    let plain = glibc::Mutex::new(glibc::Kind::Shared)?;
    let robust = glibc::Mutex::new(glibc::Kind::SharedRobust)?;
    let mut group = criterion.benchmark_group("mutex");
    group.bench_function(BenchmarkId::from_parameter("std::sync::Mutex"), |bencher| {
        bencher.iter(|| *black_box(&std).lock().unwrap() += 1);
    });
    group.bench_function(BenchmarkId::from_parameter("SharedMutex"), |bencher| {
        bencher.iter(|| *black_box(shared).lock().unwrap() += 1);
    });
    for (name, mutex) in [("glibc pshared", &plain), ("glibc pshared robust", &robust)] {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| black_box(mutex).with(|count| *count += 1));
        });
    }
    group.finish();
    Ok(())
}

fn rwlocks(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let shared = Shared::anonymous(SharedRwLock::new(0_u64))?;
    let shared: &SharedRwLock<u64> = &shared;
    let theirs = glibc::RwLock::new()?;
    let mut group = criterion.benchmark_group("read");
    group.bench_function(
        BenchmarkId::from_parameter("glibc pshared rwlock"),
        |bencher| {
            bencher.iter(|| black_box(&theirs).read());
        },
    );
    group.bench_function(BenchmarkId::from_parameter("SharedRwLock"), |bencher| {
        bencher.iter(|| *black_box(shared).read().unwrap());
    });
    group.finish();
    let mut group = criterion.benchmark_group("write");
    group.bench_function(
        BenchmarkId::from_parameter("glibc pshared rwlock"),
        |bencher| {
            bencher.iter(|| black_box(&theirs).write());
        },
    );
    group.bench_function(BenchmarkId::from_parameter("SharedRwLock"), |bencher| {
        bencher.iter(|| *black_box(shared).write().unwrap() += 1);
    });
    group.finish();
    Ok(())
}

fn semaphores(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let shared = Shared::anonymous(SharedSemaphore::new(1))?;
    let shared: &SharedSemaphore = &shared;
    let bare = glibc::Semaphore::new(1)?;
    let permits = Shared::anonymous(SharedPermits::<8>::new())?;
    let permits: &SharedPermits<8> = &permits;
    let sysv = SysvSemaphore::private(8)?;
    let mut group = criterion.benchmark_group("semaphore");
    group.bench_function(BenchmarkId::from_parameter("sem_t"), |bencher| {
        bencher.iter(|| {
            black_box(&bare).wait();
            black_box(&bare).post();
        });
    });
    group.bench_function(BenchmarkId::from_parameter("SharedSemaphore"), |bencher| {
        bencher.iter(|| {
            black_box(shared).wait().unwrap();
            black_box(shared).post().unwrap();
        });
    });
    group.bench_function(BenchmarkId::from_parameter("SharedPermits"), |bencher| {
        bencher.iter(|| drop(black_box(permits).acquire().unwrap()));
    });
    group.bench_function(BenchmarkId::from_parameter("SysvSemaphore"), |bencher| {
        bencher.iter(|| drop(black_box(&sysv).acquire().unwrap()));
    });
    group.finish();
    Ok(())
}

fn counters(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let shared = Shared::anonymous(SharedCounter::new(0))?;
    let shared: &SharedCounter = &shared;
    let sharded = Shared::anonymous(ShardedCounter::new())?;
    let sharded: &ShardedCounter = &sharded;
    let atomic = AtomicU64::new(0);
    let mut group = criterion.benchmark_group("counter");
    group.bench_function(BenchmarkId::from_parameter("AtomicU64"), |bencher| {
        bencher.iter(|| black_box(&atomic).fetch_add(1, Relaxed));
    });
    group.bench_function(BenchmarkId::from_parameter("SharedCounter"), |bencher| {
        bencher.iter(|| black_box(shared).add(1));
    });
    group.bench_function(BenchmarkId::from_parameter("ShardedCounter"), |bencher| {
        bencher.iter(|| black_box(sharded).add(1));
    });
    group.finish();
    Ok(())
}

/// Prints the ratios of the medians that criterion has written in this run.
fn print_ratios() {
    println!(
        "\n{:44} {:>8} {:>8} {:>7} {:>6}",
        "one thread, no contention", "ns", "other ns", "ratio", "limit"
    );
    for (group, ours, theirs, limit) in RATIOS {
        let (Some(our_time), Some(their_time)) = (median(group, ours), median(group, theirs))
        else {
            continue;
        };
        let ratio = our_time / their_time;
        let limit = match limit {
            limit if limit.is_infinite() => String::new(),
            limit => format!(
                "{limit:.2} {}",
                if ratio <= limit { "ok" } else { "MISSED" }
            ),
        };
        let what = format!("{ours} / {theirs}");
        println!("{what:44} {our_time:8.2} {their_time:8.2} {ratio:7.3} {limit:>6}");
    }
}

/// Returns the median of a benchmark in nanoseconds, or `None` if it was not measured.
fn median(group: &str, name: &str) -> Option<f64> {
    let name = name.replace(':', "_");
    let root = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        Into::into,
    );
    let path = root
        .join("criterion")
        .join(group)
        .join(name)
        .join("new/estimates.json");
    let estimates: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}
