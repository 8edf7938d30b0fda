//! What must fail: the models of the other files with a fault in `sys`, or with a broken twin.

use crate::auto_reset_event;
use crate::barrier::three_meet;
use crate::broken::{self, GivesUpWithoutTry, IgnoresOtherSleepers, PlainZero, Sound, TwoSteps};
use crate::condvar::{
    a_notifier_is_killed, a_waiter_is_killed, one_takes_letters, two_take_letters,
    two_take_letters_added_at_once, wait, wait_for_a_notification_only, wait_with_a_late_read,
};
use crate::ended_thread::a_guard_is_leaked;
use crate::event::{a_setter_is_killed, two_wait_for_the_event};
use crate::exclusion::lockers;
use crate::expiry::one_waiter_has_a_deadline;
use crate::futex_semaphore::{one_at_a_time, two_wait_for_permits};
use crate::lock::Lock;
use crate::mark_without_waiters::a_holder_dies;
use crate::member_slots::{Group, two_watch_a_worker_die};
use crate::model::Model;
use crate::once::{all_initialize, completes_early, one_only_waits};
use crate::permits::two_wait_for_two_permits;
use crate::raw::auto_reset_event::AutoResetEvent;
use crate::raw::condvar::Condvar;
use crate::raw::event::Event;
use crate::raw::futex_semaphore::FutexSemaphore;
use crate::raw::robust::Robust;
use crate::raw::strategies::futex::FutexWord;
use crate::raw::strategies::spin::SpinWord;
use crate::raw::strategies::ticket::TicketWords;
use crate::sys::{AtomicU64, Fault, PendingRule, join_all};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

/// The plain model with a fault.
fn with(fault: Fault) -> Model {
    Model {
        fault: Some(fault),
        ..Model::PLAIN
    }
}

/// Asserts that loom found a deadlock: no thread can go on, and a thread sleeps.
#[track_caller]
fn strands_a_sleeper(message: String) {
    assert!(message.starts_with("deadlock; threads"), "{message}");
}

/// Asserts that loom found two accesses to the data without an order between them.
#[track_caller]
fn is_a_data_race(message: String) {
    assert!(message.contains("Causality violation"), "{message}");
}

mod locks {
    use super::*;

    /// Two threads lock without acquire ordering.
    #[test]
    fn a_lock_without_acquire_ordering_publishes_nothing() {
        is_a_data_race(with(Fault::NoAcquire).fails(|world| lockers::<Robust>(world, &[1, 1])));
    }

    /// Two threads. The common unlock does not release.
    #[test]
    fn an_unlock_without_release_ordering_publishes_nothing() {
        let model = with(Fault::NoRelease);
        is_a_data_race(model.fails(|world| lockers::<Robust>(world, &[1, 1])));
    }

    /// The unlock that leaves `WAITERS` does not release. This shows only if a third thread
    /// acquires the word, because the wake orders a woken thread.
    #[test]
    fn a_contended_unlock_without_release_ordering_publishes_nothing() {
        let model = with(Fault::NoReleaseWithWaiters);
        is_a_data_race(model.fails(|world| lockers::<Robust>(world, &[1, 1, 1])));
    }

    /// The word changes between the compare and the sleep. The thread that changed it has already
    /// sent its wake.
    #[test]
    fn a_futex_that_compares_before_it_sleeps_strands_a_sleeper() {
        let model = with(Fault::CompareApartFromSleep);
        strands_a_sleeper(model.fails(|world| lockers::<Robust>(world, &[1, 1])));
    }

    /// The operation clears `WAITERS` in the word of a third thread, on which another thread
    /// sleeps.
    #[test]
    fn a_wake_op_that_clears_and_does_not_wake_strands_a_sleeper() {
        let model = with(Fault::ClearingWakeIsLost);
        strands_a_sleeper(model.fails(|world| lockers::<Robust>(world, &[1, 1, 1])));
    }

    /// A thread is killed between its release and its wake, or after it was woken.
    #[test]
    fn a_kernel_that_does_not_wake_for_a_pending_lock_strands_a_sleeper() {
        let model = Model {
            pending_rule: PendingRule::Zero,
            ..Model::PLAIN
        };
        strands_a_sleeper(model.fails_if_killed(2, |world| lockers::<Robust>(world, &[1, 1])));
    }

