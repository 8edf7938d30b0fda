//! Initialization that runs once for all processes. If the initializer dies, another process takes
//! over. No process sees a partly initialized value.

use crate::files::{open, open_or_create, place};
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
    a_cell_in_a_file_is_made_by_whoever_comes_first,
    the_next_caller_takes_over_from_one_that_is_killed_and_is_told,
    a_caller_that_waits_takes_over_from_one_that_is_killed,
    initializers_are_killed_at_random_instants,
    a_panic_poisons_for_every_process,
    who_only_waits_is_woken,
    who_does_not_wait_to_the_end_is_refused_while_another_initializes,
    a_caller_with_a_deadline_takes_over_from_one_that_is_killed,
    a_caller_with_a_deadline_sees_what_another_made,
    signals_end_no_wait,
    a_thread_that_ends_inside_keeps_its_turn_until_its_process_is_gone,
    a_process_forked_inside_does_not_end_its_parents_turn,
    a_cell_whose_maker_was_killed_with_the_whole_program_is_made_again,
);

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);
/// Large enough that writing it takes a while.
type Large = [u64; 512];

#[derive(ShmSafe)]
#[repr(C)]
struct Board {
    once: SharedOnce,
    cell: SharedOnceLock<Large>,
    times: SharedCounter,
    ready: SharedEvent,
    thread: AtomicU32,
}

impl Board {
    fn new() -> Self {
        Board {
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
        let board = Board::anonymous();
        let work = || {
            board.once.call_once(|| _ = board.times.add(1));
            assert!(board.once.is_completed() && board.times.get() == 1);
            assert!(is_whole(board.cell.get_or_init(|| [7; 512])));
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
        assert_eq!(board.times.get(), 1);
    }
}

fn a_cell_in_a_file_is_made_by_whoever_comes_first() {
    let (_directory, path) = place();
    let racers: Vec<_> = (1..=4_u64)
        .map(|own| {
            let path = &path;
            child(move || {
                let board = open_or_create(path, Board::new).unwrap();
                let value = *board.cell.get_or_init(|| [own; 512]);
                assert!(is_whole(&value));
                assert_eq!(board.cell.set([9; 512]), Err([9; 512]));
            })
        })
        .collect();
    racers.iter().for_each(passes);
    // The value outlives all the racers.
    assert!(is_whole(open::<Board>(&path).unwrap().cell.get().unwrap()));
}

fn the_next_caller_takes_over_from_one_that_is_killed_and_is_told() {
    let board = Board::anonymous();
    for _ in 0..20 {
        let victim = board.initializer();
        assert!(board.cell.get().is_none() && !board.once.is_completed());
        kill(&victim);
        assert!(board.cell.get().is_none() && !board.once.is_completed());
    }
    board.once.call_once_force(|state| {
        assert!(state.initializer_died() && !state.is_poisoned());
    });
    let value = board.cell.get_or_init_with(|state| {
        assert!(state.initializer_died());
        [3; 512]
    });
    assert!(is_whole(value) && board.once.is_completed());
}

fn a_caller_that_waits_takes_over_from_one_that_is_killed() {
    for _ in 0..20 {
        let board = Board::anonymous();
        let victim = board.initializer();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                child(|| {
                    board.once.call_once(|| _ = board.times.add(1));
                    assert!(is_whole(board.cell.get_or_init(|| [5; 512])));
                })
            })
            .collect();
        until(|| {
            let mut waiters = waiters.iter();
            waiters.all(|waiter| sleeps_on(waiter.id(), &board.once))
        });
        kill(&victim);
        waiters.iter().for_each(passes);
        assert_eq!(board.times.get(), 1);
    }
}

