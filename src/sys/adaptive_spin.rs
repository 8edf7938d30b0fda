//! What waiters learn from what they saw: how fast the sections of a lock follow each other, and whether news comes soon.
//!
//! A thread remembers the word that it waited on last, and no other. What it has not waited on it knows nothing of.

use super::AtomicU32;
use std::cell::Cell;

/// Sections that follow each other faster than this run back to back on one CPU: a cache line takes about as long to move to
/// another and back. In [`ticks`].
const RAPID: u64 = 150;

/// So many sections make an average.
const ENOUGH: u32 = 64;

/// What a thread has seen of the lock that it waited for last.
#[derive(Debug, Clone, Copy)]
struct Seen {
    word: *const u32,
    /// When it began to count, and how many sections there had been by then.
    since: u64,
    sections: u32,
    /// What the last average said.
    rapid: bool,
}

/// Whether the sections of the lock at `word`, of which there have been so many, follow each other rapidly. Asked by a thread
/// that meets another holder.
pub(crate) fn critical_sections_are_short(word: &AtomicU32, sections: u32) -> bool {
    thread_local! {
        static SEEN: Cell<Seen> = const {
            Cell::new(Seen { word: std::ptr::null(), since: 0, sections: 0, rapid: false })
        };
    }
    let mut seen = SEEN.get();
    let is_another = seen.word != word.as_ptr().cast_const();
    let count = sections.wrapping_sub(seen.sections);
    if is_another || count >= ENOUGH {
        let now = ticks();
        seen = Seen {
            word: word.as_ptr(),
            since: now,
            sections,
            rapid: !is_another && now.saturating_sub(seen.since) < RAPID * u64::from(count),
        };
        SEEN.set(seen);
    }
    seen.rapid
}

/// A wait for news that spins first, as long as that has paid on this word.
///
/// A sleep and the wake that ends it cost tens of microseconds where the two are on different CPUs, and a spin that sees the news
/// a tenth of one. On one CPU it is the spin that costs, all of it, since nobody can bring the news meanwhile. So a spin that
/// is for nothing makes the next one shorter, until there is none; but now and then, ever more seldom, a long one
/// looks whether that is still so: two who wake each other by turns only see it when one of them does.
#[derive(Debug)]
pub(crate) struct AdaptiveSpin {
    until: u64,
    /// Pauses at most: the counter may be behind on another CPU, or after the machine was restored.
    left: u32,
    /// Whether it only looks whether spinning pays by now.
    is_probe: bool,
    learned: Learned,
}

/// In [`ticks`]: a long spin takes about as long as a sleep and a wake, the first one a tenth of that.
const LONG: u64 = 120_000;
const FIRST: u64 = LONG / 10;
const SHORTEST: u64 = LONG / 100;
const MOST_PAUSES: u32 = 8_192;
/// How many waits without a spin come before the first long look, and before the last ones.
const SOON: u32 = 8;
const SELDOM: u32 = 8_192;

/// What a thread has learned of the word that it waited on last.
#[derive(Debug, Clone, Copy)]
struct Learned {
    word: *const u32,
    budget: u64,
    /// Waits that come before the next long look, and how many there were before the last one.
    left: u32,
    interval: u32,
}

thread_local! {
    static LEARNED: Cell<Learned> = const {
        Cell::new(Learned { word: std::ptr::null(), budget: 0, left: 0, interval: 0 })
    };
}

impl AdaptiveSpin {
    /// At the beginning of a wait on `word`, which has no news yet.
    pub(crate) fn start(word: &AtomicU32) -> Self {
        let mut learned = LEARNED.get();
        if learned.word != word.as_ptr().cast_const() {
            learned = Learned {
                word: word.as_ptr(),
                budget: FIRST,
                left: SOON,
                interval: SOON,
            };
        }
        let pays = super::spin_limit(1) != 0;
        let mut is_probe = false;
        if pays && learned.budget == 0 {
            learned.left -= 1;
            is_probe = learned.left == 0;
            if is_probe {
                learned.interval = (learned.interval * 2).min(SELDOM);
                learned.left = learned.interval;
            }
        }
        let until = match (pays, is_probe) {
            (true, true) => ticks() + LONG,
            (true, false) if learned.budget > 0 => ticks() + learned.budget,
            _ => 0,
        };
        AdaptiveSpin {
            until,
            left: MOST_PAUSES,
            is_probe,
            learned,
        }
    }

    /// Lets a moment pass before the next look. False where it is time to sleep.
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

    /// At its end: whether it saw the news.
    pub(crate) fn end(mut self, saw_it: bool) {
        let learned = &mut self.learned;
        if saw_it {
            learned.budget = LONG;
            learned.interval = SOON;
            learned.left = SOON;
        } else if !self.is_probe {
            learned.budget = match learned.budget / 4 {
                shorter if shorter < SHORTEST => 0,
                shorter => shorter,
            };
        }
        LEARNED.set(self.learned);
    }
}

/// A clock that costs little to read, and moves two to four times a nanosecond on today's processors.
#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The same, where there is none: thirds of a nanosecond of the monotonic clock.
#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    crate::sys::clock::nanoseconds() * 3
}
