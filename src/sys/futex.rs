//! `futex(2)`. All waits and wakes use the shared kind. With `FUTEX_PRIVATE_FLAG`, a wake would
//! reach no waiter of another process.

use super::error::is_call_denied;
use super::kernel::Feature;
use super::timer_slack::ShortSlack;
use super::{AtomicU32, Deadline};
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

/// Why a wait on a word ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A wake or a signal (`EINTR`) ended the sleep. In both cases the caller must check the word
    /// again.
    Woken,
    /// The word did not have the expected value, so the thread did not sleep.
    Changed,
    /// The deadline passed. No wake was consumed.
    TimedOut,
}

/// Sleeps while `word` is `expected`, until `until` at the latest: `FUTEX_WAIT_BITSET`, whose
/// timeout is an absolute time of the monotonic clock. The kernel compares the word and goes to
/// sleep atomically.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, until: Deadline) -> Wait {
    let until = until.timespec();
    let _slack = ShortSlack::new();
    // SAFETY: `word` and the timespec `until` are valid for the call; the kernel reads both and
    // writes neither.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            &raw const until,
            ptr::null::<u32>(),
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

/// Wakes up to `count` waiters of `word` and returns how many it woke: `FUTEX_WAKE`.
pub(crate) fn futex_wake(word: &AtomicU32, count: u32) -> u32 {
    let count = count.min(i32::MAX as u32);
    // SAFETY: FUTEX_WAKE does not read the word; the address only identifies the wait queue.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    if woken < 0 {
        impossible("FUTEX_WAKE", errno());
    }
    woken as u32
}

/// Clears bit `bit` of `word` and wakes all its waiters in one step, under the kernel's lock of the
/// word's queue: `FUTEX_WAKE_OP` on the word with itself.
///
/// A thread that is about to sleep compares the word under the same lock. So it is either woken
/// here, or finds that the bit is clear.
pub(crate) fn futex_wake_clearing(word: &AtomicU32, bit: u32) {
    const ANDN_OF_SHIFTED: u32 = 3 | 8; // FUTEX_OP_ANDN | FUTEX_OP_ARG_SHIFT
    let operation = ANDN_OF_SHIFTED << 28 | bit << 12;
    // SAFETY: the word is valid for the call. It is accessed atomically, and the read-modify-write
    // of the kernel is atomic too.
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

/// A set of words to sleep on together, each with its expected value: `futex_waitv(2)`, Linux 5.16.
///
/// **It can swallow wakes.** A thread that one word woke stays in the queues of the other words
/// until it runs, and a wake of such a word may hit it too. After such a sleep, the thread must
/// check every word, for the sake of the other waiters.
#[derive(Debug)]
pub(crate) struct WaitvSet<'a> {
    waiters: [Waiter; WaitvSet::MAX],
    count: usize,
    words: PhantomData<&'a AtomicU32>,
}

/// The kernel's `struct futex_waitv`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Waiter {
    expected: u64,
    word: u64,
    flags: u32,
    reserved: u32,
}

impl Waiter {
    fn word(&self) -> &AtomicU32 {
        // SAFETY: this is the address of an atomic that `push` borrowed for as long as the set
        // lives.
        unsafe { &*ptr::with_exposed_provenance::<AtomicU32>(self.word as usize) }
    }
}

/// How often a thread looks at several words if the kernel cannot make it sleep on all of them.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

impl<'a> WaitvSet<'a> {
    /// The most words that the kernel accepts: its `FUTEX_WAITV_MAX`.
    pub(crate) const MAX: usize = 128;

    pub(crate) fn new() -> Self {
        const NONE: Waiter = Waiter {
            expected: 0,
            word: 0,
            flags: 0,
            reserved: 0,
        };
        WaitvSet {
            waiters: [NONE; Self::MAX],
            count: 0,
            words: PhantomData,
        }
    }

    /// Adds a word. The set holds up to [`MAX`](Self::MAX) words.
    pub(crate) fn push(&mut self, word: &'a AtomicU32, expected: u32) {
        const SIZE_U32_AND_SHARED: u32 = 2; // FUTEX2_SIZE_U32, without FUTEX2_PRIVATE
        self.waiters[self.count] = Waiter {
            expected: expected.into(),
            word: word.as_ptr().expose_provenance() as u64,
            flags: SIZE_U32_AND_SHARED,
            reserved: 0,
        };
        self.count += 1;
    }

