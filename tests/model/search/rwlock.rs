//! An explicit-state search of the readers-writer lock's protocol: three threads, two seats, a death or two between any steps.
//!
//! `main` is taken as the mutex that the other searches are about: whoever waits for it gets it once it is free. What is new is
//! modelled step by step, in one order of all accesses: seats, gates, who sleeps on which of them, who wakes whom, and the
//! kernel, which marks a dead thread's words one after the other. A wake takes any sleeper.
//!
//! What must hold: a writer is alone; where nobody has a step left, everybody is done; whoever begins a section after a death in
//! the data has been told, and nobody is told otherwise; and, as long as nobody dies, the bounds: a reader that waits sees one
//! section written, a writer with its gate as many read as there are seats.

use crate::model::is_thorough;
use stateright::{Checker, HasDiscoveries, Model, Property};

const SEATS: usize = 2;
const THREADS: usize = 3;

/// A protocol: the crate's, or one that is broken in one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Variant {
    Sound,
    /// A reader looks at the gates, and then takes a seat.
    LooksFirst,
    /// A gate's release wakes one reader, who tells nobody.
    NobodyPassesOn,
    /// A reader that waits for the writer does not tell it so.
    SaysNothing,
    /// A reader does not announce the gate on which it sleeps to the kernel.
    NotAnnounced,
    /// Writers use one gate, and let nobody go first.
    OneGate,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Word {
    owner: u8,
    waiters: bool,
    died: bool,
}

impl Word {
    fn is_open(self) -> bool {
        self.owner == 0 && !self.died
    }
}

/// A word that can be slept on: the gates, then the seats.
type Id = usize;
const GATES: usize = 2;

/// What follows when a gate has been opened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Then {
    FindSeat,
    TakeGate,
    LeaveMain,
}

/// The next step of a thread. `u8` is a gate, or a seat, or how far a walk has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Pc {
    // A reader.
    Start,
    LookFirst(u8),
    TakeSeat(u8),
    Look(u8),
    Say,
    Tell,
    Watch,
    Announce(Word),
    Sleep(Word),
    Asleep(Id),
    TakeBack(bool),
    PassOn(bool),
    LookAgain,
    Read,
    Leave(bool),
    LeaveWake(bool),
    LeaveClear(bool),
    ReadByMain,
    OpenMarked(u8),
    FindSeat(u8),
    // A writer.
    TakeMain,
    Resolve,
    TakeGate,
    Drain(u8),
    DrainAnnounce(u8, Word),
    DrainAsk(u8, Word),
    DrainSleep(u8, Word),
    DrainPassOn(u8),
    DrainFree(u8),
    SetWriting,
    Write,
    ClearWriting,
    // Both.
    Open(u8, Then),
    OpenWake(u8, Then),
    OpenClear(u8, Then),
    OpenPassOn(u8, Then),
    LeaveMain,
    Done,
    // The kernel, for a dead thread.
    Exit(u8, Option<u8>),
    ExitWake(u8, u8, Option<u8>),
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Thread {
    pc: Pc,
    writes: bool,
    rounds: u8,
    /// The gate that a reader waits for.
    gate: u8,
    seat: Option<u8>,
    /// Sections of the other kind that began since it announced itself.
    waits: bool,
    overtaken: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State {
    main: u8,
    words: [Word; GATES + SEATS],
    says: [u8; SEATS],
    turn: u8,
    writing: bool,
    threads: [Thread; THREADS],
    deaths: u8,
    somebody_died: bool,
    due: bool,
    wrong: bool,
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
    /// Of these threads the first ones write, the others read.
    writers: usize,
    threads: usize,
    rounds: u8,
    deaths: u8,
}

impl State {
    fn tid(thread: usize) -> u8 {
        thread as u8 + 1
    }

    fn sleepers(&self, word: Id) -> impl Iterator<Item = usize> + '_ {
        (0..THREADS).filter(move |&thread| self.threads[thread].pc == Pc::Asleep(word))
    }

    fn end_sleep(&mut self, thread: usize) {
        self.threads[thread].pc = match self.threads[thread].pc {
            Pc::Asleep(word) if word < GATES => Pc::Watch,
            Pc::Asleep(word) if self.threads[thread].writes => Pc::Drain((word - GATES) as u8),
            // It waits for a seat.
            Pc::Asleep(_) => Pc::FindSeat(0),
            other => other,
        };
    }

    fn clear_and_wake_all(&mut self, word: Id) {
        self.words[word].waiters = false;
        let all: Vec<_> = self.sleepers(word).collect();
        all.into_iter().for_each(|thread| self.end_sleep(thread));
    }

    fn pass_on(&mut self, word: Id) {
        if self.words[word].owner == 0 && self.words[word].waiters {
            self.clear_and_wake_all(word);
        }
    }

    /// A dead writer's news, by the owner of `main` and of a gate.
    fn tell(&mut self) {
        if self.writing {
            self.wrong |= !self.due;
            self.due = false;
            self.writing = false;
        }
    }

    fn begins(&mut self, thread: usize) {
        self.wrong |= self.due;
        let writes = self.threads[thread].writes;
        for other in &mut self.threads {
            if other.waits && other.writes != writes {
                other.overtaken = (other.overtaken + 1).min(SEATS as u8 + 1);
            }
        }
        self.threads[thread].waits = false;
        self.threads[thread].overtaken = 0;
    }

    fn ends_round(&mut self, thread: usize) {
        let own = &mut self.threads[thread];
        own.rounds -= 1;
        own.pc = match (own.rounds, own.writes) {
            (0, _) => Pc::Done,
            (_, true) => Pc::TakeMain,
            (_, false) => Pc::Start,
        };
    }
}

