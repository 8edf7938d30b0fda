//! Slots that their owners keep for life, and that other threads watch.

use crate::model::Model;
use crate::raw::multi::barrier::Barrier;
use crate::raw::multi::lock_set::LockSet;
use crate::raw::multi::member_slot::{MemberSlot, MemberState, watch};
use crate::raw::outcome::{Acquired, WaitMode};
use crate::raw::robust::Robust;
use crate::sys::{Deadline, Joins, World, current_thread, futex_wake_clearing, step};
use loom::cell::UnsafeCell;
use std::rc::Rc;

/// Slots, and a barrier, a queue lock and data for their owners.
pub struct Group {
    pub slots: Vec<MemberSlot>,
    pub barrier: Barrier,
    queue_lock: Robust,
    /// What each party writes before it arrives. Loom panics if a read is not ordered with it.
    pub written: Vec<UnsafeCell<u32>>,
}

impl Group {
    pub fn new(world: &Rc<World>, count: usize) -> Rc<Self> {
        let group = Rc::new(Group {
            slots: (0..count).map(|_| MemberSlot::new()).collect(),
            barrier: Barrier::new(),
            queue_lock: Robust::new(),
            written: (0..count).map(|_| UnsafeCell::new(0)).collect(),
        });
        // SAFETY: no thread uses it yet, and `World` keeps it at its address until the run ends.
        unsafe { group.queue_lock.init() };
        world.map(&group, &group.queue_lock);
        for slot in &group.slots {
            // SAFETY: as above.
            unsafe { slot.init() };
            world.map(&group, AsRef::<Robust>::as_ref(slot));
        }
        group
    }

    pub fn in_thread<T: 'static>(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&Group) -> T + 'static,
    ) -> Joins<T> {
        let group = self.clone();
        world.spawn(tid, move || body(&group))
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
pub type Watch = fn(&Group) -> usize;

fn watch_as_library(group: &Group) -> usize {
    watch(&group.slots, None, Some(&group.queue_lock), None, || {
        group.abandoned()
    })
    .expect("the slot is abandoned")
}

/// Threads 3 and 4 watch two slots. Thread 2 dies while it owns one of them, or is killed before.
pub fn two_watch_a_worker_die(world: &Rc<World>, watch: Watch) {
    let group = Group::new(world, 2);
    let watchers = [3, 4].map(|tid| group.in_thread(world, tid, watch));
    let dies = group.in_thread(world, 2, |group| {
        group.register(1);
        step();
        // Lets the others fall asleep. This switch costs no preemption.
        loom::thread::yield_now();
    });
    dies.join();
    if group.abandoned().is_none() {
        // Thread 2 was killed before it had the slot. Thread 5 takes the slot and dies instead.
        group.in_thread(world, 5, |group| group.register(1)).join();
    }
    for watcher in watchers {
        assert_eq!(watcher.join().expect("only thread 2 may be killed"), 1);
    }
    let MemberState::Abandoned(_) = group.slots[1].state() else {
        panic!("another thread has taken the slot");
    };
}

const ONE_PREEMPTION: Model = Model {
    preemptions: 1,
    ..Model::PLAIN
};

/// Two threads, two preemptions. One thread has died as the owner of the slot. The next owner is
/// named once it registers. Its registration also sets `WAITERS`, which the lock clears if it
/// restores a mark and finds no sleeper. From then on the kernel wakes a watcher for the death of
/// the new owner too.
#[test]
fn registration_in_an_abandoned_slot_names_the_owner_and_sets_waiters() {
    Model::PLAIN.holds(|world| {
        let group = Group::new(world, 1);
        group.in_thread(world, 2, |group| group.register(0)).join();
        let slot = &group.slots[0];
        let MemberState::Abandoned(dead) = slot.state() else {
            panic!("its owner has ended");
        };
        let (word, _) = slot.expected_word();
        futex_wake_clearing(word, 31);
        let taken = slot.acquire(current_thread(), Some(Deadline::now()));
        assert!(taken.is_ok_and(Acquired::owner_died));
        assert_eq!(slot.state(), MemberState::Occupied(None));
        assert_eq!(slot.register(current_thread()), dead);
        assert_eq!(
            slot.state(),
            MemberState::Occupied(Some(current_thread().id()))
        );
        let (_, word) = slot.expected_word();
        assert_eq!(word, current_thread().tid() | 1 << 31);
        group.release(0);
        assert_eq!(slot.state(), MemberState::Free);
    });
}

/// Four threads, one preemption. The kernel wakes only one watcher.
#[test]
fn a_death_wakes_every_watcher() {
    let seen = ONE_PREEMPTION.holds(|world| two_watch_a_worker_die(world, watch_as_library));
    assert!(seen.sleeps.get() > 0);
}

/// Four threads and a later one, one preemption. The worker is killed at each of its steps.
#[test]
fn a_death_at_any_step_wakes_every_watcher() {
    let seen =
        ONE_PREEMPTION.holds_if_killed(2, |world| two_watch_a_worker_die(world, watch_as_library));
    assert!(seen.sleeps.get() > 0 && seen.kills.get() > 0);
}

/// Four threads, one preemption. One waits for a slot, and another watches it. The owner leaves the
/// slot, and is killed at each step of that. If the watcher receives the wake, the waiter still
/// gets the slot.
#[test]
fn a_waiter_gets_the_slot_while_another_thread_watches_it() {
    let seen = ONE_PREEMPTION.holds_if_killed(2, |world| {
        let group = Group::new(world, 1);
        let watches = group.in_thread(world, 3, |group| {
            let abandoned = watch(
                &group.slots,
                None,
                Some(&group.queue_lock),
                Some(Deadline::Ahead),
                || group.abandoned(),
            );
            assert!(matches!(abandoned, Ok(0) | Err(_)));
        });
        let leaves = group.in_thread(world, 2, |group| {
            let taken = group.slots[0].acquire(current_thread(), Some(Deadline::now()));
            if taken.is_ok() {
                group.slots[0].register(current_thread());
                loom::thread::yield_now();
                group.release(0);
            }
        });
        let waits = group.in_thread(world, 4, |group| {
            let lock_set = LockSet {
                words: &group.slots,
                queue_lock: &group.queue_lock,
            };
            let taken = lock_set.acquire(current_thread(), 0, WaitMode::Until(None));
            assert!(taken.is_ok());
            group.slots[0].register(current_thread());
            group.release(0);
        });
        leaves.join();
        waits.join().expect("only thread 2 may be killed");
        world.deadline_passes();
        watches.join();
    });
    assert!(seen.sleeps.get() > 0);
}

const UNMARKED: Model = Model {
    kernel_marks: false,
    ..ONE_PREEMPTION
};

/// Three threads, one preemption. The kernel marks no slot. A watcher finds the death when its
/// recheck timer ends.
#[test]
fn a_watcher_finds_an_unmarked_death_when_its_recheck_timer_expires() {
    let seen = UNMARKED.holds(|world| {
        let group = Group::new(world, 2);
        let watches = group.in_thread(world, 3, watch_as_library);
        group.in_thread(world, 2, |group| group.register(1)).join();
        world.expire_recheck_timers();
        assert_eq!(watches.join(), Some(1));
    });
    assert!(seen.sleeps.get() > 0);
}
