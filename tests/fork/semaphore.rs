//! Semaphores between processes that are forked, interrupted or killed.

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
    a_permit_that_crossed_a_fork_is_the_parents,
    a_permit_that_a_child_took_comes_back_by_the_child,
    a_child_posts_and_a_parent_waits,
    signals_end_no_wait,
    a_permit_of_the_dead_is_lost_and_one_that_was_posted_replaces_it,
    a_sleeper_that_is_killed_takes_no_permit_with_it,
    a_permit_that_woke_a_waiter_who_was_killed_goes_to_another,
    kills_at_any_moment_lose_no_more_than_the_permits_of_the_killed,
);

const LONG: Duration = Duration::from_secs(3600);

fn gate(permits: u32) -> Shared<SharedSemaphore> {
    Shared::anonymous(SharedSemaphore::new(permits)).unwrap()
}

#[derive(ShmSafe)]
#[repr(C)]
struct Room {
    gate: SharedSemaphore,
    /// Read and written in two steps.
    plain: AtomicU64,
    inside: AtomicU64,
    most: AtomicU64,
}

fn room(permits: u32) -> Shared<Room> {
    Shared::anonymous(Room {
        gate: SharedSemaphore::new(permits),
        plain: AtomicU64::new(0),
        inside: AtomicU64::new(0),
        most: AtomicU64::new(0),
    })
    .unwrap()
}

fn a_semaphore_of_one_permit_excludes_processes() {
    let room = room(1);
    let children: Vec<_> = (0..6)
        .map(|index| {
            let room = &room;
            child(move || {
                for turn in 0..2_000 {
                    let permit = if (index + turn) % 2 == 0 {
                        room.gate.acquire()
                    } else {
                        room.gate.acquire_timeout(LONG)
                    };
                    let plain = room.plain.load(Relaxed);
                    if turn % 64 == 0 {
                        std::thread::yield_now();
                    }
                    room.plain.store(plain + 1, Relaxed);
                    drop(permit.unwrap());
                }
            })
        })
        .collect();
    children.iter().for_each(passes);
    assert_eq!(room.plain.load(Relaxed), 12_000);
    assert_eq!(room.gate.value(), 1);
}

fn no_more_processes_are_inside_than_there_are_permits() {
    let room = room(3);
    let stay = || {
        for _ in 0..1_000 {
            room.gate.wait().unwrap();
            room.most
                .fetch_max(room.inside.fetch_add(1, Relaxed) + 1, Relaxed);
            std::thread::yield_now();
            room.inside.fetch_sub(1, Relaxed);
            room.gate.post().unwrap();
        }
    };
    let children: Vec<_> = (0..8).map(|_| child(stay)).collect();
    children.iter().for_each(passes);
    assert!(room.most.load(Relaxed) <= 3);
    assert_eq!(room.gate.value(), 3);
}

fn a_permit_that_crossed_a_fork_is_the_parents() {
    let gate = gate(2);
    let permit: Cell<Option<SemaphorePermit<'_>>> = Cell::new(Some(gate.acquire().unwrap()));
    passes(&child(|| drop(permit.take())));
    assert_eq!(gate.value(), 1);
    // The same holds if the child has a permit of its own before and after the drop.
    passes(&child(|| {
        let own = gate.acquire().unwrap();
        drop(permit.take());
        assert_eq!(gate.value(), 0);
        drop(own);
        assert_eq!(gate.value(), 1);
    }));
    drop(permit.take());
    assert_eq!(gate.value(), 2);
}

fn a_permit_that_a_child_took_comes_back_by_the_child() {
    let gate = gate(1);
    passes(&child(|| {
        let _permit = gate.acquire().unwrap();
        assert!(matches!(gate.try_acquire(), Err(Error::WouldBlock)));
    }));
    assert_eq!(gate.value(), 1);
}

