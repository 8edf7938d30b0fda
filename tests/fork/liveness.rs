//! Which owners count as dead. A living owner never loses its lock, however little the observing
//! process can see of it. If the death of an owner can be known, it is reported.

use crate::harness::skip;
use crate::steps::sleeps_in;
use crate::support::{
    Outcome, Stage, as_root, become_unprivileged, child, exit_after, field, forked, gettid,
    hide_others, kill, kill_unreaped, outcome_of, outcome_of_try_lock, passes, repaired, sleeps_on,
    state, until,
};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::signal::{Signal, kill as signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use pshared::fork::Child;
use pshared::{Cause, Error, LockError, Shared, SharedCounter, SharedEvent, SharedMutex, ShmSafe};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

crate::tests!(
    a_holder_whose_thread_started_after_its_process_keeps_its_lock,
    holders_whose_threads_started_after_their_processes_exclude_each_other,
    a_locker_without_descriptors_takes_no_held_lock_and_gets_death_reports,
    a_holder_without_descriptors_at_first_keeps_its_lock_and_its_death_is_reported,
    a_locker_of_another_user_takes_no_held_lock_and_gets_death_reports,
    a_locker_that_hidepid_restricts_takes_no_held_lock_and_gets_death_reports,
    a_locker_without_proc_takes_no_held_lock_and_gets_death_reports,
    a_holder_without_proc_keeps_its_lock_and_its_death_is_reported,
    without_proc_a_leader_that_locks_after_a_thread_is_reported_and_gets_reports,
    without_proc_a_grandchild_of_an_idle_process_is_reported_and_gets_reports,
    a_process_that_cannot_know_its_pid_namespace_places_no_robust_lock,
    a_locker_in_another_time_namespace_takes_no_held_lock_and_gets_death_reports,
    a_holder_in_another_time_namespace_keeps_its_lock_and_its_death_is_reported,
    two_lockers_exclude_each_other_although_one_has_the_dead_holders_thread_id,
    a_process_that_reuses_the_dead_holders_ids_is_not_mistaken_for_it,
    a_process_that_reuses_the_dead_holders_ids_may_fork,
    try_lock_does_not_sleep_if_the_holders_thread_ended,
    lock_calls_return_while_a_process_lives_whose_leader_exited_with_a_code,
    a_holder_whose_leader_exited_with_a_code_keeps_its_lock,
    after_a_reboot_every_lock_reports_a_death_once,
    formatting_a_lock_leaves_the_report_of_a_death_to_the_next_locker,
    formatting_a_lock_leaves_the_report_of_an_unmarked_death_to_the_next_locker,
);

/// Longer than the longest interval between two liveness checks.
const LONG: Duration = Duration::from_secs(2);

/// Waits for a held lock for longer than the interval between liveness checks, and never acquires
/// it.
#[track_caller]
fn stays_held(lock: &SharedMutex<u64>) {
    assert_eq!(outcome_of(lock.try_lock()), Outcome::WouldBlock);
    assert_eq!(outcome_of(lock.lock_timeout(LONG)), Outcome::TimedOut);
    assert_eq!(outcome_of(lock.try_lock()), Outcome::WouldBlock);
}

/// Checks what every call returns for a lock whose holder's thread has ended while its process
/// lives.
#[track_caller]
fn reports_ended_thread(lock: &SharedMutex<u64>) {
    assert_eq!(outcome_of_try_lock(lock), Outcome::HolderThreadEnded);
    assert_eq!(
        outcome_of(lock.lock_timeout(LONG)),
        Outcome::HolderThreadEnded
    );
    assert_eq!(outcome_of(lock.lock()), Outcome::HolderThreadEnded);
}

/// Returns when a process or thread started, in the kernel's clock ticks.
fn started(stat: &str) -> u64 {
    const START_TIME: usize = 22;
    let time = field(Path::new(stat), START_TIME).expect("a process's start");
    time.parse().expect("a number")
}

/// Runs `body` in a thread whose start time differs from its process's.
fn in_a_later_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let process = started("/proc/self/stat");
    let mut body = Some(body);
    loop {
        let run = || {
            let own = started(&format!("/proc/self/task/{}/stat", gettid()));
            let body = (own != process).then(|| body.take()).flatten();
            body.map(|body| body())
        };
        if let Some(value) = thread::scope(|scope| scope.spawn(run).join().unwrap()) {
            return value;
        }
    }
}

