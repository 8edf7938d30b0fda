//! The protocols that are wrong, each with a short run that shows why.

use stateright::{Checker, HasDiscoveries, Model};

use super::lock::{Lock, WakeOrder};
use super::properties::{EACH_DEATH_IS_REPORTED_ONCE, EXCLUSION, LIST_IS_CORRECT, NO_LOST_WAKEUP};
use super::report;
use super::variant::Variant;

/// Searches `lock` until `property` is violated, once with wakes in any order and once with wakes
/// in the order of sleep. The search is breadth first, so it prints a short run.
fn rejects(lock: Lock, property: &'static str) {
    for wake_order in [WakeOrder::Any, WakeOrder::Fifo] {
        let lock = Lock { wake_order, ..lock };
        let checker = lock
            .checker()
            .finish_when(HasDiscoveries::AnyOf([property].into()))
            .spawn_bfs()
            .join();
        let states = checker.unique_state_count();
        let path = checker.discovery(property);
        let path = path.unwrap_or_else(|| panic!("{lock}: passes, {states} states"));
        println!("{lock}: violates \"{property}\" after {states} states");
        println!("{}", report::table(&lock, path));
    }
}

/// The unlocking thread dies between its store of 0 and its wake. A third thread has acquired the
/// word meanwhile on the fast path, without `WAITERS`. The kernel sees an owner and wakes no
/// thread, and the owner's unlock sees no waiter. A woken waiter that dies has the same effect, but
/// that takes a fourth thread.
#[test]
fn a_plain_zero_unlock_strands_a_sleeper() {
    let lock = Lock {
        variant: Variant::PlainZeroUnlock,
        deaths: 1,
        ..Lock::PLAIN
    };
    rejects(lock, NO_LOST_WAKEUP);
}

/// ABA: between the wake that found no waiter and the compare-exchange, other threads acquire the
/// word, sleep on it and release it. The word has the same value again, but now a sleeping waiter
/// depends on the bit. The thread that should wake this waiter dies after the word has an owner
/// without `WAITERS`.
#[test]
fn clearing_waiters_by_compare_exchange_strands_a_sleeper() {
    let lock = Lock {
        variant: Variant::CompareExchangeClear,
        rounds: 2,
        deaths: 1,
        ..Lock::PLAIN
    };
    rejects(lock, NO_LOST_WAKEUP);
}

/// The unlocking thread reads a count of 0, and a waiter increments the count before the
/// compare-exchange.
#[test]
fn clearing_waiters_by_a_count_of_sleepers_strands_a_sleeper() {
    let lock = Lock {
        variant: Variant::CountedSleepers,
        rounds: 2,
        deaths: 1,
        ..Lock::PLAIN
    };
    rejects(lock, NO_LOST_WAKEUP);
}

/// The wake was meant for any waiter, and is lost with the waiter that gave up.
#[test]
fn an_expired_waiter_that_does_not_retry_strands_a_sleeper() {
    let lock = Lock {
        variant: Variant::ExpiredWithoutRetry,
        timed: 1,
        ..Lock::PLAIN
    };
    rejects(lock, NO_LOST_WAKEUP);
}

/// Before Linux 6.2 the kernel wakes no waiter for a thread killed between its release and its
/// wake.
#[test]
fn a_kernel_before_6_2_strands_a_sleeper() {
    let lock = Lock {
        variant: Variant::KernelBefore6_2,
        threads: 2,
        deaths: 1,
        ..Lock::PLAIN
    };
    rejects(lock, NO_LOST_WAKEUP);
}

/// Without the pending lock the kernel does not know that a wake is due.
#[test]
fn clearing_pending_before_the_wake_strands_a_sleeper() {
    let lock = Lock {
        variant: Variant::PendingClearedBeforeWake,
        threads: 2,
        deaths: 1,
        ..Lock::PLAIN
    };
    rejects(lock, NO_LOST_WAKEUP);
}

/// The store overwrites the word of a thread that has acquired the lock meanwhile.
#[test]
fn clearing_waiters_by_a_store_breaks_exclusion() {
    let lock = Lock {
        variant: Variant::StoreClear,
        ..Lock::PLAIN
    };
    rejects(lock, EXCLUSION);
}

/// The store overwrites the word of a dead thread, or the mark that the kernel left there.
#[test]
fn clearing_waiters_by_a_store_hides_a_death() {
    let lock = Lock {
        variant: Variant::StoreClear,
        deaths: 1,
        ..Lock::PLAIN
    };
    rejects(lock, EACH_DEATH_IS_REPORTED_ONCE);
}

/// Two threads load the free word.
#[test]
fn taking_a_free_word_by_a_store_breaks_exclusion() {
    let lock = Lock {
        variant: Variant::TakenByStore,
        ..Lock::PLAIN
    };
    rejects(lock, EXCLUSION);
}

/// The kernel would access the lock when the thread dies, even if the lock is no longer mapped.
#[test]
fn giving_up_without_clearing_pending_leaves_it_set() {
    let lock = Lock {
        variant: Variant::PendingNotCleared,
        threads: 2,
        timed: 1,
        ..Lock::PLAIN
    };
    rejects(lock, LIST_IS_CORRECT);
}
