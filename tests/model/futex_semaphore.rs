//! The semaphore: each permit is taken once, and no thread sleeps while there is a permit.

use crate::model::Model;
use crate::raw::futex_semaphore::FutexSemaphore;
use crate::sys::{Deadline, Joins, World, join_all};
use loom::cell::UnsafeCell;
use std::rc::Rc;

const MAX: u32 = 10;

/// A semaphore, and the data that its permits protect.
pub struct Shared {
    pub count: FutexSemaphore,
    /// Loom panics if two threads access it without an order between them.
    data: UnsafeCell<u32>,
}

impl Shared {
    fn new(permits: u32) -> Rc<Self> {
        Rc::new(Shared {
            count: FutexSemaphore::new(permits),
            data: UnsafeCell::new(0),
        })
    }

    fn use_data(&self) {
        // SAFETY: loom panics before it calls the closure if another access is not ordered with
        // this one.
        self.data.with_mut(|data| unsafe { *data += 1 });
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

/// Three threads take the only permit and return it.
pub fn one_at_a_time(world: &Rc<World>) {
    let shared = Shared::new(1);
    let users = [2, 3, 4].map(|tid| {
        shared.in_thread(world, tid, |shared| {
            assert!(shared.count.wait_until(None));
            shared.use_data();
            assert!(shared.count.post(MAX));
        })
    });
    join_all(users);
    assert_eq!(shared.count.value(), 1);
}

/// Four threads, two preemptions.
#[test]
fn one_permit_excludes_and_publishes() {
    let seen = Model::PLAIN.holds(one_at_a_time);
    assert!(seen.sleeps.get() > 0);
}

/// Threads 2 and 3 take one permit each. The first thread posts two permits with `post`.
pub fn two_wait_for_permits(world: &Rc<World>, post: fn(&FutexSemaphore)) {
    let shared = Shared::new(0);
    let waiters = [2, 3]
        .map(|tid| shared.in_thread(world, tid, |shared| assert!(shared.count.wait_until(None))));
    post(&shared.count);
    post(&shared.count);
    join_all(waiters);
    assert_eq!(shared.count.value(), 0);
}

/// Three threads, two preemptions.
#[test]
fn each_permit_ends_one_wait() {
    let seen =
        Model::PLAIN.holds(|world| two_wait_for_permits(world, |count| assert!(count.post(MAX))));
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, three preemptions. Two threads post, but the maximum allows only one more permit.
#[test]
fn the_permits_never_exceed_the_maximum() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    model.holds(|world| {
        let shared = Shared::new(1);
        let posts = [2, 3].map(|tid| shared.in_thread(world, tid, |shared| shared.count.post(2)));
        let posted = posts.map(|post| post.join().expect("no thread is killed"));
        assert!(posted[0] != posted[1]);
        assert_eq!(shared.count.value(), 2);
    });
}

/// Three threads, two preemptions. Two threads wait, one of them with a deadline. The deadline
/// passes while a permit is posted.
#[test]
fn a_waiter_that_times_out_consumes_no_wake() {
    let seen = Model::PLAIN.holds(|world| {
        let shared = Shared::new(0);
        let timed = shared.in_thread(world, 2, |shared| {
            shared.count.wait_until(Some(Deadline::Ahead))
        });
        let waits = shared.in_thread(world, 3, |shared| assert!(shared.count.wait_until(None)));
        shared.count.post(MAX);
        world.deadline_passes();
        match timed.join() {
            Some(true) => assert!(shared.count.post(MAX)),
            _ => world.seen.timeouts.add(),
        }
        waits.join();
        assert_eq!(shared.count.value(), 0);
    });
    assert!(seen.timeouts.get() > 0 && seen.timeouts.get() < seen.runs.get());
}

/// Three threads, one preemption. Two threads wait for permits, and one of them is killed at each
/// of its steps. Its wake or its permit is then lost. The sleep of the other waiter ends with its
/// recheck timer, or with the next post.
#[test]
fn a_killed_waiter_strands_no_thread() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| {
        let shared = Shared::new(0);
        let waiters = [2, 3].map(|tid| {
            shared.in_thread(world, tid, |shared| assert!(shared.count.wait_until(None)))
        });
        let [killed, waits] = waiters;
        shared.count.post(MAX);
        shared.count.post(MAX);
        let took_its_permit = killed.join().is_some();
        world.expire_recheck_timers();
        waits.join();
        assert!(shared.count.value() <= u32::from(!took_its_permit));
    });
    assert!(seen.sleeps.get() > 0);
}
