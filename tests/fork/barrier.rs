//! A barrier between processes: rounds, deaths at every point, repairs.

use crate::harness::Kills;
use crate::steps::{Interruptions, Random, Signal, until_idly};
use crate::support::{
    child, child_elsewhere as child_of_a_party, create, kill, kill_unreaped, open, passes,
    sleeps_on_any, until,
};
use pshared::fork::Child;
use pshared::{BarrierParty, Error, Shared, SharedBarrier, SharedCounter, ShmSafe};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

crate::tests!(
    parties_meet_in_every_round_and_one_leads,
    a_barrier_works_between_threads_and_in_a_file,
    a_party_inherited_by_fork_belongs_to_the_parent,
    a_death_breaks_the_wait_of_every_waiter,
    a_death_outside_a_wait_breaks_the_next_wait,
    a_waiters_death_breaks_the_barrier_for_the_others,
    a_waiter_killed_as_it_is_woken_does_not_swallow_the_report,
    a_party_that_panics_breaks_the_barrier,
    a_party_that_timed_out_may_wait_again,
    signals_end_no_wait,
    a_reset_lets_another_party_in,
    an_ended_thread_breaks_the_barrier_and_keeps_its_slot_until_its_process_ends,
    kills_at_any_instant_break_the_round_and_strand_no_party: 600 kills of "barrier",
    a_panic_breaks_the_barrier_once,
    a_party_that_dies_as_another_joins_is_reported,
);

const LONG: Duration = Duration::from_secs(3600);

