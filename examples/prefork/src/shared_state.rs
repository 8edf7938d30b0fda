//! The state that the processes share. It is placed in a map before the first fork and never moved.

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

/// The maximum number of workers at once. It is twice the largest `--workers`, because the
/// replacement of a worker starts before the old worker leaves.
pub const WORKER_SLOTS: usize = 64;

/// How many workers wait for a connection at once with `--accept permits`.
pub const ACCEPTORS: usize = 2;

/// The whole shared state.
#[derive(ShmSafe)]
#[repr(C)]
pub struct SharedState {
    /// The accept lock. With `--accept mutex`, only its owner waits for a connection.
    pub accept: SharedMutex<()>,
    /// The accept permits. With `--accept permits`, only the owners of a permit wait for a
    /// connection.
    pub acceptors: SharedPermits<ACCEPTORS>,
    /// The count of `/count`.
    pub hits: SharedCounter,
    pub limiter: SharedMutex<Bucket>,
    pub cache: SharedRwLock<Cache>,
    pub workers: SharedRoster<Worker, WORKER_SLOTS>,
    pub reported: Reported,
    /// The supervisor's process id, 0 before the first supervisor and after a clean shutdown. After
    /// any other end the value is meaningless: another process may have the id.
    pub supervisor: AtomicU32,
    /// When the supervisor started, by the [clock].
    pub started: AtomicU64,
    /// The server is shutting down. Before a worker leaves, it serves the connections that have
    /// arrived.
    pub closing: AtomicBool,
    /// The number of workers that the supervisor killed because they gave no heartbeat.
    pub stuck: SharedCounter,
    /// The number of workers that were replaced on SIGHUP.
    pub replaced: SharedCounter,
}

/// How often an owner's death was reported to the next owner, which repaired the data. One counter
/// for each lock, and one for the slots.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub struct Reported {
    pub accept: SharedCounter,
    pub limiter: SharedCounter,
    pub cache: SharedCounter,
    pub slot: SharedCounter,
}

/// The data of a worker slot. It outlives the worker: the next worker in the slot continues the
/// counts.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub struct Worker {
    activity: AtomicU8,
    /// The last heartbeat and the start of the worker in the slot, by the [clock].
    beat: AtomicU64,
    started: AtomicU64,
    /// The slot's count of requests when this worker started.
    before: AtomicU64,
    pub connections: SharedCounter,
    /// Requests that were answered or are about to be answered, by route and by status.
    pub requests: [SharedCounter; Route::ALL.len()],
    pub statuses: [SharedCounter; STATUSES.len()],
    pub durations: Histogram,
    pub cache_hits: SharedCounter,
    pub cache_misses: SharedCounter,
    /// How many workers died in this slot.
    pub deaths: SharedCounter,
}

/// The page that a request asks for.
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

/// The status codes of this server's answers.
pub const STATUSES: [u16; 10] = [200, 400, 404, 405, 408, 413, 429, 431, 500, 505];

/// A worker's current activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Activity {
    Starting,
    /// Waits for the accept lock or a permit.
    Queueing,
    /// Waits for a connection.
    Accepting,
    /// Waits for the next request of its connection.
    Listening,
    Answering,
    /// Waits until its client has received the answer.
    Sending,
    /// Serves the remaining connections, then leaves.
    Leaving,
}

impl Activity {
    pub const ALL: [Activity; 7] = [
        Activity::Starting,
        Activity::Queueing,
        Activity::Accepting,
        Activity::Listening,
        Activity::Answering,
        Activity::Sending,
        Activity::Leaving,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Activity::Starting => "starting",
            Activity::Queueing => "waiting to accept",
            Activity::Accepting => "accepting",
            Activity::Listening => "waiting for a request",
            Activity::Answering => "answering",
            Activity::Sending => "sending",
            Activity::Leaving => "leaving",
        }
    }
}

impl Worker {
    /// Initializes the slot's data for a new worker.
    pub fn start(&self) {
        self.before.store(self.answered(), Relaxed);
        self.set_activity(Activity::Starting);
        // Stored last, with release: the activity of the slot's previous worker is overwritten
        // before.
        self.started.store(clock::now(), Release);
    }

    /// Resets the times for a new server. The stored times may be those of another boot.
    pub fn reset_times(&self) {
        self.started.store(0, Relaxed);
        self.beat.store(0, Relaxed);
    }

    /// Sets the worker's activity and gives a heartbeat.
    pub fn set_activity(&self, activity: Activity) {
        self.set_activity_at(activity, clock::now());
    }

