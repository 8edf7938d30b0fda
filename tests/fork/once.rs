//! Initialization that runs once for all processes. If the initializer dies, another process takes
//! over. No process sees a partly initialized value.

use crate::files::{open, open_or_create, place};
use crate::harness::Kills;
use crate::steps::{Interruptions, Random};
use crate::support::{child, kill, passes, sleeps, sleeps_on, until};
use pshared::fork::Child;
use pshared::memory::Primitive;
use pshared::{
    Error, Shared, SharedCounter, SharedEvent, SharedOnce, SharedOnceLock, ShmSafe, fork,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

crate::tests!(
    one_of_many_threads_and_processes_initializes,
    the_first_process_initializes_a_cell_in_a_file,
    the_next_caller_takes_over_from_a_killed_one_and_is_notified,
    a_waiting_caller_takes_over_from_a_killed_one,
    initializers_are_killed_at_random_instants: 600 kills of "once",
    a_panic_poisons_for_every_process,
    callers_that_only_wait_are_woken,
    callers_that_do_not_wait_to_the_end_get_an_error_while_another_initializes,
    a_caller_with_a_deadline_takes_over_from_a_killed_one,
    a_caller_with_a_deadline_gets_the_value_that_another_made,
    signals_end_no_wait,
    an_initializer_thread_that_ends_keeps_the_once_until_its_process_ends,
    a_child_forked_by_an_initializer_does_not_end_the_initialization,
    a_cell_whose_initializer_died_with_all_users_is_initialized_again,
);

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);
/// Large enough that writing it takes a while.
type Large = [u64; 512];

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    once: SharedOnce,
    cell: SharedOnceLock<Large>,
    times: SharedCounter,
    ready: SharedEvent,
    thread: AtomicU32,
}

impl State {
    fn new() -> Self {
        State {
            once: SharedOnce::new(),
            cell: SharedOnceLock::new(),
            times: SharedCounter::new(0),
            ready: SharedEvent::new(),
            thread: AtomicU32::new(0),
        }
    }

    fn anonymous() -> Shared<Self> {
        Shared::anonymous(Self::new()).unwrap()
    }

    /// Starts a child that stays in the middle of both initializations until it is killed.
    fn initializer(&self) -> Child {
        let child = child(|| {
            self.once.call_once(|| {
                self.cell.get_or_init(|| {
                    self.ready.set();
                    loop {
                        std::thread::park();
                    }
                });
            });
        });
        self.ready.wait();
        self.ready.reset();
        child
    }
}

fn is_whole(value: &Large) -> bool {
    value[0] != 0 && value.iter().all(|word| *word == value[0])
}

fn one_of_many_threads_and_processes_initializes() {
    for _ in 0..40 {
        let shared = State::anonymous();
        let work = || {
            shared.once.call_once(|| _ = shared.times.add(1));
            assert!(shared.once.is_completed() && shared.times.get() == 1);
            assert!(is_whole(shared.cell.get_or_init(|| [7; 512])));
        };
        let workers: Vec<_> = (0..4)
            .map(|_| {
                child(|| {
                    std::thread::scope(|scope| {
                        scope.spawn(work);
                        work();
                    });
                })
            })
            .collect();
        work();
        workers.iter().for_each(passes);
        assert_eq!(shared.times.get(), 1);
    }
}

fn the_first_process_initializes_a_cell_in_a_file() {
    let (_directory, path) = place();
    let racers: Vec<_> = (1..=4_u64)
        .map(|own| {
            let path = &path;
            child(move || {
                let shared = open_or_create(path, State::new).unwrap();
                let value = *shared.cell.get_or_init(|| [own; 512]);
                assert!(is_whole(&value));
                assert_eq!(shared.cell.set([9; 512]), Err([9; 512]));
            })
        })
        .collect();
    racers.iter().for_each(passes);
    // The value outlives all the racers.
    assert!(is_whole(open::<State>(&path).unwrap().cell.get().unwrap()));
}

fn the_next_caller_takes_over_from_a_killed_one_and_is_notified() {
    let shared = State::anonymous();
    for _ in 0..20 {
        let victim = shared.initializer();
        assert!(shared.cell.get().is_none() && !shared.once.is_completed());
        kill(&victim);
        assert!(shared.cell.get().is_none() && !shared.once.is_completed());
    }
    shared.once.call_once_force(|state| {
        assert!(state.initializer_died() && !state.is_poisoned());
    });
    let value = shared.cell.get_or_init_with(|state| {
        assert!(state.initializer_died());
        [3; 512]
    });
    assert!(is_whole(value) && shared.once.is_completed());
}

