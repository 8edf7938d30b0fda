//! Locks beside glibc's own robust mutexes, which use the same robust list and the same
//! `list_op_pending` field.

use crate::pthread::{Protocol, PthreadMutex};
use crate::support::{Outcome, Stage, child, kill, outcome_of, passes, repaired};
use pshared::fork::Child;
use pshared::{Shared, SharedEvent, SharedMutex, SharedMutexGuard, ShmSafe};
use std::time::Duration;

crate::tests!(
    a_death_after_each_step_of_every_order_reports_every_held_lock,
    a_death_after_each_step_is_reported_with_priority_inheritance,
    a_timed_out_wait_for_a_glibc_mutex_leaves_its_holders_list_intact,
    a_timed_out_wait_for_a_glibc_mutex_leaves_the_waiters_list_intact,
    a_glibc_mutex_at_the_address_of_an_unmapped_lock_is_not_mistaken_for_it,
    an_unmapped_glibc_mutex_that_was_waited_for_is_not_accessed,
    a_holder_that_then_uses_glibc_mutexes_keeps_its_lock,
);

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    ours: [SharedMutex<u64>; 2],
    theirs: PthreadMutex,
    ready: SharedEvent,
}

impl State {
    fn new(protocol: Protocol) -> Shared<Self> {
        let state = Shared::anonymous(State {
            ours: [const { SharedMutex::new(0) }; 2],
            theirs: PthreadMutex::new(),
            ready: SharedEvent::new(),
        })
        .unwrap();
        state.theirs.init(protocol);
        state
    }

    /// Returns for each lock whether it reports a death: ours at 0 and 1, glibc's at 2. All locks
    /// are free and unpoisoned afterwards.
    fn deaths(&self) -> [bool; 3] {
        let ours = self.ours.each_ref().map(|lock| {
            let outcome = lock.lock_timeout(Duration::from_secs(60));
            let death = outcome.is_err();
            drop(repaired(outcome, 0));
            assert_eq!(outcome_of(lock.lock()), Outcome::Unpoisoned);
            death
        });
        let theirs = match self.theirs.try_lock() {
            Ok(()) => false,
            Err(libc::EOWNERDEAD) => {
                self.theirs.consistent();
                true
            }
            Err(number) => panic!("{}", std::io::Error::from_raw_os_error(number)),
        };
        self.theirs.unlock();
        [ours[0], ours[1], theirs]
    }
}

const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];
const STEPS: usize = 6;

