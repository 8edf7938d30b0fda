//! What the processes share: placed in a map before the first fork, and never moved.

use crate::cache::Cache;
use crate::clock;
use crate::histogram::Histogram;
use crate::limiter::Bucket;
use pshared::{
    Error, Shared, SharedCounter, SharedMutex, SharedPermits, SharedRoster, SharedRwLock, ShmSafe,
    SlotState,
};
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};

/// Workers at once: twice as many as may be asked for, since each may be replaced by one that starts before it leaves.
pub const WORKER_SLOTS: usize = 64;

/// How many workers wait for a connection at once, with `--accept permits`.
pub const ACCEPTORS: usize = 2;

/// Everything that is shared.
#[derive(ShmSafe)]
#[repr(C)]
pub struct SharedState {
    /// Whose turn it is to accept: with `--accept mutex` one worker's, with `--accept permits` that of some.
    pub accept: SharedMutex<()>,
    pub acceptors: SharedPermits<ACCEPTORS>,
    /// What `/count` counts.
    pub hits: SharedCounter,
    pub limiter: SharedMutex<Bucket>,
    pub cache: SharedRwLock<Cache>,
    pub workers: SharedRoster<Worker, WORKER_SLOTS>,
    pub reported: Reported,
    /// The supervisor's process, 0 before the first and after an orderly end. After another end it says nothing: some other
    /// process may have the number.
    pub supervisor: AtomicU32,
    /// Since when it supervises, by the [clock].
    pub started: AtomicU64,
    /// The server is to end: whoever leaves serves the connections first that have come already.
    pub closing: AtomicBool,
    /// Workers that the supervisor killed because they held something and did not move.
    pub stuck: SharedCounter,
    /// Workers that were replaced on SIGHUP.
    pub replaced: SharedCounter,
}

/// How often somebody was told that the last holder had died, and put right what that one left.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub struct Reported {
    pub accept: SharedCounter,
    pub limiter: SharedCounter,
    pub cache: SharedCounter,
    pub slot: SharedCounter,
}

/// What lies at a worker's slot. It outlives the worker: the next one at the slot counts on.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub struct Worker {
    doing: AtomicU8,
    /// The last sign of life, and the start of the worker at the slot.
    beat: AtomicU64,
    started: AtomicU64,
    /// What the slot had counted before that.
    before: AtomicU64,
    pub connections: SharedCounter,
    /// Requests that were answered or about to be, by route and by status.
    pub requests: [SharedCounter; Route::ALL.len()],
    pub statuses: [SharedCounter; STATUSES.len()],
    pub durations: Histogram,
    pub cache_hits: SharedCounter,
    pub cache_misses: SharedCounter,
    /// How many workers died at this slot.
    pub deaths: SharedCounter,
}

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Route {
    Home,
    Count,
    Primes,
    Metrics,
    Workers,
    Other,
}

impl Route {
    pub const ALL: [Route; 6] = [
        Route::Home,
        Route::Count,
        Route::Primes,
        Route::Metrics,
        Route::Workers,
        Route::Other,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Route::Home => "/",
            Route::Count => "/count",
            Route::Primes => "/primes",
            Route::Metrics => "/metrics",
            Route::Workers => "/workers",
            Route::Other => "other",
        }
    }
}

/// The statuses that this server answers with.
pub const STATUSES: [u16; 10] = [200, 400, 404, 405, 408, 413, 429, 431, 500, 505];

/// What a worker is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Doing {
    Starting,
    /// It waits for its turn to accept.
    Queueing,
    /// It has the turn, and waits for a connection.
    Accepting,
    /// It waits for the next request of its connection.
    Listening,
    Answering,
    /// It waits for its client to take the answer.
    Sending,
    /// It finishes what it has, and leaves.
    Leaving,
}

impl Doing {
    pub const ALL: [Doing; 7] = [
        Doing::Starting,
        Doing::Queueing,
        Doing::Accepting,
        Doing::Listening,
        Doing::Answering,
        Doing::Sending,
        Doing::Leaving,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Doing::Starting => "starting",
            Doing::Queueing => "waits for its turn",
            Doing::Accepting => "accepts",
            Doing::Listening => "waits for a request",
            Doing::Answering => "answers",
            Doing::Sending => "sends",
            Doing::Leaving => "leaves",
        }
    }
}

impl Worker {
    /// A new worker sits down.
    pub fn start(&self) {
        self.before.store(self.answered(), Relaxed);
        self.turn_to(Doing::Starting);
        // After what the predecessor at the slot was about has been wiped out.
        self.started.store(clock::now(), Release);
    }

    /// A new server begins: by its clock, which may be that of another boot, nobody has started yet.
    pub fn forget(&self) {
        self.started.store(0, Relaxed);
        self.beat.store(0, Relaxed);
    }