fn a_holder_whose_thread_started_after_its_process_keeps_its_lock() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        in_a_later_thread(|| {
            let guard = stage.lock.lock().expect("free and whole");
            thread::scope(|scope| {
                let observer = scope.spawn(|| stays_held(&stage.lock));
                assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
                stage.ready.set();
                observer.join().unwrap();
                assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
                stage.over.wait();
                drop(guard);
            });
        });
    });
    stage.meet(&holder);
    stays_held(&stage.lock);
    let next = child(|| assert_eq!(outcome_of(stage.lock.lock()), Outcome::Unpoisoned));
    until(|| sleeps_on(next.id(), &stage.lock));
    stage.over.set();
    passes(&holder);
    passes(&next);
}

fn holders_whose_threads_started_after_their_processes_exclude_each_other() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Crowd {
        lock: SharedMutex<u64>,
        inside: AtomicU32,
        together: SharedCounter,
        never: SharedEvent,
    }
    let crowd = Shared::anonymous(Crowd {
        lock: SharedMutex::new(0),
        inside: AtomicU32::new(0),
        together: SharedCounter::new(0),
        never: SharedEvent::new(),
    })
    .unwrap();
    const SECTIONS: u64 = 4;
    let section = |own: u32| {
        let mut guard = crowd.lock.lock().expect("no process died");
        if crowd.inside.swap(own, SeqCst) != 0 {
            crowd.together.add(1);
        }
        *guard += 1;
        // Critical sections that are long enough for several liveness checks.
        let length = Duration::from_millis(90 + 13 * u64::from(own));
        assert!(crowd.never.wait_timeout(length).is_err());
        if crowd.inside.swap(0, SeqCst) != own {
            crowd.together.add(1);
        }
    };
    let children: Vec<_> = (1..=4)
        .map(|own| {
            let section = &section;
            child(move || in_a_later_thread(|| (0..SECTIONS).for_each(|_| section(own))))
        })
        .collect();
    children.iter().for_each(passes);
    assert_eq!(crowd.together.get(), 0, "two threads were inside at once");
    assert_eq!(*crowd.lock.lock().unwrap(), 4 * SECTIONS);
}

/// How a holder ends while an observer uses the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Killed and reaped before the observer locks again.
    Reaped,
    /// Killed while the observer sleeps.
    Killed,
    /// As `Killed`, but the kernel does not mark the lock, as when the out-of-memory reaper has
    /// removed the list.
    Unmarked,
    /// The holder's thread ended and leaked its guard. Its process is killed later, before the
    /// observer locks again.
    Leaked,
}

const ENDS: [End; 4] = [End::Reaped, End::Killed, End::Unmarked, End::Leaked];

/// A holder, and an observer that checks whether the holder lives.
#[derive(ShmSafe)]
#[repr(C)]
struct Scenario {
    lock: SharedMutex<u64>,
    held: SharedEvent,
    checked: SharedEvent,
    gone: SharedEvent,
    holder: AtomicU32,
    observer: AtomicU32,
}

impl Scenario {
    fn new() -> Shared<Self> {
        Shared::anonymous(Scenario {
            lock: SharedMutex::new(0),
            held: SharedEvent::new(),
            checked: SharedEvent::new(),
            gone: SharedEvent::new(),
            holder: AtomicU32::new(0),
            observer: AtomicU32::new(0),
        })
        .unwrap()
    }

    /// Holds the lock until the process is killed.
    fn hold(&self, end: End) {
        let _guard;
        if end == End::Leaked {
            thread::scope(|scope| {
                let thread = scope.spawn(|| std::mem::forget(self.lock.lock().unwrap()));
                thread.join().unwrap();
            });
            // The holder's own process receives the error, too.
            reports_ended_thread(&self.lock);
        } else {
            _guard = self.lock.lock().expect("free and whole");
        }
        if end == End::Unmarked {
            unregister_robust_list();
        }
        self.holder.store(gettid(), SeqCst);
        self.held.set();
        loop {
            thread::park();
        }
    }

