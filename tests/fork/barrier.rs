//! A barrier between processes: rounds, deaths at every point, repairs.

use crate::steps::{Interruptions, Random, Signal, sleeps_in, until_idly};
use crate::support::{
    child, child_elsewhere as child_of_a_party, create, kill, kill_unreaped, open, passes, until,
};
use pshared::fork::Child;
use pshared::{BarrierParty, Error, Shared, SharedBarrier, SharedCounter, ShmSafe};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

crate::tests!(
    parties_meet_in_every_round_and_one_leads,
    threads_and_a_file_serve_as_well,
    a_party_that_crossed_a_fork_is_the_parents,
    a_death_breaks_the_wait_of_all_who_wait,
    a_death_outside_breaks_the_next_wait,
    a_waiter_that_dies_breaks_it_for_the_others,
    who_dies_as_it_is_woken_does_not_keep_the_news,
    a_party_that_panics_breaks_it,
    a_party_that_gives_up_may_come_again,
    signals_end_no_wait,
    a_reset_lets_another_party_in,
    a_thread_that_ends_breaks_it_and_its_slot_waits_for_the_process,
    kills_at_any_instant_break_the_round_and_strand_nobody,
    a_panic_breaks_it_once,
    a_party_that_dies_as_another_joins_is_told_of,
);

const LONG: Duration = Duration::from_secs(3600);

fn barrier<const N: usize>() -> Shared<SharedBarrier<N>> {
    Shared::anonymous(SharedBarrier::new()).unwrap()
}

fn waits(process: u32) -> bool {
    sleeps_in(process, libc::SYS_futex_waitv)
}

#[track_caller]
fn is_broken_by<T>(outcome: Result<T, Error>, dead: u32) {
    match outcome {
        Err(Error::BarrierBroken { process, .. }) => assert_eq!(process, Some(dead)),
        Err(other) => panic!("not broken: {other}"),
        Ok(_) => panic!("not broken"),
    }
}

/// Starts a child that joins, meets the other parties `rounds` times, and then stays until it is
/// killed.
fn party<const N: usize>(barrier: &SharedBarrier<N>, rounds: u32) -> Child {
    let joined = Signal::new();
    let party = child_of_a_party(|| {
        let party = barrier.join().unwrap();
        joined.give();
        for _ in 0..rounds {
            party.wait().unwrap();
        }
        loop {
            nix::unistd::pause();
        }
    });
    joined.wait();
    party
}

/// Starts a child that joins, waits, and must receive the error that names `dead`. The caller
/// stores that process id before the wait ends.
fn told<const N: usize>(barrier: &SharedBarrier<N>, dead: &AtomicU32) -> Child {
    let joined = Signal::new();
    let told = child_of_a_party(|| {
        let party = barrier.join().unwrap();
        joined.give();
        is_broken_by(party.wait(), dead.load(SeqCst));
        is_broken_by(party.wait_timeout(LONG), dead.load(SeqCst));
    });
    joined.wait();
    told
}

fn parties_meet_in_every_round_and_one_leads() {
    const ROUNDS: u64 = 1_000;
    let (barrier, leaders) = (
        barrier::<4>(),
        Shared::anonymous(SharedCounter::new(0)).unwrap(),
    );
    let rounds = Shared::anonymous([const { AtomicU64::new(0) }; 4]).unwrap();
    let parties = [(); 4].map(|()| {
        child(|| {
            let party = barrier.join().unwrap();
            for round in 1..=ROUNDS {
                // The other parties read this after the barrier. Nothing else orders the accesses.
                rounds[party.number()].store(round, Relaxed);
                let outcome = match round % 2 {
                    0 => party.wait(),
                    _ => party.wait_timeout(LONG),
                };
                leaders.add(outcome.unwrap().is_leader().into());
                for other in rounds.iter() {
                    let other = other.load(Relaxed);
                    assert!(other == round || other == round + 1);
                }
            }
            // No party leaves before all have finished their checks.
            party.wait().unwrap();
        })
    });
    parties.iter().for_each(passes);
    assert_eq!(leaders.get(), ROUNDS);
    assert_eq!(barrier.parties(), 0);
}

fn threads_and_a_file_serve_as_well() {
    let in_process = SharedBarrier::<3>::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let party = in_process.join().unwrap();
                for _ in 0..100 {
                    party.wait().unwrap();
                }
            });
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("barrier");
    let here = create(&path, SharedBarrier::<2>::new());
    let other = child(|| {
        let there = open::<SharedBarrier<2>>(&path);
        let party = there.join().unwrap();
        party.wait().unwrap();
        loop {
            nix::unistd::pause();
        }
    });
    let party = here.join().unwrap();
    party.wait().unwrap();
    kill(&other);
    is_broken_by(party.wait(), other.id());
    drop(party);
    drop(here);
    let here = open::<SharedBarrier<2>>(&path);
    assert!(!here.is_broken() && here.parties() == 0);
}