    /// Sleeps while every word is as expected, until `until` at the latest. For each word, the
    /// kernel compares it and joins its queue atomically.
    ///
    /// If the kernel does not have the call, or a filter denies it, the thread sleeps on the first
    /// word for [`POLL_INTERVAL`] at most, and returns [`Wait::Woken`].
    pub(crate) fn sleep(&self, until: Deadline) -> Wait {
        if let [only] = &self.waiters[..self.count] {
            return futex_wait(only.word(), only.expected as u32, until);
        }
        if Feature::FutexWaitv.is_hidden() {
            return self.poll(until);
        }
        let end = until.timespec();
        let _slack = ShortSlack::new();
        // SAFETY: `count` waiters are valid, their words are valid for as long as the set lives,
        // and `end` is a timespec; the kernel reads all of them and writes none.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_futex_waitv,
                self.waiters.as_ptr(),
                self.count,
                0,
                &raw const end,
                libc::CLOCK_MONOTONIC,
            )
        };
        if answer >= 0 {
            return Wait::Woken;
        }
        match errno() {
            libc::EAGAIN => Wait::Changed,
            libc::EINTR => Wait::Woken,
            libc::ETIMEDOUT => Wait::TimedOut,
            errno if is_call_denied(&io::Error::from_raw_os_error(errno)) => self.poll(until),
            errno => impossible("futex_waitv", errno),
        }
    }

    /// Sleeps on the first word for a while, unless a word has changed already. No wake for another
    /// word ends this sleep, and none is swallowed.
    #[cold]
    fn poll(&self, until: Deadline) -> Wait {
        let waiters = &self.waiters[..self.count];
        let is_expected = |waiter: &Waiter| waiter.word().load(Acquire) == waiter.expected as u32;
        let Some(first) = waiters.first().filter(|_| waiters.iter().all(is_expected)) else {
            return Wait::Changed;
        };
        let end = Deadline::after(POLL_INTERVAL).min(until);
        match futex_wait(first.word(), first.expected as u32, end) {
            Wait::TimedOut if !until.has_passed() => Wait::Woken,
            outcome => outcome,
        }
    }
}

