//! The counters' arithmetic under weak memory.
//!
//! `src/sync/counter.rs` defines types that are placed in maps, and is not compiled here. This
//! module repeats its arithmetic line by line on loom's atomics. The claims in that file are claims
//! about `Relaxed` accesses.

use crate::model::Model;
use crate::sys::{AtomicU64, join_all};
use std::array;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

/// Two shards stand for the 32 of the library: they are read one after the other.
#[derive(Debug)]
struct Sharded([AtomicU64; 2]);

impl Sharded {
    fn new() -> Rc<Self> {
        Rc::new(Sharded(array::from_fn(|_| AtomicU64::new(0))))
    }

    fn add(&self, tid: u32, amount: u64) {
        self.0[tid as usize % 2].fetch_add(amount, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, shard| sum.wrapping_add(shard.load(Relaxed)))
    }

    fn reset(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, shard| sum.wrapping_add(shard.swap(0, Relaxed)))
    }
}

/// Four threads, three preemptions. Three of them add, two of these to the same shard.
#[test]
fn no_addition_is_lost_and_sums_do_not_decrease() {
    let model = Model {
        preemptions: 3,
        follows_old_values: true,
        ..Model::PLAIN
    };
    model.holds(|world| {
        let counter = Sharded::new();
        let adders = [2, 3, 4].map(|tid| {
            let counter = counter.clone();
            world.spawn(tid, move || counter.add(tid, u64::from(tid)))
        });
        let (earlier, later) = (counter.get(), counter.get());
        assert!(earlier <= later && later <= 9);
        join_all(adders);
        assert_eq!(counter.get(), 9);
    });
}

/// Four threads, three preemptions. Two of them add, and one resets the counter.
#[test]
fn a_reset_neither_loses_an_addition_nor_counts_it_twice() {
    let model = Model {
        preemptions: 3,
        follows_old_values: true,
        ..Model::PLAIN
    };
    model.holds(|world| {
        let counter = Sharded::new();
        let adders = [2, 3].map(|tid| {
            let counter = counter.clone();
            world.spawn(tid, move || (0..2).for_each(|_| counter.add(tid, 1)))
        });
        let resets = counter.clone();
        let before = world
            .spawn(4, move || resets.reset())
            .join()
            .expect("no thread is killed");
        join_all(adders);
        assert_eq!(before + counter.get(), 4);
    });
}
