//! SIGKILL at random instants for readers and writers that wait, hold, release or wake others.

use crate::harness::Kills;
use crate::steps::until_idly;
use crate::support::{child, kill, passes};
use fastrand::Rng;
use pshared::fork::Child;
use pshared::{
    LockError, LockGuard, Poisoned, Shared, SharedCounter, SharedRwLock, SharedRwLockWriteGuard,
    ShmSafe,
};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

crate::tests!(kills_at_random_instants_leave_no_locker_waiting: 600 kills of "rwlock",);

/// Both halves are equal outside of writers' critical sections.
type Pair = [u64; 2];

const VICTIMS: usize = 4;
const SURVIVORS: usize = 2;

// The state of a victim.
const OUTSIDE: u32 = 0;
const ASKS_TO_READ: u32 = 1;
const ASKS_TO_WRITE: u32 = 2;
const READS: u32 = 3;
const WRITES: u32 = 4;
const LEAVES: u32 = 5;
const PLACES: usize = 6;

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    lock: SharedRwLock<Pair>,
    place: [AtomicU32; VICTIMS],
    stop: AtomicU32,
    reports: SharedCounter,
    torn_as_whole: SharedCounter,
    sections: SharedCounter,
}

impl State {
    fn note<G: LockGuard>(&self, poisoned: &Poisoned<G>) {
        self.reports.add(u64::from(poisoned.is_first_report()));
    }

    /// Reads or writes once, with a call that waits. Reports each state to `at`.
    fn round(&self, random: &mut Rng, at: impl Fn(u32)) {
        if random.u8(..3) > 0 {
            at(ASKS_TO_READ);
            let (pair, whole) = match self.lock.read() {
                Ok(pair) => (pair, true),
                Err(LockError::Poisoned(poisoned)) => {
                    self.note(&poisoned);
                    (poisoned.into_guard(), false)
                }
                Err(other) => panic!("{other:?}"),
            };
            at(READS);
            if whole && pair[0] != pair[1] {
                self.torn_as_whole.add(1);
            }
            spin(random.u32(..2_000));
            at(LEAVES);
        } else {
            at(ASKS_TO_WRITE);
            let mut pair = match self.lock.write() {
                Ok(pair) => {
                    if pair[0] != pair[1] {
                        self.torn_as_whole.add(1);
                    }
                    pair
                }
                Err(LockError::Poisoned(poisoned)) => {
                    self.note(&poisoned);
                    let mut pair = poisoned.into_guard();
                    pair[1] = pair[0];
                    SharedRwLockWriteGuard::clear_poison(&pair);
                    pair
                }
                Err(other) => panic!("{other:?}"),
            };
            at(WRITES);
            pair[0] += 1;
            spin(random.u32(..2_000));
            pair[1] = pair[0];
            at(LEAVES);
        }
        self.sections.add(1);
        at(OUTSIDE);
        spin(random.u32(..200));
    }

    fn victim(&self, slot: usize, seed: u64) -> Child {
        self.place[slot].store(OUTSIDE, SeqCst);
        child(|| {
            let mut random = Rng::with_seed(seed);
            loop {
                self.round(&mut random, |place| self.place[slot].store(place, SeqCst));
            }
        })
    }
}

fn spin(rounds: u32) {
    (0..rounds).for_each(|_| std::hint::spin_loop());
}

/// After each kill, the killing process runs two critical sections. It would wait forever for a
/// lost lock.
fn kills_at_random_instants_leave_no_locker_waiting(run: &Kills<'_>) {
    let state = Shared::anonymous(State {
        lock: SharedRwLock::new([0, 0]),
        place: Default::default(),
        stop: AtomicU32::new(0),
        reports: SharedCounter::new(0),
        torn_as_whole: SharedCounter::new(0),
        sections: SharedCounter::new(0),
    })
    .unwrap();
    let state = &*state;
    let mut random = Rng::with_seed(run.seed());
    let survivors: Vec<_> = (0..SURVIVORS)
        .map(|_| {
            let seed = random.u64(..);
            child(move || {
                let mut random = Rng::with_seed(seed);
                while state.stop.load(SeqCst) == 0 {
                    state.round(&mut random, |_| {});
                }
            })
        })
        .collect();
    let mut victims: Vec<_> = (0..VICTIMS)
        .map(|slot| state.victim(slot, random.u64(..)))
        .collect();
    let mut killed_at = [0_usize; PLACES];
    let mut slowest = Duration::ZERO;
    // Makes at least as many kills as asked for, and continues until a victim was killed in each
    // state. Some states are short if other processes run too.
    while run.go_on() || (killed_at.contains(&0) && run.made() < 20 * run.goal()) {
        let before = state.sections.get();
        until_idly(|| state.sections.get() > before);
        spin(random.u32(..20_000));
        let slot = random.usize(..VICTIMS);
        run.kill(&victims[slot]);
        killed_at[state.place[slot].load(SeqCst) as usize] += 1;
        let since = Instant::now();
        state.round(&mut random, |_| {});
        state.round(&mut random, |_| {});
        slowest = slowest.max(since.elapsed());
        run.note(state.sections.get(), state.reports.get());
        victims[slot] = state.victim(slot, random.u64(..));
    }
    victims.iter().for_each(kill);
    state.stop.store(1, SeqCst);
    survivors.iter().for_each(passes);
    println!(
        "{} kills, at {killed_at:?}, {} reports, {} sections, two of the killer's took {slowest:?} at most",
        run.made(),
        state.reports.get(),
        state.sections.get()
    );
    assert_eq!(state.torn_as_whole.get(), 0);
    assert!(killed_at.iter().all(|&kills| kills > 0), "{killed_at:?}");
    // Every death of a writer in its critical section is reported, except if the process that
    // received the report was killed too. A death elsewhere is reported only if the victim had just
    // acquired the lock or was about to release it.
    let reports = state.reports.get() as usize;
    let border = killed_at[ASKS_TO_READ as usize]
        + killed_at[ASKS_TO_WRITE as usize]
        + killed_at[LEAVES as usize]
        + VICTIMS;
    assert!(reports + border >= killed_at[WRITES as usize]);
    assert!(reports <= killed_at[WRITES as usize] + border);
    // No read lock is left behind.
    match state.lock.try_write() {
        Ok(_) | Err(LockError::Poisoned(_)) => {}
        Err(other) => panic!("{other:?}"),
    };
}
