//! Slots that their owners keep for life, and that other threads watch.

use crate::model::Model;
use crate::raw::multi::barrier::Barrier;
use crate::raw::multi::lock_set::{LockSet, MultiError};
use crate::raw::multi::member_slot::{MemberSlot, MemberState, watch};
use crate::raw::outcome::{Acquired, WaitMode};
use crate::raw::robust::Robust;
use crate::sys::{Deadline, Joins, World, current_thread, futex_wake_clearing, step};
use loom::cell::UnsafeCell;
use std::rc::Rc;

/// Slots, and a barrier, a queue lock and data for their owners.
pub struct Hall {
    pub slots: Vec<MemberSlot>,
    pub barrier: Barrier,
    queue_lock: Robust,
    /// What each party writes before it arrives. Loom panics if a read is not ordered with it.
    pub news: Vec<UnsafeCell<u32>>,
}

impl Hall {
    pub fn new(world: &Rc<World>, count: usize) -> Rc<Self> {
        let hall = Rc::new(Hall {
            slots: (0..count).map(|_| MemberSlot::new()).collect(),
            barrier: Barrier::new(),
            queue_lock: Robust::new(),
            news: (0..count).map(|_| UnsafeCell::new(0)).collect(),
        });
        // SAFETY: no thread uses it yet, and `World` keeps it at its address until the run ends.
        unsafe { hall.queue_lock.init() };
        world.map(&hall, &hall.queue_lock);
        for slot in &hall.slots {
            // SAFETY: as above.
            unsafe { slot.init() };
            world.map(&hall, AsRef::<Robust>::as_ref(slot));
        }
        hall
    }

    pub fn in_thread<T: 'static>(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&Hall) -> T + 'static,
    ) -> Joins<T> {
        let hall = self.clone();
        world.spawn(tid, move || body(&hall))
    }

    /// Takes a slot for which no other thread competes, and registers as its owner.
    pub fn register(&self, number: usize) {
        let taken = self.slots[number].acquire(current_thread(), Some(Deadline::now()));
        assert_eq!(taken, Ok(Acquired::Released));
        self.slots[number].register(current_thread());
    }

    pub fn release(&self, number: usize) {
        // SAFETY: the caller owns the slot.
        unsafe { self.slots[number].release(current_thread()) }
    }

    pub fn abandoned(&self) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| matches!(slot.state(), MemberState::Abandoned(_)))
    }
}

/// How a watcher waits for an abandoned slot. Returns the number of that slot.
pub type Watch = fn(&Hall) -> usize;

fn as_the_library_does(hall: &Hall) -> usize {
    watch(&hall.slots, None, Some(&hall.queue_lock), None, || {
        hall.abandoned()
    })
    .expect("the slot is abandoned")
}

/// Threads 3 and 4 watch two slots. Thread 2 dies while it owns one of them, or is killed before.
pub fn two_watch_a_worker_die(world: &Rc<World>, watch: Watch) {
    let hall = Hall::new(world, 2);
    let watchers = [3, 4].map(|tid| hall.in_thread(world, tid, watch));
    let dies = hall.in_thread(world, 2, |hall| {
        hall.register(1);
        step();
        // Lets the others fall asleep. This switch costs no preemption.
        loom::thread::yield_now();
    });
    dies.join();
    if hall.abandoned().is_none() {
        // Thread 2 was killed before it had the slot. Thread 5 takes the slot and dies instead.
        hall.in_thread(world, 5, |hall| hall.register(1)).join();
    }
    for watcher in watchers {
        assert_eq!(watcher.join().expect("only thread 2 may be killed"), 1);
    }
    let MemberState::Abandoned(_) = hall.slots[1].state() else {
        panic!("another thread has taken the slot");
    };
}

const ONE_SWITCH: Model = Model {
    preemptions: 1,
    ..Model::PLAIN
};

