//! The event: a set wakes every waiter, and no set is missed.

use crate::model::{Count, Model};
use crate::raw::event::Event;
use crate::sys::{Deadline, Joins, World, join_all};
use loom::cell::UnsafeCell;
use std::rc::Rc;
use std::sync::Arc;

/// An event, and the data that a set publishes.
pub struct Bell {
    pub event: Event,
    /// Loom panics if it is read and written without an order between the two.
    news: UnsafeCell<u32>,
}

impl Bell {
    pub fn new() -> Rc<Self> {
        Rc::new(Bell {
            event: Event::new(),
            news: UnsafeCell::new(0),
        })
    }

    fn publish(&self) {
        // SAFETY: loom panics before it calls the closure if a read is not ordered with this write.
        self.news.with_mut(|news| unsafe { *news = 1 });
    }

    fn read(&self) {
        // SAFETY: as above.
        assert_eq!(self.news.with(|news| unsafe { *news }), 1);
    }

    /// Starts a thread, the only one of its process.
    fn in_thread<T: 'static>(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&Bell) -> T + 'static,
    ) -> Joins<T> {
        let bell = self.clone();
        world.spawn(tid, move || body(&bell))
    }
}

/// Threads 2 and 3 wait for the event. The first thread publishes the data, and then sets the event
/// with `set`.
pub fn two_wait_for_news(world: &Rc<World>, set: fn(&Event)) {
    let bell = Bell::new();
    let waiters = [2, 3].map(|tid| {
        bell.in_thread(world, tid, |bell| {
            assert!(bell.event.wait(None));
            bell.read();
        })
    });
    bell.publish();
    set(&bell.event);
    join_all(waiters);
    assert!(bell.event.is_set());
}

/// Three threads, three preemptions.
#[test]
fn a_set_wakes_everybody_and_publishes_what_came_before() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| two_wait_for_news(world, Event::set));
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, three preemptions. The event is reset as soon as it is set. Both waiters return
/// all the same.
#[test]
fn a_set_that_is_reset_at_once_is_news_all_the_same() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let bell = Bell::new();
        let waiters = [2, 3].map(|tid| {
            bell.in_thread(world, tid, |bell| {
                assert!(bell.event.wait_past(0, None));
                bell.read();
            })
        });
        bell.publish();
        bell.event.set();
        assert!(bell.event.reset());
        join_all(waiters);
        assert!(!bell.event.is_set());
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
        let bell = Bell::new();
        let setters = [2, 3].map(|tid| bell.in_thread(world, tid, |bell| bell.event.set()));
        for seen in 0..2 {
            assert!(bell.event.wait_past(seen, None));
            if bell.event.sequence() == 2 {
                break;
            }
        }
        join_all(setters);
        assert_eq!(bell.event.sequence(), 2);
    });
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, three preemptions. Two threads reset the event. Only one of the resets returns
/// true.
#[test]
fn a_set_is_taken_away_once() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let bell = Bell::new();
        bell.event.set();
        let resets = [2, 3].map(|tid| bell.in_thread(world, tid, |bell| bell.event.reset()));
        let taken = resets.map(|reset| reset.join().expect("no thread is killed"));
        assert!(taken[0] != taken[1]);
    });
    assert_eq!(seen.idle_wakes.get(), 0, "a wake found no sleeper");
}

/// Three threads, three preemptions. Two threads check the event once, without waiting. A thread
/// that sees the event set, or sees the set counted, also sees what was published before.
#[test]
fn who_looks_without_waiting_sees_what_came_before() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let told: Arc<[Count; 2]> = Arc::default();
    let counts = told.clone();
    model.holds(move |world| {
        let bell = Bell::new();
        let looks: [fn(&Event) -> bool; 2] = [Event::is_set, |event| event.sequence() == 1];
        let lookers: Vec<_> = (2..)
            .zip(looks)
            .map(|(tid, look)| {
                bell.in_thread(world, tid, move |bell| {
                    let told = look(&bell.event);
                    if told {
                        bell.read();
                    }
                    told
                })
            })
            .collect();
        bell.publish();
        bell.event.set();
        for (told, count) in join_all(lookers).into_iter().zip(&*counts) {
            if told == Some(true) {
                count.add();
            }
        }
    });
    assert!(told.iter().all(|count| count.get() > 0));
}

/// Four threads, two preemptions. Two threads wait, one of them with a deadline. The deadline
/// passes while another thread sets the event.
#[test]
fn a_waiter_that_gives_up_strands_nobody() {
    let seen = Model::PLAIN.holds(|world| {
        let bell = Bell::new();
        let timed = bell.in_thread(world, 2, |bell| {
            let told = bell.event.wait(Some(Deadline::Ahead));
            if told {
                bell.read();
            }
            told
        });
        let waits = bell.in_thread(world, 3, |bell| {
            assert!(bell.event.wait(None));
            bell.read();
        });
        let sets = bell.in_thread(world, 4, |bell| {
            bell.publish();
            bell.event.set();
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
/// first thread sets it. With `naps_end`, the recheck timers end after the death.
pub fn a_setter_is_killed(world: &Rc<World>, naps_end: bool) {
    let bell = Bell::new();
    let waits = bell.in_thread(world, 3, |bell| assert!(bell.event.wait(None)));
    bell.in_thread(world, 2, |bell| bell.event.set()).join();
    if naps_end {
        world.naps_end();
    }
    if !bell.event.is_set() {
        bell.event.set();
    }
    waits.join();
}

/// Three threads, three preemptions. The setter is killed at each of its steps. If it dies between
/// its change and its wake, the recheck timer ends the sleep of the waiter.
#[test]
fn a_setter_that_is_killed_before_its_wake_strands_nobody() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| a_setter_is_killed(world, true));
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, three preemptions. One waiter is killed at each of its steps.
#[test]
fn a_waiter_that_is_killed_strands_nobody() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    model.holds_if_killed(2, |world| two_wait_for_news(world, Event::set));
}
