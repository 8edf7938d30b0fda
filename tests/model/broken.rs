//! Twins: simplified variants of the algorithms. Each has a flaw that the faults of `sys` cannot
//! inject into the original.

use crate::lock::Raw;
use crate::member_slots::Hall;
use crate::permits::Permits;
use crate::plain::Plain;
use crate::raw::auto_reset_event::AutoResetEvent;
use crate::raw::condvar::Condvar;
use crate::raw::event::Event;
use crate::raw::futex_semaphore::FutexSemaphore;
use crate::raw::multi::lock_set::MultiError;
use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::sys::{
    AtomicU32, CurrentThread, Deadline, Links, RecheckTimer, WaitvSet, current_thread,
};
use crate::sys::{futex_wait, futex_wake, futex_wake_clearing};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const TID: u32 = 0x3fff_ffff;
const OWNER_DIED: u32 = 1 << 30;
const WAITERS: u32 = 1 << 31;

/// The protocol of the robust lock in its shortest form, with two optional flaws.
///
/// With `PLAIN_ZERO`, a contended unlock stores 0 and wakes one waiter, which acquires with
/// `WAITERS` set. This is the usual futex mutex (Drepper, "Futexes Are Tricky").
///
/// With `GIVES_UP_BLINDLY`, a waiter gives up when its deadline has passed, without another try.
#[repr(C)]
pub struct Twin<const PLAIN_ZERO: bool, const GIVES_UP_BLINDLY: bool> {
    word: AtomicU32,
    links: Links,
}

pub type Sound = Twin<false, false>;
pub type PlainZero = Twin<true, false>;
pub type GivesUpBlindly = Twin<false, true>;

impl<const PLAIN_ZERO: bool, const GIVES_UP_BLINDLY: bool> Raw
    for Twin<PLAIN_ZERO, GIVES_UP_BLINDLY>
{
    fn new() -> Self {
        Twin {
            word: AtomicU32::new(0),
            links: Links::new(),
        }
    }

    unsafe fn init(&self) {}

    fn acquire(&self, current: CurrentThread, mode: WaitMode) -> Result<Acquired, AcquireError> {
        current.list().set_pending(&self.links);
        if self
            .word
            .compare_exchange(0, current.tid(), Acquire, Relaxed)
            .is_ok()
        {
            return Ok(Acquired::Released);
        }
        let outcome = self.acquire_until(current, mode);
        if outcome.is_err() {
            current.list().clear_pending();
        }
        outcome
    }

    unsafe fn unlock(&self, current: CurrentThread) {
        if self
            .word
            .compare_exchange(current.tid(), 0, Release, Relaxed)
            .is_err()
        {
            self.word
                .store(if PLAIN_ZERO { 0 } else { WAITERS }, Release);
            if futex_wake(&self.word, 1) == 0 && !PLAIN_ZERO {
                futex_wake_clearing(&self.word, WAITERS.trailing_zeros());
            }
        }
        current.list().clear_pending();
    }
}

impl<const PLAIN_ZERO: bool, const GIVES_UP_BLINDLY: bool> Twin<PLAIN_ZERO, GIVES_UP_BLINDLY> {
    fn acquire_until(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Acquired, AcquireError> {
        let deadline = match mode {
            WaitMode::Until(deadline) => deadline,
            WaitMode::Try | WaitMode::TryIfReleased => None,
        };
        let gives_up_blindly = GIVES_UP_BLINDLY && deadline.is_some();
        let mut expired = wait_is_over(mode);
        loop {
            let word = self.word.load(Relaxed);
            if expired && (gives_up_blindly || word & TID != 0) {
                return Err(AcquireError::TimedOut);
            }
            if word & TID == 0 {
                let kept = if PLAIN_ZERO { WAITERS } else { word & WAITERS };
                if self
                    .word
                    .compare_exchange(word, current.tid() | kept, Acquire, Relaxed)
                    .is_err()
                {
                    continue;
                }
                return Ok(match word & OWNER_DIED {
                    0 => Acquired::Released,
                    _ => Acquired::OwnerDied,
                });
            }
            let announced = word | WAITERS;
            let is_announced = word == announced
                || self
                    .word
                    .compare_exchange(word, announced, Relaxed, Relaxed)
                    .is_ok();
            if is_announced {
                futex_wait(
                    &self.word,
                    announced,
                    RecheckTimer::new().next_deadline(deadline),
                );
                expired = wait_is_over(mode);
            }
        }
    }
}

fn wait_is_over(mode: WaitMode) -> bool {
    match mode {
        WaitMode::Try | WaitMode::TryIfReleased => true,
        WaitMode::Until(deadline) => deadline.is_some_and(Deadline::has_passed),
    }
}

/// A one-word lock that is acquired by a load and a separate store.
pub struct TwoSteps(AtomicU32);

impl Plain for TwoSteps {
    fn new() -> Self {
        TwoSteps(AtomicU32::new(0))
    }

    fn lock(&self, _: WaitMode) -> bool {
        while self.0.load(Acquire) != 0 {
            loom::thread::yield_now();
        }
        self.0.store(1, Relaxed);
        true
    }

    fn unlock(&self) {
        self.0.store(0, Release);
    }
}

/// A futex mutex in which a waiter acquires as if no other thread slept.
pub struct ForgetsTheOthers(AtomicU32);

impl Plain for ForgetsTheOthers {
    fn new() -> Self {
        ForgetsTheOthers(AtomicU32::new(0))
    }