    fn observe(&self, end: End) {
        if end == End::Leaked {
            reports_ended_thread(&self.lock);
        } else {
            stays_held(&self.lock);
        }
        self.observer.store(gettid(), SeqCst);
        self.checked.set();
        if matches!(end, End::Reaped | End::Leaked) {
            self.gone.wait();
            assert_eq!(outcome_of(self.lock.lock()), Outcome::FreshDeath, "{end:?}");
            return;
        }
        loop {
            let gone = self.gone.is_set();
            match outcome_of(self.lock.lock_timeout(LONG)) {
                // Until the process is reaped, an observer that sees little cannot distinguish it
                // from a living one.
                Outcome::HolderThreadEnded | Outcome::TimedOut if !gone => {}
                last => break assert_eq!(last, Outcome::FreshDeath, "{end:?}"),
            }
        }
    }
}

/// After this call the kernel marks no lock that this thread holds.
fn unregister_robust_list() {
    // SAFETY: the call takes a head, here null, and its length.
    let answer = unsafe { libc::syscall(libc::SYS_set_robust_list, 0, 24) };
    assert_eq!(answer, 0, "{}", io::Error::last_os_error());
}

/// Waits for an event that the child sets. Fails if the child ends without setting it.
#[track_caller]
fn meet(event: &SharedEvent, child: &Child) {
    while event.wait_timeout(Duration::from_millis(50)).is_err() {
        let ended = child.try_wait().expect("no status");
        assert!(
            ended.is_none() || event.is_set(),
            "child {}: {ended:?}",
            child.id()
        );
    }
}

/// Runs a closure in a child process whose view of the system differs.
type View<'a> = &'a dyn Fn(&Scenario, &dyn Fn());

fn as_it_is(_: &Scenario, body: &dyn Fn()) {
    body();
}

/// An observer in one world checks a holder in another, for each way in which the holder can end. A
/// living holder never loses its lock, and its death is reported. Each pair is the world of the
/// observer and that of the holder.
fn observe_from(views: &[(View, View)]) {
    let scenarios: Vec<_> = views
        .iter()
        .flat_map(|views| ENDS.map(|end| (views, end, Scenario::new())))
        .collect();
    let holders: Vec<_> = scenarios
        .iter()
        .map(|((_, holders), end, scenario)| {
            let holder = child(|| holders(scenario, &|| scenario.hold(*end)));
            meet(&scenario.held, &holder);
            holder
        })
        .collect();
    let observers: Vec<_> = scenarios
        .iter()
        .map(|((observers, _), end, scenario)| {
            child(|| observers(scenario, &|| scenario.observe(*end)))
        })
        .collect();
    for (((_, end, scenario), holder), observer) in scenarios.iter().zip(&holders).zip(&observers) {
        meet(&scenario.checked, observer);
        if matches!(end, End::Killed | End::Unmarked) {
            // The observer sleeps on the lock, or elsewhere on its way there.
            until(|| state(scenario.observer.load(SeqCst)) == Some('S'));
        }
        let id = Pid::from_raw(scenario.holder.load(SeqCst).cast_signed());
        signal(id, Signal::SIGKILL).unwrap();
        // Waits for the holder, or for the process that waits for the holder.
        holder.wait().unwrap();
        scenario.gone.set();
    }
    observers.iter().for_each(passes);
}

/// Runs `then` in a process that has already recorded its own identity, because it has used a
/// lock.
fn after_recording_its_identity(scenario: &Scenario, then: &dyn Fn()) {
    if scenario.held.is_set() {
        assert!(scenario.lock.try_lock().is_err());
    } else {
        drop(scenario.lock.lock().expect("free and whole"));
    }
    then();
}

/// Opens files until no descriptor is left.
fn use_up_descriptors() -> Vec<File> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most.min(64), most).unwrap();
    let mut files = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                return files;
            }
        }
    }
}

fn a_locker_without_descriptors_takes_no_held_lock_and_gets_death_reports() {
    let without = |_: &Scenario, body: &dyn Fn()| {
        let _files = use_up_descriptors();
        body();
    };
    observe_from(&[
        (&without, &as_it_is),
        (
            &|scenario, body| after_recording_its_identity(scenario, &|| without(scenario, body)),
            &as_it_is,
        ),
    ]);
}

