//! The barrier: the parties meet, and the death of a party is reported to the others.

use crate::member_slots::Hall;
use crate::model::{Count, Model};
use crate::raw::multi::barrier::BarrierError;
use crate::raw::multi::member_slot::MemberState;
use crate::sys::{Deadline, World, current_thread, join_all};
use std::rc::Rc;
use std::sync::Arc;

const ONE_SWITCH: Model = Model {
    preemptions: 1,
    ..Model::PLAIN
};

impl Hall {
    /// Writes, waits at the barrier, and reads what the other parties wrote.
    fn meet(&self, number: usize) -> Result<bool, BarrierError> {
        // SAFETY: loom panics before it calls the closure if another access is not ordered with
        // this one.
        self.news[number].with_mut(|news| unsafe { *news = 1 });
        let leads = self.barrier.wait(&self.slots, None)?;
        for news in &self.news {
            // SAFETY: as above.
            news.with(|news| assert_eq!(unsafe { *news }, 1));
        }
        Ok(leads)
    }
}

/// Threads 2 and 3 and the first thread meet in one round. Exactly one of them leads.
pub fn three_meet(world: &Rc<World>) {
    let hall = Hall::new(world, 3);
    hall.register(0);
    let others = [2, 3].map(|tid| {
        hall.in_thread(world, tid, move |hall| {
            let number = tid as usize - 1;
            hall.register(number);
            let leads = hall.meet(number).expect("no party dies");
            loom::thread::yield_now();
            hall.release(number);
            leads
        })
    });
    let mut leaders = usize::from(hall.meet(0).expect("no party dies"));
    for leads in join_all(others) {
        leaders += usize::from(leads.expect("no thread is killed"));
    }
    assert_eq!(leaders, 1);
    hall.release(0);
}

/// Three threads, one preemption.
#[test]
fn parties_meet_see_what_the_others_wrote_and_one_leads() {
    let seen = ONE_SWITCH.holds(three_meet);
    assert!(seen.sleeps.get() > 0);
}

/// Two threads, two preemptions, two rounds.
#[test]
fn two_parties_meet_twice() {
    let seen = Model::PLAIN.holds(|world| {
        let hall = Hall::new(world, 2);
        hall.register(0);
        let other = hall.in_thread(world, 2, |hall| {
            hall.register(1);
            let leads =
                [(); 2].map(|()| hall.barrier.wait(&hall.slots, None).expect("no party dies"));
            hall.release(1);
            leads
        });
        let own = [(); 2].map(|()| hall.barrier.wait(&hall.slots, None).expect("no party dies"));
        let theirs = other.join().expect("no thread is killed");
        assert!((0..2).all(|round| own[round] != theirs[round]));
        hall.release(0);
    });
    assert!(seen.sleeps.get() > 0);
}

fn at_the_barrier(hall: &Hall) -> Result<bool, BarrierError> {
    hall.barrier.wait(&hall.slots, None)
}

/// Thread 2 takes a slot, arrives once and ends. Thread 3 and the first thread are parties too, and
/// wait twice. Their first wait meets thread 2 or reports its death. Their second wait reports the
/// death.
fn a_party_dies(world: &Rc<World>, told: &Count) {
    let hall = Hall::new(world, 3);
    hall.register(0);
    hall.in_thread(world, 4, |hall| hall.register(1)).join();
    // Thread 4 has ended with this slot. The first thread takes it over and releases it for thread
    // 2.
    let after_a_death = hall.slots[1].acquire(current_thread(), None).is_ok();
    assert!(after_a_death);
    hall.release(1);
    let dies = hall.in_thread(world, 2, |hall| {
        hall.register(1);
        let _ = at_the_barrier(hall);
    });
    let waits = hall.in_thread(world, 3, move |hall| {
        hall.register(2);
        let outcomes = [at_the_barrier(hall), at_the_barrier(hall)];
        hall.release(2);
        outcomes
    });
    let own = [at_the_barrier(&hall), at_the_barrier(&hall)];
    let theirs = waits.join().expect("only thread 2 may be killed");
    dies.join();
    for outcomes in [own, theirs] {
        let met = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert!(met <= 1 && outcomes[1].is_err(), "thread 2 arrives once");
        if let Err(BarrierError::Broken(slot, _)) = outcomes[1] {
            assert_eq!(slot, 1);
            told.add();
        }
    }
    assert_eq!(
        own[0].is_ok(),
        theirs[0].is_ok(),
        "a round ends for all or for none"
    );
    hall.release(0);
}

/// Three threads and an earlier one, one preemption. Thread 2 arrives in one round and ends.
#[test]
fn the_others_are_told_of_a_party_that_ends() {
    let told = Arc::<Count>::default();
    let count = told.clone();
    let seen = ONE_SWITCH.holds(move |world| a_party_dies(world, &count));
    assert!(seen.sleeps.get() > 0 && told.get() == 2 * seen.runs.get());
}

