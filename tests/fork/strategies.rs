//! One suite over all lock strategies: each excludes, and what the next locker sees when a holder is killed.
//!
//! What the guide on choosing says of the strategies is made from these tests; see `the_guide_tells_what_is_so`.

use crate::kit::{child, kill, passes, sleeps, until};
use pshared::raw::{
    Futex, PosixSem, Pthread, PthreadPi, PthreadRobust, RawLock, Robust, Spin, Ticket,
};
use pshared::{
    Cause, LockError, Shared, SharedCounter, SharedEvent, SharedMutex, SharedMutexGuard, ShmSafe,
    fork,
};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Long enough for whoever is not blocked.
const LONG: Duration = Duration::from_secs(60);
/// Long enough to say that whoever is blocked stays so: more than the safety net's second.
const SHORT: Duration = Duration::from_millis(1_500);

/// Runs a function for every strategy.
macro_rules! for_each {
    ($function:ident $($argument:expr)?) => {
        $function::<Robust>($($argument)?);
        $function::<Futex>($($argument)?);
        $function::<Pthread>($($argument)?);
        $function::<PthreadRobust>($($argument)?);
        $function::<PthreadPi>($($argument)?);
        $function::<PosixSem>($($argument)?);
        $function::<Spin>($($argument)?);
        $function::<Ticket>($($argument)?);
    };
}

/// A test for each strategy of what one function does.
macro_rules! suite {
    ($($name:ident by $function:ident),* $(,)?) => {
        $(fn $name() {
            for_each!($function);
        })*
        crate::tests!(
            $($name,)*
            a_file_of_one_strategy_is_not_opened_as_another,
            a_thread_that_ends_with_a_forgotten_guard_gives_its_data_to_nobody,
            a_waiter_that_dies_with_a_ticket_stops_the_line,
            the_guide_tells_what_is_so,
        );
    };
}

suite!(
    every_strategy_counts_exactly_with_processes_and_threads by count,
    every_strategy_lets_a_timed_waiter_give_up by give_up,
    every_strategy_names_its_holder_and_refuses_it_a_second_time by relock,
    every_strategy_keeps_its_parents_lock_when_a_child_drops_the_guard by cross_a_fork,
    every_strategy_refuses_a_fork_while_it_is_held by fork_while_held,
    every_strategy_works_before_it_is_placed by use_unplaced,
    every_strategy_is_usable_after_all_its_users_are_gone by reopen,
    every_strategy_tells_of_a_panic by panic_inside,
);

#[derive(ShmSafe)]
#[repr(C)]
struct Books<R: RawLock> {
    count: SharedMutex<u64, R>,
    /// Who is inside, or 0.
    inside: AtomicU32,
    /// How often two were.
    together: SharedCounter,
    start: SharedEvent,
    ready: SharedEvent,
}

impl<R: RawLock> Books<R> {
    fn new() -> Self {
        Books {
            count: SharedMutex::with_strategy(0),
            inside: AtomicU32::new(0),
            together: SharedCounter::new(0),
            start: SharedEvent::new(),
            ready: SharedEvent::new(),
        }
    }

    fn anonymous() -> Shared<Self> {
        Shared::anonymous(Self::new()).expect("no map")
    }

    /// One section of the thread `own`, which is not 0.
    fn section(&self, own: u32, turn: u32) {
        let mut count = match turn % 16 {
            0 => loop {
                match self.count.try_lock() {
                    Ok(guard) => break guard,
                    Err(LockError::WouldBlock) => std::thread::yield_now(),
                    Err(other) => panic!("{other:?}"),
                }
            },
            8 => self.count.lock_timeout(LONG).expect("lock_timeout"),
            _ => self.count.lock().expect("lock"),
        };
        let before = self.inside.swap(own, Relaxed);
        *count += 1;
        let after = self.inside.swap(0, Relaxed);
        if before != 0 || after != own {
            self.together.add(1);
        }
    }

