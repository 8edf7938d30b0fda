//! An explicit-state search of the readers-writer lock's protocol: three or four threads, two
//! slots, and up to two deaths between any steps.
//!
//! The names are those of the library (`src/raw/rwlock`).
//!
//! The threads that acquire the writer lock are assumed to do so as in the mutex that the other
//! searches check: one that waits for it sets `WAITERS`, and acquires it once it is free. The
//! search models everything else step by step, in one order of all accesses: the bias, the slots,
//! the phase locks, the readers that watch the writer lock, which threads sleep on which word, and
//! which thread wakes which. The kernel marks a dead thread's words one after the other. A wake may
//! reach any waiter of the word. The writers lean towards `WRITERS` at the first write that meets
//! no reader.
//!
//! A reader that finds all slots taken sleeps on both slots, and joins their queues one after the
//! other. After a wake on one slot it stays in the other queue until it runs.
//!
//! The properties:
//!
//! * A writer excludes readers and other writers.
//! * If no thread has a step left, all threads are done.
//! * If only threads in their critical sections have a step left, no thread sleeps on the slots
//!   while a slot is free.
//! * If all threads are done and none died, every slot has its initial value.
//! * A death in the data is reported before the next critical section begins, and no other death is
//!   reported.
//! * If no thread dies, the bounds hold. A waiting reader is overtaken by at most one write, and a
//!   writer that owns its phase lock by at most as many reads as there are slots.

mod state;
mod steps;

use crate::model::is_thorough;
use stateright::{Checker, HasDiscoveries, Model, Property};

use state::{Bias, PHASE_LOCKS, Pc, SLOTS, State, THREADS, Thread, WRITER_LOCK, Word};

/// A protocol: the crate's, or one with a fault in one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Variant {
    Sound,
    /// A reader checks whether it may read before it takes a slot.
    ChecksFirst,
    /// A writer that finds all slots free sets `WRITERS`, and does not look again.
    LooksOnce,
    /// A writer sets `WRITERS` before it looks again.
    LeansToWritersAtOnce,
    /// A reader that waits for the owner of the writer lock reads when that owner sets `LEANING`.
    TakesLeaningForOver,
    /// A reader that waits for the owner of the writer lock sleeps without comparing the bias.
    ComparesOwnerAlone,
    /// A writer that sets `CLOSED` does not wake the readers that wait for the writer lock.
    ClosesSilently,
    /// A phase lock's release wakes one reader, and no thread propagates the wake.
    NoPropagation,
    /// A reader that waits for the writer sets its slot's state, but does not wake the writer.
    DoesNotWakeWriter,
    /// A reader does not set `list_op_pending` to the phase lock on which it sleeps.
    PendingNotSet,
    /// All writers use the same phase lock, so waiting readers do not go before the next writer.
    OnePhaseLock,
    /// A reader that finds all slots taken sleeps on one slot.
    SleepsOnOneSlot,
    /// Such a reader sleeps on both slots, but sets `WAITERS` in one only.
    SetsWaitersInOneSlot,
    /// A reader that acquires a slot as the owner of the writer lock does not propagate the wakes
    /// of the other slots. So another released slot keeps its `WAITERS`.
    KeepsSlotsClosed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Action {
    Step(usize),
    Wake(usize, usize),
    Die(usize),
}

#[derive(Clone, Copy, Debug)]
struct Search {
    variant: Variant,
    /// How many threads write: the first ones. The others read.
    writers: usize,
    threads: usize,
    rounds: u8,
    deaths: u8,
}

