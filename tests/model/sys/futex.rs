//! The futex, as futex(2) specifies it.
//!
//! One queue under one lock contains the waiters of all words: the kernel has a lock for each
//! bucket of words, and words may share a bucket. As in the kernel, the lock orders memory between
//! the threads that take it, which is more than the manual promises. So only the interleavings in
//! which no thread sleeps test the algorithms' own orderings.

use super::fault::Fault;
use super::task::{self, Task};
use super::{AtomicU32, Deadline, World};
use crate::trace::{self, Event};
use loom::sync::Mutex;
use loom::thread::{self, Thread};
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::Location;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::Ordering::AcqRel;

/// Why a sleep on a word ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Woken,
    Changed,
    TimedOut,
}

/// The kernel's futex queues, and its clock.
pub(super) struct Futexes {
    queue: Mutex<Queue>,
    /// Not 0 once the deadline has passed, for threads that read the clock without sleeping.
    passed: loom::sync::atomic::AtomicU32,
}

#[derive(Default)]
struct Queue {
    sleepers: VecDeque<Rc<Sleeper>>,
    deadline_has_passed: bool,
    /// How many times the recheck timers have expired.
    expired_timers: u32,
}

/// A waiter's entry in the queue of one word.
struct Sleeper {
    task: Rc<Task>,
    word: *const AtomicU32,
    thread: Thread,
    is_timed: bool,
    /// The thread is killed during this sleep: the entry is still in the queue, and the thread runs
    /// only to remove it.
    is_killed: bool,
    answer: Cell<Option<Wait>>,
    /// Whether the thread was woken, by this word or another one: it runs, or is about to.
    is_awake: Rc<Cell<bool>>,
}

impl Futexes {
    pub(super) fn new() -> Self {
        Futexes {
            queue: Mutex::default(),
            passed: loom::sync::atomic::AtomicU32::new(0),
        }
    }

    pub(super) fn deadline_has_passed(&self) -> bool {
        // Loom returns the newest value to a read-modify-write if all writes are
        // read-modify-writes. So a thread that reads the clock gets the current time.
        self.passed.fetch_add(0, AcqRel) != 0
    }

    /// "This operation wakes at most val of the waiters that are waiting [...] on the futex word at
    /// the address uaddr. [...] No guarantee is provided about which waiters are awoken". Here it
    /// wakes the thread that has slept longest, as Linux does among threads of equal priority.
    pub(super) fn wake(&self, word: &AtomicU32, count: u32) -> u32 {
        self.queue.lock().unwrap().wake(word, count)
    }
}

impl Queue {
    fn wake(&mut self, word: &AtomicU32, count: u32) -> u32 {
        let mut woken = 0;
        while woken < count
            && let Some(place) = self
                .sleepers
                .iter()
                .position(|sleeper| ptr::eq(sleeper.word, word))
        {
            self.end_sleep(place, Wait::Woken);
            woken += 1;
        }
        woken
    }

    fn time_out(&mut self, is_over: impl Fn(&Sleeper) -> bool) {
        while let Some(place) = self.sleepers.iter().position(|sleeper| is_over(sleeper)) {
            self.end_sleep(place, Wait::TimedOut);
        }
    }

    fn end_sleep(&mut self, place: usize, answer: Wait) {
        let sleeper = self
            .sleepers
            .remove(place)
            .expect("the place is in the queue");
        sleeper.answer.set(Some(answer));
        if !sleeper.is_killed && !sleeper.is_awake.replace(true) {
            sleeper.thread.unpark();
        }
    }
}

/// `FUTEX_WAIT_BITSET` with an absolute timeout.
#[track_caller]
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, until: Deadline) -> Wait {
    let answer = wait(word, expected, until);
    trace::note(
        task::current().tid,
        Event::Waited(answer),
        Location::caller(),
    );
    answer
}

#[track_caller]
fn wait(word: &AtomicU32, expected: u32, until: Deadline) -> Wait {
    wait_on(&[(word, expected)], until)
}

/// The words of one sleep on several words: `futex_waitv`.
pub(crate) struct WaitvSet<'a>(Vec<(&'a AtomicU32, u32)>);

impl<'a> WaitvSet<'a> {
    /// More words than a model has.
    pub(crate) const MAX: usize = 8;

    pub(crate) fn new() -> Self {
        WaitvSet(Vec::new())
    }

    pub(crate) fn push(&mut self, word: &'a AtomicU32, expected: u32) {
        self.0.push((word, expected));
    }

    #[track_caller]
    pub(crate) fn sleep(&self, until: Deadline) -> Wait {
        let is_expected = |(word, expected): &(&AtomicU32, u32)| word.read_by_kernel() == *expected;
        let answer = match task::current().has(Fault::NoFutexWaitv) {
            // The thread looks at all words and then sleeps on the first. A timer of the model is
            // the end of such a sleep.
            true if !self.0.iter().all(is_expected) => Wait::Changed,
            true => wait_on(&self.0[..1], until),
            false => wait_on(&self.0, until),
        };
        let tid = task::current().tid;
        trace::note(tid, Event::Waited(answer), Location::caller());
        answer
    }
}

