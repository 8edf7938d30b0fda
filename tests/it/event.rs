//! Events in one process.

use pshared::{Shared, SharedCounter, SharedEvent, ShmSafe};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn an_event_stays_set_until_it_is_reset() {
    let event = SharedEvent::new();
    assert!(!event.is_set() && !event.reset());
    assert!(event.wait_timeout(Duration::ZERO).is_err());
    event.set();
    event.set();
    event.wait();
    event.wait();
    assert!(event.is_set() && event.wait_timeout(Duration::ZERO).is_ok());
    assert!(event.reset());
    assert!(
        !event.is_set() && !event.reset() && event.wait_timeout(Duration::from_nanos(1)).is_err()
    );
}

#[test]
fn a_set_advances_the_sequence_and_a_reset_does_not() {
    let event = SharedEvent::default();
    assert_eq!(event.sequence(), 0);
    event.set();
    event.set();
    event.reset();
    assert_eq!(event.sequence(), 2);
    assert_eq!(event.wait_past(0), 2);
    assert_eq!(event.wait_past(1), 2);
    assert_eq!(event.wait_past_timeout(2, Duration::ZERO).ok(), None);
    assert_eq!(
        event.wait_past_timeout(2, Duration::from_nanos(1)).ok(),
        None
    );
    event.set();
    assert_eq!(event.wait_past_timeout(2, LONG).ok(), Some(3));
}

#[test]
fn the_sequence_wraps_around_and_goes_on() {
    // An event is one word: 30 bits of sequence number over two bits of flags.
    let placed = Shared::anonymous(SharedEvent::new()).unwrap();
    // SAFETY: the word is atomic, and no other thread uses the event now.
    unsafe {
        (&raw const *placed)
            .cast_mut()
            .cast::<u32>()
            .write(u32::MAX << 2)
    };
    let last = placed.sequence();
    assert_eq!(last, (1 << 30) - 1);
    placed.set();
    assert_eq!((placed.sequence(), placed.is_set()), (0, true));
    assert_eq!(placed.wait_past(last), 0);
}

#[test]
fn a_set_wakes_every_waiter() {
    for _ in 0..50 {
        let event = Shared::anonymous(SharedEvent::new()).unwrap();
        thread::scope(|scope| {
            for index in 0..8 {
                let event = &event;
                scope.spawn(move || match index % 4 {
                    0 => event.wait(),
                    1 => assert!(event.wait_timeout(LONG).is_ok()),
                    2 => assert_eq!(event.wait_past(0), 1),
                    _ => assert_eq!(event.wait_past_timeout(0, LONG).ok(), Some(1)),
                });
            }
            event.set();
        });
    }
}

#[test]
fn a_waiter_returns_although_the_event_is_reset_at_once() {
    // The waiter must begin to wait before the event is set. It therefore sets `begun` first, and
    // the setter continues to set and reset `event` until the waiter has returned.
    let (begun, event) = (SharedEvent::new(), SharedEvent::new());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            begun.set();
            event.wait();
        });
        begun.wait();
        while !waiter.is_finished() {
            event.set();
            event.reset();
        }
    });
}

#[test]
fn every_reader_sees_the_last_set() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct State {
        event: SharedEvent,
        text: SharedCounter,
    }
    const LAST: u64 = 20_000;
    let state = Shared::anonymous(State {
        event: SharedEvent::new(),
        text: SharedCounter::new(0),
    })
    .unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut seen = 0;
                while u64::from(seen) < LAST {
                    let now = state.event.wait_past(seen);
                    assert!(now > seen);
                    // The reader sees what was written before the set.
                    assert!(state.text.get() >= now.into());
                    seen = now;
                }
            });
        }
        for _ in 0..LAST {
            state.text.add(1);
            state.event.set();
        }
    });
}

#[test]
fn two_events_make_two_threads_alternate() {
    let (ping, pong, counter) = (SharedEvent::new(), SharedEvent::new(), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..5_000 {
                ping.wait_past(turn);
                assert_eq!(counter.fetch_add(1, Relaxed), 2 * u64::from(turn));
                pong.set();
            }
        });
        for turn in 0..5_000 {
            ping.set();
            pong.wait_past(turn);
            assert_eq!(counter.fetch_add(1, Relaxed), 2 * u64::from(turn) + 1);
        }
    });
}

#[test]
fn an_event_keeps_its_state_when_it_is_placed() {
    let event = SharedEvent::new();
    event.set();
    let placed = Shared::anonymous(event).unwrap();
    assert!(placed.is_set());
    assert_eq!(placed.sequence(), 1);
}