fn a_holder_without_descriptors_at_first_keeps_its_lock_and_its_death_is_reported() {
    let without_at_first = |_: &Scenario, body: &dyn Fn()| {
        let files = use_up_descriptors();
        lock_something();
        drop(files);
        body();
    };
    observe_from(&[(&as_it_is, &without_at_first)]);
}

fn a_locker_of_another_user_takes_no_held_lock_and_gets_death_reports() {
    as_root();
    let other_user = |_: &Scenario, body: &dyn Fn()| {
        become_unprivileged();
        body();
    };
    observe_from(&[
        (&other_user, &as_it_is),
        (
            &|scenario, body| {
                after_recording_its_identity(scenario, &|| other_user(scenario, body))
            },
            &as_it_is,
        ),
    ]);
}

fn a_locker_that_hidepid_restricts_takes_no_held_lock_and_gets_death_reports() {
    as_root();
    let hidden_from = |scenario: &Scenario, body: &dyn Fn()| {
        hide_others();
        become_unprivileged();
        let holder = scenario.holder.load(SeqCst);
        assert!(File::open(format!("/proc/{holder}/stat")).is_err());
        body();
    };
    observe_from(&[
        (&hidden_from, &as_it_is),
        (
            &|scenario, body| {
                after_recording_its_identity(scenario, &|| hidden_from(scenario, body))
            },
            &as_it_is,
        ),
    ]);
}

/// Gives the process another root, which is an empty directory.
fn change_root(root: &Path) {
    nix::unistd::chroot(root).unwrap();
    nix::unistd::chdir("/").unwrap();
    assert!(!Path::new("/proc").exists());
}

/// Uses a lock in the calling thread.
fn lock_something() {
    let own = Shared::anonymous(SharedMutex::new(0_u64)).unwrap();
    drop(own.lock().unwrap());
}

fn a_locker_without_proc_takes_no_held_lock_and_gets_death_reports() {
    as_root();
    let empty = tempfile::tempdir().unwrap();
    let without = |_: &Scenario, body: &dyn Fn()| {
        change_root(empty.path());
        body();
    };
    observe_from(&[
        (&without, &as_it_is),
        (
            &|scenario, body| after_recording_its_identity(scenario, &|| without(scenario, body)),
            &as_it_is,
        ),
    ]);
}

fn a_holder_without_proc_keeps_its_lock_and_its_death_is_reported() {
    as_root();
    let empty = tempfile::tempdir().unwrap();
    let without = |_: &Scenario, body: &dyn Fn()| {
        change_root(empty.path());
        lock_something();
        body();
    };
    observe_from(&[
        (&as_it_is, &without),
        (&as_it_is, &|scenario, body| {
            after_recording_its_identity(scenario, &|| without(scenario, body));
        }),
        (&without, &without),
    ]);
}

/// Uses a lock in a thread other than the process's first.
fn lock_something_in_a_thread() {
    thread::scope(|scope| scope.spawn(lock_something).join().unwrap());
}

fn without_proc_a_leader_that_locks_after_a_thread_is_reported_and_gets_reports() {
    as_root();
    let empty = tempfile::tempdir().unwrap();
    let without = |_: &Scenario, body: &dyn Fn()| {
        change_root(empty.path());
        lock_something_in_a_thread();
        body();
    };
    observe_from(&[(&as_it_is, &without), (&without, &as_it_is)]);
}

/// Runs `body` in a child of this process. This process waits for the child and does nothing else.
fn in_a_child_of_an_idle_process(body: &dyn Fn()) {
    let child = forked(|| {
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        body();
    });
    match waitpid(child, None).unwrap() {
        WaitStatus::Exited(_, 0) | WaitStatus::Signaled(_, Signal::SIGKILL, _) => {}
        status => panic!("{status:?}"),
    }
}

fn without_proc_a_grandchild_of_an_idle_process_is_reported_and_gets_reports() {
    as_root();
    let empty = tempfile::tempdir().unwrap();
    let without = |_: &Scenario, body: &dyn Fn()| {
        in_a_child_of_an_idle_process(&|| {
            change_root(empty.path());
            lock_something();
            body();
        });
    };
    observe_from(&[(&as_it_is, &without), (&without, &as_it_is)]);
}

