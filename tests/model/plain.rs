//! The strategies that know no owner: they exclude, publish, and let a waiter give up.

use crate::model::Model;
use crate::raw::outcome::WaitMode;
use crate::raw::strategies::futex::FutexWord;
use crate::raw::strategies::spin::SpinWord;
use crate::raw::strategies::ticket::TicketWords;
use crate::sys::{Deadline, Joins, World};
use loom::cell::UnsafeCell;
use std::cell::Cell;
use std::rc::Rc;

/// A lock that answers yes or no, or a twin of one.
pub trait Plain: 'static {
    fn new() -> Self;

    fn lock(&self, mode: WaitMode) -> bool;

    fn unlock(&self);
}

macro_rules! plain {
    ($($lock:ty),*) => {$(
        impl Plain for $lock {
            fn new() -> Self {
                <$lock>::new()
            }

            /// As a mutex does.
            fn lock(&self, mode: WaitMode) -> bool {
                self.try_lock() || self.lock(mode)
            }

            fn unlock(&self) {
                // SAFETY: called by who holds it.
                unsafe { self.unlock() };
            }
        }
    )*};
}
plain!(FutexWord, SpinWord, TicketWords);

/// A lock and its data.
struct Lock<P> {
    plain: P,
    /// Loom panics where two threads access it without an order between them.
    data: UnsafeCell<u32>,
    /// Whether the thread that may be killed has come into its section.
    entered: Cell<bool>,
}

impl<P: Plain> Lock<P> {
    fn new() -> Rc<Self> {
        Rc::new(Lock {
            plain: P::new(),
            data: UnsafeCell::new(0),
            entered: Cell::new(false),
        })
    }

    fn in_thread<T: 'static>(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&Self) -> T + 'static,
    ) -> Joins<T> {
        let lock = self.clone();
        world.spawn(tid, move || body(&lock))
    }

    fn section(&self, mode: WaitMode) -> bool {
        if !self.plain.lock(mode) {
            return false;
        }
        // Long enough for others to come: this switch costs no preemption.
        loom::thread::yield_now();
        // SAFETY: loom panics before it calls the closure where another access is not ordered with this one.
        self.data.with_mut(|data| unsafe { *data += 1 });
        self.plain.unlock();
        true
    }

    fn uses(&self) -> u32 {
        // SAFETY: as above.
        self.data.with(|data| unsafe { *data })
    }
}

/// Threads 2 and up lock and unlock so many times.
pub fn lockers<P: Plain>(world: &Rc<World>, rounds: &[u32]) {
    let lock = Lock::<P>::new();
    let lockers: Vec<_> = (2..)
        .zip(rounds)
        .map(|(tid, &rounds)| {
            lock.in_thread(world, tid, move |lock| {
                (0..rounds).for_each(|_| assert!(lock.section(WaitMode::Until(None))))
            })
        })
        .collect();
    lockers.into_iter().for_each(|locker| {
        locker.join();
    });
    assert!(lock.section(WaitMode::Try), "nobody holds it");
    assert_eq!(lock.uses(), rounds.iter().sum::<u32>() + 1);
}

/// Two wait for what the first thread holds, one of them until a deadline that passes as it is released.
fn one_gives_up<P: Plain>(world: &Rc<World>) {
    let lock = Lock::<P>::new();
    assert!(lock.plain.lock(WaitMode::Try));
    let timed = lock.in_thread(world, 2, |lock| {
        lock.section(WaitMode::Until(Some(Deadline::Ahead)))
    });
    let waits = lock.in_thread(world, 3, |lock| lock.section(WaitMode::Until(None)));
    lock.plain.unlock();
    world.deadline_passes();
    let acquired = timed.join() == Some(true);
    if !acquired {
        world.seen.timeouts.add();
    }
    assert_eq!(waits.join(), Some(true));
    assert!(lock.section(WaitMode::Try), "nobody holds it");
    assert_eq!(lock.uses(), u32::from(acquired) + 2);
}

fn one_preemption() -> Model {
    Model {
        preemptions: 1,
        ..Model::PLAIN
    }
}

/// Four threads, three of which lock; two preemptions.
#[test]
fn three_threads_exclude_each_other_by_a_futex() {
    let seen = Model::PLAIN.holds(|world| lockers::<FutexWord>(world, &[1, 1, 1]));
    assert!(seen.sleeps.get() > 0 && seen.wakes.get() > 0);
}

/// Three threads, two of which lock; one of them twice; two preemptions.
#[test]
fn two_threads_exclude_each_other_by_spinning() {
    Model::PLAIN.holds(|world| lockers::<SpinWord>(world, &[2, 1]));
}

/// The same in the order of arrival. (Of more threads, those that wait would let each other go first without end.)
#[test]
fn two_threads_exclude_each_other_by_tickets() {
    Model::PLAIN.holds(|world| lockers::<TicketWords>(world, &[2, 1]));
}

/// Three threads, two of which wait; one preemption.
#[test]
fn a_waiter_that_gives_up_takes_nothing_with_it() {
    for seen in [
        one_preemption().holds(one_gives_up::<FutexWord>),
        one_preemption().holds_as_it_is(one_gives_up::<SpinWord>),
        one_preemption().holds_as_it_is(one_gives_up::<TicketWords>),
    ] {
        assert!(seen.timeouts.get() > 0 && seen.timeouts.get() < seen.runs.get());
    }
}

/// Three threads, two of which wait, and one of these killed at each of its steps; one preemption. Its wake goes to waste
/// where it dies before it is in its section: then a timer ends the other one's sleep.
#[test]
fn a_waiter_of_a_futex_that_is_killed_strands_nobody() {
    let seen = one_preemption().holds_if_killed(2, |world| {
        let lock = Lock::<FutexWord>::new();
        assert!(lock.plain.lock(WaitMode::Try));
        let killed = lock.in_thread(world, 2, |lock| {
            let acquired = lock.plain.lock(WaitMode::Until(None));
            lock.entered.set(acquired);
            Plain::unlock(&lock.plain);
        });
        let waits = lock.in_thread(world, 3, |lock| {
            lock.section(WaitMode::Until(Some(Deadline::Ahead)))
        });
        Plain::unlock(&lock.plain);
        let died = killed.join().is_none();
        world.naps_end();
        if died && lock.entered.get() {
            // It may have died with the lock, or else without the wake that it owed.
            world.deadline_passes();
            waits.join();
        } else {
            assert_eq!(waits.join(), Some(true));
        }
    });
    assert!(seen.sleeps.get() > 0);
}
