//! The condition variable's protocol with its mutex: every interleaving of takers and givers, any
//! of which may die.
//!
//! The mutex is assumed to have the properties that the other searches check: at most one thread
//! holds it, and it is free when its holder dies. A giver adds a letter while it holds the mutex,
//! and notifies after it has released the mutex. A taker waits if it finds no letter. Recheck
//! timers are left out, so they cannot hide a lost wake-up.
//!
//! * **No lost notification**: if no thread died and no thread has a step to take, no taker is
//!   asleep while there is a letter.
//! * **A recheck timer suffices**: after a death, a taker that is asleep while there is a letter
//!   waits on an outdated sequence, so it returns when its timer expires. The exception is a giver
//!   that died before it raised the sequence. Then the check of the letters that `wait_while` makes
//!   after each timer finds one.
//! * **The count is never too small**: if no thread died, the number of sleeping threads is at most
//!   the count plus the number of notifiers about to wake one. A count of many and a notifier about
//!   to wake all stand for any number.
//! * **A notifier never waits**: a notifying thread always has a step to take, whatever the other
//!   threads do.

mod runs;

use super::lock::WakeOrder;
use stateright::{Model, Property};

const NO_LOST_NOTIFICATION: &str = "no lost notification";
const A_RECHECK_TIMER_SUFFICES: &str = "a recheck timer suffices";
const THE_COUNT_IS_NEVER_TOO_SMALL: &str = "the count is never too small";
const A_NOTIFIER_NEVER_WAITS: &str = "a notifier never waits";

