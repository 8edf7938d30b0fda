//! Measurements that decide how a waiter waits: whether the critical sections of a lock are dense,
//! and whether spinning for a notification pays.
//!
//! A thread keeps each of the two measurements only for the last word on which it measured. It has
//! no measurement of any other word.

use super::AtomicU32;
use std::cell::Cell;

/// Critical sections count as dense if, on average, less time than this passes from one to the
/// next. Otherwise they are sparse. A cache line takes about this long to move to another CPU and
/// back, so denser critical sections run back to back on one CPU. The unit is [`ticks`].
const DENSE_TICKS: u64 = 150;

/// The number of critical sections that are averaged.
const SAMPLE_SIZE: u32 = 64;

/// What a thread measured on the lock for which it waited last.
#[derive(Debug, Clone, Copy)]
struct LockSample {
    word: *const u32,
    /// When the current sample began, and how many critical sections there had been before it.
    since: u64,
    section_count: u32,
    /// The result of the last sample.
    are_dense: bool,
}

/// Returns whether the critical sections of the lock at `word` are dense. `section_count` is their
/// number so far; it wraps. Called on the slow path of the lock.
pub(crate) fn critical_sections_are_dense(word: &AtomicU32, section_count: u32) -> bool {
    thread_local! {
        static SAMPLE: Cell<LockSample> = const {
            Cell::new(LockSample { word: std::ptr::null(), since: 0, section_count: 0, are_dense: false })
        };
    }
    let mut sample = SAMPLE.get();
    let is_another = sample.word != word.as_ptr().cast_const();
    let count = section_count.wrapping_sub(sample.section_count);
    if is_another || count >= SAMPLE_SIZE {
        let now = ticks();
        sample = LockSample {
            word: word.as_ptr(),
            since: now,
            section_count,
            are_dense: !is_another
                && now.saturating_sub(sample.since) < DENSE_TICKS * u64::from(count),
        };
        SAMPLE.set(sample);
    }
    sample.are_dense
}

/// A spin before a sleep, as long as spinning has paid on the same word.
///
/// If the waiter and the waker run on different CPUs, a sleep and the wake that ends it cost tens
/// of microseconds. A spin that sees the notification costs a tenth of a microsecond. On one CPU
/// the whole spin is wasted, because the waker cannot run meanwhile. So each failed spin makes the
/// next one shorter, until there is none.
///
/// At growing intervals, one long spin (a probe) checks whether spinning pays again. Two threads
/// that wake each other in turn can detect this only while one of them spins.
#[derive(Debug)]
pub(crate) struct AdaptiveSpin {
    until: u64,
    /// The remaining pauses. They limit the spin if the tick counter is behind, which can happen on
    /// another CPU or after a restore of the machine.
    left: u32,
    /// Whether this spin is a probe: it only checks whether spinning pays again.
    is_probe: bool,
    learned: Learned,
}

/// The lengths of spins in [`ticks`]. A long spin takes about as long as a sleep and a wake. The
/// first spin takes a tenth of that.
const LONG_SPIN: u64 = 120_000;
const FIRST_SPIN: u64 = LONG_SPIN / 10;
const SHORTEST_SPIN: u64 = LONG_SPIN / 100;
const MAX_PAUSES: u32 = 8_192;
/// The first and the longest probe interval, in waits. The last wait of an interval is the probe.
const FIRST_PROBE_INTERVAL: u32 = 8;
const MAX_PROBE_INTERVAL: u32 = 8_192;

/// What a thread has learned about the word on which it waited last.
#[derive(Debug, Clone, Copy)]
struct Learned {
    word: *const u32,
    budget: u64,
    /// The waits until the next probe, and the length of the current probe interval. Both count
    /// only waits without a spin budget.
    left: u32,
    interval: u32,
}

thread_local! {
    static LEARNED: Cell<Learned> = const {
        Cell::new(Learned { word: std::ptr::null(), budget: 0, left: 0, interval: 0 })
    };
}

impl AdaptiveSpin {
    /// Starts a wait on `word`. The caller has checked that the awaited notification is not
    /// there, or checks it at once.
    pub(crate) fn start(word: &AtomicU32) -> Self {
        let mut learned = LEARNED.get();
        if learned.word != word.as_ptr().cast_const() {
            learned = Learned {
                word: word.as_ptr(),
                budget: FIRST_SPIN,
                left: FIRST_PROBE_INTERVAL,
                interval: FIRST_PROBE_INTERVAL,
            };
        }
        let pays = super::spin_limit(1) != 0;
        let mut is_probe = false;
        if pays && learned.budget == 0 {
            learned.left -= 1;
            is_probe = learned.left == 0;
            if is_probe {
                learned.interval = (learned.interval * 2).min(MAX_PROBE_INTERVAL);
                learned.left = learned.interval;
            }
        }
        let until = match (pays, is_probe) {
            (true, true) => ticks() + LONG_SPIN,
            (true, false) if learned.budget > 0 => ticks() + learned.budget,
            _ => 0,
        };
        AdaptiveSpin {
            until,
            left: MAX_PAUSES,
            is_probe,
            learned,
        }
    }