fn a_process_that_cannot_know_its_pid_namespace_places_no_robust_lock() {
    as_root();
    // SAFETY: no other thread exists. This process has not used the crate yet.
    unsafe { std::env::set_var("PSHARED_ASSUME_KERNEL", "6.10") };
    let empty = tempfile::tempdir().unwrap();
    let place = || Shared::anonymous(SharedMutex::new(0_u32)).map(drop);
    in_a_child_of_an_idle_process(&|| {
        change_root(empty.path());
        become_unprivileged();
        assert!(matches!(place(), Err(Error::PidNamespaceUnknown)));
        // What needs no owner works.
        Shared::anonymous(SharedCounter::new(0)).unwrap().add(1);
    });
    in_a_child_of_an_idle_process(&|| {
        become_unprivileged();
        place().unwrap();
    });
    in_a_child_of_an_idle_process(&|| {
        change_root(empty.path());
        place().expect("root may mount a /proc of its own");
    });
}

/// Gives the process's children a time namespace of their own, in which processes seem to have
/// started at other times.
fn unshare_time() -> io::Result<()> {
    // SAFETY: the call takes a number only.
    if unsafe { libc::unshare(libc::CLONE_NEWTIME) } != 0 {
        return Err(io::Error::last_os_error());
    }
    fs::write("/proc/self/timens_offsets", "boottime 86400 0\n")
}

fn need_time_namespaces() {
    let probe = child(|| unshare_time().unwrap());
    if !probe.wait().unwrap().success() {
        skip("new time namespaces (Linux 5.6) are not permitted here");
    }
}

/// Runs `body` in a process that is created in another time namespace.
fn created_in_another_time_namespace(_: &Scenario, body: &dyn Fn()) {
    unshare_time().unwrap();
    let status = child(body).wait().unwrap();
    // A holder is killed.
    assert!(
        status.success() || status.signal() == Some(libc::SIGKILL),
        "{status}"
    );
}

/// Runs `body` in a process that enters another time namespace.
fn moved_into_another_time_namespace(_: &Scenario, body: &dyn Fn()) {
    unshare_time().unwrap();
    setns(
        File::open("/proc/self/ns/time_for_children").unwrap(),
        CloneFlags::empty(),
    )
    .unwrap();
    body();
}

fn a_locker_in_another_time_namespace_takes_no_held_lock_and_gets_death_reports() {
    need_time_namespaces();
    let only_its_children = |_: &Scenario, body: &dyn Fn()| {
        unshare_time().unwrap();
        body();
    };
    observe_from(&[
        (&created_in_another_time_namespace, &as_it_is),
        (&only_its_children, &as_it_is),
        (
            &|scenario, body| {
                after_recording_its_identity(scenario, &|| {
                    moved_into_another_time_namespace(scenario, body)
                })
            },
            &as_it_is,
        ),
    ]);
}

fn a_holder_in_another_time_namespace_keeps_its_lock_and_its_death_is_reported() {
    need_time_namespaces();
    observe_from(&[
        (&as_it_is, &created_in_another_time_namespace),
        (&as_it_is, &moved_into_another_time_namespace),
        (&as_it_is, &|scenario, body| {
            after_recording_its_identity(scenario, &|| {
                moved_into_another_time_namespace(scenario, body)
            })
        }),
    ]);
}

/// Creates a child whose id is `id`, by clone3(2). Returns `None` if the id is still in use.
fn child_with_id(id: u32, body: impl FnOnce()) -> Option<Pid> {
    let ids = [id.cast_signed()];
    // SAFETY: zero bytes are a valid `clone_args` that requests nothing.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.set_tid = ids.as_ptr().expose_provenance() as u64;
    arguments.set_tid_size = 1;
    // SAFETY: the arguments and the id that they point to are valid; the process has one thread,
    // and the child exits without returning.
    let made = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of_val(&arguments),
        )
    };
    if made > 0 {
        return Some(Pid::from_raw(made as libc::pid_t));
    }
    if made < 0 {
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EEXIST) => return None,
            error => skip(&format!("ids cannot be chosen here: {error}")),
        }
    }
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    exit_after(body)
}

