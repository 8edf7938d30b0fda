//! futex(2) without `FUTEX_PRIVATE_FLAG`, because the words are shared between processes.

use std::ptr;
use std::sync::atomic::AtomicU32;

/// Sleeps while the word is `expected`, until a wake. Returns early if the word differs or a signal
/// arrived, so the caller must check the word again.
pub fn wait(word: &AtomicU32, expected: u32) {
    let no_timeout = ptr::null::<libc::timespec>();
    // SAFETY: the word is valid for the call, and there is no timeout.
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

/// Wakes at most `most` waiters.
pub fn wake(word: &AtomicU32, most: i32) {
    // SAFETY: the word is valid for the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, most) };
}
