//! Permits: several robust words, any one of which a thread may take. The queue head sleeps on all
//! of them.

use crate::model::Model;
use crate::raw::event::Event;
use crate::raw::multi::lock_set::LockSet;
use crate::raw::multi::wait_any::wait_any;
use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::Robust;
use crate::sys::{Deadline, Joins, World, current_thread, join_all, step};
use loom::cell::UnsafeCell;
use std::rc::Rc;

/// A permit, and the data that its owners use. The word is its first field.
struct PermitWord {
    raw: Robust,
    /// Loom panics if two threads access it without an order between them.
    data: UnsafeCell<u32>,
}

impl AsRef<Robust> for PermitWord {
    fn as_ref(&self) -> &Robust {
        &self.raw
    }
}

/// Permits, and how threads acquire them.
pub struct Permits {
    permits: Vec<PermitWord>,
    queue_lock: Robust,
    /// How a thread acquires a permit if the first permit is not free.
    acquire: Acquire,
}

pub type Acquire = fn(&Permits, WaitMode) -> Result<(usize, Acquired), AcquireError>;

/// Acquires a permit as the library does.
fn by_lock_set(permits: &Permits, mode: WaitMode) -> Result<(usize, Acquired), AcquireError> {
    let lock_set = LockSet {
        words: &permits.permits,
        queue_lock: &permits.queue_lock,
    };
    lock_set.acquire(current_thread(), 0, mode)
}

impl Permits {
    fn place(world: &Rc<World>, count: usize) -> Rc<Self> {
        Self::place_with(world, count, by_lock_set)
    }

    fn place_with(world: &Rc<World>, count: usize, acquire: Acquire) -> Rc<Self> {
        let permit = |_| PermitWord {
            raw: Robust::new(),
            data: UnsafeCell::new(0),
        };
        let permits = Rc::new(Permits {
            permits: (0..count).map(permit).collect(),
            queue_lock: Robust::new(),
            acquire,
        });
        for word in permits
            .permits
            .iter()
            .map(AsRef::<Robust>::as_ref)
            .chain([&permits.queue_lock])
        {
            // SAFETY: no thread uses it yet, and `World` keeps it at its address until the run
            // ends.
            unsafe { word.init() };
            world.map(&permits, word);
        }
        permits
    }

    /// Returns the locks. The first field of each is its word.
    pub fn words(&self) -> impl Iterator<Item = &Robust> {
        self.permits.iter().map(AsRef::<Robust>::as_ref)
    }

    fn in_thread<T: 'static>(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&World, &Permits) -> T + 'static,
    ) -> Joins<T> {
        let (here, permits) = (world.clone(), self.clone());
        world.spawn(tid, move || body(&here, &permits))
    }

    /// Acquires a permit as `SharedPermits` does, and returns its number.
    fn acquire(&self, world: &World, mode: WaitMode) -> Result<usize, AcquireError> {
        let current = current_thread();
        let (number, acquired) = match self.permits[0].raw.try_acquire_fast(current) {
            true => (0, Acquired::Released),
            false => (self.acquire)(self, mode)?,
        };
        let died = world.take_unreported_death(&self.permits[number].raw);
        assert_eq!(acquired.owner_died(), died, "a death is reported once");
        if died {
            world.seen.reported_deaths.add();
        }
        step();
        // SAFETY: loom panics before it calls the closure if another access is not ordered with
        // this one.
        self.permits[number]
            .data
            .with_mut(|data| unsafe { *data += 1 });
        Ok(number)
    }

    fn release(&self, number: usize) {
        // SAFETY: the caller holds the permit.
        unsafe { self.permits[number].raw.unlock(current_thread()) }
    }

    fn section(&self, world: &World) {
        let number = self
            .acquire(world, WaitMode::Until(None))
            .expect("a permit is released at some point");
        loom::thread::yield_now();
        self.release(number);
    }

    /// Checks what must hold after all other threads have ended: every permit is available.
    fn are_at_rest(&self, world: &World) {
        let all: Vec<_> = self
            .permits
            .iter()
            .map(|_| {
                self.acquire(world, WaitMode::Try)
                    .expect("no thread holds a permit")
            })
            .collect();
        all.into_iter().for_each(|number| self.release(number));
    }
}

/// The first thread holds both permits, and releases them while threads 2 and 3 wait for one each.
/// Thread 2 keeps its permit until thread 3 has one too.
pub fn two_wait_for_two_permits(world: &Rc<World>, acquire: Acquire) {
    let permits = Permits::place_with(world, 2, acquire);
    let done = Rc::new(Event::new());
    let held = [0, 1].map(|_| permits.acquire(world, WaitMode::Try).expect("it is free"));
    let has_one = done.clone();
    let keeps = permits.in_thread(world, 2, move |world, permits| {
        let number = permits
            .acquire(world, WaitMode::Until(None))
            .expect("there is a permit for each");
        has_one.wait(None);
        permits.release(number);
    });
    let passes = permits.in_thread(world, 3, move |world, permits| {
        let number = permits
            .acquire(world, WaitMode::Until(None))
            .expect("there is a permit for each");
        done.set();
        permits.release(number);
    });
    // Lets both fall asleep. This switch costs no preemption.
    loom::thread::yield_now();
    held.into_iter().for_each(|number| permits.release(number));
    keeps.join();
    passes.join();
    permits.are_at_rest(world);
}