fn a_waiting_caller_takes_over_from_a_killed_one() {
    for _ in 0..20 {
        let shared = State::anonymous();
        let victim = shared.initializer();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                child(|| {
                    shared.once.call_once(|| _ = shared.times.add(1));
                    assert!(is_whole(shared.cell.get_or_init(|| [5; 512])));
                })
            })
            .collect();
        until(|| {
            let mut waiters = waiters.iter();
            waiters.all(|waiter| sleeps_on(waiter.id(), &shared.once))
        });
        kill(&victim);
        waiters.iter().for_each(passes);
        assert_eq!(shared.times.get(), 1);
    }
}

fn initializers_are_killed_at_random_instants(run: &Kills<'_>) {
    let mut random = Random::new(run.seed());
    let mut taken_over = 0;
    while run.go_on() {
        let cells = Shared::anonymous([const { SharedOnceLock::<Large>::new() }; 24]).unwrap();
        let begun = Shared::anonymous(AtomicU32::new(0)).unwrap();
        let never = Shared::anonymous(SharedEvent::new()).unwrap();
        let some = 1 + random.below(20);
        // In every other run, the victim waits in the middle to be killed, if it is the one that
        // begins this initialization. So there is such a kill also where the killer has to wait for
        // a processor.
        let stays = random.below(2) == 0;
        let work = |own: u64| {
            for cell in cells.iter() {
                let value = cell.get_or_init(|| {
                    let turn = 1 + u64::from(begun.fetch_add(1, Relaxed));
                    if stays && own == 1 && turn == some {
                        never.wait();
                    }
                    // Long enough that many other kills come in the middle too.
                    (0..2_000).for_each(|_| std::hint::spin_loop());
                    [own; 512]
                });
                assert!(is_whole(value));
            }
        };
        let (victim, waiter) = (child(|| work(1)), child(|| _ = cells[23].wait()));
        let waits = child(|| work(2));
        until(|| u64::from(begun.load(Relaxed)) >= some);
        (0..random.below(2_000)).for_each(|_| std::hint::spin_loop());
        run.kill_or_reap(&victim);
        for cell in cells.iter() {
            let value = cell.get_or_init_with(|state| {
                taken_over += u64::from(state.initializer_died());
                [3; 512]
            });
            assert!(is_whole(value));
        }
        passes(&waits);
        passes(&waiter);
        run.add(cells.len() as u64, 0);
    }
    run.add(0, taken_over);
    assert!(taken_over > 0, "no initializer was killed in the middle");
}

fn a_panic_poisons_for_every_process() {
    let shared = State::anonymous();
    passes(&child(|| {
        let panic = catch_unwind(AssertUnwindSafe(|| {
            shared
                .once
                .call_once(|| std::panic::resume_unwind(Box::new("inside")));
        }));
        assert!(panic.is_err());
        let panic = catch_unwind(AssertUnwindSafe(|| {
            shared
                .cell
                .get_or_init(|| std::panic::resume_unwind(Box::new("inside")));
        }));
        assert!(panic.is_err());
    }));
    assert!(catch_unwind(AssertUnwindSafe(|| shared.once.call_once(|| ()))).is_err());
    assert!(!shared.once.is_completed());
    shared.once.call_once_force(|state| {
        assert!(state.is_poisoned() && !state.initializer_died());
    });
    shared.once.call_once(|| unreachable!("it is completed"));
    // A panic does not poison a cell.
    assert!(is_whole(shared.cell.get_or_init(|| [4; 512])));
}

fn callers_that_only_wait_are_woken() {
    let shared = State::anonymous();
    let waiters = [
        child(|| shared.once.wait()),
        child(|| assert!(shared.once.wait_timeout(LONG).is_ok())),
        child(|| assert!(is_whole(shared.cell.wait()))),
        child(|| assert!(is_whole(shared.cell.wait_timeout(LONG).unwrap()))),
    ];
    until(|| waiters.iter().all(|waiter| sleeps(waiter.id())));
    assert!(shared.once.wait_timeout(Duration::from_millis(1)).is_err());
    assert_eq!(shared.cell.wait_timeout(Duration::ZERO).ok(), None);
    shared.once.call_once(|| ());
    shared.cell.set([8; 512]).unwrap();
    waiters.iter().for_each(passes);
}

/// Returns the error of a call that must not run its initializer.
fn error_of<T>(call: impl FnOnce() -> Result<T, Error>) -> Option<Error> {
    call().err()
}

