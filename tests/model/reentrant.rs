//! A lock that its owner may acquire again. It excludes the others until the last release.

use crate::model::Model;
use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::reentrant::Reentrant;
use crate::sys::{Joins, World, current_thread, join_all, step};
use loom::cell::UnsafeCell;
use std::rc::Rc;

/// A reentrant lock and its data.
pub struct Lock {
    raw: Reentrant,
    /// Loom panics if two threads access it without an order between them.
    data: UnsafeCell<u32>,
}

impl Lock {
    fn place(world: &Rc<World>) -> Rc<Self> {
        let lock = Rc::new(Lock {
            raw: Reentrant::new(),
            data: UnsafeCell::new(0),
        });
        world.map(&lock, &lock.raw);
        // SAFETY: no thread uses it yet, and `World` keeps it at its address until the run ends.
        unsafe { lock.raw.init() };
        lock
    }

    fn in_thread(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&World, &Lock) + 'static,
    ) -> Joins<()> {
        let (here, lock) = (world.clone(), self.clone());
        world.spawn(tid, move || body(&here, &lock))
    }

    fn use_data(&self) {
        // SAFETY: loom panics before it calls the closure if another access is not ordered with
        // this one.
        self.data.with_mut(|data| unsafe { *data += 1 });
    }

    /// Acquires the lock, and acquires it again inside. A death is reported to the first
    /// acquisition, exactly once.
    pub fn twice(&self, world: &World, inner_release: fn(&Lock)) {
        let acquired = self.raw.acquire(current_thread(), WaitMode::Until(None));
        let acquired = acquired.expect("the lock is released at some point");
        assert_eq!(
            acquired.owner_died(),
            world.take_unreported_death(&self.raw)
        );
        if acquired.owner_died() {
            world.seen.reported_deaths.add();
        }
        assert_eq!(self.raw.depth(), 1);
        self.use_data();
        let again = self.raw.acquire(current_thread(), WaitMode::Try);
        assert_eq!((again, self.raw.depth()), (Ok(Acquired::Released), 2));
        inner_release(self);
        step();
        self.use_data();
        self.release();
    }

    fn release(&self) {
        // SAFETY: the caller holds the lock.
        unsafe { self.raw.release(current_thread()) };
    }
}

/// `threads` threads acquire the lock twice each.
pub fn lockers(world: &Rc<World>, threads: u32, inner_release: fn(&Lock)) {
    let lock = Lock::place(world);
    let lockers = (2..2 + threads).map(|tid| {
        lock.in_thread(world, tid, move |world, lock| {
            lock.twice(world, inner_release)
        })
    });
    let lockers: Vec<_> = lockers.collect();
    join_all(lockers);
    lock.twice(world, inner_release);
}

/// Three threads, two preemptions.
#[test]
fn other_threads_wait_for_the_last_release() {
    let seen = Model::PLAIN.holds(|world| lockers(world, 2, Lock::release));
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, two preemptions. One is killed at each of its steps, at each depth.
#[test]
fn a_death_at_any_depth_is_reported_once_and_resets_the_depth() {
    let seen = Model::PLAIN.holds_if_killed(2, |world| lockers(world, 2, Lock::release));
    assert!(seen.reported_deaths.get() > 0);
}

/// Three threads, two preemptions. A thread that does not own the lock is refused.
#[test]
fn another_thread_is_refused_at_every_depth() {
    Model::PLAIN.holds(|world| {
        let lock = Lock::place(world);
        assert_eq!(
            lock.raw.acquire(current_thread(), WaitMode::Try),
            Ok(Acquired::Released)
        );
        assert_eq!(
            lock.raw.acquire(current_thread(), WaitMode::Try),
            Ok(Acquired::Released)
        );
        lock.release();
        let tries = lock.in_thread(world, 2, |_, lock| {
            let outcome = lock.raw.acquire(current_thread(), WaitMode::Try);
            assert_eq!(outcome, Err(AcquireError::WouldBlock));
        });
        tries.join();
        lock.release();
        lock.in_thread(world, 3, |world, lock| lock.twice(world, Lock::release))
            .join();
    });
}

/// Releases the lock itself, although only the inner acquisition ends.
pub fn release_at_once(lock: &Lock) {
    // SAFETY: not given: the outer acquisition still uses the lock. This is the flaw under test.
    unsafe { lock.raw.lock().unlock(current_thread()) };
}
