//! Events between processes: each set wakes every waiter, whichever process dies meanwhile.

use crate::files::{create, open, place};
use crate::harness::Kills;
use crate::steps::{Interruptions, Random};
use crate::support::{child, kill, passes, sleeps, sleeps_on, until};
use pshared::{Shared, SharedCounter, SharedEvent, ShmSafe};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

crate::tests!(
    each_set_wakes_every_reader,
    a_reader_that_starts_before_the_writer_is_woken_by_it,
    a_reader_that_starts_after_the_writer_sees_its_value,
    readers_see_the_last_set_of_a_killed_writer,
    a_setter_killed_between_its_change_and_its_wake_leaves_no_waiter_asleep: 150 kills of "event",
    killed_readers_do_not_affect_other_readers,
    signals_end_no_wait,
    a_set_followed_at_once_by_a_reset_wakes_every_waiter,
);

const LONG: Duration = Duration::from_secs(3600);

fn event() -> Shared<SharedEvent> {
    Shared::anonymous(SharedEvent::new()).unwrap()
}

fn each_set_wakes_every_reader() {
    const READERS: u64 = 12;
    const SETS: u32 = 300;
    let (event, read) = (event(), Shared::anonymous(SharedCounter::new(0)).unwrap());
    let readers: Vec<_> = (0..READERS)
        .map(|index| {
            let (event, read) = (&event, &read);
            child(move || {
                for seen in 0..SETS {
                    let now = if index % 2 == 0 {
                        event.wait_past(seen)
                    } else {
                        event.wait_past_timeout(seen, LONG).unwrap()
                    };
                    // The next set happens only after all readers have counted this one.
                    assert_eq!(now, seen + 1);
                    read.add(1);
                }
            })
        })
        .collect();
    for count in 1..=SETS {
        event.set();
        until(|| read.get() == u64::from(count) * READERS);
    }
    readers.iter().for_each(passes);
}

/// The value in a file: one program writes a number and sets the event, others read it.
#[derive(ShmSafe)]
#[repr(C)]
struct State {
    number: SharedCounter,
    written: SharedEvent,
}

fn state() -> State {
    State {
        number: SharedCounter::new(0),
        written: SharedEvent::new(),
    }
}

fn a_reader_that_starts_before_the_writer_is_woken_by_it() {
    let (_directory, path) = place();
    let reader = child(|| {
        let state = crate::files::open_or_create(&path, state).unwrap();
        state.written.wait();
        assert_eq!(state.number.get(), 42);
    });
    until(|| sleeps(reader.id()));
    let state = open::<State>(&path).unwrap();
    state.number.add(42);
    state.written.set();
    passes(&reader);
}

fn a_reader_that_starts_after_the_writer_sees_its_value() {
    let (_directory, path) = place();
    passes(&child(|| {
        let state = create(&path, state()).unwrap();
        state.number.add(42);
        state.written.set();
    }));
    let reader = child(|| {
        let state = open::<State>(&path).unwrap();
        state.written.wait();
        assert_eq!((state.number.get(), state.written.wait_past(0)), (42, 1));
    });
    passes(&reader);
}

fn readers_see_the_last_set_of_a_killed_writer() {
    let mut random = Random::new(11);
    for _ in 0..30 {
        let (_directory, path) = place();
        let state = create(&path, state()).unwrap();
        let (last, over) = (Shared::anonymous(AtomicU32::new(0)).unwrap(), event());
        let read = || {
            let state = open::<State>(&path).unwrap();
            let mut seen = 0;
            // Runs until the parent has published the last sequence number.
            while !over.is_set() || seen != last.load(Relaxed) {
                if let Ok(now) = state
                    .written
                    .wait_past_timeout(seen, Duration::from_millis(1))
                {
                    assert!(now > seen && state.number.get() >= now.into());
                    seen = now;
                }
            }
        };
        let readers = [child(read), child(read)];
        let writer = child(|| {
            let state = open::<State>(&path).unwrap();
            loop {
                state.number.add(1);
                state.written.set();
            }
        });
        let until_written = 1 + random.below(5_000);
        until(|| state.number.get() >= until_written);
        kill(&writer);
        last.store(state.written.sequence(), Relaxed);
        over.set();
        readers.iter().for_each(passes);
        assert!(state.number.get() - u64::from(state.written.sequence()) <= 1);
    }
}

fn a_setter_killed_between_its_change_and_its_wake_leaves_no_waiter_asleep(run: &Kills<'_>) {
    const READERS: usize = 3;
    let mut random = Random::new(run.seed());
    let (event, over) = (event(), event());
    let seen = Shared::anonymous([const { AtomicU32::new(0) }; READERS]).unwrap();
    let readers: Vec<_> = seen
        .iter()
        .map(|seen| {
            let (event, over) = (&event, &over);
            child(move || {
                let mut last = 0;
                while !over.is_set() {
                    // There is no deadline: after a lost wake, only the periodic recheck would end
                    // the wait.
                    last = event.wait_past(last);
                    seen.store(last, Relaxed);
                }
            })
        })
        .collect();
    while run.go_on() {
        // The readers sleep when the setter starts, so its first sets have waiters to wake.
        until(|| readers.iter().all(|reader| sleeps_on(reader.id(), &*event)));
        let before = event.sequence();
        let setter = child(|| {
            loop {
                event.set();
            }
        });
        until(|| event.sequence() != before);
        for _ in 0..random.below(30) {
            std::hint::spin_loop();
        }
        run.kill(&setter);
        let last = event.sequence();
        until(|| seen.iter().all(|seen| seen.load(Relaxed) == last));
        run.note(last.into(), 0);
    }
    over.set();
    event.set();
    readers.iter().for_each(passes);
}

fn killed_readers_do_not_affect_other_readers() {
    let event = event();
    for round in 0..20 {
        let victims: Vec<_> = (0..3)
            .map(|_| child(|| _ = event.wait_past(round)))
            .collect();
        let reader = child(|| assert_eq!(event.wait_past(round), round + 1));
        until(|| {
            victims
                .iter()
                .chain([&reader])
                .all(|reader| sleeps_on(reader.id(), &*event))
        });
        victims.iter().for_each(kill);
        event.set();
        passes(&reader);
    }
}

fn signals_end_no_wait() {
    let waits: [fn(&SharedEvent); 4] = [
        SharedEvent::wait,
        |event| assert!(event.wait_timeout(LONG).is_ok()),
        |event| assert_eq!(event.wait_past(0), 1),
        |event| assert_eq!(event.wait_past_timeout(0, LONG).ok(), Some(1)),
    ];
    for wait in waits {
        let (event, interruptions) = (event(), Interruptions::new());
        let waiter = child(|| {
            interruptions.allow();
            wait(&event);
        });
        interruptions.send(&waiter);
        event.set();
        passes(&waiter);
    }
}

fn a_set_followed_at_once_by_a_reset_wakes_every_waiter() {
    for _ in 0..50 {
        let event = event();
        let waiters: Vec<_> = (0..3).map(|_| child(|| event.wait())).collect();
        until(|| waiters.iter().all(|waiter| sleeps_on(waiter.id(), &*event)));
        event.set();
        assert!(event.reset());
        waiters.iter().for_each(passes);
    }
}
