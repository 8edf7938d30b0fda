//! Counters, gauges and sharded counters in one process.

use pshared::{ShardedCounter, Shared, SharedCounter, SharedGauge};
use std::thread;

#[test]
fn a_counter_gives_the_value_before_and_starts_again_at_zero() {
    let counter = SharedCounter::new(40);
    assert_eq!(counter.add(2), 40);
    assert_eq!(counter.add(0), 42);
    assert_eq!(counter.reset(), 42);
    assert_eq!(counter.reset(), 0);
    assert_eq!(SharedCounter::default().get(), 0);
}

#[test]
fn a_counter_wraps_around() {
    let counter = Shared::anonymous(SharedCounter::new(u64::MAX)).unwrap();
    assert_eq!(counter.add(3), u64::MAX);
    assert_eq!(counter.get(), 2);
}

#[test]
fn a_gauge_goes_up_and_down_and_wraps_around() {
    let gauge = SharedGauge::new(-1);
    assert_eq!(gauge.add(5), -1);
    assert_eq!(gauge.sub(7), 4);
    assert_eq!(gauge.set(i64::MAX), -3);
    assert_eq!(gauge.add(1), i64::MAX);
    assert_eq!(gauge.get(), i64::MIN);
    assert_eq!(gauge.sub(1), i64::MIN);
    assert_eq!(gauge.get(), i64::MAX);
    assert_eq!(SharedGauge::default().get(), 0);
}

#[test]
fn a_gauge_is_raised_and_never_lowered_to_a_mark() {
    let mark = SharedGauge::new(5);
    assert_eq!(mark.raise_to(9), 5);
    assert_eq!(mark.raise_to(7), 9);
    assert_eq!(mark.get(), 9);
}

#[test]
fn threads_of_one_process_count_exactly() {
    let (counter, sharded, gauge) = (
        SharedCounter::new(0),
        Box::new(ShardedCounter::new()),
        SharedGauge::new(0),
    );
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    counter.add(1);
                    sharded.add(2);
                    gauge.add(3);
                    gauge.sub(2);
                }
            });
        }
    });
    assert_eq!(
        (counter.get(), sharded.get(), gauge.get()),
        (80_000, 160_000, 80_000)
    );
}

#[test]
fn no_addition_is_lost_or_counted_twice_by_resets_meanwhile() {
    let (counter, sharded) = (SharedCounter::new(0), Box::new(ShardedCounter::new()));
    let taken = thread::scope(|scope| {
        let adders: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        counter.add(1);
                        sharded.add(1);
                    }
                })
            })
            .collect();
        let mut taken = (0, 0);
        while !adders.iter().all(|adder| adder.is_finished()) {
            taken.0 += counter.reset();
            taken.1 += sharded.reset();
        }
        taken
    });
    assert_eq!(
        (taken.0 + counter.reset(), taken.1 + sharded.reset()),
        (80_000, 80_000)
    );
}

#[test]
fn a_sum_of_shards_does_not_go_back_while_others_add() {
    let sharded = Box::new(ShardedCounter::default());
    thread::scope(|scope| {
        let adders: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..20_000).for_each(|_| sharded.add(1))))
            .collect();
        let mut last = 0;
        while !adders.iter().all(|adder| adder.is_finished()) {
            let now = sharded.get();
            assert!(last <= now);
            last = now;
        }
    });
    assert_eq!(sharded.get(), 80_000);
}

#[test]
fn a_sum_of_shards_wraps_around() {
    let sharded = Box::new(ShardedCounter::new());
    sharded.add(u64::MAX);
    thread::scope(|scope| scope.spawn(|| sharded.add(5)).join().unwrap());
    assert_eq!(sharded.get(), 4);
    assert_eq!(sharded.reset(), 4);
    assert_eq!(sharded.get(), 0);
}
