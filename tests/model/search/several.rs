//! A search for threads that sleep on several words and acquire any one of them
//! (`src/raw/multi/lock_set.rs`).
//!
//! A word is free or owned, with or without `WAITERS`. A waiter joins the queues of the words one
//! after the other. After a wake on one word it stays in the other queues until it runs, as in
//! `futex_waitv`. The queue lock is a robust lock, which another search
//! covers. Here a thread acquires it in one step, and the death of its holder frees it at once.
//!
//! The property: if no thread can go on except the holders of words, no thread waits while a word
//! is free. The liveness check is left out.

use stateright::{Model, Property};

const WORDS: usize = 2;
const MAX_THREADS: usize = 4;

/// Which threads sleep on the words, and what they do for the other waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The library's protocol: one thread at a time sleeps on the words. Once it has a word, it
    /// wakes one waiter on each other free word with `WAITERS`, for wakes that it may have
    /// consumed.
    QueueLock,
    /// One thread at a time sleeps on the words, and wakes no other waiter.
    QueueLockOnly,
    /// All waiters sleep on all words. Each wakes other waiters as in
    /// [`QueueLock`](Variant::QueueLock).
    PropagatesWakes,
    /// All waiters sleep on all words, and wake no other waiter.
    KeepsWakes,
}

impl Variant {
    fn has_queue_lock(self) -> bool {
        matches!(self, Variant::QueueLock | Variant::QueueLockOnly)
    }