fn a_child_posts_and_a_parent_waits() {
    let (ping, pong) = (gate(0), gate(0));
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
        |gate| gate.wait_timeout(LONG),
        |gate| gate.acquire().map(std::mem::forget),
        |gate| gate.acquire_timeout(LONG).map(std::mem::forget),
    ];
    for wait in waits {
        let (gate, interruptions) = (gate(0), Interruptions::new());
        let waiter = child(|| {
            interruptions.allow();
            wait(&gate).unwrap();
        });
        interruptions.send(&waiter);
        gate.post().unwrap();
        passes(&waiter);
        assert_eq!(gate.value(), 0);
    }
}

fn a_permit_of_the_dead_is_lost_and_one_that_was_posted_replaces_it() {
    let gate = gate(1);
    let over = self::gate(0);
    let holder = child(|| {
        let _permit = gate.acquire().unwrap();
        over.post().unwrap();
        loop {
            nix::unistd::pause();
        }
    });
    over.wait().unwrap();
    kill(&holder);
    assert!(matches!(gate.try_acquire(), Err(Error::WouldBlock)));
    gate.post().unwrap();
    drop(gate.acquire().unwrap());
    assert_eq!(gate.value(), 1);
}

fn a_sleeper_that_is_killed_takes_no_permit_with_it() {
    let gate = gate(0);
    let sleepers: Vec<_> = (0..4).map(|_| child(|| gate.wait().unwrap())).collect();
    until_idly(|| sleepers.iter().all(|sleeper| sleeps(sleeper.id())));
    sleepers[..3].iter().for_each(kill);
    gate.post().unwrap();
    passes(&sleepers[3]);
    assert_eq!(gate.value(), 0);
    gate.post().unwrap();
    assert_eq!(gate.value(), 1);
    gate.wait().unwrap();
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
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 means the calling process, and the parameters are valid.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameters) };
    assert_eq!(answer, 0);
}

fn a_permit_that_woke_a_waiter_who_was_killed_goes_to_another() {
    // The waiters run in the background on the same CPU as this process. This process stays on the
    // CPU from the post to the kill. So a waiter is woken and does not run.
    on_one_cpu();
    let mut killed_when_woken = 0;
    for _ in 0..10 {
        let gate = gate(0);
        let wait = || {
            in_the_background();
            gate.wait().unwrap();
        };
        let first = child(wait);
        until_idly(|| sleeps(first.id()));
        let second = child(wait);
        until_idly(|| sleeps(second.id()));
        gate.post().unwrap();
        first.kill().unwrap();
        first.wait().unwrap();
        if gate.value() == 1 {
            killed_when_woken += 1;
        } else {
            // Either the first waiter ran and may have taken the permit, or the second waiter was
            // woken.
            gate.post().unwrap();
        }
        passes(&second);
    }
    assert!(killed_when_woken > 0);
}

fn kills_at_any_moment_lose_no_more_than_the_permits_of_the_killed() {
    const PERMITS: u32 = 4;
    const KILLS: u32 = 3;
    let mut random = Random::new(5);
    for _ in 0..60 {
        let (gate, turns) = (
            gate(PERMITS),
            Shared::anonymous(SharedCounter::new(0)).unwrap(),
        );
        let work = || {
            loop {
                let permit = gate.acquire().unwrap();
                turns.add(1);
                drop(permit);
            }
        };
        let workers: Vec<_> = (0..KILLS + 2).map(|_| child(work)).collect();
        for worker in &workers[..KILLS as usize] {
            let until = turns.get() + 1 + random.below(300);
            until_idly(|| turns.get() >= until);
            kill(worker);
        }
        // The other workers still make progress with the remaining permits.
        let until = turns.get() + 100;
        until_idly(|| turns.get() >= until);
        workers[KILLS as usize..].iter().for_each(kill);
        let left = gate.value();
        assert!(left <= PERMITS && left + KILLS + 2 >= PERMITS, "{left}");
    }
}