    /// The kernel does not know that the killed thread still had to send a wake.
    #[test]
    fn an_unlock_that_clears_pending_before_its_wake_strands_a_sleeper() {
        let model = with(Fault::PendingClearedEarly);
        strands_a_sleeper(model.fails_if_killed(2, |world| lockers::<Robust>(world, &[1, 1])));
    }

    /// The mark of a dead thread's lock comes without `WAITERS`, and no recheck timer ends. One
    /// waiter is woken, and its unlock does not know of the other one.
    #[test]
    fn a_mark_without_waiters_strands_a_sleeper() {
        let model = with(Fault::MarkDropsWaiters);
        strands_a_sleeper(model.fails(|world| {
            let (_lock, waiters) = a_holder_dies(world);
            join_all(waiters);
        }));
    }

    /// The kernel does not mark the lock of a dead thread, and no recheck timer ends.
    #[test]
    fn a_kernel_that_does_not_walk_the_list_strands_a_sleeper() {
        let model = Model {
            kernel_marks: false,
            ..Model::PLAIN
        };
        strands_a_sleeper(model.fails_if_killed(2, |world| {
            let lock = Lock::<Robust>::place(world);
            let lockers =
                [2, 3].map(|tid| lock.in_thread(world, tid, |world, lock| lock.section(world)));
            join_all(lockers);
        }));
    }

    /// The next locker uses the data at the same time as the thread with the leaked guard.
    #[test]
    fn a_lock_that_takes_a_live_process_for_dead_breaks_exclusion() {
        let model = with(Fault::LiveProcessesSeemDead);
        is_a_data_race(model.fails(|world| a_guard_is_leaked(world, &[3])));
    }
}

mod twins {
    use super::*;

    /// Shows that the two models below fail because of the flaws, not because of the twin.
    #[test]
    fn the_twin_without_a_flaw_holds() {
        let model = Model {
            preemptions: 1,
            ..Model::PLAIN
        };
        model.holds_if_killed(2, |world| lockers::<Sound>(world, &[1, 1, 1]));
        model.holds(|world| one_waiter_has_a_deadline::<Sound>(world, false));
    }

    /// The unlocking thread dies between its store of 0 and its wake. A third thread has taken the
    /// word meanwhile, without `WAITERS`. So the kernel sees an owner and wakes no thread, and the
    /// owner's unlock sees no waiter. Without a death the flaw does not show.
    #[test]
    fn a_plain_zero_unlock_strands_a_sleeper() {
        let model = Model {
            preemptions: 1,
            ..Model::PLAIN
        };
        model.holds(|world| lockers::<PlainZero>(world, &[1, 1, 1]));
        strands_a_sleeper(
            model.fails_if_killed(2, |world| lockers::<PlainZero>(world, &[1, 1, 1])),
        );
    }

    /// The wake was meant for the waiter that still sleeps, and is lost with the waiter that gave
    /// up.
    #[test]
    fn a_waiter_that_times_out_without_a_try_strands_a_sleeper() {
        strands_a_sleeper(
            Model::PLAIN
                .fails(|world| one_waiter_has_a_deadline::<GivesUpWithoutTry>(world, false)),
        );
    }
}

/// The strategies that record no owner.
mod plain {
    use super::*;
    use crate::plain::{Plain, lockers};

    fn check_publish_nothing(fault: Fault) {
        fn check<P: Plain>(fault: Fault) {
            is_a_data_race(with(fault).fails(|world| lockers::<P>(world, &[1, 1])));
        }
        check::<FutexWord>(fault);
        check::<SpinWord>(fault);
        check::<TicketWords>(fault);
    }

    #[test]
    fn locks_without_acquire_ordering_publish_nothing() {
        check_publish_nothing(Fault::NoAcquire);
    }

    #[test]
    fn unlocks_without_release_ordering_publish_nothing() {
        check_publish_nothing(Fault::NoRelease);
    }

    /// Two threads see the word free, and both take it.
    #[test]
    fn a_lock_by_a_load_and_a_store_breaks_exclusion() {
        is_a_data_race(Model::PLAIN.fails(|world| lockers::<TwoSteps>(world, &[1, 1])));
    }