/// Three threads, one preemption. Thread 2 arrives in one round and ends, or is killed at an
/// earlier step. The first thread receives the error from its second wait at the latest.
#[test]
fn the_others_are_told_of_a_party_that_is_killed() {
    let seen = ONE_SWITCH.holds_if_killed(2, |world| {
        let hall = Hall::new(world, 2);
        hall.register(0);
        let dies = hall.in_thread(world, 2, |hall| {
            if hall.slots[1]
                .acquire(current_thread(), Some(Deadline::now()))
                .is_ok()
            {
                hall.slots[1].register(current_thread());
                let _ = at_the_barrier(hall);
            }
        });
        // If thread 2 died before it had the slot, the first thread would wait for ever. In that
        // case thread 3 takes the slot and ends with it.
        loom::thread::yield_now();
        let ended = hall.in_thread(world, 3, move |hall| {
            dies.join();
            if hall.slots[1].state() == MemberState::Free {
                hall.register(1);
            }
        });
        let first = at_the_barrier(&hall);
        let second = at_the_barrier(&hall);
        assert!(first.is_ok() || first == second);
        assert!(matches!(second, Err(BarrierError::Broken(1, _))));
        ended.join();
        hall.release(0);
    });
    assert!(seen.sleeps.get() > 0 && seen.kills.get() > 0);
}

/// Three threads, one preemption. A broken barrier is reset while a party may still wait there. A
/// party that still waits receives the error.
#[test]
fn a_reset_tells_who_still_waits() {
    let seen = ONE_SWITCH.holds(|world| {
        let hall = Hall::new(world, 2);
        let waits = hall.in_thread(world, 2, |hall| {
            hall.register(0);
            let outcome = hall.barrier.wait(&hall.slots, None);
            hall.release(0);
            outcome
        });
        hall.in_thread(world, 3, |hall| hall.register(1)).join();
        while !hall.barrier.is_broken() {
            // The first thread that finds the death breaks the barrier.
            let _ = hall.barrier.check(&hall.slots);
        }
        hall.barrier
            .reset(current_thread(), &hall.slots)
            .expect("its process is gone");
        assert!(hall.slots[1].state() == MemberState::Free);
        // If thread 2 arrives after the reset, it waits for another party.
        hall.register(1);
        world.deadline_passes();
        let other = hall.barrier.wait(&hall.slots, Some(Deadline::Ahead));
        if let Err(BarrierError::MultiError(_)) = other {
            world.seen.timeouts.add();
            hall.barrier.break_for(1, None);
        }
        let told = waits.join().expect("no thread is killed");
        assert_eq!(told.is_ok(), other.is_ok());
        hall.release(1);
    });
    assert!(seen.runs.get() > 1);
}

/// Two threads, two preemptions. The arrival of a party that gives up does not count.
#[test]
fn an_arrival_that_is_withdrawn_does_not_count() {
    let seen = Model::PLAIN.holds(|world| {
        let hall = Hall::new(world, 2);
        hall.register(0);
        let timed = hall.in_thread(world, 2, |hall| {
            hall.register(1);
            let first = hall.barrier.wait(&hall.slots, Some(Deadline::Ahead));
            if first.is_err() {
                hall.barrier.wait(&hall.slots, None).expect("no party dies");
            }
            hall.release(1);
            first.is_err()
        });
        world.deadline_passes();
        hall.barrier.wait(&hall.slots, None).expect("no party dies");
        if timed.join().expect("no thread is killed") {
            world.seen.timeouts.add();
        }
        hall.release(0);
    });
    assert!(seen.timeouts.get() > 0);
}

/// Three threads, one preemption. The kernel marks no slot. A party finds the death when its
/// recheck timer ends.
#[test]
fn a_party_finds_an_unmarked_death_when_its_nap_ends() {
    let seen = Model {
        kernel_marks: false,
        ..ONE_SWITCH
    }
    .holds(|world| {
        let hall = Hall::new(world, 2);
        let waits = hall.in_thread(world, 3, |hall| {
            hall.register(0);
            let outcome = at_the_barrier(hall);
            hall.release(0);
            outcome
        });
        hall.in_thread(world, 2, |hall| hall.register(1)).join();
        world.naps_end();
        assert_eq!(waits.join(), Some(Err(BarrierError::Broken(1, Some(2)))));
    });
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, one preemption. One party ends. Another party, which the kernel may have woken
/// for that death, is killed at each of its steps. The first thread still receives the error,
/// without its recheck timer.
#[test]
fn who_is_woken_for_a_death_and_killed_takes_no_news_with_it() {
    let seen = ONE_SWITCH.holds_if_killed(3, |world| {
        let hall = Hall::new(world, 3);
        hall.register(0);
        let killed = hall.in_thread(world, 3, |hall| {
            hall.register(2);
            let _ = at_the_barrier(hall);
            hall.release(2);
        });
        let ends = hall.in_thread(world, 2, |hall| {
            hall.register(1);
            loom::thread::yield_now();
        });
        let told = at_the_barrier(&hall);
        assert!(matches!(told, Err(BarrierError::Broken(1 | 2, _))));
        ends.join();
        killed.join();
        hall.release(0);
    });
    assert!(seen.sleeps.get() > 0 && seen.kills.get() > 0);
}