    fn propagates_wakes(self) -> bool {
        matches!(self, Variant::QueueLock | Variant::PropagatesWakes)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct LockSet {
    pub variant: Variant,
    pub threads: usize,
    /// How many threads hold a word at the start.
    pub holders: usize,
    pub rounds: u8,
    pub deaths: u8,
    /// How many sleeps may end because of a signal, a deadline or a recheck timer.
    pub interruptions: u8,
}

/// The next step of a thread. A number is the index of the word that the step accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pc {
    Check(u8),
    Take(u8),
    AcquireQueueLock,
    /// Sets `WAITERS`.
    SetWaiters(u8),
    /// Compares the word, and joins its queue.
    Join(u8),
    Asleep,
    LeaveQueues,
    /// Holds the word `has`, and wakes one waiter on another word.
    PropagateWake {
        has: u8,
        next: u8,
    },
    ReleaseQueueLock(u8),
    Section(u8),
    Release(u8),
    Wake(u8),
    /// The wake found no waiter: clears `WAITERS` and wakes all, in one step.
    Clear(u8),
    /// The kernel's wakes for a dead thread, on these words one after the other.
    ExitWake([bool; WORDS]),
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Thread {
    pc: Pc,
    rounds: u8,
    queued: [bool; WORDS],
    woken: bool,
    /// The owner of each word when the thread set `WAITERS` in it.
    seen: [Option<u8>; WORDS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    owner: [Option<u8>; WORDS],
    waiters: [bool; WORDS],
    queue_lock: Option<u8>,
    threads: [Thread; MAX_THREADS],
    deaths: u8,
    interruptions: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Step(u8),
    /// The first thread's next step is a wake, and it removes the second from the word's queue.
    Wake(u8, u8),
    /// A holder ends its critical section.
    Finish(u8),
    Interrupt(u8),
    Die(u8),
}

impl State {
    /// The threads in the queue of a word, including those already woken on another word.
    fn sleepers(&self, word: u8) -> impl Iterator<Item = u8> + use<> {
        let threads = self.threads;
        (0..MAX_THREADS as u8).filter(move |&tid| threads[tid as usize].queued[word as usize])
    }

    fn wake(&mut self, word: u8, tid: u8) {
        let thread = &mut self.threads[tid as usize];
        thread.queued[word as usize] = false;
        thread.woken = true;
        if thread.pc == Pc::Asleep {
            thread.pc = Pc::LeaveQueues;
        }
    }

    /// The word on which the thread is about to wake a waiter.
    fn wakes_on(&self, tid: u8) -> Option<u8> {
        match self.threads[tid as usize].pc {
            Pc::Wake(word) => Some(word),
            Pc::PropagateWake { has, next } => {
                let word = next as usize;
                let is_left = next != has && self.owner[word].is_none() && self.waiters[word];
                is_left.then_some(next)
            }
            Pc::ExitWake(owed) => owed.iter().position(|owes| *owes).map(|word| word as u8),
            _ => None,
        }
    }

    fn is_idle(&self, tid: u8) -> bool {
        match self.threads[tid as usize].pc {
            Pc::Section(_) | Pc::Asleep | Pc::Gone => true,
            Pc::AcquireQueueLock => self.queue_lock.is_some(),
            _ => false,
        }
    }

    /// If only holders of words can go on, or no thread can, then no thread waits while a word is
    /// free.
    fn no_thread_is_stranded(&self) -> bool {
        let waits = |pc| matches!(pc, Pc::Asleep | Pc::AcquireQueueLock);
        let has_waiter = self.threads.iter().any(|thread| waits(thread.pc));
        let is_at_rest = (0..MAX_THREADS as u8).all(|tid| self.is_idle(tid));
        !(is_at_rest && has_waiter && self.owner.iter().any(Option::is_none))
    }
}

impl LockSet {
    fn step(&self, state: &mut State, current: u8, woken: Option<u8>) {
        let next_word = |word: u8| word + 1;
        let is_last = |word: u8| usize::from(word) + 1 == WORDS;
        let tid = current as usize;
        let wakes_on = state.wakes_on(current);
        if let (Some(word), Some(sleeper)) = (wakes_on, woken) {
            state.wake(word, sleeper);
        }
        state.threads[tid].pc = match state.threads[tid].pc {
            Pc::Check(word) if state.owner[word as usize].is_none() => Pc::Take(word),
            Pc::Check(word) if !is_last(word) => Pc::Check(next_word(word)),
            Pc::Check(_) if self.variant.has_queue_lock() && state.queue_lock != Some(current) => {
                Pc::AcquireQueueLock
            }
            Pc::Check(_) => Pc::SetWaiters(0),
            Pc::Take(word) if state.owner[word as usize].is_some() => Pc::Check(0),
            Pc::Take(word) => {
                // The acquisition keeps `WAITERS`.
                state.owner[word as usize] = Some(current);
                match state.threads[tid].woken && self.variant.propagates_wakes() {
                    true => Pc::PropagateWake { has: word, next: 0 },
                    false => Pc::ReleaseQueueLock(word),
                }
            }
            Pc::AcquireQueueLock => {
                state.queue_lock = Some(current);
                Pc::Check(0)
            }
            Pc::SetWaiters(word) => match state.owner[word as usize] {
                None => Pc::Check(0),
                owner => {
                    state.waiters[word as usize] = true;
                    state.threads[tid].seen[word as usize] = owner;
                    match is_last(word) {
                        true => Pc::Join(0),
                        false => Pc::SetWaiters(next_word(word)),
                    }
                }
            },
            Pc::Join(word) => {
                let index = word as usize;
                let thread = state.threads[tid];
                if state.owner[index] != thread.seen[index] || !state.waiters[index] {
                    Pc::LeaveQueues
                } else {
                    state.threads[tid].queued[index] = true;
                    match (is_last(word), thread.woken) {
                        (false, _) => Pc::Join(next_word(word)),
                        (true, true) => Pc::LeaveQueues,
                        (true, false) => Pc::Asleep,
                    }
                }
            }
            Pc::LeaveQueues => {
                state.threads[tid].queued = [false; WORDS];
                // The thread has slept, so it may have consumed wakes of other waiters.
                state.threads[tid].woken = true;
                Pc::Check(0)
            }
            Pc::PropagateWake { has, next } if !is_last(next) => Pc::PropagateWake {
                has,
                next: next_word(next),
            },
            Pc::PropagateWake { has, .. } => Pc::ReleaseQueueLock(has),
            Pc::ReleaseQueueLock(word) => {
                state.threads[tid].woken = false;
                if state.queue_lock == Some(current) {
                    state.queue_lock = None;
                }
                Pc::Section(word)
            }
            Pc::Release(word) => {
                state.owner[word as usize] = None;
                match state.waiters[word as usize] {
                    true => Pc::Wake(word),
                    false => self.end_round(state, tid),
                }
            }
            Pc::Wake(word) if woken.is_none() => Pc::Clear(word),
            Pc::Wake(_) => self.end_round(state, tid),
            Pc::Clear(word) => {
                state.waiters[word as usize] = false;
                for sleeper in state.sleepers(word) {
                    state.wake(word, sleeper);
                }
                self.end_round(state, tid)
            }
            Pc::ExitWake(mut owed) => match wakes_on {
                None => Pc::Gone,
                Some(word) => {
                    owed[word as usize] = false;
                    Pc::ExitWake(owed)
                }
            },
            pc @ (Pc::Asleep | Pc::Section(_) | Pc::Gone) => unreachable!("no step at {pc:?}"),
        };
    }

    fn end_round(&self, state: &mut State, tid: usize) -> Pc {
        let thread = &mut state.threads[tid];
        thread.rounds -= 1;
        thread.seen = [None; WORDS];
        match thread.rounds {
            0 => Pc::Gone,
            _ => Pc::Check(0),
        }
    }

    /// Kills the thread: it leaves the queues, its unused wakes are lost, and the kernel walks its
    /// words.
    fn die(&self, state: &mut State, current: u8) {
        let tid = current as usize;
        let mut owed = [false; WORDS];
        // `list_op_pending` names the word, and the word has no owner.
        if let Pc::Wake(word) | Pc::Clear(word) = state.threads[tid].pc {
            owed[word as usize] = true;
        }
        for (word, owes) in owed.iter_mut().enumerate() {
            if state.owner[word] == Some(current) {
                state.owner[word] = None;
                *owes |= state.waiters[word];
            }
        }
        if state.queue_lock == Some(current) {
            state.queue_lock = None;
        }
        state.threads[tid] = Thread {
            pc: Pc::ExitWake(owed),
            rounds: 0,
            queued: [false; WORDS],
            woken: false,
            seen: [None; WORDS],
        };
    }
}

impl Model for LockSet {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            owner: [None; WORDS],
            waiters: [false; WORDS],
            queue_lock: None,
            threads: [Thread {
                pc: Pc::Gone,
                rounds: 0,
                queued: [false; WORDS],
                woken: false,
                seen: [None; WORDS],
            }; MAX_THREADS],
            deaths: self.deaths,
            interruptions: self.interruptions,
        };
        for (tid, thread) in state.threads.iter_mut().enumerate().take(self.threads) {
            thread.rounds = self.rounds;
            thread.pc = Pc::Check(0);
            if tid < self.holders {
                state.owner[tid] = Some(tid as u8);
                thread.pc = Pc::Section(tid as u8);
                thread.rounds = 1;
            }
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for tid in 0..MAX_THREADS as u8 {
            let thread = state.threads[tid as usize];
            let (is_gone, is_dying) = (thread.pc == Pc::Gone, matches!(thread.pc, Pc::ExitWake(_)));
            if !state.is_idle(tid) {
                let before = actions.len();
                if let Some(word) = state.wakes_on(tid) {
                    actions.extend(
                        state
                            .sleepers(word)
                            .map(|sleeper| Action::Wake(tid, sleeper)),
                    );
                }
                if actions.len() == before {
                    actions.push(Action::Step(tid));
                }
            }
            if matches!(thread.pc, Pc::Section(_)) {
                actions.push(Action::Finish(tid));
            }
            if thread.pc == Pc::Asleep && state.interruptions > 0 {
                actions.push(Action::Interrupt(tid));
            }
            if !is_gone && !is_dying && state.deaths > 0 {
                actions.push(Action::Die(tid));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Step(tid) => self.step(&mut next, tid, None),
            Action::Wake(tid, sleeper) => self.step(&mut next, tid, Some(sleeper)),
            Action::Finish(tid) => {
                if let Pc::Section(word) = state.threads[tid as usize].pc {
                    next.threads[tid as usize].pc = Pc::Release(word);
                }
            }
            Action::Interrupt(tid) => {
                next.interruptions -= 1;
                next.threads[tid as usize].pc = Pc::LeaveQueues;
            }
            Action::Die(tid) => {
                next.deaths -= 1;
                self.die(&mut next, tid);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NO_THREAD_IS_STRANDED, |_, state: &State| {
                state.no_thread_is_stranded()
            }),
            Property::sometimes("a thread sleeps on the words", |_, state: &State| {
                state.threads.iter().any(|thread| thread.pc == Pc::Asleep)
            }),
        ]
    }
}

pub const NO_THREAD_IS_STRANDED: &str = "no thread waits while a word is free";