/// Two processes that contend for a lock of a dead holder.
#[derive(ShmSafe)]
#[repr(C)]
struct Contest {
    lock: SharedMutex<u64>,
    held: SharedEvent,
    over: SharedEvent,
    /// The thread that ended with the lock, and the start time of its process.
    dead: AtomicU32,
    started: AtomicU64,
    inside: AtomicU32,
    fresh: SharedCounter,
    together: SharedCounter,
    checked: [SharedEvent; 2],
    done: [SharedEvent; 2],
}

impl Contest {
    fn new() -> Shared<Self> {
        Shared::anonymous(Contest {
            lock: SharedMutex::new(0),
            held: SharedEvent::new(),
            over: SharedEvent::new(),
            dead: AtomicU32::new(0),
            started: AtomicU64::new(0),
            inside: AtomicU32::new(0),
            fresh: SharedCounter::new(0),
            together: SharedCounter::new(0),
            checked: [const { SharedEvent::new() }; 2],
            done: [const { SharedEvent::new() }; 2],
        })
        .unwrap()
    }

    /// Acquires the lock and holds it until the other process has waited for it without success. If
    /// the other has already had the lock, releases it at once.
    fn contend(&self, own: usize) {
        let other = 1 - own;
        let _guard = loop {
            match self.lock.lock_timeout(LONG) {
                Err(LockError::TimedOut) => self.checked[own].set(),
                // Retries, also while the process of the ended thread lives.
                Err(LockError::HolderThreadEnded) => {}
                Err(LockError::Poisoned(poisoned)) => {
                    self.fresh.add(poisoned.is_first_report().into());
                    break poisoned.replace(0);
                }
                outcome => break outcome.unwrap(),
            }
        };
        let met = self.inside.swap(1 + own as u32, SeqCst) != 0;
        let short = Duration::from_millis(20);
        while !met && self.checked[other].wait_timeout(short).is_err() && !self.done[other].is_set()
        {
        }
        if self.inside.swap(0, SeqCst) != 1 + own as u32 || met {
            self.together.add(1);
        }
        self.done[own].set();
    }
}

#[track_caller]
fn exits(id: Pid) {
    assert_eq!(waitpid(id, None).unwrap(), WaitStatus::Exited(id, 0));
}

fn two_lockers_exclude_each_other_although_one_has_the_dead_holders_thread_id() {
    as_root();
    for same_id_is_first in [true, false] {
        let contest = Contest::new();
        let holder = child(|| {
            let leak = || {
                std::mem::forget(contest.lock.lock().unwrap());
                contest.dead.store(gettid(), SeqCst);
            };
            thread::scope(|scope| scope.spawn(leak).join().unwrap());
            contest.held.set();
            contest.over.wait();
        });
        meet(&contest.held, &holder);
        let same_id = || {
            // The thread was joined, but may keep its id for a moment.
            let dead = contest.dead.load(SeqCst);
            loop {
                if let Some(id) = child_with_id(dead, || contest.contend(0)) {
                    return id;
                }
            }
        };
        let is_checking =
            |id: Pid| sleeps_in(id.as_raw().cast_unsigned(), libc::SYS_clock_nanosleep);
        let second = || Pid::from_raw(child(|| contest.contend(1)).id().cast_signed());
        let first = if same_id_is_first {
            same_id()
        } else {
            second()
        };
        until(|| is_checking(first));
        let other = if same_id_is_first {
            second()
        } else {
            same_id()
        };
        // Both wait to learn whether the process is ending, and neither has the lock.
        until(|| is_checking(first) && is_checking(other));
        contest.over.set();
        passes(&holder);
        [first, other].into_iter().for_each(exits);
        assert_eq!(contest.together.get(), 0, "two inside at once");
        assert_eq!(contest.fresh.get(), 1, "the death must be reported once");
    }
}

/// Starts a process that has the ids of one that died while it held the lock, and runs `body` in
/// it.
fn namesake(contest: &Contest, marked: bool, body: impl Fn()) -> Pid {
    let holder = child(|| {
        let _guard = contest.lock.lock().unwrap();
        contest.started.store(started("/proc/self/stat"), SeqCst);
        if !marked {
            unregister_robust_list();
        }
        contest.held.set();
        contest.over.wait();
    });
    meet(&contest.held, &holder);
    kill(&holder);
    contest.held.reset();
    loop {
        let namesake = child_with_id(holder.id(), || {
            // The kernel counts in hundredths of a second. Only a process with another start time
            // can be distinguished from the dead process.
            if started("/proc/self/stat") != contest.started.load(SeqCst) {
                body();
                contest.held.set();
                contest.over.wait();
            }
        });
        let namesake = namesake.expect("the id of a process that was reaped");
        let mut status = WaitStatus::StillAlive;
        until(|| {
            status = waitpid(namesake, Some(WaitPidFlag::WNOHANG)).unwrap();
            status != WaitStatus::StillAlive || contest.held.is_set()
        });
        match status {
            WaitStatus::StillAlive => return namesake,
            // The process started too early, in the same tick as the dead process.
            WaitStatus::Exited(_, 0) => {}
            status => panic!("{status:?}"),
        }
    }
}