    /// Pauses before the next check of the word. Returns false when it is time to sleep.
    pub(crate) fn spin(&mut self) -> bool {
        if self.until == 0 {
            return false;
        }
        super::pause();
        self.left -= 1;
        if self.left > 0 && ticks() < self.until {
            return true;
        }
        self.until = 0;
        false
    }

    /// Ends the spin and adapts the length of the next one. `succeeded` says whether it saw the
    /// notification.
    pub(crate) fn end(mut self, succeeded: bool) {
        let learned = &mut self.learned;
        if succeeded {
            learned.budget = LONG_SPIN;
            learned.interval = FIRST_PROBE_INTERVAL;
            learned.left = FIRST_PROBE_INTERVAL;
        } else if !self.is_probe {
            learned.budget = match learned.budget / 4 {
                shorter if shorter < SHORTEST_SPIN => 0,
                shorter => shorter,
            };
        }
        LEARNED.set(self.learned);
    }
}

/// Reads a clock that is cheap to read. It advances two to four times a nanosecond on current
/// processors.
#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the `rdtsc` instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Reads the processor's virtual counter, in thirds of a nanosecond. It advances 24 million to a
/// thousand million times a second, and a register says how often.
#[cfg(target_arch = "aarch64")]
fn ticks() -> u64 {
    let (count, frequency): (u64, u64);
    // SAFETY: Linux lets every process read these registers. Reading them changes nothing.
    unsafe {
        core::arch::asm!(
            "mrs {count}, cntvct_el0",
            "mrs {frequency}, cntfrq_el0",
            count = out(reg) count,
            frequency = out(reg) frequency,
            options(nomem, nostack, preserves_flags),
        );
    }
    count.wrapping_mul(3_000_000_000 / frequency.max(1))
}

/// Reads the monotonic clock in thirds of a nanosecond, on architectures without such a counter.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn ticks() -> u64 {
    crate::sys::clock::nanoseconds() * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_sections_are_dense_if_little_time_passes_between_them() {
        let (word, other) = (AtomicU32::new(0), AtomicU32::new(0));
        assert!(!critical_sections_are_dense(&word, 0), "no sample yet");
        // A sample during which this thread does not run is sparse, so some are tried.
        let mut count = 0_u32.wrapping_sub(SAMPLE_SIZE);
        let is_dense = (0..1_000).any(|_| {
            count = count.wrapping_add(SAMPLE_SIZE);
            critical_sections_are_dense(&word, count)
        });
        assert!(is_dense);
        assert!(critical_sections_are_dense(&word, count + SAMPLE_SIZE - 1));
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(!critical_sections_are_dense(&word, count + SAMPLE_SIZE));
        assert!(!critical_sections_are_dense(&other, count), "another word");
    }

    #[test]
    fn a_spin_that_fails_makes_the_next_one_shorter_and_a_probe_is_long() {
        let (word, other) = (AtomicU32::new(0), AtomicU32::new(0));
        let pays = super::super::spin_limit(1) != 0;
        let budgets = [FIRST_SPIN, FIRST_SPIN / 4, 0, 0];
        for budget in budgets {
            let (before, spin) = (ticks(), AdaptiveSpin::start(&word));
            assert_eq!(spin.learned.budget, budget);
            assert_eq!(spin.until != 0, pays && budget > 0);
            assert!(spin.until == 0 || (before + budget..=ticks() + budget).contains(&spin.until));
            assert!(!spin.is_probe);
            spin.end(false);
        }
        // Two waits without a spin are over. The last of the first interval is a probe.
        for wait in 3..=FIRST_PROBE_INTERVAL {
            let (before, spin) = (ticks(), AdaptiveSpin::start(&word));
            assert_eq!(spin.is_probe, pays && wait == FIRST_PROBE_INTERVAL);
            assert_eq!(spin.until != 0, spin.is_probe);
            assert!(!spin.is_probe || (before..=ticks()).contains(&(spin.until - LONG_SPIN)));
            spin.end(false);
        }
        let spin = AdaptiveSpin::start(&word);
        if pays {
            assert_eq!(spin.learned.interval, 2 * FIRST_PROBE_INTERVAL);
        }
        spin.end(true);
        let spin = AdaptiveSpin::start(&word);
        assert_eq!(spin.learned.budget, LONG_SPIN);
        assert_eq!(spin.learned.left, FIRST_PROBE_INTERVAL);
        spin.end(false);
        assert_eq!(AdaptiveSpin::start(&other).learned.budget, FIRST_SPIN);
    }

    #[test]
    fn a_spin_ends() {
        let word = AtomicU32::new(0);
        let mut spin = AdaptiveSpin::start(&word);
        let rounds = (0..=MAX_PAUSES).take_while(|_| spin.spin()).count();
        assert!(rounds < MAX_PAUSES as usize);
        assert!(!spin.spin());
    }
}