    fn lock(&self, _: WaitMode) -> bool {
        while self.0.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            if self.0.swap(2, Acquire) == 0 {
                self.0.store(1, Relaxed);
                return true;
            }
            futex_wait(&self.0, 2, RecheckTimer::new().next_deadline(None));
        }
        true
    }

    fn unlock(&self) {
        if self.0.swap(0, Release) == 2 {
            futex_wake(&self.0, 1);
        }
    }
}

/// Sets an event, but checks for waiters before the change instead of in the same step.
pub fn set_after_a_look(event: &Event) {
    const SET: u32 = 1;
    const WAITERS: u32 = 2;
    // SAFETY: the event is `repr(transparent)` over its word.
    let word = unsafe { &*ptr::from_ref(event).cast::<AtomicU32>() };
    let somebody_waits = word.load(Relaxed) & WAITERS != 0;
    word.fetch_or(SET, Release);
    if somebody_waits {
        futex_wake(word, u32::MAX);
    }
}

/// Adds a permit, but wakes a waiter only if there was no permit.
pub fn post_and_wake_from_zero(count: &FutexSemaphore) {
    // SAFETY: `FutexSemaphore` is `repr(transparent)` over its word.
    let word = unsafe { &*ptr::from_ref(count).cast::<AtomicU32>() };
    if word.fetch_add(1, Release) == 0 {
        futex_wake(word, 1);
    }
}

pub fn word_of(condvar: &Condvar) -> &AtomicU32 {
    // SAFETY: `Condvar` is `repr(transparent)` over its word.
    unsafe { &*ptr::from_ref(condvar).cast() }
}

/// Wakes one waiter, but clears the whole count of sleepers.
pub fn notify_one_and_forget_the_others(condvar: &Condvar) {
    let word = word_of(condvar);
    let old = word.fetch_add(4, Relaxed);
    if old & 3 != 0 {
        word.fetch_and(!3, Relaxed);
        futex_wake(word, 1);
    }
}

/// Checks for sleepers before the change instead of in the same step.
pub fn notify_after_a_look(condvar: &Condvar) {
    let word = word_of(condvar);
    let somebody_sleeps = word.load(Relaxed) & 3 != 0;
    word.fetch_add(4, Relaxed);
    if somebody_sleeps {
        futex_wake(word, u32::MAX);
    }
}

/// Clears the count if the wake found no sleeper, but wakes no thread that went to sleep meanwhile.
pub fn notify_one_and_clear(condvar: &Condvar) {
    let word = word_of(condvar);
    if word.fetch_add(4, Relaxed) & 3 != 0 && futex_wake(word, 1) == 0 {
        word.fetch_and(!3, Relaxed);
    }
}

/// Sets the event and clears `WAITERS`, although it wakes only one of the sleepers.
pub fn set_and_forget_the_others(event: &AutoResetEvent) {
    // SAFETY: the event is `repr(transparent)` over its word.
    let word = unsafe { &*ptr::from_ref(event).cast::<AtomicU32>() };
    if word.swap(1, Release) & 2 != 0 {
        futex_wake(word, 1);
    }
}

/// Acquires one of several permits without a queue: each waiter sleeps on all words at once.
/// Without `PASSES_ON`, a thread that gets a permit does not propagate the other wakes that it
/// received.
pub fn without_a_line<const PASSES_ON: bool>(
    permits: &Permits,
    mode: WaitMode,
) -> Result<(usize, Acquired), MultiError> {
    let words = || {
        permits.words().map(|raw| {
            let word = ptr::from_ref(raw).cast::<AtomicU32>();
            // SAFETY: the word is the first field of `Robust`, which is `repr(C)`.
            unsafe { &*word }
        })
    };
    loop {
        for (number, raw) in permits.words().enumerate() {
            if raw.is_available()
                && let Ok(acquired) = raw.acquire_slow(current_thread(), WaitMode::Try)
            {
                let is_left = |word: &&AtomicU32| {
                    let word = word.load(Relaxed);
                    word & TID == 0 && word & WAITERS != 0
                };
                if PASSES_ON {
                    words()
                        .filter(is_left)
                        .for_each(|word| _ = futex_wake(word, 1));
                }
                return Ok((number, acquired));
            }
        }
        if wait_is_over(mode) {
            return Err(MultiError::Acquire(AcquireError::WouldBlock));
        }
        let mut set = WaitvSet::new();
        let is_whole = words().all(|word| {
            let held = word.load(Relaxed);
            set.push(word, held | WAITERS);
            held & TID != 0
                && word
                    .compare_exchange(held, held | WAITERS, Relaxed, Relaxed)
                    .is_ok()
        });
        if is_whole {
            let _ = set.sleep(RecheckTimer::new().next_deadline(None));
        }
    }
}

/// Watches slots, but does not propagate a wake. The kernel wakes only one watcher for a death.
pub fn watch_without_passing_on(hall: &Hall) -> usize {
    loop {
        let mut set = WaitvSet::new();
        for (word, seen) in hall.slots.iter().map(|slot| slot.expected_word()) {
            set.push(word, seen);
        }
        if let Some(abandoned) = hall.abandoned() {
            return abandoned;
        }
        let _ = set.sleep(RecheckTimer::new().next_deadline(None));
    }
}