fn a_party_that_crossed_a_fork_is_the_parents() {
    let barrier = barrier::<1>();
    let party = Cell::new(Some(barrier.join().unwrap()));
    passes(&child_of_a_party(|| drop(party.take())));
    assert_eq!(barrier.parties(), 1);
    passes(&child_of_a_party(|| {
        let party: BarrierParty<'_, 1> = party.take().unwrap();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| party.wait())).is_err());
        assert!(matches!(barrier.join(), Err(Error::WouldBlock)));
    }));
    assert!(party.take().unwrap().wait().unwrap().is_leader());
    assert_eq!(barrier.parties(), 0);
}

fn a_death_breaks_the_wait_of_all_who_wait() {
    for _ in 0..50 {
        let (barrier, dead) = (
            barrier::<4>(),
            Shared::anonymous(AtomicU32::new(0)).unwrap(),
        );
        let dies = party(&barrier, 0);
        dead.store(dies.id(), SeqCst);
        let others = [(); 3].map(|()| told(&barrier, &dead));
        until_idly(|| others.iter().all(|other| waits(other.id())));
        kill(&dies);
        others.iter().for_each(passes);
        assert!(barrier.is_broken());
    }
}

fn a_death_outside_breaks_the_next_wait() {
    let barrier = barrier::<2>();
    let dies = party(&barrier, 1);
    let own = barrier.join().unwrap();
    own.wait().unwrap();
    kill_unreaped(&dies);
    is_broken_by(own.wait(), dies.id());
    is_broken_by(barrier.join(), dies.id());
    dies.wait().unwrap();
}

fn a_waiter_that_dies_breaks_it_for_the_others() {
    for _ in 0..30 {
        let (barrier, dead) = (
            barrier::<4>(),
            Shared::anonymous(AtomicU32::new(0)).unwrap(),
        );
        let dies = party(&barrier, 1);
        dead.store(dies.id(), SeqCst);
        let others = [(); 2].map(|()| told(&barrier, &dead));
        until_idly(|| others.iter().chain([&dies]).all(|other| waits(other.id())));
        kill(&dies);
        others.iter().for_each(passes);
    }
}

/// One party dies, and so does one of the waiters that its death woke, often before it has run.
fn who_dies_as_it_is_woken_does_not_keep_the_news() {
    for _ in 0..50 {
        let barrier = barrier::<4>();
        let dies = party(&barrier, 0);
        let waiters = [(); 3].map(|()| {
            let joined = Signal::new();
            let waiter = child_of_a_party(|| {
                let party = barrier.join().unwrap();
                joined.give();
                assert!(matches!(party.wait(), Err(Error::BarrierBroken { .. })));
            });
            joined.wait();
            until_idly(|| waits(waiter.id()));
            waiter
        });
        kill(&dies);
        waiters[0].kill().unwrap();
        waiters[0].wait().unwrap();
        waiters[1..].iter().for_each(passes);
    }
}

fn a_party_that_panics_breaks_it() {
    let barrier = barrier::<2>();
    let panics = child(|| {
        let _party = barrier.join().unwrap();
        panic!("as the test wants it");
    });
    assert!(!panics.wait().unwrap().success());
    is_broken_by(barrier.join(), panics.id());
    barrier.reset().unwrap();
    assert!(barrier.join().is_ok());
}

fn a_party_that_gives_up_may_come_again() {
    let barrier = barrier::<2>();
    let party = barrier.join().unwrap();
    let soon = Duration::from_millis(10);
    for _ in 0..3 {
        assert!(matches!(party.wait_timeout(soon), Err(Error::TimedOut)));
    }
    let other = child_of_a_party(|| {
        let party = barrier.join().unwrap();
        party.wait().unwrap();
    });
    party.wait().unwrap();
    passes(&other);
    // The party that left in order broke nothing.
    assert!(!barrier.is_broken());
}

fn signals_end_no_wait() {
    let (barrier, interruptions) = (barrier::<2>(), Interruptions::new());
    let joined = Signal::new();
    let waiter = child(|| {
        interruptions.allow();
        let party = barrier.join().unwrap();
        joined.give();
        party.wait().unwrap();
    });
    joined.wait();
    interruptions.send_where(&waiter, waits);
    barrier.join().unwrap().wait().unwrap();
    passes(&waiter);
}

fn a_reset_lets_another_party_in() {
    let barrier = barrier::<2>();
    let own = barrier.join().unwrap();
    for _ in 0..50 {
        let dies = party(&barrier, 1);
        own.wait().unwrap();
        kill(&dies);
        is_broken_by(own.wait(), dies.id());
        assert_eq!(barrier.parties(), 1);
        barrier.reset().unwrap();
        assert!(!barrier.is_broken());
    }
    // Succeeds when there is nothing to repair.
    barrier.reset().unwrap();
}