/// Three threads, two preemptions.
#[test]
fn both_waiters_get_one_of_two_released_permits() {
    let seen = Model::PLAIN.holds(|world| two_wait_for_two_permits(world, by_lock_set));
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, one preemption. One waiter is killed at each of its steps, also after it was
/// woken and before it has a permit.
#[test]
fn a_killed_waiter_consumes_no_wake_of_another() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| two_wait_for_two_permits(world, by_lock_set));
    assert!(seen.kills.get() > 0 && seen.sleeps.get() > 0);
}

/// Three threads, one preemption. The first thread holds one of two permits. Threads 2 and 3 take
/// turns with the other one. Thread 2 is killed at each of its steps. Another thread then gets its
/// permit, and receives the death.
#[test]
fn the_permit_of_a_killed_holder_goes_to_a_sleeper() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| {
        let permits = Permits::place(world, 2);
        let held = permits.acquire(world, WaitMode::Try).expect("it is free");
        let users = [2, 3]
            .map(|tid| permits.in_thread(world, tid, |world, permits| permits.section(world)));
        join_all(users);
        permits.release(held);
        permits.are_at_rest(world);
    });
    assert!(seen.reported_deaths.get() > 0 && seen.sleeps.get() > 0);
}

/// Three threads, two preemptions. One of two waiters has a deadline, which passes while a permit
/// is released. If it gives up, the other waiter still gets the permit.
#[test]
fn a_waiter_that_times_out_strands_no_thread() {
    let seen = Model::PLAIN.holds(|world| {
        let permits = Permits::place(world, 2);
        let held = [0, 1].map(|_| permits.acquire(world, WaitMode::Try).expect("it is free"));
        let timed = permits.in_thread(world, 2, |world, permits| {
            match permits.acquire(world, WaitMode::Until(Some(Deadline::Ahead))) {
                Ok(number) => permits.release(number),
                Err(missed) => {
                    assert_eq!(missed, AcquireError::TimedOut);
                    world.seen.timeouts.add();
                }
            }
        });
        let waits = permits.in_thread(world, 3, |world, permits| permits.section(world));
        permits.release(held[1]);
        world.deadline_passes();
        timed.join();
        waits.join();
        permits.release(held[0]);
        permits.are_at_rest(world);
    });
    assert!(seen.timeouts.get() > 0);
}

/// Three threads, two preemptions. One has ended with a permit, and its process lives. Another
/// thread does not get that permit, but the other one.
#[test]
fn a_permit_of_an_ended_thread_is_not_acquired_while_its_process_lives() {
    const PROCESS: u32 = 9;
    let seen = Model::PLAIN.holds(|world| {
        let permits = Permits::place(world, 2);
        world.keep_alive(PROCESS);
        let (here, there) = (world.clone(), permits.clone());
        let ends = move || {
            there
                .acquire(&here, WaitMode::Until(None))
                .expect("it is free")
        };
        let ended = world.spawn_in(PROCESS, 2, ends).join().expect("not killed");
        let waits = permits.in_thread(world, 3, move |world, permits| {
            let number = permits
                .acquire(world, WaitMode::Until(None))
                .expect("one is left");
            assert_ne!(number, ended);
            permits.release(number);
        });
        waits.join();
        let other = permits.acquire(world, WaitMode::Try).expect("one is left");
        assert_ne!(other, ended);
        world.end_process(PROCESS);
        let both = permits
            .acquire(world, WaitMode::Until(None))
            .expect("its process is gone");
        assert_eq!(both, ended);
        permits.release(both);
        permits.release(other);
    });
    assert_eq!(seen.reported_deaths.get(), seen.runs.get());
}

/// Two threads, two preemptions. One has ended with a permit, and its process lives. A waiter for
/// the other permit spins first. It does not check that process at each spin: a check takes tens of
/// microseconds for each thread of the process.
#[test]
fn a_spinning_waiter_does_not_check_a_process_at_each_spin() {
    const PROCESS: u32 = 9;
    let model = Model {
        spins: true,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let permits = Permits::place(world, 2);
        world.keep_alive(PROCESS);
        let (here, there) = (world.clone(), permits.clone());
        let ends = move || {
            there
                .acquire(&here, WaitMode::Until(None))
                .expect("it is free")
        };
        world.spawn_in(PROCESS, 2, ends).join().expect("not killed");
        let other = permits.acquire(world, WaitMode::Try).expect("one is left");
        world.deadline_passes();
        let missed = permits.acquire(world, WaitMode::Until(Some(Deadline::Ahead)));
        assert_eq!(missed, Err(AcquireError::TimedOut));
        permits.release(other);
        world.end_process(PROCESS);
    });
    // The timed waiter checks on its arrival, as the queue head, and at its end. One more check is
    // allowed to the thread that took the other permit before.
    assert!(seen.process_checks.get() <= 4 * seen.runs.get());
}

