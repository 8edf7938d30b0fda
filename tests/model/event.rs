//! The event: a set wakes every waiter, and no set is missed.

use crate::model::{Count, Model};
use crate::raw::event::Event;
use crate::sys::{Deadline, Joins, World, join_all};
use loom::cell::UnsafeCell;
use std::rc::Rc;
use std::sync::Arc;

/// An event, and the data that a set publishes.
pub struct Shared {
    pub event: Event,
    /// Loom panics if it is read and written without an order between the two.
    data: UnsafeCell<u32>,
}

impl Shared {
    pub fn new() -> Rc<Self> {
        Rc::new(Shared {
            event: Event::new(),
            data: UnsafeCell::new(0),
        })
    }

    fn publish(&self) {
        // SAFETY: loom panics before it calls the closure if a read is not ordered with this write.
        self.data.with_mut(|data| unsafe { *data = 1 });
    }

    fn read(&self) {
        // SAFETY: as above.
        assert_eq!(self.data.with(|data| unsafe { *data }), 1);
    }

    /// Starts a thread, the only one of its process.
    fn in_thread<T: 'static>(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&Shared) -> T + 'static,
    ) -> Joins<T> {
        let shared = self.clone();
        world.spawn(tid, move || body(&shared))
    }
}

/// Threads 2 and 3 wait for the event. The first thread publishes the data, and then sets the event
/// with `set`.
pub fn two_wait_for_the_event(world: &Rc<World>, set: fn(&Event)) {
    let shared = Shared::new();
    let waiters = [2, 3].map(|tid| {
        shared.in_thread(world, tid, |shared| {
            assert!(shared.event.wait(None));
            shared.read();
        })
    });
    shared.publish();
    set(&shared.event);
    join_all(waiters);
    assert!(shared.event.is_set());
}

/// Three threads, three preemptions.
#[test]
fn a_set_wakes_every_waiter_and_publishes_earlier_writes() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| two_wait_for_the_event(world, Event::set));
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, three preemptions. The event is reset as soon as it is set. Both waiters return
/// all the same.
#[test]
fn a_set_that_is_reset_at_once_still_ends_the_waits() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let shared = Shared::new();
        let waiters = [2, 3].map(|tid| {
            shared.in_thread(world, tid, |shared| {
                assert!(shared.event.wait_past(0, None));
                shared.read();
            })
        });
        shared.publish();
        shared.event.set();
        assert!(shared.event.reset());
        join_all(waiters);
        assert!(!shared.event.is_set());
    });
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, three preemptions. Two threads set the event, and the first thread waits for one
/// set after the other.
#[test]
fn every_set_is_counted() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let shared = Shared::new();
        let setters = [2, 3].map(|tid| shared.in_thread(world, tid, |shared| shared.event.set()));
        for seen in 0..2 {
            assert!(shared.event.wait_past(seen, None));
            if shared.event.sequence() == 2 {
                break;
            }
        }
        join_all(setters);
        assert_eq!(shared.event.sequence(), 2);
    });
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, three preemptions. Two threads reset the event. Only one of the resets returns
/// true.
#[test]
fn only_one_of_two_resets_clears_a_set() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let shared = Shared::new();
        shared.event.set();
        let resets = [2, 3].map(|tid| shared.in_thread(world, tid, |shared| shared.event.reset()));
        let taken = resets.map(|reset| reset.join().expect("no thread is killed"));
        assert!(taken[0] != taken[1]);
    });
    assert_eq!(seen.idle_wakes.get(), 0, "a wake found no sleeper");
}

/// Three threads, three preemptions. Two threads check the event once, without waiting. A thread
/// that sees the event set, or sees the set counted, also sees what was published before.
#[test]
fn a_check_that_sees_a_set_also_sees_earlier_writes() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let successes: Arc<[Count; 2]> = Arc::default();
    let counts = successes.clone();
    model.holds(move |world| {
        let shared = Shared::new();
        let checks: [fn(&Event) -> bool; 2] = [Event::is_set, |event| event.sequence() == 1];
        let checkers: Vec<_> = (2..)
            .zip(checks)
            .map(|(tid, check)| {
                shared.in_thread(world, tid, move |shared| {
                    let is_set = check(&shared.event);
                    if is_set {
                        shared.read();
                    }
                    is_set
                })
            })
            .collect();
        shared.publish();
        shared.event.set();
        for (is_set, count) in join_all(checkers).into_iter().zip(&*counts) {
            if is_set == Some(true) {
                count.add();
            }
        }
    });
    assert!(successes.iter().all(|count| count.get() > 0));
}

/// Four threads, two preemptions. Two threads wait, one of them with a deadline. The deadline
/// passes while another thread sets the event.
#[test]
fn a_waiter_that_times_out_strands_no_thread() {
    let seen = Model::PLAIN.holds(|world| {
        let shared = Shared::new();
        let timed = shared.in_thread(world, 2, |shared| {
            let is_set = shared.event.wait(Some(Deadline::Ahead));
            if is_set {
                shared.read();
            }
            is_set
        });
        let waits = shared.in_thread(world, 3, |shared| {
            assert!(shared.event.wait(None));
            shared.read();
        });
        let sets = shared.in_thread(world, 4, |shared| {
            shared.publish();
            shared.event.set();
        });
        world.deadline_passes();
        waits.join();
        sets.join();
        if timed.join() == Some(false) {
            world.seen.timeouts.add();
        }
    });
    assert!(seen.timeouts.get() > 0 && seen.timeouts.get() < seen.runs.get());
}

/// Thread 2 sets the event and may be killed, and thread 3 waits. If the event is not set then, the
/// first thread sets it. With `timers_expire`, the recheck timers end after the death.
pub fn a_setter_is_killed(world: &Rc<World>, timers_expire: bool) {
    let shared = Shared::new();
    let waits = shared.in_thread(world, 3, |shared| assert!(shared.event.wait(None)));
    shared
        .in_thread(world, 2, |shared| shared.event.set())
        .join();
    if timers_expire {
        world.expire_recheck_timers();
    }
    if !shared.event.is_set() {
        shared.event.set();
    }
    waits.join();
}

/// Three threads, three preemptions. The setter is killed at each of its steps. If it dies between
/// its change and its wake, the recheck timer ends the sleep of the waiter.
#[test]
fn a_setter_killed_before_its_wake_strands_no_thread() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| a_setter_is_killed(world, true));
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, three preemptions. One waiter is killed at each of its steps.
#[test]
fn a_killed_waiter_strands_no_thread() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    model.holds_if_killed(2, |world| two_wait_for_the_event(world, Event::set));
}