    /// A child that has the lock, until it is killed.
    fn holder(&self) -> fork::Child {
        let holder = child(|| {
            let _guard = self.count.lock().expect("the lock is free");
            self.ready.set();
            wait_to_be_killed();
        });
        self.ready.wait();
        holder
    }
}

fn wait_to_be_killed() -> ! {
    loop {
        std::thread::park();
    }
}

fn count<R: RawLock>() {
    const PROCESSES: u32 = 3;
    const THREADS: u32 = 2;
    const SECTIONS: u32 = 4_000;
    let books = Books::<R>::anonymous();
    let children: Vec<_> = (0..PROCESSES)
        .map(|process| {
            let books = &*books;
            child(move || {
                let work = |thread| {
                    books.start.wait();
                    let own = process * THREADS + thread + 1;
                    (0..SECTIONS).for_each(|turn| books.section(own, turn));
                };
                std::thread::scope(|scope| {
                    (1..THREADS).for_each(|thread| {
                        scope.spawn(move || work(thread));
                    });
                    work(0);
                });
            })
        })
        .collect();
    books.start.set();
    children.iter().for_each(passes);
    assert_eq!(books.together.get(), 0, "two threads were inside at once");
    assert_eq!(
        *books.count.lock().unwrap(),
        u64::from(PROCESSES * THREADS * SECTIONS)
    );
}

fn give_up<R: RawLock>() {
    let books = Books::<R>::anonymous();
    let guard = books.count.lock().unwrap();
    passes(&unsafe_child(|| {
        assert!(matches!(books.count.try_lock(), Err(LockError::WouldBlock)));
        let outcome = books.count.lock_timeout(Duration::from_millis(3));
        assert!(matches!(outcome, Err(LockError::TimedOut)), "{outcome:?}");
    }));
    drop(guard);
    assert!(books.count.try_lock().is_ok());
}

/// A child of a process that holds a lock.
fn unsafe_child(body: impl FnOnce()) -> fork::Child {
    // SAFETY: the process has one thread, and the child uses no guard of its parent's but to drop it.
    unsafe { fork::spawn_unchecked(body) }.expect("no child")
}

fn relock<R: RawLock>() {
    let books = Books::<R>::anonymous();
    assert_eq!(books.count.holder(), None);
    let guard = books.count.lock().unwrap();
    let holder = books.count.holder().expect("it is held");
    assert_eq!(
        (holder.process, holder.thread),
        (std::process::id(), crate::kit::gettid())
    );
    assert!(matches!(books.count.lock(), Err(LockError::Deadlock)));
    let timed = books.count.lock_timeout(Duration::from_millis(1));
    assert!(matches!(timed, Err(LockError::Deadlock)), "{timed:?}");
    assert!(matches!(books.count.try_lock(), Err(LockError::WouldBlock)));
    drop(guard);
    assert_eq!(books.count.holder(), None);
    assert!(books.count.lock().is_ok());
}

fn cross_a_fork<R: RawLock>() {
    let books = Books::<R>::anonymous();
    let guard = books.count.lock().unwrap();
    let mut copy = Some(guard);
    passes(&unsafe_child(|| drop(copy.take())));
    passes(&unsafe_child(|| {
        let outcome = books.count.lock_timeout(Duration::from_millis(1));
        assert!(matches!(outcome, Err(LockError::TimedOut)), "{outcome:?}");
    }));
    assert!(books.count.holder().is_some());
    drop(copy);
    assert!(books.count.try_lock().is_ok());
}

fn fork_while_held<R: RawLock>() {
    let books = Books::<R>::anonymous();
    let guard = books.count.lock().unwrap();
    assert!(matches!(fork::spawn(|| ()), Err(fork::Error::LockHeld)));
    drop(guard);
    passes(&child(|| ()));
}