impl Search {
    /// The word on which the thread's coming step wakes one, and what follows: where it woke somebody, and where not.
    fn wakes(pc: Pc, seat: Option<u8>) -> Option<(Id, Pc, Pc)> {
        match pc {
            Pc::OpenWake(gate, then) => {
                let (gate_id, next) = (usize::from(gate), Pc::OpenPassOn(gate, then));
                Some((gate_id, next, Pc::OpenClear(gate, then)))
            }
            Pc::LeaveWake(died) => {
                let seat = GATES + usize::from(seat.expect("it leaves a seat"));
                let next = Self::left(died);
                Some((seat, next, Pc::LeaveClear(died)))
            }
            Pc::ExitWake(word, at, pending) => {
                let next = Pc::Exit(at, pending);
                Some((usize::from(word), next, next))
            }
            _ => None,
        }
    }

    fn left(died: bool) -> Pc {
        if died { Pc::ReadByMain } else { Pc::Start }
    }

    fn enabled(&self, state: &State, thread: usize) -> bool {
        match state.threads[thread].pc {
            Pc::Asleep(_) | Pc::Done | Pc::Dead => false,
            Pc::ReadByMain | Pc::TakeMain => state.main == 0,
            // The owner of `main` waits until the kernel has marked a dead one's gate.
            Pc::OpenMarked(gate) => gate >= 2 || state.words[usize::from(gate)].owner == 0,
            Pc::Resolve => state.words[usize::from(1 - state.turn)].owner == 0,
            Pc::TakeGate => state.words[usize::from(state.turn)].owner == 0,
            _ => true,
        }
    }

