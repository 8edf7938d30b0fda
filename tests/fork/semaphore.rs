//! Semaphores between processes that are forked, interrupted or killed.

use crate::harness::Kills;
use crate::steps::{Interruptions, Random, until_idly};
use crate::support::{child, kill, passes, sleeps};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use pshared::{Error, SemaphorePermit, Shared, SharedCounter, SharedSemaphore, ShmSafe};
use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

crate::tests!(
    a_semaphore_of_one_permit_excludes_processes,
    no_more_processes_are_inside_than_there_are_permits,
    a_permit_inherited_by_fork_belongs_to_the_parent,
    a_permit_that_a_child_acquired_is_released_by_the_child,
    a_child_posts_and_a_parent_waits,
    signals_end_no_wait,
    a_permit_of_a_dead_holder_is_lost_and_a_post_replaces_it,
    a_killed_waiter_takes_no_permit,
    a_permit_that_woke_a_killed_waiter_goes_to_another,
    kills_at_any_instant_lose_only_permits_of_the_killed_processes: 300 kills of "semaphore",
);

const LONG: Duration = Duration::from_secs(3600);

fn semaphore(permits: u32) -> Shared<SharedSemaphore> {
    Shared::anonymous(SharedSemaphore::new(permits)).unwrap()
}

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    semaphore: SharedSemaphore,
    /// Read and written in two steps.
    plain: AtomicU64,
    inside: AtomicU64,
    most: AtomicU64,
}

fn state(permits: u32) -> Shared<State> {
    Shared::anonymous(State {
        semaphore: SharedSemaphore::new(permits),
        plain: AtomicU64::new(0),
        inside: AtomicU64::new(0),
        most: AtomicU64::new(0),
    })
    .unwrap()
}

fn a_semaphore_of_one_permit_excludes_processes() {
    let state = state(1);
    let children: Vec<_> = (0..6)
        .map(|index| {
            let state = &state;
            child(move || {
                for turn in 0..2_000 {
                    let permit = if (index + turn) % 2 == 0 {
                        state.semaphore.acquire()
                    } else {
                        state.semaphore.acquire_timeout(LONG)
                    };
                    let plain = state.plain.load(Relaxed);
                    if turn % 64 == 0 {
                        std::thread::yield_now();
                    }
                    state.plain.store(plain + 1, Relaxed);
                    drop(permit.unwrap());
                }
            })
        })
        .collect();
    children.iter().for_each(passes);
    assert_eq!(state.plain.load(Relaxed), 12_000);
    assert_eq!(state.semaphore.value(), 1);
}

fn no_more_processes_are_inside_than_there_are_permits() {
    let state = state(3);
    let stay = || {
        for _ in 0..1_000 {
            state.semaphore.wait().unwrap();
            state
                .most
                .fetch_max(state.inside.fetch_add(1, Relaxed) + 1, Relaxed);
            std::thread::yield_now();
            state.inside.fetch_sub(1, Relaxed);
            state.semaphore.post().unwrap();
        }
    };
    let children: Vec<_> = (0..8).map(|_| child(stay)).collect();
    children.iter().for_each(passes);
    assert!(state.most.load(Relaxed) <= 3);
    assert_eq!(state.semaphore.value(), 3);
}

fn a_permit_inherited_by_fork_belongs_to_the_parent() {
    let semaphore = semaphore(2);
    let permit: Cell<Option<SemaphorePermit<'_>>> = Cell::new(Some(semaphore.acquire().unwrap()));
    passes(&child(|| drop(permit.take())));
    assert_eq!(semaphore.value(), 1);
    // The same holds if the child has a permit of its own before and after the drop.
    passes(&child(|| {
        let own = semaphore.acquire().unwrap();
        drop(permit.take());
        assert_eq!(semaphore.value(), 0);
        drop(own);
        assert_eq!(semaphore.value(), 1);
    }));
    drop(permit.take());
    assert_eq!(semaphore.value(), 2);
}

fn a_permit_that_a_child_acquired_is_released_by_the_child() {
    let semaphore = semaphore(1);
    passes(&child(|| {
        let _permit = semaphore.acquire().unwrap();
        assert!(matches!(semaphore.try_acquire(), Err(Error::WouldBlock)));
    }));
    assert_eq!(semaphore.value(), 1);
}

fn a_child_posts_and_a_parent_waits() {
    let (ping, pong) = (semaphore(0), semaphore(0));
    let player = child(|| {
        for _ in 0..3_000 {
            ping.wait().unwrap();
            pong.post().unwrap();
        }
    });
    for turn in 0..3_000 {
        ping.post().unwrap();
        if turn % 2 == 0 {
            pong.wait().unwrap();
        } else {
            pong.wait_timeout(LONG).unwrap();
        }
    }
    passes(&player);
    assert_eq!((ping.value(), pong.value()), (0, 0));
}