/// Two threads, two preemptions. One thread has died as the owner of the slot. The next owner is
/// named once it registers. Its registration also sets `WAITERS`, which the lock clears if it
/// restores a mark and finds no sleeper. From then on the kernel wakes a watcher for the death of
/// the new owner too.
#[test]
fn who_takes_the_slot_of_a_dead_one_is_named_and_announced_when_it_sits_down() {
    Model::PLAIN.holds(|world| {
        let hall = Hall::new(world, 1);
        hall.in_thread(world, 2, |hall| hall.register(0)).join();
        let slot = &hall.slots[0];
        let MemberState::Abandoned(dead) = slot.state() else {
            panic!("its owner has ended");
        };
        let (word, _) = slot.expected_word();
        futex_wake_clearing(word, 31);
        let taken = slot.acquire(current_thread(), Some(Deadline::now()));
        assert_eq!(taken, Ok(Acquired::OwnerDied));
        assert_eq!(slot.state(), MemberState::Occupied(None));
        assert_eq!(slot.register(current_thread()), dead);
        assert_eq!(
            slot.state(),
            MemberState::Occupied(Some(current_thread().id()))
        );
        let (_, word) = slot.expected_word();
        assert_eq!(word, current_thread().tid() | 1 << 31);
        hall.release(0);
        assert_eq!(slot.state(), MemberState::Free);
    });
}

/// Four threads, one preemption. The kernel wakes only one watcher.
#[test]
fn a_death_wakes_all_who_watch() {
    let seen = ONE_SWITCH.holds(|world| two_watch_a_worker_die(world, as_the_library_does));
    assert!(seen.sleeps.get() > 0);
}

/// Four threads and a later one, one preemption. The worker is killed at each of its steps.
#[test]
fn a_death_at_any_step_wakes_all_who_watch() {
    let seen = ONE_SWITCH.holds_if_killed(2, |world| {
        two_watch_a_worker_die(world, as_the_library_does)
    });
    assert!(seen.sleeps.get() > 0 && seen.kills.get() > 0);
}

/// Four threads, one preemption. One waits for a slot, and another watches it. The owner leaves the
/// slot, and is killed at each step of that. If the watcher receives the wake, the waiter still
/// gets the slot.
#[test]
fn who_waits_for_a_slot_gets_it_beside_a_watcher() {
    let seen = ONE_SWITCH.holds_if_killed(2, |world| {
        let hall = Hall::new(world, 1);
        let watches = hall.in_thread(world, 3, |hall| {
            let abandoned = watch(
                &hall.slots,
                None,
                Some(&hall.queue_lock),
                Some(Deadline::Ahead),
                || hall.abandoned(),
            );
            assert!(matches!(abandoned, Ok(0) | Err(MultiError::Acquire(_))));
        });
        let leaves = hall.in_thread(world, 2, |hall| {
            let taken = hall.slots[0].acquire(current_thread(), Some(Deadline::now()));
            if taken.is_ok() {
                hall.slots[0].register(current_thread());
                loom::thread::yield_now();
                hall.release(0);
            }
        });
        let waits = hall.in_thread(world, 4, |hall| {
            let row = LockSet {
                words: &hall.slots,
                queue_lock: &hall.queue_lock,
            };
            let taken = row.acquire(current_thread(), 0, WaitMode::Until(None));
            assert!(taken.is_ok());
            hall.slots[0].register(current_thread());
            hall.release(0);
        });
        leaves.join();
        waits.join().expect("only thread 2 may be killed");
        world.deadline_passes();
        watches.join();
    });
    assert!(seen.sleeps.get() > 0);
}

const LIST_IS_LOST: Model = Model {
    kernel_marks: false,
    ..ONE_SWITCH
};

/// Three threads, one preemption. The kernel marks no slot. A watcher finds the death when its
/// recheck timer ends.
#[test]
fn a_watcher_finds_an_unmarked_death_when_its_nap_ends() {
    let seen = LIST_IS_LOST.holds(|world| {
        let hall = Hall::new(world, 2);
        let watches = hall.in_thread(world, 3, as_the_library_does);
        hall.in_thread(world, 2, |hall| hall.register(1)).join();
        world.naps_end();
        assert_eq!(watches.join(), Some(1));
    });
    assert!(seen.sleeps.get() > 0);
}
