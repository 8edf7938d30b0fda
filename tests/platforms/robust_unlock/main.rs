//! What `FUTEX_WAKE | FUTEX_ROBUST_UNLOCK` (Linux 7.2) costs and does, beside a plain `FUTEX_WAKE`.
//!
//! Prints the ratio of the two calls without a sleeper, and the word after an unlock that leaves a
//! second sleeper asleep. Exits with 77 if the kernel does not have the operation.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

const FUTEX_ROBUST_UNLOCK: libc::c_int = 512;
const WAITERS: u32 = libc::FUTEX_WAITERS;
const CALLS: u32 = 50_000;
const ROUNDS: usize = 11;

fn plain(word: &AtomicU32) -> libc::c_long {
    word.store(0, SeqCst);
    // SAFETY: the call reads nothing; the address identifies the queue.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) }
}

fn robust(word: &AtomicU32, pending: &AtomicUsize) -> libc::c_long {
    let operation = libc::FUTEX_WAKE | FUTEX_ROBUST_UNLOCK;
    let none = std::ptr::null::<libc::timespec>();
    // SAFETY: the kernel writes the word and the pending field, and both are valid.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            operation,
            1,
            none,
            pending.as_ptr(),
            0,
        )
    }
}

fn time(call: impl Fn() -> libc::c_long) -> Duration {
    let start = Instant::now();
    for _ in 0..CALLS {
        assert!(call() >= 0, "{}", std::io::Error::last_os_error());
    }
    start.elapsed()
}

/// Two threads sleep, and an unlock wakes one. Returns the word after that.
///
/// The threads sleep on another word first. The kernel then moves them, and returns how many it
/// moved: so both are asleep.
fn word_with_a_second_sleeper() -> u32 {
    let (gate, word) = (AtomicU32::new(0), AtomicU32::new(1 | WAITERS));
    let pending = AtomicUsize::new(1);
    let none = std::ptr::null::<libc::timespec>();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let none = std::ptr::null::<libc::timespec>();
                // SAFETY: the word is valid.
                unsafe { libc::syscall(libc::SYS_futex, gate.as_ptr(), libc::FUTEX_WAIT, 0, none) }
            });
        }
        let mut moved = 0;
        while moved < 2 {
            let (from, to) = (gate.as_ptr(), word.as_ptr());
            let operation = libc::FUTEX_CMP_REQUEUE;
            // SAFETY: both words are valid.
            moved += unsafe { libc::syscall(libc::SYS_futex, from, operation, 0, 2_usize, to, 0) };
            std::thread::yield_now();
        }
        let woken = robust(&word, &pending);
        let left = word.load(SeqCst);
        println!("woken: {woken}, pending: {}", pending.load(SeqCst));
        // SAFETY: the address identifies the queue.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 2, none) };
        left
    })
}

fn main() {
    let (word, pending) = (AtomicU32::new(0), AtomicUsize::new(0));
    if robust(&word, &pending) < 0 {
        println!(
            "no FUTEX_ROBUST_UNLOCK: {}",
            std::io::Error::last_os_error()
        );
        std::process::exit(77);
    }
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let plain = time(|| plain(&word));
            let robust = time(|| robust(&word, &pending));
            robust.as_secs_f64() / plain.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let (least, median, most) = (ratios[0], ratios[ROUNDS / 2], ratios[ROUNDS - 1]);
    println!(
        "robust unlock over plain wake: {median:.2} ({least:.2} to {most:.2}), {ROUNDS} rounds"
    );
    println!(
        "the word with a second sleeper: {:#x}",
        word_with_a_second_sleeper()
    );
}
