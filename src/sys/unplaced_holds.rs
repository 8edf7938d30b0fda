//! The locks that a thread holds and that are not placed: they lie in the memory of one process.
//!
//! A child gets a copy of such a lock. The copy is held for ever, because the thread that holds it
//! is the parent's. So a fork is refused while the calling thread holds one. The registry of
//! placed values does not know these locks, and no robust list contains them.
//!
//! A lock that is not placed may be moved, leaked (`mem::forget` of its guard) and dropped. So each
//! hold is kept as the address of the lock's owner record, and counts only while a record there
//! still names the thread.

use super::owner::OwnerId;
use super::record_probe::is_recorded_at;
use std::cell::Cell;
use std::ptr;

/// How many holds are kept by their address. Further holds are only counted.
const KEPT: usize = 8;

/// The holds of one thread.
pub(super) struct UnplacedHolds {
    records: [Cell<*const ()>; KEPT],
    counted: Cell<u32>,
}

impl UnplacedHolds {
    pub(super) const fn new() -> Self {
        UnplacedHolds {
            records: [const { Cell::new(ptr::null()) }; KEPT],
            counted: Cell::new(0),
        }
    }

    /// Adds a hold. `record` is the address of the lock's owner record, or `None` for a hold that
    /// is not recorded.
    pub(super) fn add(&self, record: Option<*const ()>) {
        match record.and_then(|record| Some((record, self.find(ptr::null())?))) {
            Some((record, kept)) => kept.set(record),
            None => self.counted.set(self.counted.get() + 1),
        }
    }

    /// Removes a hold that [`add`](Self::add) added with the same argument.
    pub(super) fn remove(&self, record: Option<*const ()>) {
        match record.and_then(|record| self.find(record)) {
            Some(kept) => kept.set(ptr::null()),
            None => self.counted.set(self.counted.get().saturating_sub(1)),
        }
    }

    /// Removes one hold of the thread `owner`: that of a lock which was moved after its guard was
    /// leaked. Its address is not known any more. Another hold may be removed in its place, if the
    /// thread holds further locks that are not placed.
    pub(super) fn remove_moved(&self, owner: OwnerId) {
        let mut kept = self.records.iter().rev();
        match kept.find(|kept| is_held(kept, owner)) {
            Some(kept) => kept.set(ptr::null()),
            None => self.remove(None),
        }
    }

    /// Forgets all holds: they are those of the parent.
    pub(super) fn clear(&self) {
        self.records.iter().for_each(|kept| kept.set(ptr::null()));
        self.counted.set(0);
    }

    /// Returns whether the thread `owner` still holds one of the locks.
    pub(super) fn any(&self, owner: OwnerId) -> bool {
        self.counted.get() > 0 || self.records.iter().any(|kept| is_held(kept, owner))
    }

    fn find(&self, record: *const ()) -> Option<&Cell<*const ()>> {
        self.records
            .iter()
            .find(|kept| ptr::addr_eq(kept.get(), record))
    }
}

fn is_held(kept: &Cell<*const ()>, owner: OwnerId) -> bool {
    let record = kept.get();
    !record.is_null() && is_recorded_at(record.cast(), owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_counts_while_a_record_at_its_address_names_the_thread() {
        let owner = OwnerId::new(7, 8, 9);
        let records = [const { std::sync::atomic::AtomicU64::new(0) }; KEPT + 2];
        let holds = UnplacedHolds::new();
        let address = |number: usize| Some(records[number].as_ptr().cast_const().cast::<()>());
        assert!(!holds.any(owner));
        holds.add(address(3));
        assert!(!holds.any(owner), "the record is empty");
        records[3].store(owner.to_bits(), std::sync::atomic::Ordering::Relaxed);
        assert!(holds.any(owner));
        assert!(!holds.any(OwnerId::new(7, 9, 9)), "another thread");
        holds.remove(address(3));
        assert!(!holds.any(owner));
    }

    #[test]
    fn holds_without_a_record_and_holds_beyond_the_kept_ones_are_counted() {
        let owner = OwnerId::new(7, 8, 9);
        let records = [0_u64; KEPT + 2];
        let holds = UnplacedHolds::new();
        let address = |record: &u64| Some(ptr::from_ref(record).cast::<()>());
        holds.add(None);
        assert!(holds.any(owner));
        holds.remove(None);
        assert!(!holds.any(owner));
        records.iter().for_each(|record| holds.add(address(record)));
        assert!(holds.any(owner));
        records
            .iter()
            .for_each(|record| holds.remove(address(record)));
        assert!(!holds.any(owner));
        holds.add(None);
        holds.clear();
        assert!(!holds.any(owner));
    }
}
