//! The condition variable: no notification after the release of the mutex is missed, whichever
//! thread dies.

use crate::broken::{Sound, word_of};
use crate::lock::{Lock, Raw};
use crate::model::Model;
use crate::raw::condvar::Condvar;
use crate::raw::robust::Robust;
use crate::sys::{Deadline, Joins, RecheckTimer, World, futex_wake, join_all};
use loom::cell::UnsafeCell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

/// How a waiter waits. It holds the mutex before and after the call.
pub type Wait<R> = fn(&World, &Mailbox<R>, Option<Deadline>, &mut RecheckTimer) -> bool;
/// How a thread notifies the waiters of a new letter.
pub type Notify = fn(&Condvar);

/// A number of letters, the mutex that guards it, and the condition variable of its waiters.
pub struct Mailbox<R = Robust> {
    pub lock: Rc<Lock<R>>,
    pub condvar: Condvar,
    letters: UnsafeCell<u32>,
}

impl<R: Raw> Mailbox<R> {
    pub fn place(world: &Rc<World>) -> Rc<Self> {
        Rc::new(Mailbox {
            lock: Lock::place(world),
            condvar: Condvar::new(),
            letters: UnsafeCell::new(0),
        })
    }

    /// Starts a thread, the only one of its process.
    pub fn in_thread<T: 'static>(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&World, &Mailbox<R>) -> T + 'static,
    ) -> Joins<T> {
        let (here, mailbox) = (world.clone(), self.clone());
        world.spawn(tid, move || body(&here, &mailbox))
    }

    fn letters(&self) -> u32 {
        // SAFETY: loom panics before it calls the closure if a write is not ordered with this read.
        self.letters.with(|letters| unsafe { *letters })
    }

    fn change(&self, change: impl FnOnce(&mut u32)) {
        // SAFETY: as above, for any access.
        self.letters
            .with_mut(|letters| change(unsafe { &mut *letters }));
    }

    /// Adds `letters` letters, releases the mutex, and then notifies.
    pub fn deliver(&self, world: &World, letters: u32, notify: Notify) {
        self.lock.lock_briefly(world);
        self.change(|there| *there += letters);
        self.lock.unlock();
        notify(&self.condvar);
    }

    /// Takes a letter, blocking until there is one.
    pub fn take(&self, world: &World, wait: Wait<R>) {
        assert!(self.take_until(world, None, wait));
    }

    /// Takes a letter, blocking until the deadline as `wait_timeout_while` does. Returns whether it
    /// took one.
    pub fn take_until(&self, world: &World, deadline: Option<Deadline>, wait: Wait<R>) -> bool {
        let mut timer = RecheckTimer::new();
        self.lock.lock_briefly(world);
        let mut expired = false;
        while self.letters() == 0 && !expired {
            expired = !wait(world, self, deadline, &mut timer);
        }
        let there = self.letters() > 0;
        if there {
            self.change(|there| *there -= 1);
        }
        self.lock.unlock();
        there
    }
}

/// Waits as `SharedCondvar` does.
pub fn wait<R: Raw>(
    world: &World,
    mailbox: &Mailbox<R>,
    deadline: Option<Deadline>,
    timer: &mut RecheckTimer,
) -> bool {
    let seen = mailbox.condvar.sequence();
    mailbox.lock.unlock();
    let in_time = mailbox.condvar.wait_past(seen, deadline, timer, || true);
    mailbox.lock.lock_briefly(world);
    in_time
}

/// Threads 2 and 3 take one letter each. The first thread adds the letters one at a time, and
/// notifies after each.
pub fn two_take_letters<R: Raw>(world: &Rc<World>, wait: Wait<R>, notify: Notify) {
    let mailbox = Mailbox::<R>::place(world);
    let takers = [2, 3]
        .map(|tid| mailbox.in_thread(world, tid, move |world, mailbox| mailbox.take(world, wait)));
    mailbox.deliver(world, 1, notify);
    mailbox.deliver(world, 1, notify);
    join_all(takers);
    assert_eq!(mailbox.letters(), 0);
    mailbox.lock.is_at_rest(world);
}

/// The same, except that the first thread adds both letters at once, and notifies once.
pub fn two_take_letters_added_at_once<R: Raw>(world: &Rc<World>, wait: Wait<R>, notify: Notify) {
    let mailbox = Mailbox::<R>::place(world);
    let takers = [2, 3]
        .map(|tid| mailbox.in_thread(world, tid, move |world, mailbox| mailbox.take(world, wait)));
    mailbox.deliver(world, 2, notify);
    join_all(takers);
    assert_eq!(mailbox.letters(), 0);
}