/// Returns whether the memory at `address` can be read and holds `expected`: `FUTEX_CMP_REQUEUE`
/// that wakes and moves no waiter.
///
/// The kernel reads the memory. So the call is sound even if the memory is unmapped, also by
/// another thread during the call. It needs no descriptor and no call that a sandbox denies.
pub(super) fn probe_u32(address: *const u32, expected: u32) -> bool {
    // SAFETY: the kernel compares the word. It does not write it and does not require it to be
    // mapped.
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

/// Like [`probe_u32`], for two words that do not change together.
pub(super) fn probe_u64(address: *const u64, expected: u64) -> bool {
    // The two halves, in the order in which they lie in memory.
    let mut halves = [expected as u32, (expected >> u32::BITS) as u32];
    if cfg!(target_endian = "big") {
        halves.reverse();
    }
    let address = address.cast::<u32>();
    probe_u32(address, halves[0]) && probe_u32(address.wrapping_add(1), halves[1])
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Aborts on `EFAULT`, `EINVAL` or `ENOSYS`, which mean a bug of the caller or the kernel.
/// Continuing would lose a wake-up. So would unwinding, because the caller is between two steps of
/// a lock operation.
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

    fn far() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    #[test]
    fn an_unexpected_value_ends_the_wait_at_once() {
        assert_eq!(futex_wait(&AtomicU32::new(1), 2, far()), Wait::Changed);
    }

    #[test]
    fn a_wait_whose_deadline_has_passed_times_out() {
        let word = AtomicU32::new(1);
        assert_eq!(
            futex_wait(&word, 1, Deadline::after(Duration::ZERO)),
            Wait::TimedOut
        );
    }

    #[test]
    fn a_probe_compares_memory_only_if_it_can_be_read() {
        const PAGE: usize = 4096;
        let word = AtomicU32::new(7);
        assert!(probe_u32(word.as_ptr(), 7));
        assert!(!probe_u32(word.as_ptr(), 8));
        let own = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new map touches no existing memory.
        let page = unsafe { libc::mmap(ptr::null_mut(), PAGE, libc::PROT_READ, own, -1, 0) };
        assert_ne!(page, libc::MAP_FAILED);
        assert!(probe_u32(page.cast(), 0));
        // SAFETY: the page was mapped above, and nothing borrows it.
        assert_eq!(unsafe { libc::mprotect(page, PAGE, libc::PROT_NONE) }, 0);
        assert!(!probe_u32(page.cast(), 0));
        // SAFETY: as above.
        assert_eq!(unsafe { libc::munmap(page, PAGE) }, 0);
        // Another thread may have mapped the same address since. Nothing is mapped at the start.
        assert!(!probe_u32(ptr::without_provenance(size_of::<u32>()), 0));
    }

    #[test]
    fn wake_returns_how_many_waiters_it_woke() {
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

    fn set<'a>(words: &[(&'a AtomicU32, u32)]) -> WaitvSet<'a> {
        let mut set = WaitvSet::new();
        for (word, expected) in words {
            set.push(word, *expected);
        }
        set
    }

    /// Returns whether the kernel makes a thread sleep on several words.
    fn kernel_has_waitv() -> bool {
        let none = ptr::null::<Waiter>();
        // SAFETY: the kernel refuses a call with no words, and reads none.
        unsafe { libc::syscall(libc::SYS_futex_waitv, none, 0, 0, none, 0) };
        errno() == libc::EINVAL && !Feature::FutexWaitv.is_hidden()
    }

    #[test]
    fn a_sleep_on_several_words_ends_by_any_of_them() {
        let words = [const { AtomicU32::new(1) }; 3];
        let all = words.each_ref().map(|word| (word, 1));
        for polls in [false, true] {
            let sleep = |until| match polls {
                true => set(&all).poll(until),
                false => set(&all).sleep(until),
            };
            words[1].store(1, Relaxed);
            assert_eq!(sleep(Deadline::after(Duration::ZERO)), Wait::TimedOut);
            words[1].store(2, Relaxed);
            assert_eq!(sleep(far()), Wait::Changed);
        }
        words[1].store(1, Relaxed);
        if !kernel_has_waitv() {
            return; // The thread polls: see the next test.
        }
        for word in &words {
            std::thread::scope(|scope| {
                let sleeper =
                    scope.spawn(|| set(&words.each_ref().map(|word| (word, 1))).sleep(far()));
                while futex_wake(word, 1) == 0 {
                    std::thread::yield_now();
                }
                assert_eq!(sleeper.join().unwrap(), Wait::Woken);
            });
        }
    }

    #[test]
    fn a_thread_that_polls_returns_after_a_while_and_on_a_wake_of_the_first_word() {
        let words = [const { AtomicU32::new(1) }; 2];
        let all = words.each_ref().map(|word| (word, 1));
        assert_eq!(set(&all).poll(far()), Wait::Woken);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| while set(&all).poll(far()) != Wait::Changed {});
            words[1].store(2, Relaxed);
            sleeper.join().unwrap();
        });
    }

    #[test]
    fn a_sleep_on_the_maximum_number_of_words_is_possible() {
        let words = [const { AtomicU32::new(1) }; WaitvSet::MAX];
        let all: Vec<_> = words.iter().map(|word| (word, 1)).collect();
        let soon = || Deadline::after(Duration::ZERO);
        assert_eq!(set(&all).sleep(soon()), Wait::TimedOut);
        assert_eq!(set(&all[..1]).sleep(soon()), Wait::TimedOut);
    }

    #[test]
    fn clearing_a_bit_keeps_the_others_and_wakes_every_waiter() {
        let word = AtomicU32::new(1 << 31 | 5);
        let threads = [const { AtomicU32::new(0) }; 3];
        std::thread::scope(|scope| {
            let sleepers = threads.each_ref().map(|thread| {
                scope.spawn(|| {
                    // SAFETY: gettid(2) has no preconditions.
                    thread.store(unsafe { libc::gettid() }.cast_unsigned(), Relaxed);
                    futex_wait(&word, 1 << 31 | 5, far())
                })
            });
            for thread in &threads {
                while !sleeps(thread.load(Relaxed)) {
                    std::thread::yield_now();
                }
            }
            futex_wake_clearing(&word, 31);
            for sleeper in sleepers {
                assert_eq!(sleeper.join().unwrap(), Wait::Woken);
            }
        });
        assert_eq!(word.load(Relaxed), 5);
    }

    /// Returns whether the thread sleeps in futex(2).
    fn sleeps(thread: u32) -> bool {
        let call = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall"));
        let number = libc::SYS_futex.to_string();
        call.is_ok_and(|call| call.split(' ').next() == Some(&number))
    }
}

static_assertions::const_assert_eq!(size_of::<Waiter>(), 24);
