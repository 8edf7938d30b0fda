//! Counters that many processes share: no addition is lost, and the additions of dead processes
//! remain.

use crate::harness::Kills;
use crate::steps::{Random, until_idly};
use crate::support::{child, gettid, passes};
use pshared::{ShardedCounter, Shared, SharedCounter, SharedGauge, ShmSafe};
use std::thread;

crate::tests!(
    processes_and_their_threads_count_exactly,
    counts_of_killed_processes_are_kept: 64 kills of "counters",
    each_child_adds_to_its_own_shard,
);

#[derive(ShmSafe)]
#[pshared(zeroed)]
#[repr(C)]
struct Counters {
    plain: SharedCounter,
    gauge: SharedGauge,
    sharded: ShardedCounter,
    own: [SharedCounter; 64],
}

fn counters() -> Shared<Counters> {
    Shared::zeroed().unwrap()
}

fn processes_and_their_threads_count_exactly() {
    let counters = counters();
    let add = || {
        for _ in 0..20_000 {
            counters.plain.add(1);
            counters.gauge.add(5);
            counters.gauge.sub(4);
            counters.sharded.add(2);
        }
    };
    let children: Vec<_> = (0..4)
        .map(|_| {
            child(|| {
                thread::scope(|scope| {
                    scope.spawn(add);
                    scope.spawn(add);
                    add();
                });
            })
        })
        .collect();
    children.iter().for_each(passes);
    assert_eq!(counters.plain.get(), 240_000);
    assert_eq!(counters.gauge.get(), 240_000);
    assert_eq!(counters.sharded.get(), 480_000);
}

fn counts_of_killed_processes_are_kept(run: &Kills<'_>) {
    let counters = counters();
    let mut random = Random::new(run.seed());
    while run.go_on() {
        let own = &counters.own[run.made() as usize % counters.own.len()];
        let counters = &counters;
        let victim = child(move || {
            loop {
                counters.plain.add(1);
                counters.sharded.add(1);
                own.add(1);
            }
        });
        let until = own.get() + 1 + random.below(2_000);
        until_idly(|| own.get() >= until);
        run.kill(&victim);
        run.note(counters.plain.get(), 0);
    }
    // Each victim was killed at most one step before it recorded its last addition.
    let total: u64 = counters.own.iter().map(SharedCounter::get).sum();
    for counted in [counters.plain.get(), counters.sharded.get()] {
        assert!(
            (total..=total + run.made()).contains(&counted),
            "{counted} of {total}"
        );
    }
}

fn each_child_adds_to_its_own_shard() {
    const SHARDS: usize = 32;
    let counters = counters();
    // The parent has a shard too, which may differ from a child's.
    counters.sharded.add(1000);
    let mut expected = [0; SHARDS];
    expected[gettid() as usize % SHARDS] += 1000;
    for amount in 1..=40 {
        let child = child(|| counters.sharded.add(amount));
        expected[child.id() as usize % SHARDS] += amount;
        passes(&child);
    }
    // SAFETY: each shard has 128 bytes and starts with its count; no process changes them now.
    let shards: [[u64; 16]; SHARDS] = unsafe {
        (&raw const counters.sharded)
            .cast::<[[u64; 16]; SHARDS]>()
            .read()
    };
    assert_eq!(shards.map(|shard| shard[0]), expected);
    assert!(expected.iter().filter(|amount| **amount > 0).count() > SHARDS / 2);
    assert_eq!(counters.sharded.get(), expected.iter().sum::<u64>());
}
