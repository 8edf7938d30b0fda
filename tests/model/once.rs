//! Initialization that happens once. One thread does it, every thread sees it complete, and another
//! thread takes over if the first one dies.

use crate::model::Model;
use crate::raw::once::{Once, OnceState};
use crate::raw::outcome::{AcquireError, WaitMode};
use crate::sys::{Deadline, Joins, World, current_thread, join_all, step};
use loom::cell::UnsafeCell;
use std::rc::Rc;

/// A value that is initialized once, in two steps.
pub struct OnceValue {
    pub once: Once,
    /// Loom panics if two threads access it without an order between them.
    halves: UnsafeCell<[u32; 2]>,
    times: UnsafeCell<u32>,
}

impl OnceValue {
    pub fn place(world: &Rc<World>) -> Rc<Self> {
        let value = Rc::new(OnceValue {
            once: Once::new(),
            halves: UnsafeCell::new([0, 0]),
            times: UnsafeCell::new(0),
        });
        world.map(&value, &value.once);
        // SAFETY: no thread uses it yet, and `World` keeps it at its address until the run ends.
        unsafe { value.once.init() };
        value
    }

    /// Starts a thread, the only one of its process.
    fn in_thread<T: 'static>(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&World, &OnceValue) -> T + 'static,
    ) -> Joins<T> {
        let (here, value) = (world.clone(), self.clone());
        world.spawn(tid, move || body(&here, &value))
    }

    fn initialize_half(&self, half: usize) {
        // SAFETY: loom panics before it calls the closure if another access is not ordered with
        // this one.
        self.halves
            .with_mut(|halves| unsafe { (*halves)[half] = 1 });
    }

    pub fn initialize(&self) {
        self.initialize_half(0);
        step();
        self.initialize_half(1);
    }

    fn count(&self) {
        // SAFETY: as above.
        self.times.with_mut(|times| unsafe { *times += 1 });
    }

    fn times(&self) -> u32 {
        // SAFETY: as above.
        self.times.with(|times| unsafe { *times })
    }

    pub fn assert_complete(&self) {
        // SAFETY: as above.
        let halves = self.halves.with(|halves| unsafe { *halves });
        assert_eq!(halves, [1, 1], "a half-initialized value was read");
    }

    /// Does what `get_or_init` does. If the initializing thread died, the next one receives its
    /// death.
    pub fn get_or_init(&self, world: &World) {
        self.get_or_init_with(world, WaitMode::Until(None))
            .expect("no thread keeps its turn");
    }

    /// Does what the variants of `get_or_init` do that try once, or wait until a deadline.
    pub fn get_or_init_with(&self, world: &World, mode: WaitMode) -> Result<(), AcquireError> {
        if !self.once.is_done()
            && let Some(past) = self.once.begin(current_thread(), mode)?
        {
            self.initialize_in_turn(world, past);
        }
        self.assert_complete();
        Ok(())
    }

    fn initialize_in_turn(&self, world: &World, past: OnceState) {
        let died = world.take_unreported_death(&self.once);
        assert!(past.died() || !died, "a death was not reported");
        if past.died() {
            world.seen.reported_deaths.add();
        }
        self.count();
        self.initialize();
        // SAFETY: this thread has begun its turn, and has not ended it.
        unsafe { self.once.complete(current_thread()) };
    }
}

/// `threads` threads call `get_or_init`.
pub fn all_initialize(world: &Rc<World>, threads: u32) {
    let value = OnceValue::place(world);
    let callers = (2..2 + threads)
        .map(|tid| value.in_thread(world, tid, |world, value| value.get_or_init(world)));
    let callers: Vec<_> = callers.collect();
    let ended = join_all(callers);
    if ended.iter().all(Option::is_some) {
        assert_eq!(value.times(), 1, "it was initialized more than once");
    }
    value.get_or_init(world);
}

/// Four threads, two preemptions.
#[test]
fn one_thread_initializes_it_and_all_see_it_complete() {
    let seen = Model::PLAIN.holds(|world| all_initialize(world, 3));
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, two preemptions. One is killed at each of its steps, also between the two steps
/// of the initialization.
#[test]
fn another_thread_takes_over_after_a_death() {
    let seen = Model::PLAIN.holds_if_killed(2, |world| all_initialize(world, 2));
    assert!(seen.reported_deaths.get() > 0 && seen.sleeps.get() > 0);
}

/// The same with four threads and one preemption.
#[test]
fn one_of_several_threads_takes_over_after_a_death() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| all_initialize(world, 3));
    assert!(seen.reported_deaths.get() > 0);
}