fn callers_that_do_not_wait_to_the_end_get_an_error_while_another_initializes() {
    let shared = State::anonymous();
    let victim = shared.initializer();
    let (once, cell) = (&shared.once, &shared.cell);
    let never = || -> Large { unreachable!("another process initializes") };
    let tries = [
        error_of(|| once.try_call_once(|| _ = never())),
        error_of(|| once.try_call_once_force(|_| _ = never())),
        error_of(|| cell.try_get_or_init(never)),
        error_of(|| cell.try_get_or_init_with(|_| never())),
        error_of(|| cell.try_get_or_try_init(|| Ok(never()))),
    ];
    for error in tries {
        assert!(matches!(error, Some(Error::WouldBlock)), "{error:?}");
    }
    for timeout in [Duration::ZERO, SHORT] {
        let waits = [
            error_of(|| once.call_once_timeout(timeout, || _ = never())),
            error_of(|| once.call_once_force_timeout(timeout, |_| _ = never())),
            error_of(|| cell.get_or_init_timeout(timeout, never)),
            error_of(|| cell.get_or_init_with_timeout(timeout, |_| never())),
            error_of(|| cell.get_or_try_init_timeout(timeout, || Ok(never()))),
        ];
        for error in waits {
            assert!(matches!(error, Some(Error::TimedOut)), "{error:?}");
        }
        assert_eq!(cell.set_timeout([9; 512], timeout), Err([9; 512]));
    }
    assert_eq!(cell.try_set([9; 512]), Err([9; 512]));
    kill(&victim);
    // No process initializes any more, so each of these calls takes over.
    assert!(once.try_call_once(|| _ = shared.times.add(1)).is_ok());
    assert_eq!((cell.try_set([9; 512]), shared.times.get()), (Ok(()), 1));
    let waits = once.call_once_timeout(Duration::ZERO, || unreachable!("it is completed"));
    assert!(waits.is_ok() && is_whole(cell.try_get_or_init(never).unwrap()));
}

/// Tests each form alone, then all forms of a primitive together. Each form sleeps in a process of
/// its own until the initializer is killed.
fn a_caller_with_a_deadline_takes_over_from_a_killed_one() {
    type Wait = fn(&State);
    let waits: [Wait; 3] = [
        |shared| {
            let waits = shared
                .once
                .call_once_timeout(LONG, || _ = shared.times.add(1));
            waits.unwrap();
        },
        |shared| {
            let waits = shared.once.call_once_force_timeout(LONG, |state| {
                assert!(state.initializer_died());
                shared.times.add(1);
            });
            waits.unwrap();
        },
        |shared| {
            let begun = || _ = shared.times.add(1);
            shared.once.call_once(begun);
        },
    ];
    let makes: [Wait; 4] = [
        |shared| {
            assert!(is_whole(
                shared.cell.get_or_init_timeout(LONG, || [5; 512]).unwrap()
            ))
        },
        |shared| {
            let made = shared.cell.get_or_init_with_timeout(LONG, |state| {
                assert!(state.initializer_died());
                [5; 512]
            });
            assert!(is_whole(made.unwrap()));
        },
        |shared| {
            let made = shared
                .cell
                .get_or_try_init_timeout(LONG, || Ok::<_, Error>([5; 512]));
            assert!(is_whole(made.unwrap()));
        },
        |shared| {
            let set = shared.cell.set_timeout([5; 512], LONG);
            assert!(set.is_ok() || is_whole(shared.cell.get().unwrap()));
        },
    ];
    let single = waits.iter().chain(&makes).map(std::slice::from_ref);
    for group in single.chain([&waits[..], &makes[..]]) {
        let shared = State::anonymous();
        let victim = shared.initializer();
        let waiters: Vec<_> = group.iter().map(|wait| child(|| wait(&shared))).collect();
        until(|| waiters.iter().all(|waiter| sleeps(waiter.id())));
        kill(&victim);
        waiters.iter().for_each(passes);
        assert!(shared.times.get() <= 1);
        assert_ne!(shared.once.is_completed(), shared.cell.get().is_some());
    }
}

fn a_caller_with_a_deadline_gets_the_value_that_another_made() {
    let shared = State::anonymous();
    let never = || -> Large { unreachable!("another process initializes") };
    let maker = child(|| {
        shared.once.call_once(|| {
            shared.cell.get_or_init(|| {
                shared.ready.set();
                until(|| shared.times.get() == 1);
                [7; 512]
            });
        });
    });
    shared.ready.wait();
    let waiters = [
        child(|| {
            assert!(is_whole(
                shared.cell.get_or_init_timeout(LONG, never).unwrap()
            ))
        }),
        child(|| assert_eq!(shared.cell.set_timeout([9; 512], LONG), Err([9; 512]))),
        child(|| shared.once.call_once_timeout(LONG, || _ = never()).unwrap()),
    ];
    until(|| waiters.iter().all(|waiter| sleeps(waiter.id())));
    shared.times.add(1);
    waiters.iter().chain([&maker]).for_each(passes);
    assert_eq!(shared.cell.get(), Some(&[7; 512]));
}