fn initializers_are_killed_at_random_instants() {
    const KILLS: u64 = 600;
    let mut random = Random::new(23);
    let mut taken_over = 0;
    for _ in 0..KILLS {
        let cells = Shared::anonymous([const { SharedOnceLock::<Large>::new() }; 24]).unwrap();
        let begun = Shared::anonymous(AtomicU32::new(0)).unwrap();
        let work = |own: u64| {
            for cell in cells.iter() {
                let value = cell.get_or_init(|| {
                    begun.fetch_add(1, Relaxed);
                    (0..100).for_each(|_| std::hint::spin_loop());
                    [own; 512]
                });
                assert!(is_whole(value));
            }
        };
        let (victim, sleeper) = (child(|| work(1)), child(|| _ = cells[23].wait()));
        let waits = child(|| work(2));
        let some = 1 + random.below(20);
        until(|| u64::from(begun.load(Relaxed)) >= some);
        (0..random.below(2_000)).for_each(|_| std::hint::spin_loop());
        victim.kill().unwrap();
        victim.wait().unwrap();
        for cell in cells.iter() {
            let value = cell.get_or_init_with(|state| {
                taken_over += u64::from(state.initializer_died());
                [3; 512]
            });
            assert!(is_whole(value));
        }
        passes(&waits);
        passes(&sleeper);
    }
    assert!(taken_over > 0, "no initializer was killed in the middle");
}

fn a_panic_poisons_for_every_process() {
    let board = Board::anonymous();
    passes(&child(|| {
        let panic = catch_unwind(AssertUnwindSafe(|| {
            board
                .once
                .call_once(|| std::panic::resume_unwind(Box::new("inside")));
        }));
        assert!(panic.is_err());
        let panic = catch_unwind(AssertUnwindSafe(|| {
            board
                .cell
                .get_or_init(|| std::panic::resume_unwind(Box::new("inside")));
        }));
        assert!(panic.is_err());
    }));
    assert!(catch_unwind(AssertUnwindSafe(|| board.once.call_once(|| ()))).is_err());
    assert!(!board.once.is_completed());
    board.once.call_once_force(|state| {
        assert!(state.is_poisoned() && !state.initializer_died());
    });
    board.once.call_once(|| unreachable!("it is completed"));
    // A panic does not poison a cell.
    assert!(is_whole(board.cell.get_or_init(|| [4; 512])));
}

fn who_only_waits_is_woken() {
    let board = Board::anonymous();
    let waiters = [
        child(|| board.once.wait()),
        child(|| assert!(board.once.wait_timeout(LONG).is_ok())),
        child(|| assert!(is_whole(board.cell.wait()))),
        child(|| assert!(is_whole(board.cell.wait_timeout(LONG).unwrap()))),
    ];
    until(|| waiters.iter().all(|waiter| sleeps(waiter.id())));
    assert!(board.once.wait_timeout(Duration::from_millis(1)).is_err());
    assert_eq!(board.cell.wait_timeout(Duration::ZERO).ok(), None);
    board.once.call_once(|| ());
    board.cell.set([8; 512]).unwrap();
    waiters.iter().for_each(passes);
}

/// Returns the error of a call that must not run its initializer.
fn asks<T>(call: impl FnOnce() -> Result<T, Error>) -> Option<Error> {
    call().err()
}

fn who_does_not_wait_to_the_end_is_refused_while_another_initializes() {
    let board = Board::anonymous();
    let victim = board.initializer();
    let (once, cell) = (&board.once, &board.cell);
    let never = || -> Large { unreachable!("another process initializes") };
    let tries = [
        asks(|| once.try_call_once(|| _ = never())),
        asks(|| once.try_call_once_force(|_| _ = never())),
        asks(|| cell.try_get_or_init(never)),
        asks(|| cell.try_get_or_init_with(|_| never())),
        asks(|| cell.try_get_or_try_init(|| Ok(never()))),
    ];
    for told in tries {
        assert!(matches!(told, Some(Error::WouldBlock)), "{told:?}");
    }
    for timeout in [Duration::ZERO, SHORT] {
        let waits = [
            asks(|| once.call_once_timeout(timeout, || _ = never())),
            asks(|| once.call_once_force_timeout(timeout, |_| _ = never())),
            asks(|| cell.get_or_init_timeout(timeout, never)),
            asks(|| cell.get_or_init_with_timeout(timeout, |_| never())),
            asks(|| cell.get_or_try_init_timeout(timeout, || Ok(never()))),
        ];
        for told in waits {
            assert!(matches!(told, Some(Error::TimedOut)), "{told:?}");
        }
        assert_eq!(cell.set_timeout([9; 512], timeout), Err([9; 512]));
    }
    assert_eq!(cell.try_set([9; 512]), Err([9; 512]));
    kill(&victim);
    // No process initializes any more, so each of these calls takes over.
    assert!(once.try_call_once(|| _ = board.times.add(1)).is_ok());
    assert_eq!((cell.try_set([9; 512]), board.times.get()), (Ok(()), 1));
    let waits = once.call_once_timeout(Duration::ZERO, || unreachable!("it is completed"));
    assert!(waits.is_ok() && is_whole(cell.try_get_or_init(never).unwrap()));
}

