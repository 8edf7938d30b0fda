//! Twins: simplified variants of the algorithms. Each has a flaw that the faults of `sys` cannot
//! inject into the original.

use crate::lock::Raw;
use crate::member_slots::Group;
use crate::permits::Permits;
use crate::plain::Plain;
use crate::raw::auto_reset_event::AutoResetEvent;
use crate::raw::condvar::Condvar;
use crate::raw::event::Event;
use crate::raw::futex_semaphore::FutexSemaphore;
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
/// With `GIVES_UP_WITHOUT_TRY`, a waiter gives up when its deadline has passed, without another
/// try.
#[repr(C)]
pub struct Twin<const PLAIN_ZERO: bool, const GIVES_UP_WITHOUT_TRY: bool> {
    word: AtomicU32,
    links: Links,
}

pub type Sound = Twin<false, false>;
pub type PlainZero = Twin<true, false>;
pub type GivesUpWithoutTry = Twin<false, true>;

impl<const PLAIN_ZERO: bool, const GIVES_UP_WITHOUT_TRY: bool> Raw
    for Twin<PLAIN_ZERO, GIVES_UP_WITHOUT_TRY>
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

impl<const PLAIN_ZERO: bool, const GIVES_UP_WITHOUT_TRY: bool>
    Twin<PLAIN_ZERO, GIVES_UP_WITHOUT_TRY>
{
    fn acquire_until(
        &self,
        current: CurrentThread,
        mode: WaitMode,
    ) -> Result<Acquired, AcquireError> {
        let deadline = match mode {
            WaitMode::Until(deadline) => deadline,
            WaitMode::Try | WaitMode::TryIfReleased => None,
        };
        let gives_up_without_try = GIVES_UP_WITHOUT_TRY && deadline.is_some();
        let mut expired = wait_is_over(mode);
        loop {
            let word = self.word.load(Relaxed);
            if expired && (gives_up_without_try || word & TID != 0) {
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
                    _ => Acquired::OwnerDied(None),
                });
            }
            let contended = word | WAITERS;
            let waiters_is_set = word == contended
                || self
                    .word
                    .compare_exchange(word, contended, Relaxed, Relaxed)
                    .is_ok();
            if waiters_is_set {
                futex_wait(
                    &self.word,
                    contended,
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
pub struct IgnoresOtherSleepers(AtomicU32);

impl Plain for IgnoresOtherSleepers {
    fn new() -> Self {
        IgnoresOtherSleepers(AtomicU32::new(0))
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
pub fn set_after_a_check(event: &Event) {
    const SET: u32 = 1;
    const WAITERS: u32 = 2;
    // SAFETY: the event is `repr(transparent)` over its word.
    let word = unsafe { &*ptr::from_ref(event).cast::<AtomicU32>() };
    let has_waiters = word.load(Relaxed) & WAITERS != 0;
    word.fetch_or(SET, Release);
    if has_waiters {
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
pub fn notify_one_and_reset_count(condvar: &Condvar) {
    let word = word_of(condvar);
    let old = word.fetch_add(4, Relaxed);
    if old & 3 != 0 {
        word.fetch_and(!3, Relaxed);
        futex_wake(word, 1);
    }
}

/// Checks for sleepers before the change instead of in the same step.
pub fn notify_after_a_check(condvar: &Condvar) {
    let word = word_of(condvar);
    let has_sleepers = word.load(Relaxed) & 3 != 0;
    word.fetch_add(4, Relaxed);
    if has_sleepers {
        futex_wake(word, u32::MAX);
    }
}

/// Clears the count if the wake found no sleeper, but wakes no thread that went to sleep meanwhile.
pub fn notify_one_and_clear_without_wake(condvar: &Condvar) {
    let word = word_of(condvar);
    if word.fetch_add(4, Relaxed) & 3 != 0 && futex_wake(word, 1) == 0 {
        word.fetch_and(!3, Relaxed);
    }
}

/// Sets the event and clears `WAITERS`, although it wakes only one of the sleepers.
pub fn set_and_clear_waiters(event: &AutoResetEvent) {
    // SAFETY: the event is `repr(transparent)` over its word.
    let word = unsafe { &*ptr::from_ref(event).cast::<AtomicU32>() };
    if word.swap(1, Release) & 2 != 0 {
        futex_wake(word, 1);
    }
}

/// Acquires one of several permits without a queue: each waiter sleeps on all words at once.
/// Without `PROPAGATES`, a thread that gets a permit does not propagate the other wakes that it
/// received.
pub fn without_queue_lock<const PROPAGATES: bool>(
    permits: &Permits,
    mode: WaitMode,
) -> Result<(usize, Acquired), AcquireError> {
    let words = || {
        permits.words().map(|raw| {
            let word = ptr::from_ref(raw).cast::<AtomicU32>();
            // SAFETY: the word is the first field of `Robust`, which is `repr(C)`.
            unsafe { &*word }
        })
    };
    loop {
        for (number, raw) in permits.words().enumerate() {
            if raw.is_unowned()
                && let Ok(acquired) = raw.acquire_slow(current_thread(), WaitMode::Try)
            {
                let is_free_with_waiters = |word: &&AtomicU32| {
                    let word = word.load(Relaxed);
                    word & TID == 0 && word & WAITERS != 0
                };
                if PROPAGATES {
                    words()
                        .filter(is_free_with_waiters)
                        .for_each(|word| _ = futex_wake(word, 1));
                }
                return Ok((number, acquired));
            }
        }
        if wait_is_over(mode) {
            return Err(AcquireError::WouldBlock);
        }
        let mut set = WaitvSet::new();
        let waiters_are_set = words().all(|word| {
            let held = word.load(Relaxed);
            set.push(word, held | WAITERS);
            held & TID != 0
                && word
                    .compare_exchange(held, held | WAITERS, Relaxed, Relaxed)
                    .is_ok()
        });
        if waiters_are_set {
            let _ = set.sleep(RecheckTimer::new().next_deadline(None));
        }
    }
}

/// Watches slots, but does not propagate a wake. The kernel wakes only one watcher for a death.
pub fn watch_without_propagation(group: &Group) -> usize {
    loop {
        let mut set = WaitvSet::new();
        for (word, seen) in group.slots.iter().map(|slot| slot.expected_word()) {
            set.push(word, seen);
        }
        if let Some(abandoned) = group.abandoned() {
            return abandoned;
        }
        let _ = set.sleep(RecheckTimer::new().next_deadline(None));
    }
}