/// The protocol of the threads. Each rejected one differs from the crate's in one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Variant {
    Sound,
    /// A taker reads the sequence after it has released the mutex.
    LateRead,
    /// A notification of one waiter resets the whole count of sleeping threads.
    ResetsCount,
    /// If a wake found no waiter, the count goes from many to none in a step that wakes no thread.
    ClearsWithoutWaking,
    /// The same step wakes all threads, but does not raise the sequence.
    ClearsInPlace,
    /// A waiter that is woken without a notification sleeps again without being counted again.
    IsCountedOnce,
    /// A waiter does not compare the word when it goes to sleep.
    ComparesBefore,
    /// The sequence is never raised: the wake is the only notification.
    NoSequence,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Word {
    sequence: u8,
    /// How many threads may sleep. The maximum, [`Mailbox::many`], stands for that number or more.
    sleepers: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Pc {
    // The steps of a taker.
    Lock,
    Check,
    Unlock { seen: u8 },
    LateRead,
    ReadWord { seen: u8 },
    Count { seen: u8, word: Word },
    Sleep { seen: u8, word: Word },
    Asleep { seen: u8, ahead: u8 },
    // The steps of a giver.
    LockToGive,
    Give,
    UnlockToNotify,
    Raise,
    Wake { were_many: bool },
    Clear,
    WakeAll,
    Finished,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Thread {
    pc: Pc,
    rounds: u8,
    expired: bool,
    counted: bool,
}

const THREADS: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State {
    word: Word,
    owner: Option<u8>,
    letters: u8,
    threads: [Thread; THREADS],
    deaths: u8,
    /// Whether a thread has died, and whether a giver has died between its letter and its
    /// notification.
    died: bool,
    died_unnotified: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Step(usize),
    Wake {
        waker: usize,
        sleeper: usize,
    },
    Expire(usize),
    /// A signal ends the sleep. The waiter cannot distinguish this from a wake.
    Interrupt(usize),
    /// A recheck timer expires, and the waiter stays counted.
    TimerExpires(usize),
    Die(usize),
}

#[derive(Clone, Copy, Debug)]
struct Mailbox {
    variant: Variant,
    takers: usize,
    /// How many of the takers have a deadline.
    timed: usize,
    givers: usize,
    rounds: u8,
    deaths: u8,
    /// Whether sleeps may also end without a wake.
    early_returns: bool,
    /// Whether the givers notify all waiters.
    all: bool,
    /// The count that stands for this number or more.
    many: u8,
    wake_order: WakeOrder,
}

impl Mailbox {
    const PLAIN: Mailbox = Mailbox {
        variant: Variant::Sound,
        takers: 2,
        timed: 0,
        givers: 2,
        rounds: 1,
        deaths: 0,
        early_returns: false,
        all: false,
        many: 2,
        wake_order: WakeOrder::Any,
    };

    fn is_timed(&self, thread: usize) -> bool {
        thread < self.timed
    }

    fn wake(&self, state: &mut State, sleeper: usize) {
        let Pc::Asleep { seen, ahead: left } = state.threads[sleeper].pc else {
            return;
        };
        for thread in &mut state.threads {
            if let Pc::Asleep { ahead, .. } = &mut thread.pc
                && *ahead > left
            {
                *ahead -= 1;
            }
        }
        state.threads[sleeper].pc = Pc::ReadWord { seen };
        state.threads[sleeper].counted = self.variant == Variant::IsCountedOnce;
    }

    fn end_round(&self, thread: &mut Thread, first: Pc) {
        thread.expired = false;
        thread.rounds -= 1;
        thread.pc = if thread.rounds == 0 {
            Pc::Finished
        } else {
            first
        };
    }

    fn step(&self, state: &mut State, current: usize) {
        let (word, variant) = (state.word, self.variant);
        let thread = state.threads[current];
        let next = match thread.pc {
            Pc::Lock => {
                state.owner = Some(current as u8);
                Pc::Check
            }
            Pc::Check if state.letters > 0 || thread.expired => {
                state.letters = state.letters.saturating_sub(1);
                state.owner = None;
                return self.end_round(&mut state.threads[current], Pc::Lock);
            }
            Pc::Check => Pc::Unlock {
                seen: word.sequence,
            },
            Pc::Unlock { seen } => {
                state.owner = None;
                match variant {
                    Variant::LateRead => Pc::LateRead,
                    _ => Pc::ReadWord { seen },
                }
            }
            Pc::LateRead => Pc::ReadWord {
                seen: word.sequence,
            },
            Pc::ReadWord { seen }
                if word.sequence != seen
                    || thread.expired
                    || variant == Variant::NoSequence && state.letters > 0 =>
            {
                state.threads[current].counted = false;
                Pc::Lock
            }
            Pc::ReadWord { seen } if thread.counted || word.sleepers == self.many => {
                Pc::Sleep { seen, word }
            }
            Pc::ReadWord { seen } => Pc::Count { seen, word },
            Pc::Count {
                seen,
                word: expected,
            } if word == expected => {
                state.word.sleepers += 1;
                state.threads[current].counted = true;
                let word = state.word;
                Pc::Sleep { seen, word }
            }
            Pc::Count { seen, .. } => Pc::ReadWord { seen },
            Pc::Sleep {
                seen,
                word: expected,
            } if word == expected || variant == Variant::ComparesBefore => {
                let asleep = |thread: &&Thread| matches!(thread.pc, Pc::Asleep { .. });
                let ahead = match self.wake_order {
                    WakeOrder::Any => 0,
                    WakeOrder::Fifo => state.threads.iter().filter(asleep).count() as u8,
                };
                Pc::Asleep { seen, ahead }
            }
            Pc::Sleep { seen, .. } => Pc::ReadWord { seen },

            Pc::LockToGive => {
                state.owner = Some(current as u8);
                Pc::Give
            }
            Pc::Give => {
                state.letters += 1;
                Pc::UnlockToNotify
            }
            Pc::UnlockToNotify => {
                state.owner = None;
                Pc::Raise
            }
            Pc::Raise => {
                let left = match word.sleepers {
                    _ if self.all || variant == Variant::ResetsCount => 0,
                    many if many == self.many => many,
                    some => some.saturating_sub(1),
                };
                state.word.sleepers = left;
                state.word.sequence += u8::from(variant != Variant::NoSequence);
                if word.sleepers == 0 {
                    return self.end_round(&mut state.threads[current], Pc::LockToGive);
                }
                match self.all {
                    true => Pc::WakeAll,
                    false => Pc::Wake {
                        were_many: word.sleepers == self.many,
                    },
                }
            }
            // The wake found no waiter.
            Pc::Wake { were_many: true } => Pc::Clear,
            Pc::Wake { were_many: false } => {
                return self.end_round(&mut state.threads[current], Pc::LockToGive);
            }
            Pc::Clear if word.sleepers != self.many => {
                return self.end_round(&mut state.threads[current], Pc::LockToGive);
            }
            Pc::Clear => {
                state.word.sleepers = 0;
                match variant {
                    Variant::ClearsWithoutWaking => {
                        return self.end_round(&mut state.threads[current], Pc::LockToGive);
                    }
                    Variant::ClearsInPlace => {}
                    _ => state.word.sequence += 1,
                }
                Pc::WakeAll
            }
            Pc::WakeAll => {
                (0..THREADS).for_each(|sleeper| self.wake(state, sleeper));
                return self.end_round(&mut state.threads[current], Pc::LockToGive);
            }
            Pc::Asleep { .. } | Pc::Finished | Pc::Dead => unreachable!("{current} takes no step"),
        };
        state.threads[current].pc = next;
    }

    /// Whether the thread has a step to take.
    fn may_step(state: &State, thread: usize) -> bool {
        match state.threads[thread].pc {
            Pc::Lock | Pc::LockToGive => state.owner.is_none(),
            Pc::Asleep { .. } | Pc::Finished | Pc::Dead => false,
            _ => true,
        }
    }

    fn sleepers(&self, state: &State) -> Vec<usize> {
        let next =
            |&thread: &usize| matches!(state.threads[thread].pc, Pc::Asleep { ahead: 0, .. });
        (0..THREADS).filter(next).collect()
    }
}

fn at_rest(state: &State) -> bool {
    !(0..THREADS).any(|thread| Mailbox::may_step(state, thread))
}

fn sleeps_despite_a_letter(state: &State, is_relevant: impl Fn(u8) -> bool) -> bool {
    let asleep =
        |thread: &Thread| matches!(thread.pc, Pc::Asleep { seen, .. } if is_relevant(seen));
    state.letters > 0 && state.threads.iter().any(asleep)
}

impl Model for Mailbox {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let none = Thread {
            pc: Pc::Finished,
            rounds: 0,
            expired: false,
            counted: false,
        };
        let mut threads = [none; THREADS];
        for (index, thread) in threads
            .iter_mut()
            .enumerate()
            .take(self.takers + self.givers)
        {
            let is_taker = index < self.takers;
            thread.pc = if is_taker { Pc::Lock } else { Pc::LockToGive };
            thread.rounds = self.rounds;
        }
        vec![State {
            word: Word {
                sequence: 0,
                sleepers: 0,
            },
            owner: None,
            letters: 0,
            threads,
            deaths: self.deaths,
            died: false,
            died_unnotified: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (current, thread) in state.threads.iter().enumerate() {
            let sleepers = self.sleepers(state);
            if matches!(thread.pc, Pc::Wake { .. }) && !sleepers.is_empty() {
                let wakes = sleepers.into_iter();
                actions.extend(wakes.map(|sleeper| Action::Wake {
                    waker: current,
                    sleeper,
                }));
            } else if Mailbox::may_step(state, current) {
                actions.push(Action::Step(current));
            }
            let waits = matches!(thread.pc, Pc::Asleep { .. } | Pc::ReadWord { .. });
            if self.is_timed(current) && waits && !thread.expired {
                actions.push(Action::Expire(current));
            }
            if self.early_returns && matches!(thread.pc, Pc::Asleep { .. }) {
                actions.extend([Action::Interrupt(current), Action::TimerExpires(current)]);
            }
            if state.deaths > 0 && !matches!(thread.pc, Pc::Finished | Pc::Dead) {
                actions.push(Action::Die(current));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Step(current) => self.step(&mut next, current),
            Action::Wake { waker, sleeper } => {
                self.wake(&mut next, sleeper);
                self.end_round(&mut next.threads[waker], Pc::LockToGive);
            }
            Action::Expire(current) => {
                next.threads[current].expired = true;
                self.wake(&mut next, current);
            }
            Action::Interrupt(current) => self.wake(&mut next, current),
            Action::TimerExpires(current) => {
                self.wake(&mut next, current);
                next.threads[current].counted = true;
            }
            Action::Die(current) => {
                let pc = state.threads[current].pc;
                self.wake(&mut next, current);
                next.deaths -= 1;
                next.died = true;
                next.died_unnotified |= matches!(pc, Pc::UnlockToNotify | Pc::Raise);
                if next.owner == Some(current as u8) {
                    next.owner = None;
                }
                next.threads[current].pc = Pc::Dead;
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Mailbox>> {
        vec![
            Property::always(NO_LOST_NOTIFICATION, |_, state: &State| {
                state.died || !at_rest(state) || !sleeps_despite_a_letter(state, |_| true)
            }),
            Property::always(A_RECHECK_TIMER_SUFFICES, |_, state: &State| {
                let is_current = |seen| seen == state.word.sequence;
                state.died_unnotified
                    || !at_rest(state)
                    || !sleeps_despite_a_letter(state, is_current)
            }),
            Property::always(
                THE_COUNT_IS_NEVER_TOO_SMALL,
                |mailbox: &Mailbox, state: &State| {
                    let threads = |predicate: fn(Pc) -> bool| {
                        let matching = state.threads.iter().filter(|thread| predicate(thread.pc));
                        matching.count()
                    };
                    let asleep = threads(|pc| matches!(pc, Pc::Asleep { .. }));
                    let waking = threads(|pc| matches!(pc, Pc::Wake { .. }));
                    state.died
                        || state.word.sleepers == mailbox.many
                        || threads(|pc| pc == Pc::WakeAll) > 0
                        || asleep <= usize::from(state.word.sleepers) + waking
                },
            ),
            Property::always(A_NOTIFIER_NEVER_WAITS, |_, state: &State| {
                let notifies =
                    |pc| matches!(pc, Pc::Raise | Pc::Wake { .. } | Pc::Clear | Pc::WakeAll);
                (0..THREADS).all(|thread| {
                    !notifies(state.threads[thread].pc) || Mailbox::may_step(state, thread)
                })
            }),
            Property::sometimes("all takers sleep", |mailbox: &Mailbox, state: &State| {
                let asleep = |thread: &&Thread| matches!(thread.pc, Pc::Asleep { .. });
                state.threads.iter().filter(asleep).count() == mailbox.takers
            }),
        ]
    }
}
