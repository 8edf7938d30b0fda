//! [`Holder`]: the thread that holds a lock, for reports.

use crate::sys::{self, ImageId, Owner, OwnerId};
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// The thread that held a lock when the lock was queried; see
/// [`SharedMutex::holder`](crate::SharedMutex::holder).
///
/// Two values are equal if they have the same ids.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Holder {
    /// The process id, in the holder's PID namespace.
    pub process: u32,
    /// The thread id, in the holder's PID namespace.
    pub thread: u32,
    owner: Owner,
}

impl Holder {
    pub(super) fn of(owner: Owner) -> Self {
        Holder {
            process: owner.id.pid(),
            thread: owner.id.tid(),
            owner,
        }
    }

    /// The holder of a slot, whose process image is not recorded.
    pub(super) fn of_id(id: OwnerId) -> Self {
        let image = ImageId::UNKNOWN;
        Holder::of(Owner { id, image })
    }

    /// Returns whether the holder's process is being killed and writes a core dump now. Its locks
    /// are released when the dump is written.
    ///
    /// This reads `/proc` (Linux 4.15). It returns false if `/proc` does not show the process, or
    /// if the process is in another PID namespace than the caller.
    pub fn is_dumping_core(&self) -> bool {
        sys::is_dumping_core(self.owner)
    }

    /// Waits until the holder's process has ended, for at most `timeout` on the monotonic clock.
    /// Returns whether it has ended. A process that is not reaped yet has ended.
    ///
    /// A lock of a dead holder is released before its process has ended. Until then, I/O that the
    /// process submitted by `io_submit(2)` can write to the map. The end of the process ends it.
    ///
    /// **I/O of an io_uring goes on even after the end.** A ring is not part of the memory of the
    /// process. The kernel cancels its requests later, and those that have reached the disk
    /// complete. No call of this crate waits for them.
    ///
    /// This returns false if the process is in another PID namespace than the caller. The process
    /// is identified by its start time. If that is not known, as for the holder of a roster's slot,
    /// this waits for the process that has the id now.
    pub fn wait_for_exit(&self, timeout: Duration) -> bool {
        sys::wait_for_exit(self.owner, timeout)
    }
}

impl PartialEq for Holder {
    fn eq(&self, other: &Self) -> bool {
        self.owner.id == other.owner.id
    }
}

impl Eq for Holder {}

impl Hash for Holder {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.owner.id.to_bits().hash(state);
    }
}