    fn step(&self, state: &mut State, thread: usize) {
        let tid = State::tid(thread);
        let own = state.threads[thread];
        let seat = own.seat.map(|seat| GATES + usize::from(seat));
        let gate = usize::from(own.gate);
        let next = match own.pc {
            Pc::Start if self.variant == Variant::LooksFirst => Pc::LookFirst(0),
            Pc::Start => Pc::TakeSeat(0),
            Pc::LookFirst(2) => Pc::TakeSeat(0),
            Pc::LookFirst(at) if state.words[usize::from(at)].is_open() => Pc::LookFirst(at + 1),
            Pc::LookFirst(_) => Pc::TakeSeat(0),
            Pc::TakeSeat(at) if usize::from(at) == SEATS => Pc::ReadByMain,
            Pc::TakeSeat(at) => {
                let word = &mut state.words[GATES + usize::from(at)];
                if *word == Word::default() {
                    word.owner = tid;
                    state.threads[thread].seat = Some(at);
                    if self.variant == Variant::LooksFirst {
                        Pc::Look(2)
                    } else {
                        Pc::Look(0)
                    }
                } else {
                    Pc::TakeSeat(at + 1)
                }
            }
            Pc::Look(2) => {
                state.begins(thread);
                Pc::Read
            }
            Pc::Look(at) if state.words[usize::from(at)].is_open() => Pc::Look(at + 1),
            Pc::Look(at) => {
                state.threads[thread].gate = at;
                state.threads[thread].waits = state.words[usize::from(at)].owner != 0;
                Pc::Say
            }
            Pc::Say => {
                state.says[usize::from(own.seat.expect("a seat"))] = 1 + own.gate;
                Pc::Tell
            }
            Pc::Tell => {
                let seat = seat.expect("a seat");
                if state.words[seat].waiters && self.variant != Variant::SaysNothing {
                    state.clear_and_wake_all(seat);
                }
                Pc::Watch
            }
            Pc::Watch => match state.words[gate] {
                Word { owner: 0, died, .. } => Pc::TakeBack(died),
                word if word.waiters => Pc::Sleep(word),
                word => Pc::Announce(word),
            },
            Pc::Announce(seen) if state.words[gate] == seen => {
                state.words[gate].waiters = true;
                Pc::Sleep(state.words[gate])
            }
            Pc::Announce(_) => Pc::Watch,
            Pc::Sleep(expected) if state.words[gate] == expected => Pc::Asleep(gate),
            Pc::Sleep(_) => Pc::Watch,
            Pc::TakeBack(died) => {
                state.says[usize::from(own.seat.expect("a seat"))] = 0;
                Pc::PassOn(died)
            }
            Pc::PassOn(died) => {
                if self.variant != Variant::NobodyPassesOn {
                    state.pass_on(gate);
                }
                if died { Pc::Leave(true) } else { Pc::LookAgain }
            }
            Pc::LookAgain if state.words[gate].is_open() => {
                state.begins(thread);
                Pc::Read
            }
            Pc::LookAgain => Pc::Say,
            Pc::Read => Pc::Leave(false),
            Pc::Leave(died) => {
                let word = &mut state.words[seat.expect("a seat")];
                word.owner = 0;
                if word.waiters {
                    Pc::LeaveWake(died)
                } else {
                    Self::left(died)
                }
            }
            Pc::LeaveClear(died) => {
                state.clear_and_wake_all(seat.expect("a seat"));
                Self::left(died)
            }
            Pc::ReadByMain => {
                state.main = tid;
                Pc::OpenMarked(0)
            }
            Pc::OpenMarked(2) => Pc::FindSeat(0),
            Pc::OpenMarked(at) => {
                let word = &mut state.words[usize::from(at)];
                if word.is_open() {
                    Pc::OpenMarked(at + 1)
                } else {
                    (word.owner, word.died) = (tid, false);
                    state.tell();
                    Pc::Open(at, Then::FindSeat)
                }
            }
            Pc::FindSeat(at) if usize::from(at) == SEATS => {
                // It waits for the first one; whether that is left meanwhile is the sleep's to find out.
                match state.words[GATES] {
                    Word { owner: 0, .. } => Pc::FindSeat(0),
                    mut word => {
                        word.waiters = true;
                        state.words[GATES] = word;
                        Pc::Asleep(GATES)
                    }
                }
            }
            Pc::FindSeat(at) => {
                let word = &mut state.words[GATES + usize::from(at)];
                if word.owner == 0 {
                    (word.owner, word.died) = (tid, false);
                    state.says[usize::from(at)] = 0;
                    state.threads[thread].seat = Some(at);
                    state.begins(thread);
                    state.main = 0;
                    Pc::Read
                } else {
                    Pc::FindSeat(at + 1)
                }
            }

            Pc::TakeMain => {
                state.main = tid;
                Pc::Resolve
            }
            Pc::Resolve => {
                let other = 1 - state.turn;
                let word = &mut state.words[usize::from(other)];
                if word.is_open() {
                    Pc::TakeGate
                } else {
                    (word.owner, word.died) = (tid, false);
                    state.tell();
                    Pc::Open(other, Then::TakeGate)
                }
            }
            Pc::TakeGate => {
                let word = &mut state.words[usize::from(state.turn)];
                (word.owner, word.died) = (tid, false);
                state.tell();
                state.threads[thread].waits = true;
                Pc::Drain(0)
            }
            Pc::Drain(at) if usize::from(at) == SEATS => Pc::SetWriting,
            Pc::Drain(at) => match state.words[GATES + usize::from(at)] {
                word if word == Word::default() => Pc::Drain(at + 1),
                Word {
                    owner: 0,
                    died: false,
                    ..
                } => Pc::DrainPassOn(at),
                Word { owner: 0, .. } => Pc::DrainFree(at),
                _ if state.says[usize::from(at)] == 1 + state.turn => Pc::Drain(at + 1),
                word if word.waiters => Pc::DrainAsk(at, word),
                word => Pc::DrainAnnounce(at, word),
            },
            Pc::DrainAnnounce(at, seen) => {
                let word = &mut state.words[GATES + usize::from(at)];
                if *word == seen {
                    word.waiters = true;
                    Pc::DrainAsk(at, *word)
                } else {
                    Pc::Drain(at)
                }
            }
            Pc::DrainAsk(at, word) => match state.says[usize::from(at)] == 1 + state.turn {
                true => Pc::Drain(at + 1),
                false => Pc::DrainSleep(at, word),
            },
            Pc::DrainSleep(at, expected) => {
                let word = GATES + usize::from(at);
                if state.words[word] == expected {
                    Pc::Asleep(word)
                } else {
                    Pc::Drain(at)
                }
            }
            Pc::DrainPassOn(at) => {
                state.pass_on(GATES + usize::from(at));
                Pc::Drain(at + 1)
            }
            Pc::DrainFree(at) => {
                state.words[GATES + usize::from(at)] = Word::default();
                state.says[usize::from(at)] = 0;
                Pc::Drain(at + 1)
            }
            Pc::SetWriting => {
                state.writing = true;
                state.begins(thread);
                Pc::Write
            }
            Pc::Write => Pc::ClearWriting,
            Pc::ClearWriting => {
                state.writing = false;
                let own = state.turn;
                if self.variant != Variant::OneGate {
                    state.turn = 1 - state.turn;
                }
                Pc::Open(own, Then::LeaveMain)
            }

            Pc::Open(at, then) => {
                let word = &mut state.words[usize::from(at)];
                word.owner = 0;
                if word.waiters {
                    Pc::OpenWake(at, then)
                } else {
                    Self::opened(at, then)
                }
            }
            Pc::OpenClear(at, then) => {
                state.clear_and_wake_all(usize::from(at));
                Pc::OpenPassOn(at, then)
            }
            Pc::OpenPassOn(at, then) => {
                if self.variant != Variant::NobodyPassesOn {
                    state.pass_on(usize::from(at));
                }
                Self::opened(at, then)
            }
            Pc::LeaveMain => {
                state.main = 0;
                state.ends_round(thread);
                return;
            }
            Pc::Exit(0, pending) => {
                if state.main == tid {
                    state.main = 0;
                }
                Pc::Exit(1, pending)
            }
            Pc::Exit(at, pending) if usize::from(at) <= GATES + SEATS => {
                let id = usize::from(at) - 1;
                let word = &mut state.words[id];
                let resends = pending == Some(at - 1) && word.owner == 0;
                if word.owner == tid {
                    (word.owner, word.died) = (0, true);
                    if word.waiters {
                        state.threads[thread].pc = Pc::ExitWake(at - 1, at + 1, pending);
                        return;
                    }
                }
                if resends {
                    Pc::ExitWake(at - 1, at + 1, pending)
                } else {
                    Pc::Exit(at + 1, pending)
                }
            }
            Pc::Exit(..) => Pc::Dead,
            Pc::LeaveWake(_)
            | Pc::OpenWake(..)
            | Pc::ExitWake(..)
            | Pc::Asleep(_)
            | Pc::Done
            | Pc::Dead => unreachable!("no step at {:?}", own.pc),
        };
        // A reader that has left its seat after its section is done with the round.
        if next == Pc::Start && own.pc != Pc::Start {
            state.threads[thread].seat = None;
            state.ends_round(thread);
            return;
        }
        if next == Pc::ReadByMain {
            state.threads[thread].seat = None;
            state.threads[thread].waits = false;
        }
        state.threads[thread].pc = next;
    }