fn a_thread_that_ends_breaks_it_and_its_slot_waits_for_the_process() {
    let barrier = barrier::<2>();
    let (ended, over) = (Signal::new(), Signal::new());
    let process = child(|| {
        std::thread::scope(|scope| {
            let ends = scope.spawn(|| std::mem::forget(barrier.join().unwrap()));
            // The end of a scope does not imply that the kernel has finished with its threads.
            ends.join().unwrap();
        });
        ended.give();
        over.wait();
    });
    ended.wait();
    is_broken_by(barrier.join(), process.id());
    assert!(matches!(barrier.reset(), Err(Error::HolderThreadEnded)));
    over.give();
    passes(&process);
    barrier.reset().unwrap();
    assert!(barrier.join().is_ok());
}

#[derive(ShmSafe)]
#[repr(C)]
struct Hall {
    barrier: SharedBarrier<4>,
    rounds: SharedCounter,
    broken: SharedCounter,
    stop: AtomicU32,
}

fn kills_at_any_instant_break_the_round_and_strand_nobody() {
    const KILLS: u32 = 600;
    let hall = Shared::anonymous(Hall {
        barrier: SharedBarrier::new(),
        rounds: SharedCounter::new(0),
        broken: SharedCounter::new(0),
        stop: AtomicU32::new(0),
    })
    .unwrap();
    // A party that receives the error of a death repairs the barrier and continues.
    let work = || {
        let hall = &hall;
        child(move || {
            let party = loop {
                match hall.barrier.join() {
                    Ok(party) => break party,
                    Err(Error::BarrierBroken { .. }) => hall.barrier.reset().unwrap(),
                    Err(Error::WouldBlock) => std::thread::yield_now(),
                    Err(other) => panic!("{other}"),
                }
            };
            while hall.stop.load(SeqCst) == 0 {
                match party.wait() {
                    Ok(outcome) => _ = hall.rounds.add(outcome.is_leader().into()),
                    Err(Error::BarrierBroken { .. }) => {
                        hall.broken.add(1);
                        hall.barrier.reset().unwrap();
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            // The other parties may be in a round that this party has not reached.
            loop {
                nix::unistd::pause();
            }
        })
    };
    let mut parties = [(); 4].map(|()| work());
    let mut random = Random::new(29);
    for _ in 0..KILLS {
        let victim = random.below(4) as usize;
        let rounds = hall.rounds.get() + 1 + random.below(10);
        until(|| hall.rounds.get() >= rounds);
        for _ in 0..random.below(3_000) {
            std::hint::spin_loop();
        }
        kill(&parties[victim]);
        parties[victim] = work();
    }
    let rounds = hall.rounds.get() + 50;
    until_idly(|| hall.rounds.get() >= rounds);
    assert!(hall.broken.get() > 0);
    hall.stop.store(1, SeqCst);
    parties.iter().for_each(kill);
    hall.barrier.reset().unwrap();
    assert_eq!(hall.barrier.parties(), 0);
}

/// The waiter resets the barrier as soon as it receives the error. The thread that panicked may not
/// have finished leaving yet.
fn a_panic_breaks_it_once() {
    const PANICS: u64 = 300;
    let barrier = barrier::<2>();
    let told = AtomicU64::new(0);
    let joined = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let party = barrier.join().unwrap();
            joined.wait();
            while told.load(SeqCst) < PANICS {
                is_told(&party);
                barrier.reset().unwrap();
                told.fetch_add(1, SeqCst);
            }
        });
        joined.wait();
        for panics in 1..=PANICS {
            let _ = std::panic::catch_unwind(|| {
                let _party = loop {
                    if let Ok(party) = barrier.join() {
                        break party;
                    }
                };
                // Panics without printing a message for each panic.
                std::panic::resume_unwind(Box::new(()));
            });
            until(|| told.load(SeqCst) >= panics || waiter.is_finished());
            assert!(!barrier.is_broken(), "still broken after panic {panics}");
            assert_eq!(told.load(SeqCst), panics, "a panic was reported twice");
        }
    });
}

#[track_caller]
fn is_told<const N: usize>(party: &BarrierParty<'_, N>) {
    let outcome = party.wait();
    assert!(
        matches!(outcome, Err(Error::BarrierBroken { .. })),
        "{:?}",
        outcome.is_ok()
    );
}

/// The child joins and dies between the parent's check of the slot and its attempt to acquire it.
fn a_party_that_dies_as_another_joins_is_told_of() {
    let barrier = barrier::<1>();
    for death in 0..150 {
        let dies = child_of_a_party(|| {
            loop {
                if let Ok(party) = barrier.join() {
                    std::mem::forget(party);
                    // SAFETY: ends the process, which has one thread.
                    unsafe { libc::_exit(0) };
                }
            }
        });
        let mut told = false;
        let mut look = || match barrier.join() {
            Ok(party) => drop(party),
            Err(Error::BarrierBroken { .. }) => {
                told = true;
                barrier.reset().unwrap();
            }
            Err(_) => {}
        };
        while dies.try_wait().unwrap().is_none() {
            (0..50).for_each(|_| look());
        }
        look();
        look();
        assert!(told, "death {death} was not reported");
    }
}
