//! The auto-reset event: each set lets one waiter through, and a set stays until a waiter takes it.

use crate::model::Model;
use crate::raw::auto_reset_event::AutoResetEvent;
use crate::sys::{Deadline, Joins, World, join_all};
use loom::cell::UnsafeCell;
use std::rc::Rc;

/// An event, and the data that belongs to the thread that took its set.
pub struct Shared {
    pub event: AutoResetEvent,
    /// Loom panics if two threads access it without an order between them.
    data: UnsafeCell<u32>,
}

impl Shared {
    fn new() -> Rc<Self> {
        Rc::new(Shared {
            event: AutoResetEvent::new(),
            data: UnsafeCell::new(0),
        })
    }

    fn in_thread<T: 'static>(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&Shared) -> T + 'static,
    ) -> Joins<T> {
        let shared = self.clone();
        world.spawn(tid, move || body(&shared))
    }

    fn use_data(&self) {
        // SAFETY: loom panics before it calls the closure if another access is not ordered with
        // this one.
        self.data.with_mut(|data| unsafe { *data += 1 });
    }
}

/// Three threads pass one set from one to the next. Each sets the event with `set`.
pub fn pass_one_set(world: &Rc<World>, set: fn(&AutoResetEvent)) {
    let shared = Shared::new();
    let users = [2, 3].map(|tid| {
        shared.in_thread(world, tid, move |shared| {
            assert!(shared.event.wait(None));
            shared.use_data();
            set(&shared.event);
        })
    });
    shared.use_data();
    set(&shared.event);
    join_all(users);
    assert!(shared.event.take() && !shared.event.take());
}

/// Three threads, three preemptions.
#[test]
fn each_set_wakes_one_waiter_and_publishes_earlier_writes() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| pass_one_set(world, AutoResetEvent::set));
    assert!(seen.sleeps.get() > 0 && seen.wakes.get() > 0);
    let model = Model {
        spins: true,
        ..Model::PLAIN
    };
    model.holds(|world| pass_one_set(world, AutoResetEvent::set));
}

/// Two threads, two preemptions. If no thread waits, a set makes no system call. After a wait, the
/// next set may find no sleeper to wake, and the sets after it make no system call.
#[test]
fn a_set_without_waiters_makes_no_system_call() {
    let calls = |world: &World| world.seen.wakes.get() + world.seen.idle_wakes.get();
    let set_and_take = |shared: &Shared| {
        shared.event.set();
        assert!(shared.event.take());
    };
    let seen = Model::PLAIN.holds(move |world| {
        let shared = Shared::new();
        let before = calls(world);
        set_and_take(&shared);
        assert_eq!(calls(world), before);
        let waits = shared.in_thread(world, 2, |shared| shared.event.wait(None));
        shared.event.set();
        assert_eq!(waits.join(), Some(true));
        set_and_take(&shared);
        let before = calls(world);
        set_and_take(&shared);
        assert_eq!(calls(world), before);
    });
    assert!(seen.wakes.get() > 0 && seen.idle_wakes.get() > 0);
}

/// Three threads, two preemptions. One of two waiters has a deadline, which passes while the event
/// is set.
#[test]
fn a_waiter_that_times_out_consumes_no_set() {
    let seen = Model::PLAIN.holds(|world| {
        let shared = Shared::new();
        let timed = shared.in_thread(world, 2, |shared| shared.event.wait(Some(Deadline::Ahead)));
        let waits = shared.in_thread(world, 3, |shared| assert!(shared.event.wait(None)));
        shared.event.set();
        world.deadline_passes();
        match timed.join() {
            Some(true) => shared.event.set(),
            _ => world.seen.timeouts.add(),
        }
        waits.join();
        assert!(!shared.event.is_set());
    });
    assert!(seen.timeouts.get() > 0 && seen.timeouts.get() < seen.runs.get());
}

/// Three threads, three preemptions. The event is set twice before two threads try to take the set:
/// only one of them gets it.
#[test]
fn a_set_is_taken_once() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    model.holds(|world| {
        let shared = Shared::new();
        shared.event.set();
        shared.event.set();
        let takers = [2, 3].map(|tid| shared.in_thread(world, tid, |shared| shared.event.take()));
        let taken = takers.map(|taker| taker.join().expect("no thread is killed"));
        assert!(taken[0] != taken[1]);
    });
}

/// Threads 2 and 3 wait, and each sets the event again after its wait. Thread 2 may be killed. If
/// it was killed and the event is not set, the first thread sets the event. With `timers_expire`,
/// the recheck timers end after the death.
pub fn a_waiter_is_killed(world: &Rc<World>, timers_expire: bool) {
    let shared = Shared::new();
    let waiters = [2, 3].map(|tid| {
        shared.in_thread(world, tid, |shared| {
            assert!(shared.event.wait(None));
            shared.event.set();
        })
    });
    shared.event.set();
    let [killed, waits] = waiters;
    if killed.join().is_none() {
        if timers_expire {
            world.expire_recheck_timers();
        }
        if !shared.event.is_set() {
            shared.event.set();
        }
    }
    waits.join();
}

/// Three threads, two preemptions. A waiter is killed at each of its steps.
#[test]
fn a_killed_waiter_strands_no_thread() {
    let seen = Model::PLAIN.holds_if_killed(2, |world| a_waiter_is_killed(world, true));
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, two preemptions. A setter is killed at each of its steps.
#[test]
fn a_killed_setter_strands_no_thread() {
    Model::PLAIN.holds_if_killed(2, |world| {
        let shared = Shared::new();
        let waits = shared.in_thread(world, 3, |shared| assert!(shared.event.wait(None)));
        let sets = shared.in_thread(world, 2, |shared| shared.event.set());
        if sets.join().is_none() {
            world.expire_recheck_timers();
            shared.event.set();
        }
        waits.join();
    });
}