fn a_process_that_reuses_the_dead_holders_ids_is_not_mistaken_for_it() {
    as_root();
    for marked in [true, false] {
        for namesake_locks in [true, false] {
            let contest = Contest::new();
            let check_report = || assert_eq!(outcome_of(contest.lock.lock()), Outcome::FreshDeath);
            let namesake = namesake(&contest, marked, || {
                if namesake_locks {
                    check_report();
                }
            });
            if !namesake_locks {
                check_report();
            }
            contest.over.set();
            exits(namesake);
        }
    }
}

fn a_process_that_reuses_the_dead_holders_ids_may_fork() {
    as_root();
    for marked in [true, false] {
        let contest = Contest::new();
        let namesake = namesake(&contest, marked, || passes(&child(|| ())));
        contest.over.set();
        exits(namesake);
        assert_eq!(outcome_of(contest.lock.lock()), Outcome::FreshDeath);
    }
}

/// Runs `before` in the leader, which then ends by `SYS_exit` with an exit code. Another thread
/// runs `meanwhile` and stays until `over`.
fn leader_exits(stage: &Stage, before: impl FnOnce(), meanwhile: impl FnOnce() + Send) {
    let leader = gettid();
    before();
    thread::scope(|scope| {
        scope.spawn(|| {
            until(|| state(leader) == Some('Z'));
            meanwhile();
            stage.ready.set();
            stage.over.wait();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) };
        });
        // SAFETY: ends this thread only; its stack stays mapped for the other thread.
        unsafe { libc::syscall(libc::SYS_exit, 3) };
    });
}

/// Runs a thread that leaks its guard and ends.
fn leak_in_a_thread(lock: &SharedMutex<u64>) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| std::mem::forget(repaired(lock.lock(), 0)));
        thread.join().unwrap();
    });
}

fn lock_calls_return_while_a_process_lives_whose_leader_exited_with_a_code() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        leader_exits(
            &stage,
            || leak_in_a_thread(&stage.lock),
            || reports_ended_thread(&stage.lock),
        );
    });
    stage.meet(&holder);
    // The process lives until `over` is set, so the test hangs if one of these calls does not
    // return.
    reports_ended_thread(&stage.lock);
    stage.over.set();
    passes(&holder);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
}

fn a_holder_whose_leader_exited_with_a_code_keeps_its_lock() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        let hold = || std::mem::forget(stage.lock.lock().unwrap());
        leader_exits(&stage, || (), hold);
    });
    stage.meet(&holder);
    stays_held(&stage.lock);
    stage.over.set();
    passes(&holder);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
}

fn try_lock_does_not_sleep_if_the_holders_thread_ended() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        leak_in_a_thread(&stage.lock);
        stage.ready.set();
        stage.over.wait();
    });
    stage.meet(&holder);
    // A running process may be ending, and the thread may not have ended yet.
    until(|| state(holder.id()) == Some('S'));
    until(|| outcome_of(stage.lock.try_lock()) == Outcome::HolderThreadEnded);
    let sleeps = || {
        getrusage(UsageWho::RUSAGE_THREAD)
            .unwrap()
            .voluntary_context_switches()
    };
    let fewest = (0..20)
        .map(|_| {
            let before = sleeps();
            assert_eq!(
                outcome_of(stage.lock.try_lock()),
                Outcome::HolderThreadEnded
            );
            sleeps() - before
        })
        .min();
    // The kernel may occasionally make the thread wait for a lock of the kernel's own.
    assert_eq!(fewest, Some(0));
    stage.over.set();
    passes(&holder);
}

