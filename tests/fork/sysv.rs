//! System V semaphores between processes that are forked, attached, interrupted or killed, and sets
//! that are removed.

use crate::disk::enter_new;
use crate::harness::Kills;
use crate::steps::{Interruptions, Random, Signal, need_new, sleeps_in, until_idly};
use crate::support::{child, kill, kill_unreaped, passes};
use nix::sched::CloneFlags;
use pshared::fork::Child;
use pshared::{Error, Shared, SharedCounter, SysvPermit, SysvSemaphore};
use std::cell::Cell;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

crate::tests!(
    a_semaphore_of_one_permit_excludes_processes_forked_and_attached,
    no_more_processes_are_inside_than_there_are_permits,
    a_sleeping_waiter_gets_the_permit_of_a_killed_holder,
    a_zombie_holds_no_permit,
    all_permits_of_a_dead_process_are_returned,
    a_killed_waiter_takes_no_permit,
    kills_at_any_instant_lose_no_permit: 300 kills of "System V semaphore",
    a_permit_inherited_by_fork_belongs_to_the_parent,
    a_parents_permit_is_returned_when_the_parent_ends_and_not_when_its_child_ends,
    an_exec_does_not_release_the_permit,
    every_waiter_gets_an_error_when_the_set_is_removed,
    a_copy_in_a_child_and_an_attached_handle_remove_nothing,
    a_set_whose_creator_was_killed_remains_and_can_be_removed,
    signals_end_no_wait,
    a_wait_that_signals_interrupt_continuously_still_times_out,
    a_system_limit_is_an_error_that_names_the_limit,
    another_users_semaphore_is_an_error,
);

const LONG: Duration = Duration::from_secs(3600);

/// Whether the kernel has a set with this id.
fn is_there(id: i32) -> bool {
    let sets = fs::read_to_string("/proc/sysvipc/sem").unwrap();
    let id = id.to_string();
    sets.lines()
        .any(|line| line.split_whitespace().nth(1) == Some(&id))
}

fn sleeps(process: u32) -> bool {
    // glibc implements semop(2) as semtimedop(2) without a timeout.
    sleeps_in(process, libc::SYS_semtimedop)
}

fn pause() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Starts a child that holds a permit until it is killed.
fn holder(semaphore: &SysvSemaphore) -> Child {
    let ready = Signal::new();
    let holder = child(|| {
        let _permit = semaphore.acquire().unwrap();
        ready.give();
        pause();
    });
    ready.wait();
    holder
}

/// Starts a child that waits for a permit, and returns once it sleeps.
fn waiter(semaphore: &SysvSemaphore) -> Child {
    let waiter = child(|| drop(semaphore.acquire().unwrap()));
    until_idly(|| sleeps(waiter.id()));
    waiter
}

fn a_semaphore_of_one_permit_excludes_processes_forked_and_attached() {
    let semaphore = SysvSemaphore::private(1).unwrap();
    let id = semaphore.id();
    // Read and written in two steps.
    let count = Shared::anonymous(AtomicU64::new(0)).unwrap();
    let children: Vec<_> = (0..6)
        .map(|process| {
            let (semaphore, count) = (&semaphore, &count);
            child(move || {
                let attached = SysvSemaphore::attach(id).unwrap();
                let semaphore = if process % 2 == 0 {
                    semaphore
                } else {
                    &attached
                };
                for turn in 0..2_000 {
                    let permit = match (process + turn) % 3 {
                        0 => semaphore.acquire().unwrap(),
                        1 => semaphore.acquire_timeout(LONG).unwrap(),
                        _ => loop {
                            match semaphore.try_acquire() {
                                Ok(permit) => break permit,
                                Err(Error::WouldBlock) => std::thread::yield_now(),
                                Err(other) => panic!("{other:?}"),
                            }
                        },
                    };
                    let before = count.load(Relaxed);
                    if turn % 64 == 0 {
                        std::thread::yield_now();
                    }
                    count.store(before + 1, Relaxed);
                    drop(permit);
                }
            })
        })
        .collect();
    children.iter().for_each(passes);
    assert_eq!(count.load(Relaxed), 12_000);
    assert_eq!(semaphore.value().unwrap(), 1);
    drop(semaphore);
    assert!(!is_there(id));
}