/// Tests each form alone, then all forms of a primitive together. Each form sleeps in a process of
/// its own until the initializer is killed.
fn a_caller_with_a_deadline_takes_over_from_one_that_is_killed() {
    type Wait = fn(&Board);
    let waits: [Wait; 3] = [
        |board| {
            let waits = board
                .once
                .call_once_timeout(LONG, || _ = board.times.add(1));
            waits.unwrap();
        },
        |board| {
            let waits = board.once.call_once_force_timeout(LONG, |state| {
                assert!(state.initializer_died());
                board.times.add(1);
            });
            waits.unwrap();
        },
        |board| {
            let begun = || _ = board.times.add(1);
            board.once.call_once(begun);
        },
    ];
    let makes: [Wait; 4] = [
        |board| {
            assert!(is_whole(
                board.cell.get_or_init_timeout(LONG, || [5; 512]).unwrap()
            ))
        },
        |board| {
            let made = board.cell.get_or_init_with_timeout(LONG, |state| {
                assert!(state.initializer_died());
                [5; 512]
            });
            assert!(is_whole(made.unwrap()));
        },
        |board| {
            let made = board
                .cell
                .get_or_try_init_timeout(LONG, || Ok::<_, Error>([5; 512]));
            assert!(is_whole(made.unwrap()));
        },
        |board| {
            let set = board.cell.set_timeout([5; 512], LONG);
            assert!(set.is_ok() || is_whole(board.cell.get().unwrap()));
        },
    ];
    let alone = waits.iter().chain(&makes).map(std::slice::from_ref);
    for group in alone.chain([&waits[..], &makes[..]]) {
        let board = Board::anonymous();
        let victim = board.initializer();
        let waiters: Vec<_> = group.iter().map(|wait| child(|| wait(&board))).collect();
        until(|| waiters.iter().all(|waiter| sleeps(waiter.id())));
        kill(&victim);
        waiters.iter().for_each(passes);
        assert!(board.times.get() <= 1);
        assert_ne!(board.once.is_completed(), board.cell.get().is_some());
    }
}

fn a_caller_with_a_deadline_sees_what_another_made() {
    let board = Board::anonymous();
    let never = || -> Large { unreachable!("another process initializes") };
    let maker = child(|| {
        board.once.call_once(|| {
            board.cell.get_or_init(|| {
                board.ready.set();
                until(|| board.times.get() == 1);
                [7; 512]
            });
        });
    });
    board.ready.wait();
    let waiters = [
        child(|| {
            assert!(is_whole(
                board.cell.get_or_init_timeout(LONG, never).unwrap()
            ))
        }),
        child(|| assert_eq!(board.cell.set_timeout([9; 512], LONG), Err([9; 512]))),
        child(|| board.once.call_once_timeout(LONG, || _ = never()).unwrap()),
    ];
    until(|| waiters.iter().all(|waiter| sleeps(waiter.id())));
    board.times.add(1);
    waiters.iter().chain([&maker]).for_each(passes);
    assert_eq!(board.cell.get(), Some(&[7; 512]));
}