/// Four threads, three preemptions. One has ended with a permit, and its process is dying. The
/// queue head does not wait for that process alone, and takes another permit that is released
/// meanwhile. The permit of the dying process becomes available later.
#[test]
fn a_released_permit_is_acquired_while_another_holder_is_dying() {
    const PROCESS: u32 = 9;
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let permits = Permits::place(world, 2);
        world.keep_alive(PROCESS);
        let (here, there) = (world.clone(), permits.clone());
        let ends = move || {
            there
                .acquire(&here, WaitMode::Until(None))
                .expect("it is free")
        };
        let ended = world.spawn_in(PROCESS, 2, ends).join().expect("not killed");
        let other = permits.acquire(world, WaitMode::Try).expect("one is left");
        world.kill(PROCESS);
        let waits = permits.in_thread(world, 3, move |world, permits| {
            let number = permits
                .acquire(world, WaitMode::Until(None))
                .expect("one is released");
            assert_eq!(number, other);
            permits.release(number);
        });
        permits.release(other);
        waits.join();
        let other = permits.acquire(world, WaitMode::Try).expect("it is free");
        let waits = permits.in_thread(world, 4, move |world, permits| {
            let number = permits
                .acquire(world, WaitMode::Until(None))
                .expect("the process is gone at some point");
            assert_eq!(number, ended);
            permits.release(number);
        });
        world.end_process(PROCESS);
        world.expire_recheck_timers();
        waits.join();
        permits.release(other);
    });
    assert!(seen.sleeps.get() > 0);
    assert_eq!(seen.reported_deaths.get(), seen.runs.get());
}

/// Three threads, one preemption. One waits in the queue for a permit. Another only watches the
/// permits and an event. The watcher propagates a wake that was not for it to the queued thread.
#[test]
fn a_watcher_of_several_objects_consumes_no_wake_of_a_waiter() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let permits = Permits::place(world, 2);
        let event = Rc::new(Event::new());
        let held = [0, 1].map(|_| permits.acquire(world, WaitMode::Try).expect("it is free"));
        let never = event.clone();
        let watches = permits.in_thread(world, 2, move |_, permits| {
            let lock_set = LockSet {
                words: &permits.permits,
                queue_lock: &permits.queue_lock,
            };
            let ready = wait_any(&[&*never, &lock_set], Some(Deadline::Ahead));
            assert!(matches!(ready, Ok(1) | Err(AcquireError::TimedOut)));
        });
        let waits = permits.in_thread(world, 3, |world, permits| permits.section(world));
        loom::thread::yield_now();
        permits.release(held[0]);
        waits.join();
        world.deadline_passes();
        watches.join();
        permits.release(held[1]);
        permits.are_at_rest(world);
    });
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, two preemptions. Two threads watch an event and a permit. The event is set, and
/// both see it.
#[test]
fn watchers_of_several_objects_see_an_event() {
    let seen = Model::PLAIN.holds(|world| {
        let permits = Permits::place(world, 1);
        let held = permits.acquire(world, WaitMode::Try).expect("it is free");
        let event = Rc::new(Event::new());
        let watchers = [2, 3].map(|tid| {
            let event = event.clone();
            permits.in_thread(world, tid, move |_, permits| {
                let lock_set = LockSet {
                    words: &permits.permits,
                    queue_lock: &permits.queue_lock,
                };
                assert_eq!(wait_any(&[&lock_set, &*event], None), Ok(1));
            })
        });
        event.set();
        join_all(watchers);
        permits.release(held);
    });
    assert!(seen.sleeps.get() > 0);
}

/// Four threads, one preemption. The kernel marks no permit. Two threads wait for a permit. The
/// queue head finds the death when its recheck timer ends.
#[test]
fn a_waiter_finds_an_unmarked_death_when_its_recheck_timer_expires() {
    let model = Model {
        preemptions: 1,
        kernel_marks: false,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| {
        let permits = Permits::place(world, 2);
        let kept = permits.acquire(world, WaitMode::Try).expect("it is free");
        let dies = permits.in_thread(world, 2, |world, permits| {
            permits
                .acquire(world, WaitMode::Until(None))
                .expect("it is free");
        });
        let waiters = [3, 4]
            .map(|tid| permits.in_thread(world, tid, |world, permits| permits.section(world)));
        dies.join();
        world.expire_recheck_timers();
        join_all(waiters);
        permits.release(kept);
        permits.are_at_rest(world);
    });
    assert_eq!(seen.reported_deaths.get(), seen.runs.get());
    assert!(seen.sleeps.get() > 0);
}