fn no_more_processes_are_inside_than_there_are_permits() {
    let semaphore = SysvSemaphore::private(3).unwrap();
    let counter = || Shared::anonymous(AtomicU64::new(0)).unwrap();
    let (inside, most) = (counter(), counter());
    let stay = || {
        for _ in 0..1_000 {
            let permit = semaphore.acquire().unwrap();
            most.fetch_max(inside.fetch_add(1, Relaxed) + 1, Relaxed);
            std::thread::yield_now();
            inside.fetch_sub(1, Relaxed);
            drop(permit);
        }
    };
    let children: Vec<_> = (0..8).map(|_| child(stay)).collect();
    children.iter().for_each(passes);
    assert!((2..=3).contains(&most.load(Relaxed)), "{most:?}");
    assert_eq!(semaphore.value().unwrap(), 3);
}

fn a_sleeping_waiter_gets_the_permit_of_a_killed_holder() {
    let semaphore = SysvSemaphore::private(1).unwrap();
    for _ in 0..10 {
        let holder = holder(&semaphore);
        let waiters = [waiter(&semaphore), waiter(&semaphore)];
        kill(&holder);
        waiters.iter().for_each(passes);
        assert_eq!(semaphore.value().unwrap(), 1);
    }
}

fn a_zombie_holds_no_permit() {
    let semaphore = SysvSemaphore::private(1).unwrap();
    let holder = holder(&semaphore);
    assert_eq!(semaphore.value().unwrap(), 0);
    kill_unreaped(&holder);
    assert_eq!(semaphore.value().unwrap(), 1);
}

fn all_permits_of_a_dead_process_are_returned() {
    let semaphore = SysvSemaphore::private(9).unwrap();
    let ready = Signal::new();
    let holder = child(|| {
        let _permits: Vec<_> = (0..4).map(|_| semaphore.acquire().unwrap()).collect();
        let _timed = semaphore.acquire_timeout(LONG).unwrap();
        let _tried = semaphore.try_acquire().unwrap();
        // Permits of another thread are included, because undo adjustments belong to the process.
        std::thread::scope(|scope| {
            scope.spawn(|| std::mem::forget(semaphore.acquire().unwrap()));
        });
        // A permit that was released does not come back a second time.
        drop(semaphore.acquire().unwrap());
        ready.give();
        pause();
    });
    ready.wait();
    assert_eq!(semaphore.value().unwrap(), 2);
    kill(&holder);
    assert_eq!(semaphore.value().unwrap(), 9);
}

fn a_killed_waiter_takes_no_permit() {
    let semaphore = SysvSemaphore::private(1).unwrap();
    let permit = semaphore.acquire().unwrap();
    let waiters: Vec<_> = (0..4).map(|_| waiter(&semaphore)).collect();
    waiters[..3].iter().for_each(kill);
    drop(permit);
    passes(&waiters[3]);
    assert_eq!(semaphore.value().unwrap(), 1);
}

fn kills_at_any_instant_lose_no_permit(run: &Kills<'_>) {
    const PERMITS: u32 = 2;
    let semaphore = SysvSemaphore::private(PERMITS).unwrap();
    let turns = Shared::anonymous(SharedCounter::new(0)).unwrap();
    let mut random = Random::new(run.seed());
    let work = || {
        loop {
            let permit = semaphore.acquire().unwrap();
            turns.add(1);
            drop(permit);
        }
    };
    while run.go_on() {
        let workers: Vec<_> = (0..5).map(|_| child(work)).collect();
        let until = turns.get() + 1 + random.below(300);
        until_idly(|| turns.get() >= until);
        workers.iter().for_each(|worker| run.kill(worker));
        run.note(turns.get(), 0);
        assert_eq!(semaphore.value().unwrap(), PERMITS);
    }
}

