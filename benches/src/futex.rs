//! futex(2), without `FUTEX_PRIVATE_FLAG`: the words are shared between processes.

use std::ptr;
use std::sync::atomic::AtomicU32;

/// Sleeps while the word is `expected`, until a wake. Returns early where the word differs or a signal came: the caller looks
/// again.
pub fn wait(word: &AtomicU32, expected: u32) {
    let no_timeout = ptr::null::<libc::timespec>();
    // SAFETY: the word is valid for the call; the timeout is absent.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            no_timeout,
        );
    }
}

/// Wakes up to `most` sleepers.
pub fn wake(word: &AtomicU32, most: i32) {
    // SAFETY: the word is valid for the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, most) };
}