/// Makes the file appear to be from another boot: inverts the boot id, wherever it lies in the
/// first page, and removes the mark of this boot.
fn reboot(path: &Path) {
    crate::support::forget_boot_mark(path);
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let id = u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut header = [0; 4096];
    file.read_exact_at(&mut header, 0).unwrap();
    let place = header
        .windows(16)
        .position(|bytes| bytes == id.to_ne_bytes());
    let place = place.expect("the boot's id") as u64;
    file.write_all_at(&(!id).to_ne_bytes(), place).unwrap();
}

fn after_a_reboot_every_lock_reports_a_death_once() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Locks {
        used: SharedMutex<u64>,
        unused: SharedMutex<u64>,
        held: SharedMutex<u64>,
        poisoned: SharedMutex<u64>,
    }
    let (_directory, path) = crate::files::place();
    let open = || crate::support::open::<Locks>(&path);
    let shared = crate::support::create(
        &path,
        Locks {
            used: SharedMutex::new(1),
            unused: SharedMutex::new(2),
            held: SharedMutex::new(3),
            poisoned: SharedMutex::new(4),
        },
    );
    *shared.used.lock().unwrap() += 1;
    passes(&child(|| {
        std::mem::forget(open().poisoned.lock().unwrap());
    }));
    assert_eq!(outcome_of(shared.poisoned.lock()), Outcome::FreshDeath);
    passes(&child(|| {
        let shared = open().leak();
        std::mem::forget(shared.held.lock().unwrap());
        // SAFETY: the calls take a null head and numbers. The process ends at once and without the
        // kernel's mark, as when the machine stops.
        unsafe {
            libc::syscall(libc::SYS_set_robust_list, 0, 24);
            libc::_exit(0);
        }
    }));
    drop(shared);
    for boot in 0..2 {
        reboot(&path);
        let shared = open();
        let locks = [&shared.used, &shared.unused, &shared.held, &shared.poisoned];
        for (number, lock) in locks.into_iter().enumerate() {
            assert_eq!(
                outcome_of(lock.lock()),
                Outcome::FreshDeath,
                "boot {boot}, lock {number}"
            );
            assert_eq!(
                outcome_of(lock.lock()),
                Outcome::OldDeath,
                "boot {boot}, lock {number}"
            );
            passes(&child(|| {
                assert_eq!(outcome_of(lock.lock()), Outcome::OldDeath)
            }));
            *repaired(lock.lock(), 5) += 1;
            assert_eq!(
                outcome_of(lock.lock()),
                Outcome::Unpoisoned,
                "boot {boot}, lock {number}"
            );
        }
        drop(shared);
        // A process that opens the file later in the same boot receives no report.
        let shared = open();
        for lock in [&shared.used, &shared.unused, &shared.held, &shared.poisoned] {
            assert_eq!(*lock.lock().unwrap(), 6);
        }
    }
}

/// Formats the lock repeatedly, in several processes. The next locker must still receive the first
/// report of the death.
fn formatting_keeps_first_report(lock: &SharedMutex<u64>) {
    for _ in 0..3 {
        let _ = format!("{lock:?}");
        passes(&child(|| drop(format!("{lock:?}"))));
    }
    assert!(!lock.is_poisoned());
    match lock.lock() {
        Err(LockError::Poisoned(poisoned)) => {
            assert!(poisoned.is_first_report(), "the first report is lost");
            assert_eq!(poisoned.cause(), Cause::Died);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(outcome_of(lock.lock()), Outcome::OldDeath);
    assert!(format!("{lock:?}").contains("Died"), "{lock:?}");
}

fn formatting_a_lock_leaves_the_report_of_a_death_to_the_next_locker() {
    for reaped in [true, false] {
        let stage = Stage::anonymous();
        let holder = stage.holder();
        if reaped {
            kill(&holder);
        } else {
            kill_unreaped(&holder);
        }
        formatting_keeps_first_report(&stage.lock);
    }
}

fn formatting_a_lock_leaves_the_report_of_an_unmarked_death_to_the_next_locker() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        let _guard = stage.lock.lock().unwrap();
        unregister_robust_list();
        stage.ready.set();
        stage.over.wait();
    });
    stage.meet(&holder);
    kill(&holder);
    formatting_keeps_first_report(&stage.lock);
}