fn a_permit_inherited_by_fork_belongs_to_the_parent() {
    let semaphore = SysvSemaphore::private(2).unwrap();
    let permit: Cell<Option<SysvPermit<'_>>> = Cell::new(Some(semaphore.acquire().unwrap()));
    passes(&child(|| {
        drop(permit.take());
        assert_eq!(semaphore.value().unwrap(), 1);
    }));
    assert_eq!(semaphore.value().unwrap(), 1);
    // The same holds if the child has a permit of its own before and after the drop.
    passes(&child(|| {
        let own = semaphore.acquire().unwrap();
        drop(permit.take());
        assert_eq!(semaphore.value().unwrap(), 0);
        drop(own);
        assert_eq!(semaphore.value().unwrap(), 1);
    }));
    drop(permit.take());
    assert_eq!(semaphore.value().unwrap(), 2);
}

fn a_parents_permit_is_returned_when_the_parent_ends_and_not_when_its_child_ends() {
    let semaphore = SysvSemaphore::private(1).unwrap();
    let holder = child(|| {
        let permit = semaphore.acquire().unwrap();
        // A child inherits no undo adjustments from its parent, so its end changes nothing.
        passes(&child(|| {}));
        kill(&child(|| pause()));
        assert_eq!(semaphore.value().unwrap(), 0);
        std::mem::forget(permit);
    });
    passes(&holder);
    assert_eq!(semaphore.value().unwrap(), 1);
}

fn an_exec_does_not_release_the_permit() {
    let semaphore = SysvSemaphore::private(1).unwrap();
    let holder = child(|| {
        let _permit = semaphore.acquire().unwrap();
        let error = Command::new("sleep").arg("600").exec();
        panic!("{error}");
    });
    until_idly(|| sleeps_in(holder.id(), libc::SYS_clock_nanosleep));
    assert_eq!(
        fs::read_to_string(format!("/proc/{}/comm", holder.id())).unwrap(),
        "sleep\n"
    );
    assert!(matches!(semaphore.try_acquire(), Err(Error::WouldBlock)));
    let waiter = waiter(&semaphore);
    kill(&holder);
    passes(&waiter);
    assert_eq!(semaphore.value().unwrap(), 1);
}

#[track_caller]
fn is_removed(outcome: Result<SysvPermit<'_>, Error>, id: i32) {
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, Error::SemaphoreRemoved { id: of } if of == id),
        "{error:?}"
    );
}

fn every_waiter_gets_an_error_when_the_set_is_removed() {
    type Removal = fn(SysvSemaphore);
    let removals: [Removal; 3] = [
        |semaphore| semaphore.remove().unwrap(),
        |semaphore| drop(semaphore),
        // `ipcrm` removes a set in this way.
        |semaphore| {
            // SAFETY: the call takes only integers.
            let answer = unsafe { libc::semctl(semaphore.id(), 0, libc::IPC_RMID) };
            assert_eq!(answer, 0);
        },
    ];
    for removal in removals {
        let semaphore = SysvSemaphore::private(0).unwrap();
        let id = semaphore.id();
        let waiters = [
            child(|| is_removed(semaphore.acquire(), id)),
            child(|| is_removed(semaphore.acquire_timeout(LONG), id)),
            child(|| is_removed(SysvSemaphore::attach(id).unwrap().acquire(), id)),
        ];
        until_idly(|| waiters.iter().all(|waiter| sleeps(waiter.id())));
        removal(semaphore);
        waiters.iter().for_each(passes);
        assert!(!is_there(id));
    }
}

fn a_copy_in_a_child_and_an_attached_handle_remove_nothing() {
    let semaphore = SysvSemaphore::private(1).unwrap();
    let id = semaphore.id();
    let semaphore = Cell::new(Some(semaphore));
    passes(&child(|| {
        drop(semaphore.take());
        assert!(is_there(id));
        // The same holds for a thread that this crate has not seen before, and for a child of the
        // child.
        let attached = Cell::new(Some(SysvSemaphore::attach(id).unwrap()));
        passes(&child(|| drop(attached.take())));
        drop(attached.take());
    }));
    passes(&child(|| {
        let semaphore = semaphore.take();
        std::thread::scope(|scope| scope.spawn(move || drop(semaphore)).join().unwrap());
    }));
    assert!(is_there(id));
    drop(semaphore.take());
    assert!(!is_there(id));
}