    fn opened(at: u8, then: Then) -> Pc {
        match then {
            Then::FindSeat => Pc::OpenMarked(at + 1),
            Then::TakeGate => Pc::TakeGate,
            Then::LeaveMain => Pc::LeaveMain,
        }
    }

    fn after_wake(&self, state: &mut State, thread: usize, next: Pc) {
        state.threads[thread].pc = next;
        if next == Pc::Start {
            state.threads[thread].seat = None;
            state.ends_round(thread);
        } else if next == Pc::ReadByMain {
            state.threads[thread].seat = None;
            state.threads[thread].waits = false;
        }
    }
}

impl Model for Search {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let thread = |index: usize| Thread {
            pc: match index {
                _ if index >= self.threads => Pc::Done,
                _ if index < self.writers => Pc::TakeMain,
                _ => Pc::Start,
            },
            writes: index < self.writers,
            rounds: self.rounds,
            gate: 0,
            seat: None,
            waits: false,
            overtaken: 0,
        };
        vec![State {
            main: 0,
            words: Default::default(),
            says: [0; SEATS],
            turn: 0,
            writing: false,
            threads: std::array::from_fn(thread),
            deaths: self.deaths,
            somebody_died: false,
            due: false,
            wrong: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (thread, own) in state.threads.iter().enumerate() {
            match Self::wakes(own.pc, own.seat) {
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
                match Self::wakes(own.pc, own.seat) {
                    Some((_, _, nobody)) => self.after_wake(&mut next, thread, nobody),
                    None => self.step(&mut next, thread),
                }
            }
            Action::Wake(thread, sleeper) => {
                let own = state.threads[thread];
                next.end_sleep(sleeper);
                let (_, somebody, _) = Self::wakes(own.pc, own.seat).expect("it wakes");
                self.after_wake(&mut next, thread, somebody);
            }
            Action::Die(thread) => {
                let own = state.threads[thread];
                next.deaths -= 1;
                next.somebody_died = true;
                // Until `writing` is cleared, the data counts as in its hands.
                next.due |= matches!(own.pc, Pc::Write | Pc::ClearWriting);
                let pending = match own.pc {
                    Pc::OpenWake(gate, _) | Pc::OpenClear(gate, _) => Some(gate),
                    Pc::LeaveWake(_) | Pc::LeaveClear(_) => own.seat.map(|seat| seat + GATES as u8),
                    // A reader announces the gate on which it sleeps.
                    Pc::Watch
                    | Pc::Announce(_)
                    | Pc::Sleep(_)
                    | Pc::TakeBack(_)
                    | Pc::PassOn(_)
                    | Pc::Asleep(..GATES)
                        if self.variant != Variant::NotAnnounced =>
                    {
                        Some(own.gate)
                    }
                    _ => None,
                };
                next.threads[thread].waits = false;
                next.threads[thread].pc = Pc::Exit(0, pending);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ALONE, |_, state: &State| {
                let at = |pc| state.threads.iter().filter(|own| own.pc == pc).count();
                at(Pc::Write) == 0 || at(Pc::Write) + at(Pc::Read) == 1
            }),
            Property::always(NOBODY_WAITS_FOR_EVER, |search: &Search, state: &State| {
                let mut actions = Vec::new();
                search.actions(state, &mut actions);
                let rests = !actions
                    .iter()
                    .any(|action| !matches!(action, Action::Die(_)));
                let is_done = |own: &Thread| matches!(own.pc, Pc::Done | Pc::Dead);
                !rests || state.threads.iter().all(is_done)
            }),
            Property::always(TOLD, |_, state: &State| !state.wrong),
            Property::always(BOUND, |_, state: &State| {
                state.somebody_died
                    || state.threads.iter().all(|own| match own.writes {
                        true => usize::from(own.overtaken) <= SEATS,
                        false => own.overtaken <= 1,
                    })
            }),
        ]
    }
}

const ALONE: &str = "a writer is alone";
const NOBODY_WAITS_FOR_EVER: &str = "nobody waits for ever";
const TOLD: &str = "a death in the data is told before the next section, and no other";
const BOUND: &str = "who waits is not overtaken more often than stated";

const PLAIN: Search = Search {
    variant: Variant::Sound,
    writers: 1,
    threads: THREADS,
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
fn readers_and_writers_who_live() {
    for (writers, at_least) in [(1, 400_000), (2, 20_000)] {
        holds(Search { writers, ..PLAIN }, at_least);
    }
}

/// Once each. A thorough run has two rounds, and its minutes.
#[test]
fn readers_and_writers_of_whom_two_may_die() {
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

#[test]
fn a_reader_that_looks_before_it_takes_a_seat_meets_a_writer() {
    let variant = Variant::LooksFirst;
    rejects(Search { variant, ..PLAIN }, ALONE);
}

#[test]
fn a_gate_that_wakes_one_leaves_another_asleep() {
    let variant = Variant::NobodyPassesOn;
    rejects(Search { variant, ..PLAIN }, NOBODY_WAITS_FOR_EVER);
}

#[test]
fn a_reader_that_does_not_say_that_it_waits_leaves_the_writer_asleep() {
    let variant = Variant::SaysNothing;
    rejects(Search { variant, ..PLAIN }, NOBODY_WAITS_FOR_EVER);
}

/// A writer dies, and then the reader whom the kernel has woken for it.
#[test]
fn a_woken_reader_that_was_not_announced_takes_the_wake_with_it() {
    let search = Search {
        variant: Variant::NotAnnounced,
        rounds: 1,
        deaths: 2,
        ..PLAIN
    };
    rejects(search, NOBODY_WAITS_FOR_EVER);
}

#[test]
fn with_one_gate_a_reader_is_overtaken_again_and_again() {
    let search = Search {
        variant: Variant::OneGate,
        writers: 2,
        ..PLAIN
    };
    rejects(search, BOUND);
}
