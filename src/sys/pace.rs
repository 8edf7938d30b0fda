//! How fast the sections of a lock follow each other, as whoever waits for it sees them.

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
pub(crate) fn follow_rapidly(word: &AtomicU32, sections: u32) -> bool {
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

/// A clock that costs little to read, and moves two to four times a nanosecond on today's processors.
#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The same, where there is none: thirds of a nanosecond of the monotonic clock.
#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    super::clock::nanoseconds() * 3
}