fn barrier<const N: usize>() -> Shared<SharedBarrier<N>> {
    Shared::anonymous(SharedBarrier::new()).unwrap()
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
fn party_awaiting_break<const N: usize>(barrier: &SharedBarrier<N>, dead: &AtomicU32) -> Child {
    let joined = Signal::new();
    let child = child_of_a_party(|| {
        let party = barrier.join().unwrap();
        joined.give();
        is_broken_by(party.wait(), dead.load(SeqCst));
        is_broken_by(party.wait_timeout(LONG), dead.load(SeqCst));
    });
    joined.wait();
    child
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

fn a_barrier_works_between_threads_and_in_a_file() {
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

fn a_party_inherited_by_fork_belongs_to_the_parent() {
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

fn a_death_breaks_the_wait_of_every_waiter() {
    for _ in 0..50 {
        let (barrier, dead) = (
            barrier::<4>(),
            Shared::anonymous(AtomicU32::new(0)).unwrap(),
        );
        let dies = party(&barrier, 0);
        dead.store(dies.id(), SeqCst);
        let others = [(); 3].map(|()| party_awaiting_break(&barrier, &dead));
        until_idly(|| others.iter().all(|other| sleeps_on_any(other.id())));
        kill(&dies);
        others.iter().for_each(passes);
        assert!(barrier.is_broken());
    }
}

fn a_death_outside_a_wait_breaks_the_next_wait() {
    let barrier = barrier::<2>();
    let dies = party(&barrier, 1);
    let own = barrier.join().unwrap();
    own.wait().unwrap();
    kill_unreaped(&dies);
    is_broken_by(own.wait(), dies.id());
    is_broken_by(barrier.join(), dies.id());
    dies.wait().unwrap();
}

fn a_waiters_death_breaks_the_barrier_for_the_others() {
    for _ in 0..30 {
        let (barrier, dead) = (
            barrier::<4>(),
            Shared::anonymous(AtomicU32::new(0)).unwrap(),
        );
        let dies = party(&barrier, 1);
        dead.store(dies.id(), SeqCst);
        let others = [(); 2].map(|()| party_awaiting_break(&barrier, &dead));
        until_idly(|| {
            others
                .iter()
                .chain([&dies])
                .all(|other| sleeps_on_any(other.id()))
        });
        kill(&dies);
        others.iter().for_each(passes);
    }
}

/// One party dies, and so does one of the waiters that its death woke, often before it has run.
fn a_waiter_killed_as_it_is_woken_does_not_swallow_the_report() {
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
            until_idly(|| sleeps_on_any(waiter.id()));
            waiter
        });
        kill(&dies);
        waiters[0].kill().unwrap();
        waiters[0].wait().unwrap();
        waiters[1..].iter().for_each(passes);
    }
}

fn a_party_that_panics_breaks_the_barrier() {
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

fn a_party_that_timed_out_may_wait_again() {
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
    interruptions.send_when(&waiter, sleeps_on_any);
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

fn an_ended_thread_breaks_the_barrier_and_keeps_its_slot_until_its_process_ends() {
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
struct State {
    barrier: SharedBarrier<4>,
    rounds: SharedCounter,
    broken: SharedCounter,
    stop: AtomicU32,
}

fn kills_at_any_instant_break_the_round_and_strand_no_party(run: &Kills<'_>) {
    let state = Shared::anonymous(State {
        barrier: SharedBarrier::new(),
        rounds: SharedCounter::new(0),
        broken: SharedCounter::new(0),
        stop: AtomicU32::new(0),
    })
    .unwrap();
    // A party that receives the error of a death repairs the barrier and continues.
    let work = || {
        let state = &state;
        child(move || {
            let party = loop {
                match state.barrier.join() {
                    Ok(party) => break party,
                    Err(Error::BarrierBroken { .. }) => state.barrier.reset().unwrap(),
                    Err(Error::WouldBlock) => std::thread::yield_now(),
                    Err(other) => panic!("{other}"),
                }
            };
            while state.stop.load(SeqCst) == 0 {
                match party.wait() {
                    Ok(outcome) => _ = state.rounds.add(outcome.is_leader().into()),
                    Err(Error::BarrierBroken { .. }) => {
                        state.broken.add(1);
                        state.barrier.reset().unwrap();
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
    let mut random = Random::new(run.seed());
    while run.go_on() {
        let victim = random.below(4) as usize;
        let rounds = state.rounds.get() + 1 + random.below(10);
        until(|| state.rounds.get() >= rounds);
        for _ in 0..random.below(3_000) {
            std::hint::spin_loop();
        }
        run.kill(&parties[victim]);
        parties[victim] = work();
        run.note(state.rounds.get(), state.broken.get());
    }
    let rounds = state.rounds.get() + 50;
    until_idly(|| state.rounds.get() >= rounds);
    assert!(state.broken.get() > 0);
    state.stop.store(1, SeqCst);
    parties.iter().for_each(kill);
    state.barrier.reset().unwrap();
    assert_eq!(state.barrier.parties(), 0);
}

/// The waiter resets the barrier as soon as it receives the error. The thread that panicked may not
/// have finished leaving yet.
fn a_panic_breaks_the_barrier_once() {
    const PANICS: u64 = 300;
    let barrier = barrier::<2>();
    let reports = AtomicU64::new(0);
    let joined = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let party = barrier.join().unwrap();
            joined.wait();
            while reports.load(SeqCst) < PANICS {
                assert_broken(&party);
                barrier.reset().unwrap();
                reports.fetch_add(1, SeqCst);
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
            until(|| reports.load(SeqCst) >= panics || waiter.is_finished());
            assert!(!barrier.is_broken(), "still broken after panic {panics}");
            assert_eq!(reports.load(SeqCst), panics, "a panic was reported twice");
        }
    });
}

#[track_caller]
fn assert_broken<const N: usize>(party: &BarrierParty<'_, N>) {
    let outcome = party.wait();
    assert!(
        matches!(outcome, Err(Error::BarrierBroken { .. })),
        "{:?}",
        outcome.is_ok()
    );
}

/// The child joins and dies between the parent's check of the slot and its attempt to acquire it.
fn a_party_that_dies_as_another_joins_is_reported() {
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
        let mut reported = false;
        let mut check = || match barrier.join() {
            Ok(party) => drop(party),
            Err(Error::BarrierBroken { .. }) => {
                reported = true;
                barrier.reset().unwrap();
            }
            Err(_) => {}
        };
        while dies.try_wait().unwrap().is_none() {
            (0..50).for_each(|_| check());
        }
        check();
        check();
        assert!(reported, "death {death} was not reported");
    }
}
