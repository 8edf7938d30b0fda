//! [`Holder`]: the thread that holds a lock, for reports.

use crate::sys::OwnerId;

/// The thread that held a lock when the lock was queried; see
/// [`SharedMutex::holder`](crate::SharedMutex::holder).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The process id, in the holder's PID namespace.
    pub process: u32,
    /// The thread id, in the holder's PID namespace.
    pub thread: u32,
}

impl Holder {
    pub(super) fn new(owner: OwnerId) -> Self {
        Holder {
            process: owner.pid(),
            thread: owner.tid(),
        }
    }
}