fn signals_end_no_wait() {
    let waits: [fn(&State); 5] = [
        |shared| shared.once.call_once(|| _ = shared.times.add(1)),
        |shared| _ = shared.cell.get_or_init(|| [5; 512]),
        |shared| shared.once.wait(),
        |shared| shared.once.call_once_timeout(LONG, || ()).unwrap(),
        |shared| _ = shared.cell.get_or_init_timeout(LONG, || [5; 512]).unwrap(),
    ];
    for wait in waits {
        let (shared, interruptions) = (State::anonymous(), Interruptions::new());
        let victim = shared.initializer();
        let waiter = child(|| {
            interruptions.allow();
            wait(&shared);
        });
        interruptions.send(&waiter);
        kill(&victim);
        shared.once.call_once(|| ());
        passes(&waiter);
    }
}

fn an_initializer_thread_that_ends_keeps_the_once_until_its_process_ends() {
    let shared = State::anonymous();
    let process = child(|| {
        let shared: &State = &shared;
        // SAFETY: the thread owns nothing that must be dropped. It ends as if it were killed, and
        // its process lives on.
        let ends = || unsafe {
            libc::syscall(libc::SYS_exit, 0);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                shared.once.call_once(|| {
                    shared.thread.store(crate::support::gettid(), Relaxed);
                    ends();
                });
            });
            until(|| shared.thread.load(Relaxed) != 0);
            until(|| crate::support::state(shared.thread.load(Relaxed)).is_none());
            let was_leaked = has_owner(&shared.once) && !shared.once.is_held_by_this_process();
            shared.times.add(u64::from(was_leaked));
            shared.ready.set();
            loop {
                std::thread::park();
            }
        });
    });
    shared.ready.wait();
    assert_eq!(shared.times.get(), 1, "its own process did not report it");
    assert!(!has_owner(&shared.once));
    let outcome = catch_unwind(AssertUnwindSafe(|| shared.once.call_once(|| ())));
    assert!(outcome.is_err() && !shared.once.is_completed());
    // At first, as far as a call without a grace period can determine, the process may be ending.
    let mut error = Some(Error::WouldBlock);
    until(|| {
        error = error_of(|| shared.once.try_call_once(|| unreachable!("it is kept")));
        !matches!(error, Some(Error::WouldBlock))
    });
    assert!(matches!(error, Some(Error::HolderThreadEnded)), "{error:?}");
    let error = error_of(|| {
        shared
            .once
            .call_once_timeout(LONG, || unreachable!("it is kept"))
    });
    assert!(matches!(error, Some(Error::HolderThreadEnded)), "{error:?}");
    kill(&process);
    shared
        .once
        .call_once_force(|state| assert!(state.initializer_died()));
    assert!(shared.once.is_completed());
}

fn a_child_forked_by_an_initializer_does_not_end_the_initialization() {
    let shared = State::anonymous();
    let mut forked = None;
    shared.cell.get_or_init(|| {
        // SAFETY: the process has one thread. That it holds a lock during the fork is the subject
        // of this test.
        let child = unsafe {
            fork::spawn_unchecked(|| {
                assert_eq!(shared.cell.get(), None);
                // The child waits, as any other process does.
                assert!(is_whole(shared.cell.get_or_init(|| [1; 512])));
                assert_eq!(shared.cell.get().unwrap()[0], 2);
            })
        };
        let child = child.unwrap();
        until(|| sleeps_on(child.id(), &shared.cell));
        forked = Some(child);
        [2; 512]
    });
    passes(&forked.unwrap());
}

fn a_cell_whose_initializer_died_with_all_users_is_initialized_again() {
    let (_directory, path) = place();
    let victim = child(|| {
        let shared = open_or_create(&path, State::new).unwrap();
        shared.once.call_once(|| ());
        shared.cell.get_or_init(|| std::process::abort());
    });
    victim.wait().unwrap();
    let shared = open::<State>(&path).unwrap();
    assert!(shared.once.is_completed() && shared.cell.get().is_none());
    let value = shared.cell.get_or_init_with(|state| {
        assert!(state.initializer_died());
        [6; 512]
    });
    assert!(is_whole(value));
}

/// Returns whether a thread of this process is recorded as the one that runs the initialization.
fn has_owner(once: &impl Primitive) -> bool {
    let mut has_owner = false;
    once.owners_in_this_process(&mut |_| has_owner = true);
    has_owner
}
