//! A cache of expensive answers for all workers. Many workers read it. A worker that computes an
//! answer writes it.

use crate::faults::{Faults, Place};
use crate::shared_state::{SharedState, Worker};
use arrayvec::ArrayString;
use pshared::{Error, LockError, ShmData};

const ENTRIES: usize = 64;

/// The latest answers. A new answer replaces the oldest one.
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

/// Returns the answer for `key`: the cached one, or that of `make`, which is then cached.
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
    // Compute the answer without the lock. Another worker may compute the same answer meanwhile,
    // but this costs less than making all other workers wait.
    let answer = make();
    write(state, |cache| {
        faults.raise_at(Place::Cache);
        cache.insert(key, answer);
    })?;
    Ok(answer)
}

fn read(state: &SharedState, key: u64) -> Result<Option<ArrayString<64>>, Error> {
    match state.cache.read() {
        Ok(cache) => Ok(cache.find(key)),
        // The data that a dead writer left is never read. All cached answers can be computed again.
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

/// Writes to the cache. If its last writer died, empties the cache first.
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
