//! Answers that were dear to make, for all workers: read by many, written by who had to make one.

use crate::faults::{Faults, Place};
use crate::shared_state::{SharedState, Worker};
use arrayvec::ArrayString;
use pshared::{Error, LockError, ShmData};

const ENTRIES: usize = 64;

/// The last answers, the oldest of which makes room for the next.
#[derive(ShmData)]
#[repr(C)]
pub struct Cache {
    entries: [Entry; ENTRIES],
    next: usize,
}

#[derive(ShmData, Clone, Copy, Default)]
#[repr(C)]
struct Entry {
    key: u64,
    answer: ArrayString<64>,
}

impl Default for Cache {
    fn default() -> Self {
        Cache {
            entries: [Entry::default(); ENTRIES],
            next: 0,
        }
    }
}

impl Cache {
    fn find(&self, key: u64) -> Option<ArrayString<64>> {
        let mut entries = self.entries.iter();
        let found = entries.find(|entry| entry.key == key && !entry.answer.is_empty());
        found.map(|entry| entry.answer)
    }

    fn insert(&mut self, key: u64, answer: ArrayString<64>) {
        if self.find(key).is_none() {
            self.entries[self.next] = Entry { key, answer };
            self.next = (self.next + 1) % ENTRIES;
        }
    }
}

/// The answer for `key`: one that somebody made before, or else that of `make`, for all others too.
pub fn answer(
    state: &SharedState,
    worker: &Worker,
    faults: &Faults,
    key: u64,
    make: impl FnOnce() -> ArrayString<64>,
) -> Result<ArrayString<64>, Error> {
    if let Some(known) = read(state, key)? {
        worker.cache_hits.add(1);
        return Ok(known);
    }
    worker.cache_misses.add(1);
    // Without the lock: somebody else may make the same meanwhile, which costs less than that all others wait.
    let answer = make();
    write(state, |cache| {
        faults.strike(Place::Cache);
        cache.insert(key, answer);
    })?;
    Ok(answer)
}

fn read(state: &SharedState, key: u64) -> Result<Option<ArrayString<64>>, Error> {
    match state.cache.read() {
        Ok(cache) => Ok(cache.find(key)),
        // Nobody reads what a dead writer left. Nothing is in a cache that cannot be made again.
        Err(LockError::Poisoned(poisoned)) => {
            if poisoned.is_first_report() {
                state.reported.cache.add(1);
            }
            drop(poisoned);
            write(state, |_| {}).map(|()| None)
        }
        Err(other) => Err(other.into()),
    }
}

/// Writes to the cache, which is empty where its last writer died.
fn write(state: &SharedState, change: impl FnOnce(&mut Cache)) -> Result<(), Error> {
    let mut cache = match state.cache.write() {
        Err(LockError::Poisoned(poisoned)) => {
            if poisoned.is_first_report() {
                state.reported.cache.add(1);
            }
            poisoned.replace(Cache::default())
        }
        other => other?,
    };
    change(&mut cache);
    Ok(())
}
