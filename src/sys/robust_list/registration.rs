//! The registration of a robust list: `get_robust_list(2)` and `set_robust_list(2)`.

use super::list::{Head, RobustList};
use std::io;
use std::ptr;

/// The list of a thread that was looked for.
#[derive(Debug)]
pub(super) struct Found {
    /// The list, if the thread has one.
    pub(super) list: Option<RobustList>,
    /// Whether the kernel walks the list when the thread ends, or the reason why it does not.
    pub(super) usable: Result<(), String>,
}

/// Returns the head that is registered for a thread of this process, or null: `get_robust_list(2)`.
/// 0 is the calling thread.
pub(super) fn registered_head(tid: u32) -> io::Result<*mut Head> {
    let mut head = ptr::null_mut();
    let mut length = 0_usize;
    let (call, head_place) = (libc::SYS_get_robust_list, &raw mut head);
    // SAFETY: get_robust_list(2) may write both variables.
    match unsafe { libc::syscall(call, tid, head_place, &raw mut length) } {
        0 => Ok(head),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Like [`registered_head`], for the calling thread. The error is the reason, as text.
pub(super) fn own_registered_head() -> Result<*mut Head, String> {
    registered_head(0).map_err(|error| format!("get_robust_list(2): {error}"))
}

/// Registers the calling thread's list: `set_robust_list(2)`. The error is the reason, as text.
pub(super) fn register(list: RobustList) -> Result<(), String> {
    let (call, head) = (libc::SYS_set_robust_list, list.as_head().as_ptr());
    // SAFETY: a `RobustList` has a head that lives as long as its thread. The kernel accesses it
    // when the thread ends.
    match unsafe { libc::syscall(call, head, size_of::<Head>()) } {
        0 => Ok(()),
        _ => Err(format!(
            "set_robust_list(2): {}",
            io::Error::last_os_error()
        )),
    }
}