/// Thread 2 takes three letters. The first thread adds the letters one at a time, and notifies
/// after each.
pub fn one_takes_letters<R: Raw>(world: &Rc<World>, notify: Notify) {
    let mailbox = Mailbox::<R>::place(world);
    let taker = mailbox.in_thread(world, 2, move |world, mailbox| {
        (0..3).for_each(|_| mailbox.take(world, wait));
    });
    (0..3).for_each(|_| mailbox.deliver(world, 1, notify));
    taker.join();
    assert_eq!(mailbox.letters(), 0);
}

/// Two threads, three preemptions.
#[test]
fn a_waiter_that_waits_again_misses_no_notification() {
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    for notify in [Condvar::notify_one as Notify, Condvar::notify_all] {
        let seen = model.holds(move |world| one_takes_letters::<Robust>(world, notify));
        assert!(seen.wakes.get() > 0);
    }
}

fn calls_to_wake(world: &World) -> usize {
    world.seen.wakes.get() + world.seen.idle_wakes.get()
}

/// Three threads: two preemptions with the robust lock, three with the shorter twin.
#[test]
fn each_notification_wakes_a_waiter() {
    let model = Model {
        preemptions: 2,
        ..Model::PLAIN
    };
    let seen = model.holds(|world| two_take_letters::<Robust>(world, wait, Condvar::notify_one));
    assert!(seen.sleeps.get() > 0 && seen.wakes.get() > 0);
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    model.holds(|world| two_take_letters::<Sound>(world, wait, Condvar::notify_one));
}

/// Three threads: two preemptions with the robust lock, three with the shorter twin.
#[test]
fn notify_all_wakes_every_waiter() {
    let model = Model {
        preemptions: 2,
        ..Model::PLAIN
    };
    let seen = model
        .holds(|world| two_take_letters_added_at_once::<Robust>(world, wait, Condvar::notify_all));
    assert!(seen.sleeps.get() > 0 && seen.wakes.get() > 0);
    let model = Model {
        preemptions: 3,
        ..Model::PLAIN
    };
    model.holds(|world| two_take_letters_added_at_once::<Sound>(world, wait, Condvar::notify_all));
}

/// Three threads, two preemptions. The waiters spin before they sleep.
#[test]
fn a_waiter_that_spins_first_misses_no_notification() {
    let model = Model {
        preemptions: 2,
        spins: true,
        ..Model::PLAIN
    };
    model.holds(|world| two_take_letters::<Sound>(world, wait, Condvar::notify_one));
    model.holds(|world| two_take_letters_added_at_once::<Sound>(world, wait, Condvar::notify_all));
}

/// Three threads, two preemptions. One of two waiters has a deadline, which passes while a letter
/// is added. A waiter that gives up consumes no wake.
#[test]
fn a_waiter_that_times_out_consumes_no_notification() {
    let seen = Model::PLAIN.holds(|world| {
        let mailbox = Mailbox::<Sound>::place(world);
        let timed = mailbox.in_thread(world, 2, |world, mailbox| {
            mailbox.take_until(world, Some(Deadline::Ahead), wait)
        });
        let waits = mailbox.in_thread(world, 3, |world, mailbox| mailbox.take(world, wait));
        mailbox.deliver(world, 1, Condvar::notify_one);
        world.deadline_passes();
        match timed.join() {
            Some(true) => mailbox.deliver(world, 1, Condvar::notify_one),
            _ => world.seen.timeouts.add(),
        }
        waits.join();
        assert_eq!(mailbox.letters(), 0);
    });
    assert!(seen.timeouts.get() > 0 && seen.timeouts.get() < seen.runs.get());
}