impl Model for Search {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let thread = |index: usize| Thread {
            pc: match index {
                _ if index >= self.threads => Pc::Done,
                _ if index < self.writers => Pc::TakeWriterLock(false),
                _ => Pc::Start,
            },
            writes: index < self.writers,
            rounds: self.rounds,
            phase_lock: 0,
            slot: None,
            waits: false,
            overtaken: 0,
            seen: Default::default(),
            queued: Default::default(),
            woken: false,
        };
        vec![State {
            words: Default::default(),
            bias: Bias::None,
            slot_states: [0; SLOTS],
            phase: 0,
            data_dirty: false,
            threads: std::array::from_fn(thread),
            deaths: self.deaths,
            any_died: false,
            due: false,
            wrong: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (thread, own) in state.threads.iter().enumerate() {
            match Self::wakes(own.pc, own.slot) {
                Some((word, ..)) => {
                    let before = actions.len();
                    let sleepers = state.sleepers(word);
                    actions.extend(sleepers.map(|sleeper| Action::Wake(thread, sleeper)));
                    if actions.len() == before {
                        actions.push(Action::Step(thread));
                    }
                }
                None if self.enabled(state, thread) => actions.push(Action::Step(thread)),
                None => {}
            }
            let is_gone = matches!(
                own.pc,
                Pc::Done | Pc::Dead | Pc::Exit(..) | Pc::ExitWake(..)
            );
            if state.deaths > 0 && !is_gone {
                actions.push(Action::Die(thread));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Step(thread) => {
                let own = state.threads[thread];
                match Self::wakes(own.pc, own.slot) {
                    Some((_, _, if_none_woke)) => self.go_on(&mut next, thread, if_none_woke),
                    None => self.step(&mut next, thread),
                }
            }
            Action::Wake(thread, sleeper) => {
                let own = state.threads[thread];
                let (word, if_one_woke, _) = Self::wakes(own.pc, own.slot).expect("it wakes");
                next.wake(sleeper, word);
                self.go_on(&mut next, thread, if_one_woke);
            }
            Action::Die(thread) => {
                let own = state.threads[thread];
                next.deaths -= 1;
                next.any_died = true;
                // Until `data_dirty` is cleared, the death counts as one in the data.
                next.due |= matches!(own.pc, Pc::Write | Pc::ClearDirty);
                let pending = match own.pc {
                    Pc::OpenWake(phase_lock, _) | Pc::OpenClear(phase_lock, _) => Some(phase_lock),
                    // So does a thread that waits for the writer lock, and one that releases it.
                    Pc::ReleaseWake(_)
                    | Pc::ReleaseClear(_)
                    | Pc::TakeWriterLock(_)
                    | Pc::ReadOwner
                    | Pc::SetOwnerWaiters(_)
                    | Pc::RecheckBias(_)
                    | Pc::JoinOwner(..)
                    | Pc::CompareBias(_)
                    | Pc::PropagateOwnerWake(_)
                    | Pc::Asleep(WRITER_LOCK) => Some(WRITER_LOCK as u8),
                    Pc::LeaveWake(_) | Pc::LeaveClear(_) => {
                        own.slot.map(|slot| slot + PHASE_LOCKS as u8)
                    }
                    // A reader sets `list_op_pending` to the phase lock on which it sleeps.
                    Pc::ReadPhaseLock
                    | Pc::SetWaiters(_)
                    | Pc::Sleep(_)
                    | Pc::PropagateWake(_)
                    | Pc::Asleep(..PHASE_LOCKS)
                        if self.variant != Variant::PendingNotSet =>
                    {
                        Some(own.phase_lock)
                    }
                    _ => None,
                };
                next.threads[thread].waits = false;
                next.threads[thread].clear_sleep();
                next.threads[thread].pc = Pc::Exit(0, pending);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(WRITER_EXCLUSION, |_, state: &State| {
                let at = |pc| state.threads.iter().filter(|own| own.pc == pc).count();
                at(Pc::Write) == 0 || at(Pc::Write) + at(Pc::Read) == 1
            }),
            Property::always(NO_THREAD_WAITS_FOREVER, |search: &Search, state: &State| {
                let mut actions = Vec::new();
                search.actions(state, &mut actions);
                let rests = !actions
                    .iter()
                    .any(|action| !matches!(action, Action::Die(_)));
                let is_done = |own: &Thread| matches!(own.pc, Pc::Done | Pc::Dead);
                !rests || state.threads.iter().all(is_done)
            }),
            Property::always(NO_FREE_SLOT_IS_MISSED, |search: &Search, state: &State| {
                let rests = |(thread, own): (usize, &Thread)| {
                    matches!(own.pc, Pc::Read | Pc::Write) || !search.enabled(state, thread)
                };
                let misses = state.threads.iter().any(|own| own.pc == Pc::AsleepOnSlots)
                    && state.words[PHASE_LOCKS..WRITER_LOCK]
                        .iter()
                        .any(|slot| slot.owner == 0);
                !misses || !state.threads.iter().enumerate().all(rests)
            }),
            Property::always(SLOTS_ARE_OPEN, |_, state: &State| {
                let is_done = |own: &Thread| own.pc == Pc::Done;
                !state.threads.iter().all(is_done)
                    || state.words[PHASE_LOCKS..WRITER_LOCK] == [Word::default(); SLOTS]
            }),
            Property::always(DEATHS_ARE_REPORTED, |_, state: &State| !state.wrong),
            Property::always(BOUND, |_, state: &State| {
                state.any_died
                    || state.threads.iter().all(|own| match own.writes {
                        true => usize::from(own.overtaken) <= SLOTS,
                        false => own.overtaken <= 1,
                    })
            }),
        ]
    }
}

const WRITER_EXCLUSION: &str = "a writer excludes readers and other writers";
const NO_THREAD_WAITS_FOREVER: &str = "no thread waits forever";
const NO_FREE_SLOT_IS_MISSED: &str = "no thread sleeps on the slots while a slot is free";
const SLOTS_ARE_OPEN: &str = "each slot has its initial value at the end";
const DEATHS_ARE_REPORTED: &str =
    "only a death in the data is reported, before the next critical section";
const BOUND: &str = "a waiting thread is not overtaken more often than stated";

const PLAIN: Search = Search {
    variant: Variant::Sound,
    writers: 1,
    threads: 3,
    rounds: 2,
    deaths: 0,
};

fn holds(search: Search, at_least: usize) {
    let checker = search
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    let states = checker.unique_state_count();
    println!("{search:?}: {states} states");
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        let last = *path.last_state();
        panic!("{property}: {:?}\n{last:?}", path.into_actions());
    }
    assert!(states >= at_least, "only {states} states");
}

fn rejects(search: Search, property: &'static str) {
    let checker = search
        .checker()
        .finish_when(HasDiscoveries::AnyOf([property].into()))
        .spawn_bfs()
        .join();
    let states = checker.unique_state_count();
    assert!(
        checker.discovery(property).is_some(),
        "{search:?} passes, {states} states"
    );
    println!("{search:?}: violates \"{property}\" after {states} states");
}

#[test]
fn readers_and_writers_without_deaths() {
    for (writers, at_least) in [(1, 400_000), (2, 20_000)] {
        holds(Search { writers, ..PLAIN }, at_least);
    }
}

/// Each thread locks once, or twice in a thorough run, which takes minutes.
#[test]
fn readers_and_writers_with_up_to_two_deaths() {
    for (writers, at_least) in [(1, 700_000), (2, 100_000)] {
        let search = Search {
            writers,
            rounds: 1 + u8::from(is_thorough()),
            deaths: 2,
            ..PLAIN
        };
        holds(search, at_least);
    }
}

/// Only readers, of which one finds all slots taken. Each locks once, or twice in a thorough run.
#[test]
fn readers_with_all_slots_taken_and_up_to_two_deaths() {
    let search = Search {
        writers: 0,
        rounds: 1 + u8::from(is_thorough()),
        deaths: 2,
        ..PLAIN
    };
    holds(search, 100_000);
}

/// Four readers, then three and a writer, then two and two writers. No thread dies: with deaths
/// there are too many states for a test.
#[test]
fn four_threads_with_all_slots_taken() {
    for writers in [0, 1, 2] {
        let search = Search {
            writers,
            threads: THREADS,
            rounds: 1,
            ..PLAIN
        };
        holds(search, 200_000);
    }
}

#[test]
fn a_reader_that_sleeps_on_one_slot_misses_another() {
    for variant in [Variant::SleepsOnOneSlot, Variant::SetsWaitersInOneSlot] {
        let search = Search {
            variant,
            writers: 0,
            ..PLAIN
        };
        rejects(search, NO_FREE_SLOT_IS_MISSED);
    }
}

#[test]
fn a_reader_that_takes_one_of_two_released_slots_closes_the_other() {
    let search = Search {
        variant: Variant::KeepsSlotsClosed,
        writers: 0,
        rounds: 1,
        ..PLAIN
    };
    rejects(search, SLOTS_ARE_OPEN);
}

#[test]
fn a_reader_that_checks_before_it_takes_a_slot_meets_a_writer() {
    let variant = Variant::ChecksFirst;
    rejects(Search { variant, ..PLAIN }, WRITER_EXCLUSION);
}

/// A reader that saw `NONE` waits for the writer, and reads after it. The next writer does not
/// look.
#[test]
fn a_writer_that_looks_once_misses_a_reader_that_waits() {
    let variant = Variant::LooksOnce;
    rejects(Search { variant, ..PLAIN }, WRITER_EXCLUSION);
}

#[test]
fn a_reader_that_reads_when_the_owner_leans_meets_the_writer() {
    let variant = Variant::TakesLeaningForOver;
    rejects(Search { variant, ..PLAIN }, WRITER_EXCLUSION);
}

/// Another thread sets `WAITERS` again after the notification.
#[test]
fn a_reader_that_compares_the_writer_lock_alone_sleeps_although_it_may_read() {
    let variant = Variant::ComparesOwnerAlone;
    rejects(Search { variant, ..PLAIN }, NO_THREAD_WAITS_FOREVER);
}

/// It dies before it has seen the reader.
#[test]
fn a_writer_that_stops_to_look_before_it_has_looked_leaves_a_reader_unseen() {
    let search = Search {
        variant: Variant::LeansToWritersAtOnce,
        writers: 2,
        deaths: 1,
        ..PLAIN
    };
    rejects(search, WRITER_EXCLUSION);
}

#[test]
fn a_writer_that_closes_silently_waits_for_a_reader_that_sleeps() {
    let variant = Variant::ClosesSilently;
    let search = Search {
        variant,
        writers: 2,
        ..PLAIN
    };
    rejects(search, NO_THREAD_WAITS_FOREVER);
}

#[test]
fn a_phase_lock_that_wakes_one_reader_leaves_another_asleep() {
    let variant = Variant::NoPropagation;
    rejects(Search { variant, ..PLAIN }, NO_THREAD_WAITS_FOREVER);
}

#[test]
fn a_reader_that_does_not_wake_the_writer_leaves_it_asleep() {
    let variant = Variant::DoesNotWakeWriter;
    rejects(Search { variant, ..PLAIN }, NO_THREAD_WAITS_FOREVER);
}

/// A writer dies, and then the reader that the kernel woke for it.
#[test]
fn a_woken_reader_without_a_pending_lock_consumes_the_wake() {
    let search = Search {
        variant: Variant::PendingNotSet,
        rounds: 1,
        deaths: 2,
        ..PLAIN
    };
    rejects(search, NO_THREAD_WAITS_FOREVER);
}

#[test]
fn with_one_phase_lock_a_reader_is_overtaken_again_and_again() {
    let search = Search {
        variant: Variant::OnePhaseLock,
        writers: 2,
        ..PLAIN
    };
    rejects(search, BOUND);
}