fn signals_end_no_wait() {
    type Wait = fn(&SharedSemaphore) -> Result<(), Error>;
    let waits: [Wait; 4] = [
        SharedSemaphore::wait,
        |semaphore| semaphore.wait_timeout(LONG),
        |semaphore| semaphore.acquire().map(std::mem::forget),
        |semaphore| semaphore.acquire_timeout(LONG).map(std::mem::forget),
    ];
    for wait in waits {
        let (semaphore, interruptions) = (semaphore(0), Interruptions::new());
        let waiter = child(|| {
            interruptions.allow();
            wait(&semaphore).unwrap();
        });
        interruptions.send(&waiter);
        semaphore.post().unwrap();
        passes(&waiter);
        assert_eq!(semaphore.value(), 0);
    }
}

fn a_permit_of_a_dead_holder_is_lost_and_a_post_replaces_it() {
    let semaphore = semaphore(1);
    let over = self::semaphore(0);
    let holder = child(|| {
        let _permit = semaphore.acquire().unwrap();
        over.post().unwrap();
        loop {
            nix::unistd::pause();
        }
    });
    over.wait().unwrap();
    kill(&holder);
    assert!(matches!(semaphore.try_acquire(), Err(Error::WouldBlock)));
    semaphore.post().unwrap();
    drop(semaphore.acquire().unwrap());
    assert_eq!(semaphore.value(), 1);
}

fn a_killed_waiter_takes_no_permit() {
    let semaphore = semaphore(0);
    let waiters: Vec<_> = (0..4)
        .map(|_| child(|| semaphore.wait().unwrap()))
        .collect();
    until_idly(|| waiters.iter().all(|waiter| sleeps(waiter.id())));
    waiters[..3].iter().for_each(kill);
    semaphore.post().unwrap();
    passes(&waiters[3]);
    assert_eq!(semaphore.value(), 0);
    semaphore.post().unwrap();
    assert_eq!(semaphore.value(), 1);
    semaphore.wait().unwrap();
}

/// Restricts the calling process to one CPU.
fn on_one_cpu() {
    let allowed = sched_getaffinity(Pid::this()).unwrap();
    let first = (0..CpuSet::count())
        .find(|cpu| allowed.is_set(*cpu).unwrap())
        .unwrap();
    let mut one = CpuSet::new();
    one.set(first).unwrap();
    sched_setaffinity(Pid::this(), &one).unwrap();
}

/// Lets the calling process run only when its CPU has nothing else to do.
fn in_the_background() {
    // SAFETY: zero bytes are valid parameters: the priority 0.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: 0 means the calling process, and the parameters are valid.
    let answer = unsafe {
        // musl's function of this name always fails.
        let call = libc::SYS_sched_setscheduler;
        libc::syscall(call, 0, libc::SCHED_IDLE, &raw const parameters)
    };
    assert_eq!(answer, 0);
}

fn a_permit_that_woke_a_killed_waiter_goes_to_another() {
    // The waiters run in the background on the same CPU as this process. This process stays on the
    // CPU from the post to the kill. So a waiter is woken and does not run.
    on_one_cpu();
    let mut killed_when_woken = 0;
    for _ in 0..10 {
        let semaphore = semaphore(0);
        let wait = || {
            in_the_background();
            semaphore.wait().unwrap();
        };
        let first = child(wait);
        until_idly(|| sleeps(first.id()));
        let second = child(wait);
        until_idly(|| sleeps(second.id()));
        semaphore.post().unwrap();
        first.kill().unwrap();
        first.wait().unwrap();
        if semaphore.value() == 1 {
            killed_when_woken += 1;
        } else {
            // Either the first waiter ran and may have taken the permit, or the second waiter was
            // woken.
            semaphore.post().unwrap();
        }
        passes(&second);
    }
    assert!(killed_when_woken > 0);
}

fn kills_at_any_instant_lose_only_permits_of_the_killed_processes(run: &Kills<'_>) {
    const PERMITS: u32 = 4;
    const KILLS: u32 = 3;
    let mut random = Random::new(run.seed());
    while run.go_on() {
        let (semaphore, turns) = (
            semaphore(PERMITS),
            Shared::anonymous(SharedCounter::new(0)).unwrap(),
        );
        let work = || {
            loop {
                let permit = semaphore.acquire().unwrap();
                turns.add(1);
                drop(permit);
            }
        };
        let workers: Vec<_> = (0..KILLS + 2).map(|_| child(work)).collect();
        for worker in &workers[..KILLS as usize] {
            let until = turns.get() + 1 + random.below(300);
            until_idly(|| turns.get() >= until);
            run.kill(worker);
        }
        // The other workers still make progress with the remaining permits.
        let until = turns.get() + 100;
        until_idly(|| turns.get() >= until);
        workers[KILLS as usize..]
            .iter()
            .for_each(|worker| run.kill(worker));
        run.add(turns.get(), 0);
        let left = semaphore.value();
        assert!(left <= PERMITS && left + KILLS + 2 >= PERMITS, "{left}");
    }
}