/// Two threads, two preemptions. A waiter that is woken although the sequence is unchanged has
/// received the wake of another waiter. That waiter still sleeps if the kernel does not wake in the
/// order of sleep. The woken waiter is counted again, so that the notification of the other waiter
/// is not lost.
#[test]
fn a_waiter_that_receives_the_wake_of_another_is_counted_again() {
    let seen = Model::PLAIN.holds(|world| {
        let mailbox = Mailbox::<Sound>::place(world);
        let seen = mailbox.condvar.sequence();
        let waits = mailbox.in_thread(world, 2, move |_, mailbox| {
            mailbox
                .condvar
                .wait_past(seen, None, &mut RecheckTimer::new(), || false)
        });
        let woke_by_hand = futex_wake(word_of(&mailbox.condvar), 1) == 1;
        mailbox.condvar.notify_one();
        assert_eq!(waits.join(), Some(true));
        let left = word_of(&mailbox.condvar).load(Relaxed) & 3;
        assert!(left == 0 || left == 1 && woke_by_hand);
        if left == 1 {
            world.seen.resent_wakes.add();
        }
    });
    assert!(seen.resent_wakes.get() > 0);
}

/// Threads 2 and 3 wait for a letter, and do not take it. Each of them notifies the next waiter
/// once it has seen the letter. Thread 2 may be killed, also while it holds the mutex. A wake that
/// it received is then lost. With `timers_expire`, the recheck timers end after the death.
pub fn a_waiter_is_killed<R: Raw>(world: &Rc<World>, timers_expire: bool) {
    let mailbox = Mailbox::<R>::place(world);
    let readers = [2, 3].map(|tid| {
        mailbox.in_thread(world, tid, |world, mailbox| {
            let mut timer = RecheckTimer::new();
            mailbox.lock.lock_briefly(world);
            while mailbox.letters() == 0 {
                wait(world, mailbox, None, &mut timer);
            }
            mailbox.lock.unlock();
            mailbox.condvar.notify_one();
        })
    });
    mailbox.deliver(world, 1, Condvar::notify_one);
    let [killed, reads] = readers;
    killed.join();
    if timers_expire {
        world.expire_recheck_timers();
    }
    reads.join();
    mailbox.lock.is_at_rest(world);
}

/// Three threads, one preemption. A waiter is killed at each of its steps.
#[test]
fn a_killed_waiter_strands_no_thread() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    let seen = model.holds_if_killed(2, |world| a_waiter_is_killed::<Robust>(world, true));
    assert!(seen.sleeps.get() > 0 && seen.reported_deaths.get() > 0);
}

/// Thread 2 adds a letter and notifies with `notify`. It may be killed, also while it holds the
/// mutex. Thread 3 waits for the letter with `wait`. If thread 2 was killed and there is no letter,
/// the first thread adds one. With `timers_expire`, the recheck timers end after the death.
pub fn a_notifier_is_killed(
    world: &Rc<World>,
    notify: Notify,
    wait: Wait<Robust>,
    timers_expire: bool,
) {
    let mailbox = Mailbox::<Robust>::place(world);
    let takes = mailbox.in_thread(world, 3, move |world, mailbox| mailbox.take(world, wait));
    let leaves = mailbox.in_thread(world, 2, move |world, mailbox| {
        mailbox.deliver(world, 1, notify)
    });
    if leaves.join().is_none() {
        if timers_expire {
            world.expire_recheck_timers();
        }
        mailbox.lock.lock_briefly(world);
        let is_missing = mailbox.letters() == 0;
        mailbox.lock.unlock();
        if is_missing {
            mailbox.deliver(world, 1, notify);
        }
    }
    takes.join();
    mailbox.lock.is_at_rest(world);
}

/// Three threads, one preemption. The notifier is killed at each of its steps. The recheck timer
/// ends the sleep of a waiter that it did not wake.
#[test]
fn a_killed_notifier_strands_no_thread() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    for notify in [Condvar::notify_one as Notify, Condvar::notify_all] {
        let seen = model.holds_if_killed(2, move |world| {
            a_notifier_is_killed(world, notify, wait, true)
        });
        assert!(seen.sleeps.get() > 0 && seen.reported_deaths.get() > 0);
    }
}

/// Waits as the library does, but returns only for a notification or the deadline. It never returns
/// to check the condition again.
pub fn wait_for_a_notification_only(
    world: &World,
    mailbox: &Mailbox,
    deadline: Option<Deadline>,
    timer: &mut RecheckTimer,
) -> bool {
    let seen = mailbox.condvar.sequence();
    mailbox.lock.unlock();
    let in_time = mailbox.condvar.wait_past(seen, deadline, timer, || false);
    mailbox.lock.lock_briefly(world);
    in_time
}

