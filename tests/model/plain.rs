//! The strategies that record no owner. They provide mutual exclusion, publish writes, and let a
//! waiter give up.

use crate::model::Model;
use crate::raw::outcome::WaitMode;
use crate::raw::strategies::futex::FutexWord;
use crate::raw::strategies::spin::SpinWord;
use crate::raw::strategies::ticket::TicketWords;
use crate::sys::{Deadline, Joins, World};
use loom::cell::UnsafeCell;
use std::cell::Cell;
use std::rc::Rc;

/// A lock that returns whether it was acquired, or a twin of such a lock.
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

            /// Acquires the lock as a mutex does.
            fn lock(&self, mode: WaitMode) -> bool {
                self.try_lock() || self.lock(mode)
            }

            fn unlock(&self) {
                // SAFETY: the caller holds the lock.
                unsafe { self.unlock() };
            }
        }
    )*};
}
plain!(FutexWord, SpinWord, TicketWords);

/// A lock and its data.
struct Lock<P> {
    plain: P,
    /// Loom panics if two threads access it without an order between them.
    data: UnsafeCell<u32>,
    /// Whether the thread that may be killed has entered its critical section.
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
        // Lets other threads arrive. This switch costs no preemption.
        loom::thread::yield_now();
        // SAFETY: loom panics before it calls the closure if another access is not ordered with
        // this one.
        self.data.with_mut(|data| unsafe { *data += 1 });
        self.plain.unlock();
        true
    }

    fn uses(&self) -> u32 {
        // SAFETY: as above.
        self.data.with(|data| unsafe { *data })
    }
}

/// Threads 2 and up lock and unlock, each as often as `rounds` says.
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
    assert!(lock.section(WaitMode::Try), "no thread holds the lock");
    assert_eq!(lock.uses(), rounds.iter().sum::<u32>() + 1);
}

/// Two threads wait for the lock of the first thread. One of them has a deadline, which passes
/// while the lock is released.
fn one_times_out<P: Plain>(world: &Rc<World>) {
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
    assert!(lock.section(WaitMode::Try), "no thread holds the lock");
    assert_eq!(lock.uses(), u32::from(acquired) + 2);
}

fn one_preemption() -> Model {
    Model {
        preemptions: 1,
        ..Model::PLAIN
    }
}

/// Four threads, two preemptions. Three of them lock.
#[test]
fn three_threads_exclude_each_other_by_a_futex() {
    let seen = Model::PLAIN.holds(|world| lockers::<FutexWord>(world, &[1, 1, 1]));
    assert!(seen.sleeps.get() > 0 && seen.wakes.get() > 0);
}

/// Three threads, two preemptions. Two of them lock, one of these twice.
#[test]
fn two_threads_exclude_each_other_by_spinning() {
    Model::PLAIN.holds(|world| lockers::<SpinWord>(world, &[2, 1]));
}

/// The same, in the order of arrival. With more threads, the waiters would yield to each other
/// without end.
#[test]
fn two_threads_exclude_each_other_by_tickets() {
    Model::PLAIN.holds(|world| lockers::<TicketWords>(world, &[2, 1]));
}

/// Three threads, one preemption. Two of them wait.
#[test]
fn a_waiter_that_times_out_consumes_no_wake() {
    for seen in [
        one_preemption().holds(one_times_out::<FutexWord>),
        one_preemption().holds_without_extra_preemption(one_times_out::<SpinWord>),
        one_preemption().holds_without_extra_preemption(one_times_out::<TicketWords>),
    ] {
        assert!(seen.timeouts.get() > 0 && seen.timeouts.get() < seen.runs.get());
    }
}

/// Three threads, one preemption. Two of them wait, and one of these is killed at each of its
/// steps. If it dies before it has entered its critical section, its wake is lost. The recheck
/// timer then ends the sleep of the other waiter.
#[test]
fn a_killed_waiter_of_a_futex_strands_no_thread() {
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
        world.expire_recheck_timers();
        if died && lock.entered.get() {
            // It may have died while it held the lock, or before the wake that it owed.
            world.deadline_passes();
            waits.join();
        } else {
            assert_eq!(waits.join(), Some(true));
        }
    });
    assert!(seen.sleeps.get() > 0);
}