/// Acquires three locks in the order `taken` and releases them in the order `given`. Stops after
/// `steps` of the six steps and returns which locks are held.
fn steps(state: &State, taken: [usize; 3], given: [usize; 3], steps: usize) -> [bool; 3] {
    let mut guards: [Option<SharedMutexGuard<'_, u64>>; 2] = [None, None];
    let mut held = [false; 3];
    let order = taken
        .iter()
        .map(|lock| (lock, true))
        .chain(given.iter().map(|lock| (lock, false)));
    for (&lock, takes) in order.take(steps) {
        held[lock] = takes;
        match (lock, takes) {
            (2, true) => state.theirs.lock().unwrap(),
            (2, false) => state.theirs.unlock(),
            (_, true) => guards[lock] = Some(state.ours[lock].lock().unwrap()),
            (_, false) => guards[lock] = None,
        }
    }
    std::mem::forget(guards);
    held
}

fn every_order(protocol: Protocol) {
    let state = State::new(protocol);
    for taken in ORDERS {
        for given in ORDERS {
            for count in 1..=STEPS {
                // The leader dies for an even count, another thread for an odd one.
                let dies = child(|| {
                    let run = || {
                        steps(&state, taken, given, count);
                        // SAFETY: ends the process at once, with the locks still held.
                        unsafe { libc::_exit(0) };
                    };
                    if count % 2 == 0 {
                        run();
                    }
                    std::thread::scope(|scope| {
                        scope.spawn(run);
                    });
                });
                passes(&dies);
                let mut held = [false; 3];
                let order = taken
                    .iter()
                    .map(|lock| (*lock, true))
                    .chain(given.iter().map(|lock| (*lock, false)));
                order
                    .take(count)
                    .for_each(|(lock, takes)| held[lock] = takes);
                assert_eq!(
                    state.deaths(),
                    held,
                    "taken {taken:?}, given {given:?}, {count} steps"
                );
            }
        }
    }
}

fn a_death_after_each_step_of_every_order_reports_every_held_lock() {
    every_order(Protocol::None);
}

fn a_death_after_each_step_is_reported_with_priority_inheritance() {
    every_order(Protocol::Inherit);
}

#[derive(ShmSafe)]
#[repr(C)]
struct TwoOfTheirs {
    theirs: [PthreadMutex; 2],
    stage: Stage,
}

impl TwoOfTheirs {
    /// Creates two mutexes of glibc, and a child that holds both.
    fn held(protocol: Protocol) -> (Shared<Self>, Child) {
        let theirs = [const { PthreadMutex::new() }; 2];
        let two = Shared::anonymous(TwoOfTheirs {
            theirs,
            stage: Stage::new(),
        })
        .unwrap();
        two.theirs.iter().for_each(|mutex| mutex.init(protocol));
        let holder = child(|| {
            two.theirs.iter().for_each(|mutex| mutex.lock().unwrap());
            two.stage.ready.set();
            two.stage.over.wait();
            two.theirs.iter().for_each(PthreadMutex::unlock);
        });
        two.stage.meet(&holder);
        (two, holder)
    }

    /// Waits for each mutex until the wait times out. glibc then leaves `list_op_pending`
    /// unchanged: it still names the mutex.
    fn wait_in_vain(&self) {
        for mutex in &self.theirs {
            assert_eq!(
                mutex.lock_timeout(Duration::from_millis(1)),
                Err(libc::ETIMEDOUT)
            );
        }
    }
}

fn a_timed_out_wait_for_a_glibc_mutex_leaves_its_holders_list_intact() {
    for protocol in [Protocol::None, Protocol::Inherit] {
        let (two, holder) = TwoOfTheirs::held(protocol);
        two.wait_in_vain();
        assert_eq!(outcome_of(two.stage.lock.lock()), Outcome::Unpoisoned);
        kill(&holder);
        for (number, mutex) in two.theirs.iter().enumerate() {
            assert_eq!(
                mutex.try_lock(),
                Err(libc::EOWNERDEAD),
                "{protocol:?} {number}"
            );
            mutex.consistent();
            mutex.unlock();
        }
    }
}

fn a_timed_out_wait_for_a_glibc_mutex_leaves_the_waiters_list_intact() {
    for protocol in [Protocol::None, Protocol::Inherit] {
        for waits_first in [true, false] {
            let (two, holder) = TwoOfTheirs::held(protocol);
            let ours = Shared::anonymous([const { SharedMutex::new(0_u64) }; 3]).unwrap();
            let ready = Shared::anonymous(SharedEvent::new()).unwrap();
            let dies = child(|| {
                let first = (!waits_first).then(|| ours[0].lock().unwrap());
                two.wait_in_vain();
                let second = ours[1].lock().unwrap();
                let first = first.unwrap_or_else(|| ours[0].lock().unwrap());
                two.wait_in_vain();
                drop(ours[2].lock().unwrap());
                two.wait_in_vain();
                std::mem::forget((first, second));
                ready.set();
                loop {
                    std::thread::park();
                }
            });
            ready.wait();
            kill(&dies);
            assert_eq!(
                outcome_of(ours[0].lock()),
                Outcome::FreshDeath,
                "{protocol:?}, {waits_first}"
            );
            assert_eq!(
                outcome_of(ours[1].lock()),
                Outcome::FreshDeath,
                "{protocol:?}, {waits_first}"
            );
            assert_eq!(
                outcome_of(ours[2].lock()),
                Outcome::Unpoisoned,
                "{protocol:?}, {waits_first}"
            );
            two.stage.over.set();
            passes(&holder);
            for mutex in &two.theirs {
                mutex.try_lock().unwrap();
                mutex.unlock();
            }
        }
    }
}

fn a_glibc_mutex_at_the_address_of_an_unmapped_lock_is_not_mistaken_for_it() {
    let stage = Stage::anonymous();
    for holds_another in [false, true] {
        stage.ready.reset();
        stage.over.reset();
        // The kernel uses the freed addresses for the next map. Both maps have the same layout.
        let gone = Shared::anonymous([const { SharedMutex::new(0_u64) }; 2]).unwrap();
        drop(gone[0].lock().unwrap());
        drop(gone[1].lock().unwrap());
        drop(gone[0].lock().unwrap());
        let place = std::ptr::from_ref(&gone[0]).addr();
        drop(gone);
        let theirs = Shared::anonymous([const { PthreadMutex::new() }; 2]).unwrap();
        assert_eq!(std::ptr::from_ref(&theirs[0]).addr(), place);
        theirs.iter().for_each(|mutex| mutex.init(Protocol::None));
        let holder = child(|| {
            // The newest entry is first in the list: `theirs[0]`, then `theirs[1]`.
            theirs[1].lock().unwrap();
            theirs[0].lock().unwrap();
            stage.ready.set();
            stage.over.wait();
        });
        stage.meet(&holder);
        let other = Shared::anonymous([const { SharedMutex::new(0_u64) }; 2]).unwrap();
        let held = holds_another.then(|| other[0].lock().unwrap());
        assert_eq!(
            theirs[0].lock_timeout(Duration::from_millis(1)),
            Err(libc::ETIMEDOUT)
        );
        drop(other[1].lock().unwrap());
        drop(held);
        kill(&holder);
        for mutex in theirs.iter() {
            assert_eq!(mutex.try_lock(), Err(libc::EOWNERDEAD));
            mutex.consistent();
            mutex.unlock();
        }
        passes(&child(|| ()));
    }
}

fn an_unmapped_glibc_mutex_that_was_waited_for_is_not_accessed() {
    let stage = Stage::anonymous();
    let theirs = Shared::anonymous(PthreadMutex::new()).unwrap();
    theirs.init(Protocol::None);
    let holder = child(|| {
        theirs.lock().unwrap();
        stage.ready.set();
        stage.over.wait();
    });
    stage.meet(&holder);
    passes(&{
        let (stage, theirs) = (&stage, Some(theirs));
        child(move || {
            let theirs = theirs.unwrap();
            assert_eq!(
                theirs.lock_timeout(Duration::from_millis(1)),
                Err(libc::ETIMEDOUT)
            );
            drop(theirs);
            // `list_op_pending` names a mutex that is no longer mapped.
            let first = stage.lock.lock().unwrap();
            let other = Shared::anonymous(SharedMutex::new(0_u64)).unwrap();
            drop(other.lock().unwrap());
            drop(first);
        })
    });
    kill(&holder);
}

fn a_holder_that_then_uses_glibc_mutexes_keeps_its_lock() {
    let stage = Stage::anonymous();
    let theirs = Shared::anonymous(PthreadMutex::new()).unwrap();
    theirs.init(Protocol::None);
    let holder = child(|| {
        let guard = stage.lock.lock().unwrap();
        theirs.lock().unwrap();
        theirs.unlock();
        stage.ready.set();
        stage.over.wait();
        drop(guard);
    });
    stage.meet(&holder);
    assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
    assert_eq!(
        outcome_of(stage.lock.lock_timeout(Duration::from_secs(1))),
        Outcome::TimedOut
    );
    stage.over.set();
    passes(&holder);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::Unpoisoned);
}
