//! The barrier: the parties meet, and the death of a party is reported to the others.

use crate::member_slots::Group;
use crate::model::{Count, Model};
use crate::raw::multi::barrier::BarrierError;
use crate::raw::multi::member_slot::MemberState;
use crate::sys::{Deadline, World, current_thread, join_all};
use std::rc::Rc;
use std::sync::Arc;

const ONE_PREEMPTION: Model = Model {
    preemptions: 1,
    ..Model::PLAIN
};

impl Group {
    /// Writes, waits at the barrier, and reads what the other parties wrote.
    fn meet(&self, number: usize) -> Result<bool, BarrierError> {
        // SAFETY: loom panics before it calls the closure if another access is not ordered with
        // this one.
        self.written[number].with_mut(|written| unsafe { *written = 1 });
        let leads = self.barrier.wait(&self.slots, None)?;
        for written in &self.written {
            // SAFETY: as above.
            written.with(|written| assert_eq!(unsafe { *written }, 1));
        }
        Ok(leads)
    }
}

/// Threads 2 and 3 and the first thread meet in one round. Exactly one of them leads.
pub fn three_meet(world: &Rc<World>) {
    let group = Group::new(world, 3);
    group.register(0);
    let others = [2, 3].map(|tid| {
        group.in_thread(world, tid, move |group| {
            let number = tid as usize - 1;
            group.register(number);
            let leads = group.meet(number).expect("no party dies");
            loom::thread::yield_now();
            group.release(number);
            leads
        })
    });
    let mut leaders = usize::from(group.meet(0).expect("no party dies"));
    for leads in join_all(others) {
        leaders += usize::from(leads.expect("no thread is killed"));
    }
    assert_eq!(leaders, 1);
    group.release(0);
}

/// Three threads, one preemption.
#[test]
fn a_round_publishes_the_writes_of_all_parties_and_has_one_leader() {
    let seen = ONE_PREEMPTION.holds(three_meet);
    assert!(seen.sleeps.get() > 0);
}

/// Two threads, two preemptions, two rounds.
#[test]
fn two_parties_complete_two_rounds() {
    let seen = Model::PLAIN.holds(|world| {
        let group = Group::new(world, 2);
        group.register(0);
        let other = group.in_thread(world, 2, |group| {
            group.register(1);
            let leads = [(); 2].map(|()| {
                group
                    .barrier
                    .wait(&group.slots, None)
                    .expect("no party dies")
            });
            group.release(1);
            leads
        });
        let own = [(); 2].map(|()| {
            group
                .barrier
                .wait(&group.slots, None)
                .expect("no party dies")
        });
        let theirs = other.join().expect("no thread is killed");
        assert!((0..2).all(|round| own[round] != theirs[round]));
        group.release(0);
    });
    assert!(seen.sleeps.get() > 0);
}

fn wait_at_barrier(group: &Group) -> Result<bool, BarrierError> {
    group.barrier.wait(&group.slots, None)
}

/// Thread 2 takes a slot, arrives once and ends. Thread 3 and the first thread are parties too, and
/// wait twice. Their first wait meets thread 2 or reports its death. Their second wait reports the
/// death.
fn a_party_dies(world: &Rc<World>, reported: &Count) {
    let group = Group::new(world, 3);
    group.register(0);
    group.in_thread(world, 4, |group| group.register(1)).join();
    // Thread 4 has ended with this slot. The first thread takes it over and releases it for thread
    // 2.
    let after_a_death = group.slots[1].acquire(current_thread(), None).is_ok();
    assert!(after_a_death);
    group.release(1);
    let dies = group.in_thread(world, 2, |group| {
        group.register(1);
        let _ = wait_at_barrier(group);
    });
    let waits = group.in_thread(world, 3, move |group| {
        group.register(2);
        let outcomes = [wait_at_barrier(group), wait_at_barrier(group)];
        group.release(2);
        outcomes
    });
    let own = [wait_at_barrier(&group), wait_at_barrier(&group)];
    let theirs = waits.join().expect("only thread 2 may be killed");
    dies.join();
    for outcomes in [own, theirs] {
        let met = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert!(met <= 1 && outcomes[1].is_err(), "thread 2 arrives once");
        if let Err(BarrierError::Broken(slot, _)) = outcomes[1] {
            assert_eq!(slot, 1);
            reported.add();
        }
    }
    assert_eq!(
        own[0].is_ok(),
        theirs[0].is_ok(),
        "a round ends for all or for none"
    );
    group.release(0);
}

/// Three threads and an earlier one, one preemption. Thread 2 arrives in one round and ends.
#[test]
fn the_end_of_a_party_is_reported_to_the_others() {
    let reported = Arc::<Count>::default();
    let count = reported.clone();
    let seen = ONE_PREEMPTION.holds(move |world| a_party_dies(world, &count));
    assert!(seen.sleeps.get() > 0 && reported.get() == 2 * seen.runs.get());
}

