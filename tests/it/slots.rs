//! Rosters and barriers in one process, placed and in-process.

use pshared::{Error, Shared, SharedBarrier, SharedCounter, SharedRoster, SlotState};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

fn a_roster(roster: &SharedRoster<SharedCounter, 2>) {
    let first = roster.join().unwrap();
    first.add(2);
    let second = roster.try_join().unwrap();
    second.add(3);
    assert_eq!((first.number(), second.number()), (0, 1));
    assert!(!first.previous_holder_died() && first.previous_holder().is_none());
    assert!(matches!(roster.try_join(), Err(Error::WouldBlock)));
    assert!(matches!(roster.join(), Err(Error::Deadlock)));
    assert!(matches!(roster.adopt(1), Err(Error::WouldBlock)));
    let by = |state| match state {
        SlotState::Occupied { by: Some(holder) } => Some(holder.process),
        _ => None,
    };
    assert!(
        roster
            .slots()
            .all(|slot| by(slot.state) == Some(std::process::id()))
    );
    drop(first);
    assert_eq!(roster.slots().next().unwrap().state, SlotState::Free);
    let soon = Duration::from_millis(2);
    assert!(matches!(
        roster.wait_for_abandoned_timeout(soon),
        Err(Error::TimedOut)
    ));
    thread::scope(|scope| {
        scope.spawn(|| {
            let slot = roster.adopt(0).unwrap();
            assert_eq!(slot.get(), 2);
            assert!(matches!(roster.join_timeout(soon), Err(Error::TimedOut)));
        });
    });
    assert_eq!(roster.slots().map(|slot| slot.data.get()).sum::<u64>(), 5);
    assert_eq!(roster.abandoned(), None);
    drop(second);
}

#[test]
fn a_roster_works_placed_and_in_process() {
    a_roster(&SharedRoster::default());
    a_roster(&Shared::anonymous(SharedRoster::default()).unwrap());
    a_roster(&Shared::zeroed().unwrap());
}

#[test]
fn a_thread_that_waits_for_a_slot_gets_the_released_one() {
    let placed = Shared::anonymous(SharedRoster::<u64, 1>::from_fn(|_| 7)).unwrap();
    let in_process = SharedRoster::<u64, 1>::from_fn(|_| 7);
    for roster in [&*placed, &in_process] {
        let slot = roster.join().unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| *roster.join().unwrap());
            thread::yield_now();
            drop(slot);
            assert_eq!(waiter.join().unwrap(), 7);
        });
    }
}

fn a_barrier(barrier: &SharedBarrier<3>) {
    let leaders = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let party = barrier.join().unwrap();
                for _ in 0..200 {
                    leaders.fetch_add(party.wait().unwrap().is_leader().into(), SeqCst);
                }
            });
        }
    });
    assert_eq!(leaders.load(SeqCst), 200);
    assert_eq!(barrier.parties(), 0);
    let parties = [(); 3].map(|()| barrier.join().unwrap());
    assert!(matches!(barrier.join(), Err(Error::WouldBlock)));
    let outcome = parties[0].wait_timeout(Duration::from_millis(2));
    assert!(matches!(outcome, Err(Error::TimedOut)));
    barrier.reset().unwrap();
    assert!(!barrier.is_broken());
}

#[test]
fn a_barrier_works_placed_and_in_process() {
    a_barrier(&SharedBarrier::new());
    a_barrier(&Shared::anonymous(SharedBarrier::new()).unwrap());
    a_barrier(&Shared::zeroed().unwrap());
}

#[test]
fn a_party_that_panics_breaks_the_barrier_and_its_slot_is_reported() {
    let barrier = SharedBarrier::<2>::new();
    thread::scope(|scope| {
        let party = barrier.join().unwrap();
        let panics = scope.spawn(|| {
            let _party = barrier.join().unwrap();
            panic!("as the test wants it");
        });
        let outcome = party.wait();
        assert!(matches!(
            outcome,
            Err(Error::BarrierBroken {
                slot: 1,
                process: Some(_)
            })
        ));
        assert!(panics.join().is_err());
    });
    barrier.reset().unwrap();
    assert!(barrier.join().is_ok());
}

#[test]
fn a_map_with_a_leaked_slot_stays_mapped() {
    let roster = Shared::anonymous(SharedRoster::<u64, 2>::from_fn(|_| 0)).unwrap();
    std::mem::forget(roster.join().unwrap());
    drop(roster);
    let barrier = Shared::anonymous(SharedBarrier::<2>::new()).unwrap();
    std::mem::forget(barrier.join().unwrap());
    drop(barrier);
}