fn a_set_whose_creator_was_killed_remains_and_can_be_removed() {
    let shared_id = Shared::anonymous(AtomicI32::new(-1)).unwrap();
    let ready = Signal::new();
    let maker = child(|| {
        let semaphore = SysvSemaphore::private(2).unwrap();
        std::mem::forget(semaphore.acquire().unwrap());
        shared_id.store(semaphore.id(), Relaxed);
        ready.give();
        pause();
    });
    ready.wait();
    kill(&maker);
    let id = shared_id.load(Relaxed);
    assert!(is_there(id));
    let semaphore = SysvSemaphore::attach(id).unwrap();
    assert_eq!(semaphore.value().unwrap(), 2);
    semaphore.remove().unwrap();
    assert!(!is_there(id));
}

fn signals_end_no_wait() {
    type Wait = fn(&SysvSemaphore) -> Result<SysvPermit<'_>, Error>;
    let waits: [Wait; 3] = [
        |semaphore| semaphore.acquire(),
        |semaphore| semaphore.acquire_timeout(LONG),
        |semaphore| semaphore.acquire_timeout(Duration::MAX),
    ];
    for wait in waits {
        let (semaphore, interruptions) = (SysvSemaphore::private(1).unwrap(), Interruptions::new());
        let permit = semaphore.acquire().unwrap();
        let waiter = child(|| {
            interruptions.allow();
            drop(wait(&semaphore).unwrap());
        });
        interruptions.send_when(&waiter, sleeps);
        drop(permit);
        passes(&waiter);
        assert_eq!(semaphore.value().unwrap(), 1);
    }
}

fn a_wait_that_signals_interrupt_continuously_still_times_out() {
    let semaphore = SysvSemaphore::private(0).unwrap();
    let interruptions = Interruptions::new();
    let ready = Signal::new();
    let waiter = child(|| {
        interruptions.allow();
        ready.give();
        let outcome = semaphore.acquire_timeout(Duration::from_millis(300));
        assert!(matches!(outcome, Err(Error::TimedOut)), "{outcome:?}");
    });
    ready.wait();
    // If the wait started again with its whole timeout after each signal, it would last as long as
    // the signals.
    let id = nix::unistd::Pid::from_raw(waiter.id().cast_signed());
    until_idly(|| {
        let _ = nix::sys::signal::kill(id, nix::sys::signal::SIGUSR1);
        waiter.try_wait().unwrap().is_some()
    });
    passes(&waiter);
}

fn a_system_limit_is_an_error_that_names_the_limit() {
    need_new(CloneFlags::CLONE_NEWIPC);
    // The limits belong to the namespace. What the test leaves in the namespace is removed with it.
    enter_new(CloneFlags::CLONE_NEWIPC).unwrap();
    if let Err(error) = fs::write("/proc/sys/kernel/sem", "250 32000 32 2") {
        crate::harness::skip(&format!("kernel.sem cannot be set: {error}"));
    }
    let made = [(); 2].map(|()| SysvSemaphore::private(1).unwrap());
    let error = SysvSemaphore::private(1).unwrap_err();
    assert!(matches!(error, Error::SemaphoreLimit), "{error:?}");
    assert!(error.to_string().contains("kernel.sem"), "{error}");
    drop(made);
    drop(SysvSemaphore::private(1).unwrap());
    // If the creation of a set was refused, no set is left behind.
    assert!(SysvSemaphore::private(SysvSemaphore::MAX + 1).is_err());
    assert_eq!(
        fs::read_to_string("/proc/sysvipc/sem")
            .unwrap()
            .lines()
            .count(),
        1
    );
}

fn another_users_semaphore_is_an_error() {
    crate::support::as_root();
    let semaphore = SysvSemaphore::private(1).unwrap();
    let id = semaphore.id();
    passes(&child(|| {
        crate::support::become_unprivileged();
        let denied = |error: Error, call: &str| {
            let message = error.to_string();
            assert!(
                matches!(error, Error::Os { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
            );
            assert!(message.contains(call), "{message}");
        };
        denied(SysvSemaphore::attach(id).unwrap_err(), "semctl(IPC_STAT)");
        denied(semaphore.acquire().unwrap_err(), "semtimedop");
        denied(semaphore.value().unwrap_err(), "semctl(GETVAL)");
    }));
    assert_eq!(semaphore.value().unwrap(), 1);
}
