//! The auto-reset event: each set lets one waiter through, and a set stays until a waiter takes it.

use crate::model::Model;
use crate::raw::auto_reset_event::AutoResetEvent;
use crate::sys::{Deadline, Joins, World, join_all};
use loom::cell::UnsafeCell;
use std::rc::Rc;

/// An event, and the data that belongs to the thread that took its set.
pub struct Gate {
    pub event: AutoResetEvent,
    /// Loom panics if two threads access it without an order between them.
    data: UnsafeCell<u32>,
}

impl Gate {
    fn new() -> Rc<Self> {
        Rc::new(Gate {
            event: AutoResetEvent::new(),
            data: UnsafeCell::new(0),
        })
    }

    fn in_thread<T: 'static>(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&Gate) -> T + 'static,
    ) -> Joins<T> {
        let gate = self.clone();
        world.spawn(tid, move || body(&gate))
    }

    fn use_data(&self) {
        // SAFETY: loom panics before it calls the closure if another access is not ordered with
        // this one.
        self.data.with_mut(|data| unsafe { *data += 1 });
    }
}

/// Three threads pass one set from one to the next. Each sets the event with `set`.
pub fn one_after_the_other(world: &Rc<World>, set: fn(&AutoResetEvent)) {
    let gate = Gate::new();
    let users = [2, 3].map(|tid| {
        gate.in_thread(world, tid, move |gate| {
            assert!(gate.event.wait(None));
            gate.use_data();
            set(&gate.event);
        })
    });
    gate.use_data();
    set(&gate.event);
    join_all(users);
    assert!(gate.event.take() && !gate.event.take());
}

/// Three threads, three preemptions.
#[test]
fn each_set_lets_one_through_and_publishes_what_came_before() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| one_after_the_other(world, AutoResetEvent::set));
    assert!(seen.sleeps.get() > 0 && seen.wakes.get() > 0);
    let model = Model {
        spins: true,
        ..Model::PLAIN
    };
    model.holds(|world| one_after_the_other(world, AutoResetEvent::set));
}

/// Two threads, two preemptions. If no thread waits, a set makes no system call. After a wait, the
/// next set may find no sleeper to wake, and the sets after it make no system call.
#[test]
fn a_set_with_nobody_asleep_wakes_nobody() {
    let calls = |world: &World| world.seen.wakes.get() + world.seen.idle_wakes.get();
    let set_and_take = |gate: &Gate| {
        gate.event.set();
        assert!(gate.event.take());
    };
    let seen = Model::PLAIN.holds(move |world| {
        let gate = Gate::new();
        let before = calls(world);
        set_and_take(&gate);
        assert_eq!(calls(world), before);
        let waits = gate.in_thread(world, 2, |gate| gate.event.wait(None));
        gate.event.set();
        assert_eq!(waits.join(), Some(true));
        set_and_take(&gate);
        let before = calls(world);
        set_and_take(&gate);
        assert_eq!(calls(world), before);
    });
    assert!(seen.wakes.get() > 0 && seen.idle_wakes.get() > 0);
}

/// Three threads, two preemptions. One of two waiters has a deadline, which passes while the event
/// is set.
#[test]
fn a_waiter_that_gives_up_takes_no_set_with_it() {
    let seen = Model::PLAIN.holds(|world| {
        let gate = Gate::new();
        let timed = gate.in_thread(world, 2, |gate| gate.event.wait(Some(Deadline::Ahead)));
        let waits = gate.in_thread(world, 3, |gate| assert!(gate.event.wait(None)));
        gate.event.set();
        world.deadline_passes();
        match timed.join() {
            Some(true) => gate.event.set(),
            _ => world.seen.timeouts.add(),
        }
        waits.join();
        assert!(!gate.event.is_set());
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
        let gate = Gate::new();
        gate.event.set();
        gate.event.set();
        let takers = [2, 3].map(|tid| gate.in_thread(world, tid, |gate| gate.event.take()));
        let taken = takers.map(|taker| taker.join().expect("no thread is killed"));
        assert!(taken[0] != taken[1]);
    });
}

/// Threads 2 and 3 wait, and each sets the event again after its wait. Thread 2 may be killed. If
/// it was killed and the event is not set, the first thread sets the event. With `naps_end`, the
/// recheck timers end after the death.
pub fn a_waiter_is_killed(world: &Rc<World>, naps_end: bool) {
    let gate = Gate::new();
    let waiters = [2, 3].map(|tid| {
        gate.in_thread(world, tid, |gate| {
            assert!(gate.event.wait(None));
            gate.event.set();
        })
    });
    gate.event.set();
    let [killed, waits] = waiters;
    if killed.join().is_none() {
        if naps_end {
            world.naps_end();
        }
        if !gate.event.is_set() {
            gate.event.set();
        }
    }
    waits.join();
}

/// Three threads, two preemptions. A waiter is killed at each of its steps.
#[test]
fn a_waiter_that_is_killed_strands_nobody() {
    let seen = Model::PLAIN.holds_if_killed(2, |world| a_waiter_is_killed(world, true));
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, two preemptions. A setter is killed at each of its steps.
#[test]
fn a_setter_that_is_killed_strands_nobody() {
    Model::PLAIN.holds_if_killed(2, |world| {
        let gate = Gate::new();
        let waits = gate.in_thread(world, 3, |gate| assert!(gate.event.wait(None)));
        let sets = gate.in_thread(world, 2, |gate| gate.event.set());
        if sets.join().is_none() {
            world.naps_end();
            gate.event.set();
        }
        waits.join();
    });
}
