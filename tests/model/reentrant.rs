//! A lock that its holder may acquire again: it excludes the others until the last release.

use crate::model::Model;
use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::reentrant::Reentrant;
use crate::sys::{Joins, World, current_thread, join_all, step};
use loom::cell::UnsafeCell;
use std::rc::Rc;

/// A reentrant lock and its data.
pub struct Room {
    lock: Reentrant,
    /// Loom panics where two threads access it without an order between them.
    data: UnsafeCell<u32>,
}

impl Room {
    fn place(world: &Rc<World>) -> Rc<Self> {
        let room = Rc::new(Room {
            lock: Reentrant::new(),
            data: UnsafeCell::new(0),
        });
        world.map(&room, &room.lock);
        // SAFETY: nobody uses it yet, and the world keeps it in its place.
        unsafe { room.lock.init() };
        room
    }

    fn in_thread(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&World, &Room) + 'static,
    ) -> Joins<()> {
        let (here, room) = (world.clone(), self.clone());
        world.spawn(tid, move || body(&here, &room))
    }

    fn use_data(&self) {
        // SAFETY: loom panics before it calls the closure where another access is not ordered with this one.
        self.data.with_mut(|data| unsafe { *data += 1 });
    }

    /// Acquires it, and once more inside. A death is told to the first of the two, exactly once.
    pub fn twice(&self, world: &World, inner_release: fn(&Room)) {
        let acquired = self.lock.acquire(current_thread(), WaitMode::Until(None));
        let acquired = acquired.expect("a lock that nobody keeps is acquired");
        assert_eq!(
            acquired == Acquired::OwnerDied,
            world.take_tidings(&self.lock)
        );
        if acquired == Acquired::OwnerDied {
            world.seen.deaths_told.add();
        }
        assert_eq!(self.lock.depth(), 1);
        self.use_data();
        let again = self.lock.acquire(current_thread(), WaitMode::Try);
        assert_eq!((again, self.lock.depth()), (Ok(Acquired::Released), 2));
        inner_release(self);
        step();
        self.use_data();
        self.release();
    }

    fn release(&self) {
        // SAFETY: called by who holds the lock.
        unsafe { self.lock.release(current_thread()) };
    }
}

/// So many threads acquire it, each twice.
pub fn lockers(world: &Rc<World>, threads: u32, inner_release: fn(&Room)) {
    let room = Room::place(world);
    let lockers = (2..2 + threads).map(|tid| {
        room.in_thread(world, tid, move |world, room| {
            room.twice(world, inner_release)
        })
    });
    let lockers: Vec<_> = lockers.collect();
    join_all(lockers);
    room.twice(world, inner_release);
}

/// Three threads, two preemptions.
#[test]
fn the_others_wait_for_the_last_release() {
    let seen = Model::PLAIN.holds(|world| lockers(world, 2, Room::release));
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, two preemptions; one killed at each of its steps, at each depth.
#[test]
fn a_death_at_any_depth_is_told_once_and_leaves_the_lock_at_none() {
    let seen = Model::PLAIN.holds_if_killed(2, |world| lockers(world, 2, Room::release));
    assert!(seen.deaths_told.get() > 0);
}

/// Two threads, two preemptions: who is not the holder is refused.
#[test]
fn another_thread_is_refused_at_every_depth() {
    Model::PLAIN.holds(|world| {
        let room = Room::place(world);
        assert_eq!(
            room.lock.acquire(current_thread(), WaitMode::Try),
            Ok(Acquired::Released)
        );
        assert_eq!(
            room.lock.acquire(current_thread(), WaitMode::Try),
            Ok(Acquired::Released)
        );
        room.release();
        let tries = room.in_thread(world, 2, |_, room| {
            let outcome = room.lock.acquire(current_thread(), WaitMode::Try);
            assert_eq!(outcome, Err(AcquireError::WouldBlock));
        });
        tries.join();
        room.release();
        room.in_thread(world, 3, |world, room| room.twice(world, Room::release))
            .join();
    });
}

/// Releases the lock itself where only one acquisition ends.
pub fn release_at_once(room: &Room) {
    // SAFETY: none: the outer guard goes on.
    unsafe { room.lock.lock().unlock(current_thread()) };
}
