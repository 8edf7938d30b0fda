//! Initialization that happens once. One thread does it, every thread sees it complete, and another
//! thread takes over if the first one dies.

use crate::model::Model;
use crate::raw::once::{Once, OnceState};
use crate::raw::outcome::{AcquireError, WaitMode};
use crate::sys::{Deadline, Joins, World, current_thread, join_all, step};
use loom::cell::UnsafeCell;
use std::rc::Rc;

/// A value that is initialized once, in two steps.
pub struct Site {
    pub once: Once,
    /// Loom panics if two threads access it without an order between them.
    halves: UnsafeCell<[u32; 2]>,
    times: UnsafeCell<u32>,
}

impl Site {
    pub fn place(world: &Rc<World>) -> Rc<Self> {
        let site = Rc::new(Site {
            once: Once::new(),
            halves: UnsafeCell::new([0, 0]),
            times: UnsafeCell::new(0),
        });
        world.map(&site, &site.once);
        // SAFETY: no thread uses it yet, and `World` keeps it at its address until the run ends.
        unsafe { site.once.init() };
        site
    }

    /// Starts a thread, the only one of its process.
    fn in_thread<T: 'static>(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&World, &Site) -> T + 'static,
    ) -> Joins<T> {
        let (here, site) = (world.clone(), self.clone());
        world.spawn(tid, move || body(&here, &site))
    }

    fn make(&self, half: usize) {
        // SAFETY: loom panics before it calls the closure if another access is not ordered with
        // this one.
        self.halves
            .with_mut(|halves| unsafe { (*halves)[half] = 1 });
    }

    pub fn make_both(&self) {
        self.make(0);
        step();
        self.make(1);
    }

    fn count(&self) {
        // SAFETY: as above.
        self.times.with_mut(|times| unsafe { *times += 1 });
    }

    fn times(&self) -> u32 {
        // SAFETY: as above.
        self.times.with(|times| unsafe { *times })
    }

    pub fn see(&self) {
        // SAFETY: as above.
        let halves = self.halves.with(|halves| unsafe { *halves });
        assert_eq!(halves, [1, 1], "what was made by half was read");
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
            self.make_in_turn(world, past);
        }
        self.see();
        Ok(())
    }

    fn make_in_turn(&self, world: &World, past: OnceState) {
        let died = world.take_tidings(&self.once);
        assert!(past.died() || !died, "a death was not reported");
        if past.died() {
            world.seen.deaths_told.add();
        }
        self.count();
        self.make_both();
        // SAFETY: this thread has begun its turn, and has not ended it.
        unsafe { self.once.complete(current_thread()) };
    }
}

/// `threads` threads call `get_or_init`.
pub fn all_want_it(world: &Rc<World>, threads: u32) {
    let site = Site::place(world);
    let callers = (2..2 + threads)
        .map(|tid| site.in_thread(world, tid, |world, site| site.get_or_init(world)));
    let callers: Vec<_> = callers.collect();
    let ended = join_all(callers);
    if ended.iter().all(Option::is_some) {
        assert_eq!(site.times(), 1, "it was initialized more than once");
    }
    site.get_or_init(world);
}

/// Four threads, two preemptions.
#[test]
fn one_makes_it_and_all_see_it_whole() {
    let seen = Model::PLAIN.holds(|world| all_want_it(world, 3));
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, two preemptions. One is killed at each of its steps, also between the two steps
/// of the initialization.
#[test]
fn it_is_taken_over_from_one_that_dies() {
    let seen = Model::PLAIN.holds_if_killed(2, |world| all_want_it(world, 2));
    assert!(seen.deaths_told.get() > 0 && seen.sleeps.get() > 0);
}

/// The same with four threads and one preemption.
#[test]
fn it_is_taken_over_by_one_of_several() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| all_want_it(world, 3));
    assert!(seen.deaths_told.get() > 0);
}

/// Three threads, two preemptions. Thread 2 initializes the value and may be killed. Thread 3 waits
/// until the deadline. It times out, sees the complete value, or takes over if the initializing
/// thread died.
fn one_has_a_deadline(world: &Rc<World>) {
    let site = Site::place(world);
    let makes = site.in_thread(world, 2, |world, site| site.get_or_init(world));
    let timed = site.in_thread(world, 3, |world, site| {
        let outcome = site.get_or_init_with(world, WaitMode::Until(Some(Deadline::Ahead)));
        if let Err(refused) = outcome {
            assert_eq!(refused, AcquireError::TimedOut);
            world.seen.timeouts.add();
        }
    });
    world.deadline_passes();
    makes.join();
    timed.join().expect("only thread 2 may be killed");
    site.get_or_init(world);
}