    /// The worker shows what it is about, and that it lives.
    pub fn turn_to(&self, doing: Doing) {
        self.turn_to_at(doing, clock::now());
    }

    /// As [`turn_to`](Self::turn_to), by who has just read the clock.
    pub fn turn_to_at(&self, doing: Doing, now: u64) {
        self.beat.store(now, Relaxed);
        self.doing.store(doing as u8, Relaxed);
    }

    pub fn beat(&self) {
        self.beat.store(clock::now(), Relaxed);
    }

    pub fn doing(&self) -> Doing {
        let number = usize::from(self.doing.load(Relaxed));
        Doing::ALL.get(number).copied().unwrap_or(Doing::Starting)
    }

    /// Whether a worker that was hired then has sat down, and become ready to work.
    pub fn has_been_ready_since(&self, hired: u64) -> bool {
        self.started.load(Acquire) >= hired && self.doing() != Doing::Starting
    }

    /// Seconds since the last sign of life.
    pub fn silence(&self) -> f64 {
        clock::seconds_since(self.beat.load(Relaxed))
    }

    /// Seconds since the worker at the slot started.
    pub fn age(&self) -> f64 {
        clock::seconds_since(self.started.load(Relaxed))
    }

    /// Requests that were counted at this slot, by whomever.
    pub fn answered(&self) -> u64 {
        self.requests.iter().map(SharedCounter::get).sum()
    }

    /// Those of the worker that sits there now.
    pub fn answered_by_this_one(&self) -> u64 {
        self.answered().saturating_sub(self.before.load(Relaxed))
    }

    /// Counts a request. It comes before the answer, so that no client has an answer that is not counted.
    pub fn count(&self, route: Route, status: u16) {
        self.requests[route as usize].add(1);
        let status = STATUSES.iter().position(|known| *known == status);
        self.statuses[status.expect("one of the list")].add(1);
    }
}

impl SharedState {
    /// Places the state in the file `path`, or else in memory that only children see.
    ///
    /// A file that is there already is gone on with: its counts stay.
    pub fn place(path: Option<&Path>) -> Result<&'static SharedState, Error> {
        let state = match path {
            None => Shared::anonymous(SharedState::new())?,
            Some(path) => SharedState::in_file(path)?,
        };
        // It is used until the process ends.
        Ok(state.leak())
    }

    #[expect(
        unsafe_code,
        reason = "whoever places a value in a file answers for what else is done to the file"
    )]
    fn in_file(path: &Path) -> Result<Shared<SharedState>, Error> {
        // SAFETY: the file is this program's own, whose processes change it by this type alone.
        unsafe { Shared::open_or_create(path, SharedState::new) }
    }

    pub fn new() -> SharedState {
        SharedState {
            accept: SharedMutex::new(()),
            acceptors: SharedPermits::new(),
            hits: SharedCounter::new(0),
            limiter: SharedMutex::new(Bucket::default()),
            cache: SharedRwLock::new(Cache::default()),
            workers: SharedRoster::default(),
            reported: Reported::default(),
            supervisor: AtomicU32::new(0),
            started: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            stuck: SharedCounter::new(0),
            replaced: SharedCounter::new(0),
        }
    }

    /// Requests for these routes that all workers counted, the dead included.
    pub fn answered_at(&self, routes: &[Route]) -> u64 {
        let at = |worker: &Worker| -> u64 {
            let counts = routes.iter().map(|route| &worker.requests[*route as usize]);
            counts.map(SharedCounter::get).sum()
        };
        self.workers.slots().map(|slot| at(slot.data)).sum()
    }

    /// Requests that all workers counted, the dead included.
    pub fn answered(&self) -> u64 {
        self.workers.slots().map(|slot| slot.data.answered()).sum()
    }

    /// Workers that have died, of whatever.
    pub fn deaths(&self) -> u64 {
        self.workers
            .slots()
            .map(|slot| slot.data.deaths.get())
            .sum()
    }

    /// The process ids of those at work, with their slots' numbers.
    pub fn at_work(&self) -> impl Iterator<Item = (u32, usize)> {
        self.workers.slots().filter_map(|slot| match slot.state {
            SlotState::Occupied { by: Some(who) } => Some((who.process, slot.number)),
            _ => None,
        })
    }

    /// Those at work.
    pub fn seated(&self) -> impl Iterator<Item = &Worker> {
        let slots = self.workers.slots();
        let taken = slots.filter(|slot| matches!(slot.state, SlotState::Occupied { .. }));
        taken.map(|slot| slot.data)
    }

    /// What is locked just now, and by which process.
    pub fn holders(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let holders = [
            ("the turn to accept", self.accept.holder()),
            ("the rate limiter", self.limiter.holder()),
            ("the cache", self.cache.holder()),
        ];
        holders
            .into_iter()
            .filter_map(|(lock, holder)| Some((lock, holder?.process)))
    }
}