    /// A woken thread takes the word as if no other thread slept.
    #[test]
    fn a_futex_lock_that_ignores_other_sleepers_strands_one() {
        strands_a_sleeper(
            Model::PLAIN.fails(|world| lockers::<IgnoresOtherSleepers>(world, &[1, 1, 1])),
        );
    }

    /// The release comes between the compare and the sleep.
    #[test]
    fn a_futex_that_compares_before_it_sleeps_strands_a_sleeper() {
        let model = with(Fault::CompareApartFromSleep);
        strands_a_sleeper(model.fails(|world| lockers::<FutexWord>(world, &[1, 1])));
    }
}

mod events {
    use super::*;

    /// A waiter sees the event set, but not what was written before.
    #[test]
    fn a_set_without_release_ordering_publishes_nothing() {
        let model = with(Fault::NoRelease);
        is_a_data_race(model.fails(|world| two_wait_for_the_event(world, Event::set)));
    }

    /// The same on the other side.
    #[test]
    fn a_wait_without_acquire_ordering_publishes_nothing() {
        let model = with(Fault::NoAcquire);
        is_a_data_race(model.fails(|world| two_wait_for_the_event(world, Event::set)));
    }

    /// A waiter sets `WAITERS` between the check and the change.
    #[test]
    fn a_set_that_checks_for_waiters_before_its_change_strands_a_sleeper() {
        strands_a_sleeper(
            Model::PLAIN.fails(|world| two_wait_for_the_event(world, broken::set_after_a_check)),
        );
    }

    /// The set comes between the compare and the sleep.
    #[test]
    fn a_futex_that_compares_before_it_sleeps_strands_a_sleeper() {
        let model = with(Fault::CompareApartFromSleep);
        strands_a_sleeper(model.fails(|world| two_wait_for_the_event(world, Event::set)));
    }

    /// Only the recheck timer ends the sleep of a waiter that a dead setter did not wake.
    #[test]
    fn a_setter_killed_before_its_wake_strands_a_waiter_without_a_recheck_timer() {
        let model = Model::PLAIN;
        strands_a_sleeper(model.fails_if_killed(2, |world| a_setter_is_killed(world, false)));
    }
}

mod counts {
    use super::*;

    /// Two threads use one permit in turn, without an order between them.
    #[test]
    fn a_wait_without_acquire_ordering_publishes_nothing() {
        is_a_data_race(with(Fault::NoAcquire).fails(one_at_a_time));
    }

    /// The same on the other side.
    #[test]
    fn a_post_without_release_ordering_publishes_nothing() {
        is_a_data_race(with(Fault::NoRelease).fails(one_at_a_time));
    }

    /// Two posts, the second of which wakes no thread.
    #[test]
    fn a_post_that_wakes_only_from_zero_strands_a_sleeper() {
        strands_a_sleeper(
            Model::PLAIN
                .fails(|world| two_wait_for_permits(world, broken::post_and_wake_from_zero)),
        );
    }

    /// The post comes between the compare and the sleep.
    #[test]
    fn a_futex_that_compares_before_it_sleeps_strands_a_sleeper() {
        let model = with(Fault::CompareApartFromSleep);
        let post = |count: &FutexSemaphore| assert!(count.post(2));
        strands_a_sleeper(model.fails(move |world| two_wait_for_permits(world, post)));
    }

    /// A counter that adds with a load and a store.
    #[test]
    fn an_addition_in_two_steps_is_lost() {
        let message = Model::PLAIN.fails(|world| {
            let counter = Rc::new(AtomicU64::new(0));
            let adders = [2, 3].map(|tid| {
                let counter = counter.clone();
                world.spawn(tid, move || {
                    counter.store(counter.load(Relaxed) + 1, Relaxed)
                })
            });
            join_all(adders);
            assert_eq!(counter.load(Relaxed), 2, "an addition is lost");
        });
        assert!(message.contains("an addition is lost"), "{message}");
    }
}

mod condvars {
    use super::*;

    /// The letter comes between the release of the mutex and the read of the sequence.
    #[test]
    fn a_wait_that_reads_the_sequence_after_unlocking_strands_a_sleeper() {
        strands_a_sleeper(Model::PLAIN.fails(|world| {
            two_take_letters::<Robust>(world, wait_with_a_late_read, Condvar::notify_one);
        }));
    }

