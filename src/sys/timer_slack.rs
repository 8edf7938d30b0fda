//! The timer slack of the calling thread: how much later than its timeout the kernel may end a
//! sleep.
//!
//! A thread can have any slack: by `prctl(PR_SET_TIMERSLACK)`, from its parent, or by a write of
//! another process to `/proc/PID/timerslack_ns`. A slack of seconds would postpone each timeout and
//! each liveness check by seconds.

use std::time::Duration;

/// A larger slack is replaced during a sleep.
const LONGEST: Duration = Duration::from_millis(1);
/// The kernel's default.
const DEFAULT: Duration = Duration::from_micros(50);

/// A large timer slack of the calling thread is replaced by the default as long as this exists.
///
/// Every timed sleep of the crate has one. It costs one system call per sleep. The slack must be
/// read each time, because another process can change it.
#[must_use = "the slack is restored when this is dropped"]
pub(super) struct ShortSlack {
    /// The slack to restore.
    replaced: Option<libc::c_long>,
}

impl ShortSlack {
    pub(super) fn new() -> Self {
        // The slack is unsigned. A denied call returns -1, as the largest slack does, and then
        // the next call is denied too.
        let slack = prctl(libc::PR_GET_TIMERSLACK, 0);
        let is_large = u128::from(slack.cast_unsigned()) > LONGEST.as_nanos();
        let is_replaced = || prctl(libc::PR_SET_TIMERSLACK, DEFAULT.as_nanos() as i64) == 0;
        ShortSlack {
            replaced: (is_large && is_replaced()).then_some(slack),
        }
    }
}

impl Drop for ShortSlack {
    fn drop(&mut self) {
        if let Some(slack) = self.replaced {
            prctl(libc::PR_SET_TIMERSLACK, slack);
        }
    }
}

/// `prctl(2)` by its number: the function of the library would shorten the result to an int.
fn prctl(operation: libc::c_int, argument: libc::c_long) -> libc::c_long {
    // SAFETY: the operations used here take a number and access no memory.
    unsafe { libc::syscall(libc::SYS_prctl, operation, argument) }
}