/// Three threads, one preemption. Thread 2 arrives in one round and ends, or is killed at an
/// earlier step. The first thread receives the error from its second wait at the latest.
#[test]
fn the_death_of_a_killed_party_is_reported_to_the_others() {
    let seen = ONE_PREEMPTION.holds_if_killed(2, |world| {
        let group = Group::new(world, 2);
        group.register(0);
        let dies = group.in_thread(world, 2, |group| {
            if group.slots[1]
                .acquire(current_thread(), Some(Deadline::now()))
                .is_ok()
            {
                group.slots[1].register(current_thread());
                let _ = wait_at_barrier(group);
            }
        });
        // If thread 2 died before it had the slot, the first thread would wait for ever. In that
        // case thread 3 takes the slot and ends with it.
        loom::thread::yield_now();
        let ended = group.in_thread(world, 3, move |group| {
            dies.join();
            if group.slots[1].state() == MemberState::Free {
                group.register(1);
            }
        });
        let first = wait_at_barrier(&group);
        let second = wait_at_barrier(&group);
        assert!(first.is_ok() || first == second);
        assert!(matches!(second, Err(BarrierError::Broken(1, _))));
        ended.join();
        group.release(0);
    });
    assert!(seen.sleeps.get() > 0 && seen.kills.get() > 0);
}

/// Three threads, one preemption. A broken barrier is reset while a party may still wait there. A
/// party that still waits receives the error.
#[test]
fn a_reset_reports_an_error_to_a_party_that_still_waits() {
    let seen = ONE_PREEMPTION.holds(|world| {
        let group = Group::new(world, 2);
        let waits = group.in_thread(world, 2, |group| {
            group.register(0);
            let outcome = group.barrier.wait(&group.slots, None);
            group.release(0);
            outcome
        });
        group.in_thread(world, 3, |group| group.register(1)).join();
        while !group.barrier.is_broken() {
            // The first thread that finds the death breaks the barrier.
            let _ = group.barrier.check(&group.slots);
        }
        group
            .barrier
            .reset(current_thread(), &group.slots)
            .expect("its process is gone");
        assert!(group.slots[1].state() == MemberState::Free);
        // If thread 2 arrives after the reset, it waits for another party.
        group.register(1);
        world.deadline_passes();
        let other = group.barrier.wait(&group.slots, Some(Deadline::Ahead));
        if let Err(BarrierError::Wait(_)) = other {
            world.seen.timeouts.add();
            group.barrier.break_for(1, None);
        }
        let outcome = waits.join().expect("no thread is killed");
        assert_eq!(outcome.is_ok(), other.is_ok());
        group.release(1);
    });
    assert!(seen.runs.get() > 1);
}

/// Two threads, two preemptions. The arrival of a party that gives up does not count.
#[test]
fn an_arrival_that_is_withdrawn_does_not_count() {
    let seen = Model::PLAIN.holds(|world| {
        let group = Group::new(world, 2);
        group.register(0);
        let timed = group.in_thread(world, 2, |group| {
            group.register(1);
            let first = group.barrier.wait(&group.slots, Some(Deadline::Ahead));
            if first.is_err() {
                group
                    .barrier
                    .wait(&group.slots, None)
                    .expect("no party dies");
            }
            group.release(1);
            first.is_err()
        });
        world.deadline_passes();
        group
            .barrier
            .wait(&group.slots, None)
            .expect("no party dies");
        if timed.join().expect("no thread is killed") {
            world.seen.timeouts.add();
        }
        group.release(0);
    });
    assert!(seen.timeouts.get() > 0);
}

/// Three threads, one preemption. The kernel marks no slot. A party finds the death when its
/// recheck timer ends.
#[test]
fn a_party_finds_an_unmarked_death_when_its_recheck_timer_expires() {
    let seen = Model {
        kernel_marks: false,
        ..ONE_PREEMPTION
    }
    .holds(|world| {
        let group = Group::new(world, 2);
        let waits = group.in_thread(world, 3, |group| {
            group.register(0);
            let outcome = wait_at_barrier(group);
            group.release(0);
            outcome
        });
        group.in_thread(world, 2, |group| group.register(1)).join();
        world.expire_recheck_timers();
        assert_eq!(waits.join(), Some(Err(BarrierError::Broken(1, Some(2)))));
    });
    assert!(seen.sleeps.get() > 0);
}

/// Three threads, one preemption. One party ends. Another party, which the kernel may have woken
/// for that death, is killed at each of its steps. The first thread still receives the error,
/// without its recheck timer.
#[test]
fn a_killed_party_does_not_consume_the_wake_for_another_death() {
    let seen = ONE_PREEMPTION.holds_if_killed(3, |world| {
        let group = Group::new(world, 3);
        group.register(0);
        let killed = group.in_thread(world, 3, |group| {
            group.register(2);
            let _ = wait_at_barrier(group);
            group.release(2);
        });
        let ends = group.in_thread(world, 2, |group| {
            group.register(1);
            loom::thread::yield_now();
        });
        let outcome = wait_at_barrier(&group);
        assert!(matches!(outcome, Err(BarrierError::Broken(1 | 2, _))));
        ends.join();
        killed.join();
        group.release(0);
    });
    assert!(seen.sleeps.get() > 0 && seen.kills.get() > 0);
}
