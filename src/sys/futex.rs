//! `futex(2)`. Whoever waits or wakes uses the shared kind: `FUTEX_PRIVATE_FLAG` would wake nobody in another process.

use super::{AtomicU32, Deadline};
use std::io;

/// Why a sleep on a word ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Somebody woke this thread, or a signal did (`EINTR`): the caller looks at the word again either way.
    Woken,
    /// The word was not as expected, so there was no sleep.
    Changed,
    /// The time was over. No wake was consumed.
    TimedOut,
}

/// Sleeps while `word` is `expected`, until `until` at the latest: `FUTEX_WAIT_BITSET`, whose timeout is an absolute
/// moment of the monotonic clock. The kernel compares and goes to sleep in one step.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, until: Deadline) -> Wait {
    let until = until.timespec();
    // SAFETY: `word` is valid for the call, and `until` a timespec; the kernel reads both and writes neither.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            &raw const until,
            core::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    if answer == 0 {
        return Wait::Woken;
    }
    match errno() {
        libc::EAGAIN => Wait::Changed,
        libc::EINTR => Wait::Woken,
        libc::ETIMEDOUT => Wait::TimedOut,
        errno => impossible("FUTEX_WAIT_BITSET", errno),
    }
}

/// Wakes up to `count` sleepers of `word` and tells how many there were: `FUTEX_WAKE`.
pub(crate) fn futex_wake(word: &AtomicU32, count: u32) -> u32 {
    let count = count.min(i32::MAX as u32);
    // SAFETY: FUTEX_WAKE does not read the word; its address only names the queue.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    if woken < 0 {
        impossible("FUTEX_WAKE", errno());
    }
    woken as u32
}

/// Clears bit `bit` of `word` and wakes all its sleepers in one step, under the kernel's lock of the word's queue:
/// `FUTEX_WAKE_OP` on the word with itself.
///
/// A thread that compares the word to go to sleep does so under the same lock: it is woken here, or sees the bit gone.
pub(crate) fn futex_wake_clearing(word: &AtomicU32, bit: u32) {
    const ANDN_OF_SHIFTED: u32 = 3 | 8; // FUTEX_OP_ANDN | FUTEX_OP_ARG_SHIFT
    let operation = ANDN_OF_SHIFTED << 28 | bit << 12;
    // SAFETY: the word is valid for the call and atomic, as the kernel's own read-modify-write of it is.
    let woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE_OP,
            i32::MAX,
            0usize,
            word.as_ptr(),
            operation,
        )
    };
    if woken < 0 {
        impossible("FUTEX_WAKE_OP", errno());
    }
}

/// Whether the memory at `address` can be read and holds `expected`: `FUTEX_CMP_REQUEUE`, asked to wake and to move nobody.
///
/// The kernel reads it, so it is an answer also where the memory is gone, or another thread takes it away just now. Nothing
/// else is needed for it: no descriptor, and no call that a sandbox denies.
pub(super) fn can_be_read_as(address: *const u32, expected: u32) -> bool {
    // SAFETY: the kernel compares the word, and neither writes it nor expects it to be there.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_futex,
            address,
            libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG,
            0,
            0usize,
            address,
            expected,
        )
    };
    answer == 0
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// `EFAULT`, `EINVAL` or `ENOSYS` mean a broken caller or kernel. Going on would lose a wake-up, and so would unwinding: the
/// caller is between two steps of a lock.
#[cold]
fn impossible(operation: &str, errno: i32) -> ! {
    eprintln!(
        "pshared: futex {operation}: {}",
        io::Error::from_raw_os_error(errno)
    );
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    fn far() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    #[test]
    fn a_word_that_is_not_as_expected_ends_the_wait_at_once() {
        assert_eq!(futex_wait(&AtomicU32::new(1), 2, far()), Wait::Changed);
    }

    #[test]
    fn a_wait_whose_moment_has_passed_times_out() {
        let word = AtomicU32::new(1);
        assert_eq!(
            futex_wait(&word, 1, Deadline::after(Duration::ZERO)),
            Wait::TimedOut
        );
    }

    #[test]
    fn memory_is_compared_where_it_can_be_read() {
        const PAGE: usize = 4096;
        let word = AtomicU32::new(7);
        assert!(can_be_read_as(word.as_ptr(), 7));
        assert!(!can_be_read_as(word.as_ptr(), 8));
        let own = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new map touches no memory that exists.
        let page = unsafe { libc::mmap(core::ptr::null_mut(), PAGE, libc::PROT_READ, own, -1, 0) };
        assert_ne!(page, libc::MAP_FAILED);
        assert!(can_be_read_as(page.cast(), 0));
        // SAFETY: the page was mapped just now, and nobody borrows it.
        assert_eq!(unsafe { libc::mprotect(page, PAGE, libc::PROT_NONE) }, 0);
        assert!(!can_be_read_as(page.cast(), 0));
        // SAFETY: as above.
        assert_eq!(unsafe { libc::munmap(page, PAGE) }, 0);
        assert!(!can_be_read_as(page.cast(), 0));
    }

    #[test]
    fn wake_tells_how_many_slept_and_a_sleeper_is_woken() {
        let word = AtomicU32::new(1);
        assert_eq!(futex_wake(&word, u32::MAX), 0);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| futex_wait(&word, 1, far()));
            while futex_wake(&word, 1) == 0 {
                std::thread::yield_now();
            }
            assert_eq!(sleeper.join().unwrap(), Wait::Woken);
        });
    }

    #[test]
    fn clearing_a_bit_keeps_the_others_and_wakes_every_sleeper() {
        let word = AtomicU32::new(1 << 31 | 5);
        std::thread::scope(|scope| {
            let sleepers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| while futex_wait(&word, 1 << 31 | 5, far()) != Wait::Changed {})
                })
                .collect();
            futex_wake_clearing(&word, 31);
            for sleeper in sleepers {
                sleeper.join().unwrap();
            }
        });
        assert_eq!(word.load(Relaxed), 5);
    }
}