fn signals_end_no_wait() {
    let waits: [fn(&Board); 5] = [
        |board| board.once.call_once(|| _ = board.times.add(1)),
        |board| _ = board.cell.get_or_init(|| [5; 512]),
        |board| board.once.wait(),
        |board| board.once.call_once_timeout(LONG, || ()).unwrap(),
        |board| _ = board.cell.get_or_init_timeout(LONG, || [5; 512]).unwrap(),
    ];
    for wait in waits {
        let (board, interruptions) = (Board::anonymous(), Interruptions::new());
        let victim = board.initializer();
        let waiter = child(|| {
            interruptions.allow();
            wait(&board);
        });
        interruptions.send(&waiter);
        kill(&victim);
        board.once.call_once(|| ());
        passes(&waiter);
    }
}

fn a_thread_that_ends_inside_keeps_its_turn_until_its_process_is_gone() {
    let board = Board::anonymous();
    let process = child(|| {
        let board: &Board = &board;
        // SAFETY: the thread owns nothing that must be dropped. It ends as if it were killed, and
        // its process lives on.
        let ends = || unsafe {
            libc::syscall(libc::SYS_exit, 0);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                board.once.call_once(|| {
                    board.thread.store(crate::support::gettid(), Relaxed);
                    ends();
                });
            });
            until(|| board.thread.load(Relaxed) != 0);
            until(|| crate::support::state(board.thread.load(Relaxed)).is_none());
            let was_forgotten =
                board.once.was_leaked_by_this_process() && !board.once.is_held_by_this_process();
            board.times.add(u64::from(was_forgotten));
            board.ready.set();
            loop {
                std::thread::park();
            }
        });
    });
    board.ready.wait();
    assert_eq!(board.times.get(), 1, "its own process did not report it");
    assert!(!board.once.was_leaked_by_this_process());
    let outcome = catch_unwind(AssertUnwindSafe(|| board.once.call_once(|| ())));
    assert!(outcome.is_err() && !board.once.is_completed());
    // At first, as far as a call without a grace period can determine, the process may be ending.
    let mut told = Some(Error::WouldBlock);
    until(|| {
        told = asks(|| board.once.try_call_once(|| unreachable!("it is kept")));
        !matches!(told, Some(Error::WouldBlock))
    });
    assert!(matches!(told, Some(Error::HolderThreadEnded)), "{told:?}");
    let told = asks(|| {
        board
            .once
            .call_once_timeout(LONG, || unreachable!("it is kept"))
    });
    assert!(matches!(told, Some(Error::HolderThreadEnded)), "{told:?}");
    kill(&process);
    board
        .once
        .call_once_force(|state| assert!(state.initializer_died()));
    assert!(board.once.is_completed());
}

fn a_process_forked_inside_does_not_end_its_parents_turn() {
    let board = Board::anonymous();
    let mut forked = None;
    board.cell.get_or_init(|| {
        // SAFETY: the process has one thread. That it holds a lock during the fork is the subject
        // of this test.
        let child = unsafe {
            fork::spawn_unchecked(|| {
                assert_eq!(board.cell.get(), None);
                // The child waits, as any other process does.
                assert!(is_whole(board.cell.get_or_init(|| [1; 512])));
                assert_eq!(board.cell.get().unwrap()[0], 2);
            })
        };
        let child = child.unwrap();
        until(|| sleeps_on(child.id(), &board.cell));
        forked = Some(child);
        [2; 512]
    });
    passes(&forked.unwrap());
}

fn a_cell_whose_maker_was_killed_with_the_whole_program_is_made_again() {
    let (_directory, path) = place();
    let victim = child(|| {
        let board = open_or_create(&path, Board::new).unwrap();
        board.once.call_once(|| ());
        board.cell.get_or_init(|| std::process::abort());
    });
    victim.wait().unwrap();
    let board = open::<Board>(&path).unwrap();
    assert!(board.once.is_completed() && board.cell.get().is_none());
    let value = board.cell.get_or_init_with(|state| {
        assert!(state.initializer_died());
        [6; 512]
    });
    assert!(is_whole(value));
}