#[test]
fn who_has_a_deadline_sees_it_whole_or_gives_up() {
    let seen = Model::PLAIN.holds(one_has_a_deadline);
    assert!(seen.timeouts.get() > 0 && seen.timeouts.get() < seen.runs.get());
    let seen = Model::PLAIN.holds_if_killed(2, one_has_a_deadline);
    assert!(seen.deaths_told.get() > 0 && seen.timeouts.get() > 0);
}

/// Two threads, two preemptions. A try before the completion is refused, or initializes the value.
/// A thread that has seen the completion is not refused, although the lock may still be held for a
/// moment.
#[test]
fn a_try_is_refused_only_while_it_is_not_done() {
    let seen = Model::PLAIN.holds(|world| {
        let site = Site::place(world);
        let makes = site.in_thread(world, 2, |world, site| site.get_or_init(world));
        if let Err(refused) = site.get_or_init_with(world, WaitMode::Try) {
            assert_eq!(refused, AcquireError::WouldBlock);
            world.seen.refusals.add();
        }
        assert!(site.once.wait(None));
        let begun = site.once.begin(current_thread(), WaitMode::Try);
        assert!(begun.is_ok_and(|turn| turn.is_none()));
        makes.join();
        assert_eq!(site.times(), 1);
    });
    assert!(seen.refusals.get() > 0 && seen.refusals.get() < seen.runs.get());
}

/// Two threads, two preemptions. One thread panics in its turn. The other thread has its turn
/// before or afterwards, and receives no panic that did not happen.
#[test]
fn who_comes_after_a_panic_is_told() {
    Model::PLAIN.holds(|world| {
        let site = Site::place(world);
        let panics = site.in_thread(world, 2, |_, site| {
            let begun = site
                .once
                .begin(current_thread(), WaitMode::Until(None))
                .expect("no thread keeps its turn");
            if let Some(past) = begun {
                assert!(!past.panicked() && !past.died());
                // SAFETY: this thread has begun its turn, and has not ended it.
                unsafe { site.once.abandon(current_thread(), true) };
            }
            begun.is_some()
        });
        let told = match site
            .once
            .begin(current_thread(), WaitMode::Until(None))
            .expect("no thread keeps its turn")
        {
            Some(past) => {
                site.make_both();
                // SAFETY: this thread has begun its turn, and has not ended it.
                unsafe { site.once.complete(current_thread()) };
                past.panicked()
            }
            None => unreachable!("no thread has initialized it"),
        };
        let panicked = panics.join().expect("no thread is killed");
        assert!(panicked || !told);
        site.see();
    });
}

/// Thread 2 initializes the value and may be killed. Thread 3 waits for the value, and does not
/// take over. If there is no value then, the first thread initializes it. With `naps_end`, the
/// recheck timers end after the death.
pub fn one_only_waits(world: &Rc<World>, naps_end: bool) {
    let site = Site::place(world);
    let waits = site.in_thread(world, 3, |_, site| {
        assert!(site.once.wait(None));
        site.see();
    });
    site.in_thread(world, 2, |world, site| site.get_or_init(world))
        .join();
    if naps_end {
        world.naps_end();
    }
    site.get_or_init(world);
    waits.join();
}

/// Three threads, two preemptions. Thread 2 is killed at each of its steps. If it dies between its
/// completion and its wake, the recheck timer ends the wait of thread 3.
#[test]
fn who_only_waits_is_not_stranded_by_a_death() {
    let seen = Model::PLAIN.holds_if_killed(2, |world| one_only_waits(world, true));
    assert!(seen.sleeps.get() > 0);
}

/// Completes the initialization before the value is there.
pub fn completes_early(world: &Rc<World>) {
    let site = Site::place(world);
    let early = site.in_thread(world, 2, |_, site| {
        if site
            .once
            .begin(current_thread(), WaitMode::Until(None))
            .expect("no thread keeps its turn")
            .is_some()
        {
            // SAFETY: this thread has begun its turn, and has not ended it.
            unsafe { site.once.complete(current_thread()) };
            site.make_both();
        }
    });
    assert!(site.once.wait(None));
    site.see();
    early.join();
}