    /// A waiter is counted between the check and the change.
    #[test]
    fn a_notification_that_checks_for_sleepers_before_its_change_strands_one() {
        strands_a_sleeper(Model::PLAIN.fails(|world| {
            two_take_letters::<Robust>(world, wait, broken::notify_after_a_check);
        }));
    }

    /// When the second letter comes, the second sleeper is no longer counted.
    #[test]
    fn a_notification_of_one_that_resets_the_count_strands_the_other() {
        strands_a_sleeper(Model::PLAIN.fails(|world| {
            two_take_letters::<Robust>(world, wait, broken::notify_one_and_reset_count);
        }));
    }

    /// A thread is counted and goes to sleep between the wake that found no sleeper and the
    /// clearing.
    #[test]
    fn a_clearing_that_does_not_wake_strands_a_sleeper() {
        strands_a_sleeper(Model::PLAIN.fails(|world| {
            one_takes_letters::<Robust>(world, broken::notify_one_and_clear_without_wake)
        }));
    }

    /// The notification comes between the compare and the sleep.
    #[test]
    fn a_futex_that_compares_before_it_sleeps_strands_a_sleeper() {
        let model = with(Fault::CompareApartFromSleep);
        strands_a_sleeper(model.fails(|world| {
            two_take_letters_added_at_once::<Sound>(world, wait, Condvar::notify_all);
        }));
    }

    /// A killed waiter took the wake with it. Only the recheck timer ends the sleep of the other
    /// waiter.
    #[test]
    fn a_killed_waiter_strands_a_waiter_without_a_recheck_timer() {
        let model = Model::PLAIN;
        strands_a_sleeper(
            model.fails_if_killed(2, |world| a_waiter_is_killed::<Robust>(world, false)),
        );
    }

    /// The notifier is killed between its change of the sequence and its wake.
    #[test]
    fn a_killed_notifier_strands_a_waiter_without_a_recheck_timer() {
        strands_a_sleeper(Model::PLAIN.fails_if_killed(2, |world| {
            a_notifier_is_killed(world, Condvar::notify_all, wait, false);
        }));
    }

    /// The notifier is killed between its change of the data and its notification.
    #[test]
    fn a_killed_notifier_strands_a_waiter_that_does_not_recheck_the_condition() {
        strands_a_sleeper(Model::PLAIN.fails_if_killed(2, |world| {
            a_notifier_is_killed(
                world,
                Condvar::notify_one,
                wait_for_a_notification_only,
                true,
            );
        }));
    }
}

mod once {
    use super::*;

    /// A thread that finds the value initialized sees the earlier writes only by chance.
    #[test]
    fn a_completion_without_release_ordering_publishes_nothing() {
        is_a_data_race(with(Fault::NoRelease).fails(|world| all_initialize(world, 2)));
    }

    /// The same on the other side.
    #[test]
    fn a_check_without_acquire_ordering_publishes_nothing() {
        is_a_data_race(with(Fault::NoAcquire).fails(|world| all_initialize(world, 2)));
    }

    /// A half-initialized value is read.
    #[test]
    fn an_early_completion_exposes_a_half_initialized_value() {
        let message = Model::PLAIN.fails(completes_early);
        let is_torn = message.contains("half-initialized value was read");
        assert!(
            is_torn || message.contains("Causality violation"),
            "{message}"
        );
    }

    /// The kernel does not mark the lock of the thread that died during the initialization.
    #[test]
    fn a_kernel_that_does_not_walk_the_list_strands_the_next_initializer() {
        let model = Model {
            kernel_marks: false,
            ..Model::PLAIN
        };
        strands_a_sleeper(model.fails_if_killed(2, |world| all_initialize(world, 2)));
    }

    /// The initializing thread dies before its wake. Only the recheck timer ends the wait.
    #[test]
    fn a_death_before_the_wake_strands_a_waiter_without_a_recheck_timer() {
        strands_a_sleeper(Model::PLAIN.fails_if_killed(2, |world| one_only_waits(world, false)));
    }
}

mod reentrant {
    use super::*;
    use crate::reentrant::{lockers, release_at_once};

    /// Another thread acquires the lock while the first one still uses it.
    #[test]
    fn a_lock_that_is_free_after_the_first_release_breaks_exclusion() {
        let message = Model::PLAIN.fails(|world| lockers(world, 2, release_at_once));
        let is_a_race = message.contains("Causality violation");
        assert!(is_a_race || message.contains("left == right"), "{message}");
    }
}