/// Sleeps on all of the words. The kernel compares the words one after the other, as the thread
/// joins each queue. Here that is one step: a change between two comparisons is equivalent to a
/// change before both, or it wakes the thread.
#[track_caller]
fn wait_on(words: &[(&AtomicU32, u32)], until: Deadline) -> Wait {
    let task = task::step();
    let world = &task.world;
    let apart = task.has(Fault::CompareApartFromSleep);
    let are_as_expected = || {
        words
            .iter()
            .all(|(word, expected)| word.read_by_kernel() == *expected)
    };
    if apart && !are_as_expected() {
        return Wait::Changed;
    }
    // "This load, the comparison with the expected value, and starting to sleep are performed
    // atomically and totally ordered with respect to other futex operations on the same futex
    // word."
    let mut queue = world.futexes.queue.lock().unwrap();
    if !apart && !are_as_expected() {
        // "If the futex value does not match val, then the call fails immediately with the error
        // EAGAIN."
        return Wait::Changed;
    }
    let is_timed = until == Deadline::Ahead;
    if is_timed && queue.deadline_has_passed {
        return Wait::TimedOut;
    }
    if task.expired_timers.get() < queue.expired_timers {
        task.expired_timers.set(task.expired_timers.get() + 1);
        return Wait::TimedOut;
    }
    let is_killed = task.dies_now();
    let is_awake = Rc::new(Cell::new(false));
    let places: Vec<_> = words
        .iter()
        .map(|(word, _)| {
            Rc::new(Sleeper {
                task: task.clone(),
                word: ptr::from_ref(*word),
                thread: thread::current(),
                is_timed,
                is_killed,
                answer: Cell::new(None),
                is_awake: is_awake.clone(),
            })
        })
        .collect();
    queue.sleepers.extend(places.iter().cloned());
    drop(queue);
    trace::note(task.tid, Event::Sleeps(words[0].1), Location::caller());
    world.seen.sleeps.add();
    // When a woken thread runs, it leaves the queues of the other words. A wake that reaches it
    // there before is lost.
    let leave = || {
        if is_killed || places.len() > 1 {
            let mut queue = world.futexes.queue.lock().unwrap();
            queue
                .sleepers
                .retain(|other| !places.iter().any(|place| Rc::ptr_eq(other, place)));
        }
    };
    if is_killed {
        // The thread dies at any later moment, when the schedule lets it run. A wake that reached
        // it before is lost.
        leave();
        task.die();
    }
    loop {
        if let Some(answer) = places.iter().find_map(|place| place.answer.get()) {
            leave();
            return answer;
        }
        thread::park();
    }
}

/// `FUTEX_WAKE`. "Returns the number of waiters that were woken up."
#[track_caller]
pub(crate) fn futex_wake(word: &AtomicU32, count: u32) -> u32 {
    let task = task::current();
    if task.has(Fault::PendingClearedEarly) {
        task.pending.set(ptr::null());
    }
    let world = &task::step().world;
    let woken = world.futexes.wake(word, count);
    trace::note(task.tid, Event::Woke(woken), Location::caller());
    if woken > 0 {
        world.seen.wakes.add();
    } else {
        world.seen.idle_wakes.add();
    }
    woken
}

/// `FUTEX_WAKE_OP` on the word with itself, "equivalent to executing the following code atomically
/// and totally ordered with respect to other futex operations on any of the two supplied futex
/// words":
///
/// ```c
/// uint32_t oldval = *(uint32_t *) uaddr2;
/// *(uint32_t *) uaddr2 = oldval op oparg;
/// futex(uaddr, FUTEX_WAKE, val, 0, 0, 0);
/// ```
#[track_caller]
pub(crate) fn futex_wake_clearing(word: &AtomicU32, bit: u32) {
    let task = task::step();
    let mut queue = task.world.futexes.queue.lock().unwrap();
    let old = word.masked_by_kernel(!(1 << bit));
    let woken = if task.has(Fault::ClearingWakeIsLost) {
        0
    } else {
        queue.wake(word, u32::MAX)
    };
    drop(queue);
    trace::note(task.tid, Event::Cleared(old, woken), Location::caller());
}

impl World {
    /// The deadline passes: every sleep with a deadline ends, now and later.
    pub fn deadline_passes(&self) {
        let mut queue = self.futexes.queue.lock().unwrap();
        queue.deadline_has_passed = true;
        self.futexes.passed.swap(1, AcqRel);
        self.notify_observers();
        queue.time_out(|sleeper| sleeper.is_timed);
    }

    /// Lets the recheck timer of every thread expire once: the timer of its current sleep, or else
    /// of its next one. If no more threads die, one check by each thread is enough, and every run
    /// ends.
    pub fn expire_recheck_timers(&self) {
        let mut queue = self.futexes.queue.lock().unwrap();
        queue.expired_timers += 1;
        for sleeper in queue.sleepers.iter().filter(|one| !one.is_awake.get()) {
            // A thread that sleeps on several words has several entries, but one timer.
            if sleeper.task.expired_timers.get() < queue.expired_timers {
                sleeper
                    .task
                    .expired_timers
                    .set(sleeper.task.expired_timers.get() + 1);
            }
        }
        queue.time_out(|_| true);
    }
}
