//! The counters' arithmetic under weak memory.
//!
//! `src/sync/counter.rs` holds types that are placed in maps, and is not compiled here: this is its arithmetic, line by
//! line, on loom's atomics. What is claimed of it there is claimed for `Relaxed` accesses.

use crate::model::Model;
use crate::sys::{AtomicU64, join_all};
use std::array;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

/// Two shards show what 32 do: that they are read one after the other.
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

/// Four threads, of which three add, two of them to the same shard; three preemptions.
#[test]
fn no_addition_is_lost_and_sums_do_not_shrink() {
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

/// Four threads, of which two add and one starts anew; three preemptions.
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
            .expect("nobody is killed");
        join_all(adders);
        assert_eq!(before + counter.get(), 4);
    });
}