    /// The same as [`set_activity`](Self::set_activity), for a caller that has just read the clock.
    pub fn set_activity_at(&self, activity: Activity, now: u64) {
        self.beat.store(now, Relaxed);
        self.activity.store(activity as u8, Relaxed);
    }

    pub fn beat(&self) {
        self.beat.store(clock::now(), Relaxed);
    }

    pub fn activity(&self) -> Activity {
        let number = usize::from(self.activity.load(Relaxed));
        Activity::ALL
            .get(number)
            .copied()
            .unwrap_or(Activity::Starting)
    }

    /// Returns whether the worker that was forked at `forked_at` has occupied the slot and is ready
    /// to work.
    pub fn is_ready_since(&self, forked_at: u64) -> bool {
        self.started.load(Acquire) >= forked_at && self.activity() != Activity::Starting
    }

    /// Returns the seconds since the last heartbeat.
    pub fn silence(&self) -> f64 {
        clock::seconds_since(self.beat.load(Relaxed))
    }

    /// Returns the seconds since the worker in the slot started.
    pub fn age(&self) -> f64 {
        clock::seconds_since(self.started.load(Relaxed))
    }

    /// Returns the number of requests that all workers of this slot have counted.
    pub fn answered(&self) -> u64 {
        self.requests.iter().map(SharedCounter::get).sum()
    }

    /// Returns the number of requests that the current worker of this slot has counted.
    pub fn answered_by_current(&self) -> u64 {
        self.answered().saturating_sub(self.before.load(Relaxed))
    }

    /// Counts a request. The caller counts it before it sends the answer, so that every answer that
    /// a client receives is counted.
    pub fn count(&self, route: Route, status: u16) {
        self.requests[route as usize].add(1);
        let status = STATUSES.iter().position(|known| *known == status);
        self.statuses[status.expect("the status is listed in STATUSES")].add(1);
    }
}

impl SharedState {
    /// Places the state in the file `path`, or in anonymous memory that only children share.
    ///
    /// If the file exists, its counts are continued.
    pub fn place(path: Option<&Path>) -> Result<&'static SharedState, Error> {
        let state = match path {
            None => Shared::anonymous(SharedState::new())?,
            Some(path) => SharedState::in_file(path)?,
        };
        // The state is used until the process ends.
        Ok(state.leak())
    }

    #[expect(
        unsafe_code,
        reason = "the caller must ensure that the file is not changed by other means"
    )]
    fn in_file(path: &Path) -> Result<Shared<SharedState>, Error> {
        // SAFETY: only this program's processes use the file, and they change it only through this
        // type.
        unsafe { Shared::open_or_create(path, SharedState::new) }
    }

    fn new() -> SharedState {
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

    /// Returns the number of requests for these routes that all workers counted, including dead
    /// ones.
    pub fn answered_at(&self, routes: &[Route]) -> u64 {
        let at = |worker: &Worker| -> u64 {
            let counts = routes.iter().map(|route| &worker.requests[*route as usize]);
            counts.map(SharedCounter::get).sum()
        };
        self.workers.slots().map(|slot| at(slot.data)).sum()
    }

    /// Returns the number of requests that all workers counted, including dead ones.
    pub fn answered(&self) -> u64 {
        self.workers.slots().map(|slot| slot.data.answered()).sum()
    }

    /// Returns the number of workers that died, whatever the cause.
    pub fn deaths(&self) -> u64 {
        self.workers
            .slots()
            .map(|slot| slot.data.deaths.get())
            .sum()
    }

    /// Returns the process ids of the live workers, with the numbers of their slots.
    pub fn live_workers(&self) -> impl Iterator<Item = (u32, usize)> {
        self.workers.slots().filter_map(|slot| match slot.state {
            SlotState::Occupied { by: Some(owner) } => Some((owner.process, slot.number)),
            _ => None,
        })
    }

    /// Returns the data of the occupied slots.
    pub fn occupied(&self) -> impl Iterator<Item = &Worker> {
        let slots = self.workers.slots();
        let taken = slots.filter(|slot| matches!(slot.state, SlotState::Occupied { .. }));
        taken.map(|slot| slot.data)
    }

    /// Returns the locks that are held at the moment, with the process ids of their owners.
    pub fn holders(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let holders = [
            ("the accept lock", self.accept.holder()),
            ("the rate limiter", self.limiter.holder()),
            ("the cache", self.cache.holder()),
        ];
        holders
            .into_iter()
            .filter_map(|(lock, holder)| Some((lock, holder?.process)))
    }
}