/// Waits, but reads the sequence only after the mutex is released.
pub fn wait_with_a_late_read(
    world: &World,
    mailbox: &Mailbox,
    deadline: Option<Deadline>,
    timer: &mut RecheckTimer,
) -> bool {
    mailbox.lock.unlock();
    let seen = mailbox.condvar.sequence();
    let in_time = mailbox.condvar.wait_past(seen, deadline, timer, || true);
    mailbox.lock.lock_briefly(world);
    in_time
}

/// Four threads and a later one, one preemption. Three threads wait, which is more than the word
/// can count. Each is notified. The first thread then notifies once more, without waiters, and a
/// last thread waits.
pub fn many_take_letters<R: Raw>(world: &Rc<World>, notify: Notify) {
    let mailbox = Mailbox::<R>::place(world);
    let takers = [2, 3, 4]
        .map(|tid| mailbox.in_thread(world, tid, move |world, mailbox| mailbox.take(world, wait)));
    (0..3).for_each(|_| mailbox.deliver(world, 1, notify));
    join_all(takers);
    notify(&mailbox.condvar);
    let last = mailbox.in_thread(world, 5, move |world, mailbox| mailbox.take(world, wait));
    mailbox.deliver(world, 1, notify);
    last.join();
    assert_eq!(mailbox.letters(), 0);
}

#[test]
fn more_waiters_than_the_count_holds_miss_no_notification() {
    let model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };
    for notify in [Condvar::notify_one as Notify, Condvar::notify_all] {
        let seen = model.holds(move |world| many_take_letters::<Sound>(world, notify));
        assert!(seen.sleeps.get() > 0 && seen.wakes.get() > 0);
    }
}

/// Two threads, two preemptions. More waiters have given up than the word can count. Their timeouts
/// are no notifications, and a later waiter is still notified. The first notification that finds no
/// sleeper clears the count, so that the next ones make no system call.
#[test]
fn waiters_that_timed_out_do_not_prevent_later_notifications() {
    let seen = Model::PLAIN.holds(|world| {
        let mailbox = Mailbox::<Sound>::place(world);
        world.deadline_passes();
        let seen = mailbox.condvar.sequence();
        for _ in 0..5 {
            let timer = &mut RecheckTimer::new();
            let deadline = Some(Deadline::Ahead);
            assert!(!mailbox.condvar.wait_past(seen, deadline, timer, || false));
        }
        assert_eq!(mailbox.condvar.sequence(), seen);
        let waits = mailbox.in_thread(world, 2, move |_, mailbox| {
            mailbox
                .condvar
                .wait_past(seen, None, &mut RecheckTimer::new(), || false)
        });
        let (before, woken) = (calls_to_wake(world), world.seen.wakes.get());
        mailbox.condvar.notify_one();
        if world.seen.wakes.get() > woken {
            assert_eq!(mailbox.condvar.sequence(), seen + 1, "all were notified");
        }
        (0..3).for_each(|_| mailbox.condvar.notify_one());
        // One notification wakes the waiter. The next one finds no sleeper, and clears the count
        // with a second system call.
        assert!(calls_to_wake(world) - before <= 3);
        assert_eq!(waits.join(), Some(true));
    });
    assert!(seen.wakes.get() > 0);
}

/// Two threads, two preemptions. One thread waits once. Several notifications make at most one
/// system call.
#[test]
fn several_notifications_of_one_waiter_make_one_system_call() {
    let seen = Model::PLAIN.holds(|world| {
        let mailbox = Mailbox::<Sound>::place(world);
        let seen = mailbox.condvar.sequence();
        let waits = mailbox.in_thread(world, 2, move |_, mailbox| {
            mailbox
                .condvar
                .wait_past(seen, None, &mut RecheckTimer::new(), || false)
        });
        let before = calls_to_wake(world);
        (0..3).for_each(|_| mailbox.condvar.notify_one());
        assert!(calls_to_wake(world) - before <= 1);
        assert_eq!(waits.join(), Some(true));
    });
    assert!(seen.sleeps.get() > 0);
}

/// Two threads, two preemptions. No thread waits, so no notification makes a system call.
#[test]
fn a_notification_without_waiters_makes_no_system_call() {
    let seen = Model::PLAIN.holds(|world| {
        let mailbox = Mailbox::<Sound>::place(world);
        let other = mailbox.in_thread(world, 2, |_, mailbox| mailbox.condvar.notify_one());
        mailbox.condvar.notify_all();
        other.join();
        assert_eq!(mailbox.condvar.sequence(), 2);
    });
    assert_eq!(seen.wakes.get() + seen.idle_wakes.get(), 0);
}