fn use_unplaced<R: RawLock>() {
    let lock = SharedMutex::<u64, R>::with_strategy(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..2_000).for_each(|_| *lock.lock().unwrap() += 1));
        }
    });
    assert_eq!(*lock.lock().unwrap(), 6_000);
    std::mem::forget(lock.lock().unwrap());
    // Moved, and placed, it is free.
    let placed = Shared::anonymous(lock).expect("no map");
    passes(&child(|| *placed.lock().unwrap() += 1));
    assert_eq!(*placed.lock().unwrap(), 6_001);
}

fn panic_inside<R: RawLock>() {
    let books = Books::<R>::anonymous();
    let child = fork::spawn(|| {
        let _guard = books.count.lock().unwrap();
        panic!("inside");
    })
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(fork::PANICKED));
    match books.count.lock() {
        Err(LockError::Poisoned(poisoned)) => assert_eq!(poisoned.cause(), Cause::Panicked),
        other => panic!("the panic was not told: {other:?}"),
    };
}

/// All users of a file are killed, one of them in its section. Whoever opens it then is alone, and may lock it.
fn reopen<R: RawLock>() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books");
    drop(crate::kit::create(&path, Books::<R>::new()));
    let told = Shared::anonymous(SharedEvent::new()).unwrap();
    let holder = child(|| {
        let books = crate::kit::open::<Books<R>>(&path);
        let mut count = books.count.lock().unwrap();
        *count = 5;
        told.set();
        wait_to_be_killed();
    });
    told.wait();
    kill(&holder);
    let books = crate::kit::open::<Books<R>>(&path);
    match books.count.lock() {
        Err(LockError::Poisoned(poisoned)) => {
            assert_eq!(poisoned.cause(), Cause::Died);
            assert_eq!(*poisoned.into_guard(), 5);
        }
        other => panic!("the death was not told: {other:?}"),
    };
}

fn a_file_of_one_strategy_is_not_opened_as_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    drop(crate::kit::create(
        &path,
        SharedMutex::<u64, Spin>::with_strategy(0),
    ));
    // SAFETY: nobody else knows the file.
    let refused = unsafe { Shared::<SharedMutex<u64, Futex>>::open(&path) }.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("mutex-spin"), "{text}");
    assert!(text.contains("mutex-futex"), "{text}");
}

/// The thread that has the lock ends; its process, where the guard lives on, does not.
fn a_thread_that_ends_with_a_forgotten_guard_gives_its_data_to_nobody() {
    leak_in_a_thread::<PthreadRobust>();
    leak_in_a_thread::<PthreadPi>();
}

fn leak_in_a_thread<R: RawLock>() {
    let books = Books::<R>::anonymous();
    let books: &'static Books<R> = books.leak();
    let over = Shared::anonymous(SharedEvent::new()).unwrap();
    let leaks = child(|| {
        std::thread::spawn(|| {
            let guard = Box::leak(Box::new(books.count.lock().unwrap()));
            let data: &'static mut u64 = &mut *guard;
            *data = 1;
        })
        .join()
        .unwrap();
        books.ready.set();
        over.wait();
    });
    books.ready.wait();
    for _ in 0..3 {
        let outcome = books.count.lock();
        assert!(
            matches!(outcome, Err(LockError::HolderThreadEnded)),
            "{outcome:?}"
        );
    }
    over.set();
    passes(&leaks);
    assert_eq!(after_a_death(books.count.lock()), Sees::Told);
    let again = books.count.lock();
    assert!(
        matches!(&again, Err(LockError::Poisoned(poisoned)) if !poisoned.is_fresh()),
        "{again:?}"
    );
}

/// What the next locker sees after a holder's SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sees {
    /// It gets the lock, and is told.
    Told,
    /// It gets the lock, and is told nothing.
    Silence,
    /// It gets nothing.
    Nothing,
}

impl Sees {
    fn in_words(self) -> &'static str {
        match self {
            Sees::Told => "gets the lock and is told",
            Sees::Silence => "gets the lock and is told nothing",
            Sees::Nothing => "hangs",
        }
    }
}