/// Three threads, two preemptions. Thread 2 initializes the value and may be killed. Thread 3 waits
/// until the deadline. It times out, sees the complete value, or takes over if the initializing
/// thread died.
fn one_has_a_deadline(world: &Rc<World>) {
    let value = OnceValue::place(world);
    let initializes = value.in_thread(world, 2, |world, value| value.get_or_init(world));
    let timed = value.in_thread(world, 3, |world, value| {
        let outcome = value.get_or_init_with(world, WaitMode::Until(Some(Deadline::Ahead)));
        if let Err(refused) = outcome {
            assert_eq!(refused, AcquireError::TimedOut);
            world.seen.timeouts.add();
        }
    });
    world.deadline_passes();
    initializes.join();
    timed.join().expect("only thread 2 may be killed");
    value.get_or_init(world);
}

#[test]
fn a_thread_with_a_deadline_sees_it_complete_or_times_out() {
    let seen = Model::PLAIN.holds(one_has_a_deadline);
    assert!(seen.timeouts.get() > 0 && seen.timeouts.get() < seen.runs.get());
    let seen = Model::PLAIN.holds_if_killed(2, one_has_a_deadline);
    assert!(seen.reported_deaths.get() > 0 && seen.timeouts.get() > 0);
}

/// Two threads, two preemptions. A try before the completion is refused, or initializes the value.
/// A thread that has seen the completion is not refused, although the lock may still be held for a
/// moment.
#[test]
fn a_try_is_refused_only_before_the_completion() {
    let seen = Model::PLAIN.holds(|world| {
        let value = OnceValue::place(world);
        let initializes = value.in_thread(world, 2, |world, value| value.get_or_init(world));
        if let Err(refused) = value.get_or_init_with(world, WaitMode::Try) {
            assert_eq!(refused, AcquireError::WouldBlock);
            world.seen.refusals.add();
        }
        assert!(value.once.wait(None));
        let begun = value.once.begin(current_thread(), WaitMode::Try);
        assert!(begun.is_ok_and(|turn| turn.is_none()));
        initializes.join();
        assert_eq!(value.times(), 1);
    });
    assert!(seen.refusals.get() > 0 && seen.refusals.get() < seen.runs.get());
}

/// Two threads, two preemptions. One thread panics in its turn. The other thread has its turn
/// before or afterwards, and receives no panic that did not happen.
#[test]
fn a_panic_is_reported_to_the_next_initializer() {
    Model::PLAIN.holds(|world| {
        let value = OnceValue::place(world);
        let panics = value.in_thread(world, 2, |_, value| {
            let begun = value
                .once
                .begin(current_thread(), WaitMode::Until(None))
                .expect("no thread keeps its turn");
            if let Some(past) = begun {
                assert!(!past.panicked() && !past.died());
                // SAFETY: this thread has begun its turn, and has not ended it.
                unsafe { value.once.abandon(current_thread(), true) };
            }
            begun.is_some()
        });
        let panic_reported = match value
            .once
            .begin(current_thread(), WaitMode::Until(None))
            .expect("no thread keeps its turn")
        {
            Some(past) => {
                value.initialize();
                // SAFETY: this thread has begun its turn, and has not ended it.
                unsafe { value.once.complete(current_thread()) };
                past.panicked()
            }
            None => unreachable!("no thread has initialized it"),
        };
        let panicked = panics.join().expect("no thread is killed");
        assert!(panicked || !panic_reported);
        value.assert_complete();
    });
}

/// Thread 2 initializes the value and may be killed. Thread 3 waits for the value, and does not
/// take over. If there is no value then, the first thread initializes it. With `timers_expire`, the
/// recheck timers end after the death.
pub fn one_only_waits(world: &Rc<World>, timers_expire: bool) {
    let value = OnceValue::place(world);
    let waits = value.in_thread(world, 3, |_, value| {
        assert!(value.once.wait(None));
        value.assert_complete();
    });
    value
        .in_thread(world, 2, |world, value| value.get_or_init(world))
        .join();
    if timers_expire {
        world.expire_recheck_timers();
    }
    value.get_or_init(world);
    waits.join();
}

/// Three threads, two preemptions. Thread 2 is killed at each of its steps. If it dies between its
/// completion and its wake, the recheck timer ends the wait of thread 3.
#[test]
fn a_thread_that_only_waits_is_not_stranded_by_a_death() {
    let seen = Model::PLAIN.holds_if_killed(2, |world| one_only_waits(world, true));
    assert!(seen.sleeps.get() > 0);
}

/// Completes the initialization before the value is there.
pub fn completes_early(world: &Rc<World>) {
    let value = OnceValue::place(world);
    let early = value.in_thread(world, 2, |_, value| {
        if value
            .once
            .begin(current_thread(), WaitMode::Until(None))
            .expect("no thread keeps its turn")
            .is_some()
        {
            // SAFETY: this thread has begun its turn, and has not ended it.
            unsafe { value.once.complete(current_thread()) };
            value.initialize();
        }
    });
    assert!(value.once.wait(None));
    value.assert_complete();
    early.join();
}
