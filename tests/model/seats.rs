//! Seats that are held for life, and watched.

use crate::model::Model;
use crate::raw::barrier::Barrier;
use crate::raw::outcome::{Acquired, Patience};
use crate::raw::robust::Robust;
use crate::raw::row::{HasWord, Missed, Row};
use crate::raw::seat::{Place, Seat, watch};
use crate::sys::{Deadline, Joins, World, futex_wake_clearing, me, step};
use loom::cell::UnsafeCell;
use std::rc::Rc;

/// Seats, and what stands beside them.
pub struct Hall {
    pub seats: Vec<Seat>,
    pub barrier: Barrier,
    room: Robust,
    /// What each party writes before it arrives. Loom panics where a read is not ordered with it.
    pub news: Vec<UnsafeCell<u32>>,
}

impl Hall {
    pub fn place(world: &Rc<World>, count: usize) -> Rc<Self> {
        let hall = Rc::new(Hall {
            seats: (0..count).map(|_| Seat::new()).collect(),
            barrier: Barrier::new(),
            room: Robust::new(),
            news: (0..count).map(|_| UnsafeCell::new(0)).collect(),
        });
        // SAFETY: nobody uses it yet, and the world keeps it in its place.
        unsafe { hall.room.arm() };
        world.map(&hall, &hall.room);
        for seat in &hall.seats {
            // SAFETY: as above.
            unsafe { seat.arm() };
            world.map(&hall, seat.word());
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

    /// Takes a seat that nobody else wants.
    pub fn sit(&self, number: usize) {
        let taken = self.seats[number].take(me(), Some(Deadline::now()));
        assert_eq!(taken, Ok(Acquired::Released));
        self.seats[number].sit(me());
    }

    pub fn leave(&self, number: usize) {
        // SAFETY: called by who has the seat.
        unsafe { self.seats[number].leave(me()) }
    }

    pub fn vacancy(&self) -> Option<usize> {
        self.seats
            .iter()
            .position(|seat| matches!(seat.place(), Place::Vacated(_)))
    }
}

/// How a watcher waits for a vacancy.
pub type Watch = fn(&Hall) -> usize;

fn as_the_library_does(hall: &Hall) -> usize {
    watch(&hall.seats, None, Some(&hall.room), None, || hall.vacancy())
        .expect("the seat is vacated")
}

/// Thread 2 dies with its seat, or is killed before, and 3 and 4 watch two seats.
pub fn two_watch_a_worker_die(world: &Rc<World>, watch: Watch) {
    let hall = Hall::place(world, 2);
    let watchers = [3, 4].map(|tid| hall.in_thread(world, tid, watch));
    let dies = hall.in_thread(world, 2, |hall| {
        hall.sit(1);
        step();
        // Long enough for the others to sleep: this switch costs no preemption.
        loom::thread::yield_now();
    });
    dies.join();
    if hall.vacancy().is_none() {
        // It was killed before it had the seat. Somebody else dies with it.
        hall.in_thread(world, 5, |hall| hall.sit(1)).join();
    }
    for watcher in watchers {
        assert_eq!(watcher.join().expect("only thread 2 may be killed"), 1);
    }
    let Place::Vacated(_) = hall.seats[1].place() else {
        panic!("nobody has taken the seat");
    };
}

const ONE_SWITCH: Model = Model {
    preemptions: 1,
    ..Model::PLAIN
};

/// Two threads, of which one died with the seat. Who takes it is named when it sits down, and from then on the kernel wakes for
/// it too, though the announcement was cleared where a mark was put back.
#[test]
fn who_takes_the_seat_of_a_dead_one_is_named_and_announced_when_it_sits_down() {
    Model::PLAIN.holds(|world| {
        let hall = Hall::place(world, 1);
        hall.in_thread(world, 2, |hall| hall.sit(0)).join();
        let seat = &hall.seats[0];
        let Place::Vacated(dead) = seat.place() else {
            panic!("its holder has ended");
        };
        let (word, _) = seat.watch();
        futex_wake_clearing(word, 31);
        let taken = seat.take(me(), Some(Deadline::now()));
        assert_eq!(taken, Ok(Acquired::OwnerDied));
        assert_eq!(seat.place(), Place::Occupied(0));
        assert_eq!(seat.sit(me()), dead);
        assert_eq!(seat.place(), Place::Occupied(me().who()));
        let (_, word) = seat.watch();
        assert_eq!(word, me().tid() | 1 << 31);
        hall.leave(0);
        assert_eq!(seat.place(), Place::Free);
    });
}

/// Four threads, one preemption. The kernel wakes one watcher.
#[test]
fn a_death_wakes_all_who_watch() {
    let seen = ONE_SWITCH.holds(|world| two_watch_a_worker_die(world, as_the_library_does));
    assert!(seen.sleeps.get() > 0);
}

/// Four threads and one more, the worker killed at each of its steps.
#[test]
fn a_death_at_any_step_wakes_all_who_watch() {
    let seen = ONE_SWITCH.holds_if_killed(2, |world| {
        two_watch_a_worker_die(world, as_the_library_does)
    });
    assert!(seen.sleeps.get() > 0 && seen.kills.get() > 0);
}

/// Three threads, one of which waits for a seat while another one watches; who has the seat leaves it, and dies at any step of
/// that. The wake that the watcher swallows is not lost for the one who waits.
#[test]
fn who_waits_for_a_seat_gets_it_beside_a_watcher() {
    let seen = ONE_SWITCH.holds_if_killed(2, |world| {
        let hall = Hall::place(world, 1);
        let watches = hall.in_thread(world, 3, |hall| {
            let vacated = watch(
                &hall.seats,
                None,
                Some(&hall.room),
                Some(Deadline::Ahead),
                || hall.vacancy(),
            );
            assert!(matches!(vacated, Ok(0) | Err(Missed::Refused(_))));
        });
        let leaves = hall.in_thread(world, 2, |hall| {
            let taken = hall.seats[0].take(me(), Some(Deadline::now()));
            if taken.is_ok() {
                hall.seats[0].sit(me());
                loom::thread::yield_now();
                hall.leave(0);
            }
        });
        let waits = hall.in_thread(world, 4, |hall| {
            let row = Row {
                words: &hall.seats,
                room: &hall.room,
            };
            let taken = row.acquire(me(), 0, Patience::Endless);
            assert!(taken.is_ok());
            hall.seats[0].sit(me());
            hall.leave(0);
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

/// Three threads, one preemption; the kernel marks nothing. A watcher finds the death when its nap ends.
#[test]
fn a_watcher_finds_an_unmarked_death_when_its_nap_ends() {
    let seen = LIST_IS_LOST.holds(|world| {
        let hall = Hall::place(world, 2);
        let watches = hall.in_thread(world, 3, as_the_library_does);
        hall.in_thread(world, 2, |hall| hall.sit(1)).join();
        world.naps_end();
        assert_eq!(watches.join(), Some(1));
    });
    assert!(seen.sleeps.get() > 0);
}
