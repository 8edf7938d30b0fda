//! Reading an owner record that may no longer exist.

use super::futex::probe_u32;
use super::owner::OwnerId;

/// Returns whether the record at this address names `owner`. Returns false if there is no record
/// any more, or if the memory cannot be read.
pub(super) fn is_recorded_at(record: *const u32, owner: OwnerId) -> bool {
    // The two halves, in the order in which they lie in memory.
    let bits = owner.to_bits();
    let mut halves = [bits as u32, (bits >> u32::BITS) as u32];
    if cfg!(target_endian = "big") {
        halves.reverse();
    }
    // Only that thread writes its own id to a record, so the halves can be compared one after the
    // other.
    probe_u32(record, halves[0]) && probe_u32(record.wrapping_add(1), halves[1])
}