mod auto_events {
    use super::*;

    /// A thread does not see what another one wrote before it set the event.
    #[test]
    fn a_set_without_release_ordering_publishes_nothing() {
        let model = with(Fault::NoRelease);
        is_a_data_race(
            model.fails(|world| auto_reset_event::pass_one_set(world, AutoResetEvent::set)),
        );
    }

    /// The same on the other side.
    #[test]
    fn a_wait_without_acquire_ordering_publishes_nothing() {
        let model = with(Fault::NoAcquire);
        is_a_data_race(
            model.fails(|world| auto_reset_event::pass_one_set(world, AutoResetEvent::set)),
        );
    }

    /// `WAITERS` is no longer set for the second sleeper when the first one sets the event.
    #[test]
    fn a_set_that_clears_waiters_strands_the_other_sleeper() {
        strands_a_sleeper(Model::PLAIN.fails(|world| {
            auto_reset_event::pass_one_set(world, broken::set_and_clear_waiters);
        }));
    }

    /// A killed waiter was woken for a set. Only the recheck timer finds that set.
    #[test]
    fn a_killed_waiter_strands_a_waiter_without_a_recheck_timer() {
        strands_a_sleeper(Model::PLAIN.fails_if_killed(2, |world| {
            auto_reset_event::a_waiter_is_killed(world, false)
        }));
    }
}

mod permits {
    use super::*;

    const ONE_PREEMPTION: Model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };

    /// Both wakes reach one sleeper, which takes one permit. The other sleeper sleeps although a
    /// permit is free.
    #[test]
    fn a_sleeper_on_several_words_that_keeps_consumed_wakes_strands_another() {
        let acquire = broken::without_queue_lock::<false>;
        strands_a_sleeper(
            ONE_PREEMPTION.fails(move |world| two_wait_for_two_permits(world, acquire)),
        );
    }

    /// Propagating the wakes is enough if no thread dies, but not if the woken thread dies. The
    /// queue solves this.
    #[test]
    fn a_dead_sleeper_on_several_words_strands_another_without_a_queue_lock() {
        let acquire = broken::without_queue_lock::<true>;
        ONE_PREEMPTION.holds(move |world| two_wait_for_two_permits(world, acquire));
        strands_a_sleeper(
            ONE_PREEMPTION
                .fails_if_killed(2, move |world| two_wait_for_two_permits(world, acquire)),
        );
    }

    /// A waiter takes a permit, but does not see the writes of its last owner.
    #[test]
    fn permits_without_acquire_ordering_publish_nothing() {
        let acquire = broken::without_queue_lock::<true>;
        is_a_data_race(
            with(Fault::NoAcquire).fails(move |world| two_wait_for_two_permits(world, acquire)),
        );
    }
}

mod slots {
    use super::*;

    const ONE_PREEMPTION: Model = Model {
        preemptions: 1,
        ..Model::PLAIN
    };

    /// The kernel wakes one watcher, and the other watcher sleeps on.
    #[test]
    fn a_watcher_that_propagates_no_wake_strands_another() {
        let watch = broken::watch_without_propagation;
        strands_a_sleeper(ONE_PREEMPTION.fails(move |world| two_watch_a_worker_die(world, watch)));
    }

    /// Only the slot reports a death to the other parties. If the kernel does not mark the slot,
    /// the parties sleep until a recheck timer ends.
    #[test]
    fn a_kernel_that_does_not_walk_the_list_strands_the_other_parties() {
        let model = Model {
            kernel_marks: false,
            ..ONE_PREEMPTION
        };
        strands_a_sleeper(model.fails(|world| {
            let group = Group::new(world, 2);
            group.register(0);
            group.in_thread(world, 2, |group| group.register(1)).join();
            assert!(group.barrier.wait(&group.slots, None).is_err());
        }));
    }

    /// The word changes between the compare and the sleep.
    #[test]
    fn a_futex_that_compares_before_it_sleeps_strands_a_party() {
        strands_a_sleeper(with(Fault::CompareApartFromSleep).fails(three_meet));
    }

    #[test]
    fn a_round_without_ordering_publishes_nothing() {
        is_a_data_race(with(Fault::NoRelease).fails(three_meet));
        is_a_data_race(with(Fault::NoAcquire).fails(three_meet));
    }
}
