//! A barrier: parties meet, and are told of a party that dies.

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
    /// Writes, meets the others, and reads what they wrote.
    fn meet(&self, number: usize) -> Result<bool, BarrierError> {
        // SAFETY: loom panics before it calls the closure where another access is not ordered with this one.
        self.news[number].with_mut(|news| unsafe { *news = 1 });
        let leads = self.barrier.wait(&self.slots, None)?;
        for news in &self.news {
            // SAFETY: as above.
            news.with(|news| assert_eq!(unsafe { *news }, 1));
        }
        Ok(leads)
    }
}

/// Threads 2 and 3 and the first one meet, in one round.
pub fn three_meet(world: &Rc<World>) {
    let hall = Hall::new(world, 3);
    hall.register(0);
    let others = [2, 3].map(|tid| {
        hall.in_thread(world, tid, move |hall| {
            let number = tid as usize - 1;
            hall.register(number);
            let leads = hall.meet(number).expect("nobody dies");
            loom::thread::yield_now();
            hall.release(number);
            leads
        })
    });
    let mut leaders = usize::from(hall.meet(0).expect("nobody dies"));
    for leads in join_all(others) {
        leaders += usize::from(leads.expect("nobody is killed"));
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
                [(); 2].map(|()| hall.barrier.wait(&hall.slots, None).expect("nobody dies"));
            hall.release(1);
            leads
        });
        let own = [(); 2].map(|()| hall.barrier.wait(&hall.slots, None).expect("nobody dies"));
        let theirs = other.join().expect("nobody is killed");
        assert!((0..2).all(|round| own[round] != theirs[round]));
        hall.release(0);
    });
    assert!(seen.sleeps.get() > 0);
}

fn at_the_barrier(hall: &Hall) -> Result<bool, BarrierError> {
    hall.barrier.wait(&hall.slots, None)
}

/// Thread 2 has a slot, arrives and ends; 3 and the first thread, parties too, wait twice: they meet thread 2 or are told of its
/// death, and then they are told.
fn a_party_dies(world: &Rc<World>, told: &Count) {
    let hall = Hall::new(world, 3);
    hall.register(0);
    hall.in_thread(world, 4, |hall| hall.register(1)).join();
    // The slot of a thread that has ended: the next one is on it from the start.
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
        assert!(met <= 1 && outcomes[1].is_err(), "thread 2 comes once");
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

/// Three threads and one before, one preemption; thread 2 comes to one round and ends.
#[test]
fn the_others_are_told_of_a_party_that_ends() {
    let told = Arc::<Count>::default();
    let count = told.clone();
    let seen = ONE_SWITCH.holds(move |world| a_party_dies(world, &count));
    assert!(seen.sleeps.get() > 0 && told.get() == 2 * seen.runs.get());
}

/// The same, and it is killed at each of its steps once it has its slot.
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
        // Where it dies before it has its slot, the first thread waits for somebody who never comes.
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

/// Three threads, one preemption. A broken barrier is reset while a party still waits there: it is told all the same.
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
            // By whoever sees it first.
            let _ = hall.barrier.look(&hall.slots);
        }
        hall.barrier
            .reset(current_thread(), &hall.slots)
            .expect("its process is gone");
        assert!(hall.slots[1].state() == MemberState::Free);
        // Where it came after the reset, it waits for another party.
        hall.register(1);
        world.deadline_passes();
        let other = hall.barrier.wait(&hall.slots, Some(Deadline::Ahead));
        if let Err(BarrierError::MultiError(_)) = other {
            world.seen.timeouts.add();
            hall.barrier.give_up(1, 0);
        }
        let told = waits.join().expect("nobody is killed");
        assert_eq!(told.is_ok(), other.is_ok());
        hall.release(1);
    });
    assert!(seen.runs.get() > 1);
}

/// Three threads, two preemptions. A party gives up, and its arrival does not count.
#[test]
fn an_arrival_that_is_withdrawn_does_not_count() {
    let seen = Model::PLAIN.holds(|world| {
        let hall = Hall::new(world, 2);
        hall.register(0);
        let timed = hall.in_thread(world, 2, |hall| {
            hall.register(1);
            let first = hall.barrier.wait(&hall.slots, Some(Deadline::Ahead));
            if first.is_err() {
                hall.barrier.wait(&hall.slots, None).expect("nobody dies");
            }
            hall.release(1);
            first.is_err()
        });
        world.deadline_passes();
        hall.barrier.wait(&hall.slots, None).expect("nobody dies");
        if timed.join().expect("nobody is killed") {
            world.seen.timeouts.add();
        }
        hall.release(0);
    });
    assert!(seen.timeouts.get() > 0);
}

/// Three threads, one preemption; the kernel marks nothing. A party finds the death when its timer ends.
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
        assert_eq!(waits.join(), Some(Err(BarrierError::Broken(1, 2))));
    });
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, one preemption. A party ends, and the one that may be woken for it is killed at each of its steps: the news comes
/// to the first thread all the same, without a timer.
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
