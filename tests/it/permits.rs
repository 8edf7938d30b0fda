//! Permits in one process, placed and in-process.

use pshared::{Error, Permit, Shared, SharedPermits};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// Returns in-process permits and permits in a map.
fn both<const N: usize>() -> [Box<dyn Deref<Target = SharedPermits<N>> + Sync>; 2] {
    let placed = Shared::anonymous(SharedPermits::new()).unwrap();
    [Box::new(Box::new(SharedPermits::new())), Box::new(placed)]
}

#[test]
fn permits_are_acquired_until_none_is_left_and_are_released() {
    for permits in both::<3>() {
        let mut held: Vec<_> = (0..3).map(|_| permits.try_acquire().unwrap()).collect();
        let mut numbers: Vec<_> = held.iter().map(Permit::number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(permits.available(), 0);
        assert!(matches!(permits.try_acquire(), Err(Error::WouldBlock)));
        assert!(matches!(permits.acquire(), Err(Error::Deadlock)));
        // In another order than they were acquired.
        let second = held.remove(1);
        let number = second.number();
        drop(second);
        assert_eq!(permits.available(), 1);
        let again = permits.acquire_timeout(Duration::from_nanos(1)).unwrap();
        assert_eq!(again.number(), number);
        assert!(!again.previous_holder_died());
    }
}

#[test]
fn a_timeout_ends_the_wait_of_another_thread() {
    for permits in both::<2>() {
        let _held = [permits.acquire().unwrap(), permits.acquire().unwrap()];
        thread::scope(|scope| {
            scope.spawn(|| {
                for timeout in [Duration::ZERO, Duration::from_millis(5)] {
                    let outcome = permits.acquire_timeout(timeout);
                    assert!(matches!(outcome, Err(Error::TimedOut)));
                }
            });
        });
    }
}

#[test]
fn no_more_threads_are_inside_than_there_are_permits() {
    for permits in both::<3>() {
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let permit = permits.acquire().unwrap();
                        assert!(inside.fetch_add(1, SeqCst) < 3);
                        thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(permits.available(), 3);
    }
}

#[test]
fn in_process_permits_can_be_moved_and_are_free_after_placement() {
    let permits = SharedPermits::<2>::new();
    std::mem::forget(permits.acquire().unwrap());
    assert_eq!(permits.available(), 1);
    let moved = Box::new(permits);
    assert_eq!(moved.available(), 1);
    let placed = Shared::anonymous(*moved).unwrap();
    assert_eq!(placed.available(), 2);
    let zeroed = Shared::<SharedPermits<127>>::zeroed().unwrap();
    let all: Vec<_> = (0..127).map(|_| zeroed.acquire().unwrap()).collect();
    assert!(matches!(zeroed.try_acquire(), Err(Error::WouldBlock)));
    assert_eq!(
        format!("{zeroed:?}"),
        "Shared(SharedPermits { permits: 127, available: 0, .. })"
    );
    drop(all);
}

#[test]
fn the_maximum_number_of_permits_can_be_waited_for_together() {
    let permits = Shared::<SharedPermits<127>>::zeroed().unwrap();
    let mut all: Vec<_> = (0..127).map(|_| permits.acquire().unwrap()).collect();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| permits.acquire().unwrap().number());
        thread::yield_now();
        let freed = all.swap_remove(77);
        let number = freed.number();
        drop(freed);
        assert_eq!(waiter.join().unwrap(), number);
    });
}

#[test]
fn a_map_with_a_leaked_permit_stays_mapped() {
    let permits = Shared::anonymous(SharedPermits::<2>::new()).unwrap();
    std::mem::forget(permits.acquire().unwrap());
    // If this unmapped the permit, the kernel would write to unmapped memory when the thread ends.
    drop(permits);
}