fn after_a_death<R: RawLock>(
    outcome: Result<SharedMutexGuard<'_, u64, R>, LockError<'_, u64, R>>,
) -> Sees {
    match outcome {
        Ok(_) => Sees::Silence,
        Err(LockError::Poisoned(poisoned)) => {
            assert_eq!(poisoned.cause(), Cause::Died);
            Sees::Told
        }
        Err(LockError::TimedOut) => Sees::Nothing,
        Err(other) => panic!("{other:?}"),
    }
}

/// The holder is killed, and then somebody comes.
fn comes_later<R: RawLock>() -> Sees {
    let books = Books::<R>::anonymous();
    let holder = books.holder();
    kill(&holder);
    after_a_death(books.count.lock_timeout(SHORT))
}

/// The holder is killed while somebody waits.
fn waits<R: RawLock>(sleeps_in_a_call: bool) -> Sees {
    let books = Books::<R>::anonymous();
    let sees = Shared::anonymous(AtomicU32::new(u32::MAX)).unwrap();
    let at_it = Shared::anonymous(SharedEvent::new()).unwrap();
    let holder = books.holder();
    let waiter = child(|| {
        at_it.set();
        sees.store(
            after_a_death(books.count.lock_timeout(SHORT)) as u32,
            Relaxed,
        );
    });
    at_it.wait();
    if sleeps_in_a_call {
        until(|| sleeps(waiter.id()));
    }
    kill(&holder);
    passes(&waiter);
    match sees.load(Relaxed) {
        0 => Sees::Told,
        1 => Sees::Silence,
        _ => Sees::Nothing,
    }
}

fn a_waiter_that_dies_with_a_ticket_stops_the_line() {
    let books = Books::<Ticket>::anonymous();
    let guard = books.count.lock().unwrap();
    let waiter = unsafe_child(|| {
        books.ready.set();
        let _ = books.count.lock();
    });
    books.ready.wait();
    // SAFETY: the mutex starts with its strategy, and that with the next ticket's number.
    let next = unsafe { &*std::ptr::from_ref(&books.count).cast::<AtomicU32>() };
    until(|| next.load(Relaxed) == 2);
    kill(&waiter);
    drop(guard);
    assert!(matches!(books.count.try_lock(), Err(LockError::WouldBlock)));
    let outcome = books.count.lock_timeout(Duration::from_millis(50));
    assert!(matches!(outcome, Err(LockError::TimedOut)), "{outcome:?}");
}

/// The rows of the guide's table.
fn table() -> String {
    let mut rows = String::from(
        "| strategy | whoever comes after the holder was killed | whoever waited when it was killed |\n|---|---|---|\n",
    );
    macro_rules! row {
        ($name:ident, $sleeps:literal) => {
            rows += &format!(
                "| [`{0}`](crate::raw::{0}) | {1} | {2} |\n",
                stringify!($name),
                comes_later::<$name>().in_words(),
                waits::<$name>($sleeps).in_words(),
            );
        };
    }
    row!(Robust, true);
    row!(PthreadRobust, true);
    row!(PthreadPi, true);
    row!(Futex, true);
    row!(Pthread, true);
    row!(PosixSem, true);
    row!(Spin, false);
    row!(Ticket, false);
    rows
}

/// `PSHARED_WRITE_GUIDE=1` writes the table into the guide.
fn the_guide_tells_what_is_so() {
    const FIRST: &str = "<!-- made by tests/fork/strategies.rs -->\n";
    const LAST: &str = "<!-- made until here -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/choosing.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let (before, rest) = guide.split_once(FIRST).expect("the guide has the mark");
    let (stands, after) = rest.split_once(LAST).expect("and its end");
    let is_so = table();
    if std::env::var_os("PSHARED_WRITE_GUIDE").is_some() {
        std::fs::write(path, format!("{before}{FIRST}{is_so}{LAST}{after}")).unwrap();
    } else {
        assert_eq!(
            stands, is_so,
            "run with PSHARED_WRITE_GUIDE=1 and look at the difference"
        );
    }
}
