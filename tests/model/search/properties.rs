//! The properties that must hold in every state, and the situations that a search must reach.

use stateright::Property;

use super::lock::Lock;
use super::state::{DeathReport, Pc, State};
use super::word::Word;

pub const EXCLUSION: &str = "exclusion";
pub const NO_LOST_WAKEUP: &str = "no lost wake-up";
pub const EACH_DEATH_IS_REPORTED_ONCE: &str = "each death is reported once";
pub const LIST_IS_CORRECT: &str = "the robust list is correct";

/// The properties of a lock: four that hold in every state, and the situations that make the
/// protocol hard, as far as the lock's budgets allow them.
pub fn of(lock: &Lock) -> Vec<Property<Lock>> {
    let mut properties: Vec<Property<Lock>> = vec![
        Property::always(EXCLUSION, |_, state: &State| exclusion(state)),
        Property::always(NO_LOST_WAKEUP, |_, state: &State| no_lost_wakeup(state)),
        Property::always(EACH_DEATH_IS_REPORTED_ONCE, |_, state: &State| {
            state.death_report != DeathReport::Wrong
        }),
        Property::always(LIST_IS_CORRECT, |_, state: &State| list_is_correct(state)),
        Property::sometimes("all others are asleep", |lock: &Lock, state: &State| {
            state.count(Pc::is_asleep) == lock.threads - 1
        }),
        Property::sometimes("a new owner loses WAITERS", |_, state: &State| {
            state.count(|pc| pc == Pc::WakeOp) > 0 && state.word.owner().is_some()
        }),
    ];
    if lock.deaths > 0 {
        properties.extend([
            Property::sometimes("a death is unreported", |_, state: &State| {
                state.death_report == DeathReport::Due && state.word.owner_died()
            }),
            Property::sometimes("the kernel resends a wake", |_, state: &State| {
                state.count(|pc| pc == Pc::ExitWake) > 0 && state.word == Word::FREE_WITH_WAITERS
            }),
            Property::sometimes("all allowed deaths occur", |lock: &Lock, state: &State| {
                state.count(|pc| pc == Pc::Dead) == usize::from(lock.deaths)
            }),
        ]);
    }
    if lock.timed > 0 {
        properties.push(Property::sometimes(
            "a waiter gives up",
            |_, state: &State| state.count(|pc| pc == Pc::GiveUp) > 0,
        ));
    }
    properties
}

/// At most one live thread is between acquire and release.
fn exclusion(state: &State) -> bool {
    state.count(Pc::owns_the_lock) <= 1
}

/// If no thread has a step to take, and the kernel has none on behalf of a dead thread, then no
/// thread is asleep, with a deadline or without, and the lock is free.
fn no_lost_wakeup(state: &State) -> bool {
    let all_at_rest = state.count(Pc::is_at_rest) == state.threads.len();
    !all_at_rest || (state.count(Pc::is_asleep) == 0 && state.word.owner().is_none())
}

/// A live thread's lock is linked only while the thread owns it. A thread that has left the lock,
/// by unlock or by timeout, has neither linked it nor named it in `list_op_pending`.
fn list_is_correct(state: &State) -> bool {
    state.threads().all(|(tid, thread)| match thread.pc {
        Pc::Pend | Pc::Finished => !thread.linked && !thread.pending,
        Pc::ExitWalk => true,
        _ => !thread.linked || state.word.owner() == Some(tid),
    })
}
