//! Which owners count as dead. A living owner never loses its lock, however little the observing
//! process can see of it. If the death of an owner can be known, it is reported.

use crate::harness::skip;
use crate::steps::sleeps_in;
use crate::support::{
    Stage, Told, as_root, become_nobody, child, field, gettid, hide_others, kill, kill_unreaped,
    passes, repaired, sleeps_on, state, told, told_by_trying, until,
};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::signal::{Signal, kill as signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use pshared::fork::Child;
use pshared::{Cause, LockError, Shared, SharedCounter, SharedEvent, SharedMutex, ShmSafe};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

crate::tests!(
    a_holder_whose_thread_started_later_than_its_process_is_not_robbed,
    holders_whose_threads_started_later_than_their_processes_exclude_each_other,
    a_looker_without_a_free_descriptor_robs_nobody_and_is_told_of_deaths,
    a_holder_that_had_no_free_descriptor_when_it_first_locked_is_not_robbed_and_its_death_is_told,
    a_looker_of_another_user_robs_nobody_and_is_told_of_deaths,
    a_looker_of_another_user_to_whom_proc_hides_others_robs_nobody_and_is_told_of_deaths,
    a_looker_whose_root_has_no_proc_robs_nobody_and_is_told_of_deaths,
    a_holder_whose_root_has_no_proc_is_not_robbed_and_its_death_is_told,
    a_process_whose_root_has_no_proc_and_whose_first_thread_locks_later_tells_and_is_told_of_deaths,
    a_grandchild_whose_root_has_no_proc_and_whose_parent_used_no_lock_tells_and_is_told_of_deaths,
    a_looker_in_another_time_namespace_robs_nobody_and_is_told_of_deaths,
    a_holder_in_another_time_namespace_is_not_robbed_and_its_death_is_told,
    a_taker_with_the_dead_holders_thread_id_is_not_robbed_while_it_looks,
    a_process_with_the_dead_holders_ids_is_not_taken_for_it,
    a_process_with_the_dead_holders_ids_may_fork,
    try_lock_does_not_sleep_where_the_holders_thread_ended,
    lock_calls_return_while_a_process_whose_leader_left_with_an_exit_code_lives,
    a_holder_whose_leader_left_with_an_exit_code_is_not_robbed,
    after_a_reboot_every_lock_tells_of_a_death_once,
    showing_a_lock_leaves_the_news_of_a_death_to_the_next_holder,
    showing_a_lock_leaves_the_news_of_an_unmarked_death_to_the_next_holder,
);

/// Longer than the longest interval between two liveness checks.
const LONG: Duration = Duration::from_secs(2);

/// Waits for a held lock for longer than the interval between liveness checks, and never acquires
/// it.
#[track_caller]
fn robs_nobody(lock: &SharedMutex<u64>) {
    assert_eq!(told(lock.try_lock()), Told::WouldBlock);
    assert_eq!(told(lock.lock_timeout(LONG)), Told::TimedOut);
    assert_eq!(told(lock.try_lock()), Told::WouldBlock);
}

/// Checks what every call returns for a lock whose holder's thread has ended while its process
/// lives.
#[track_caller]
fn is_told_apart(lock: &SharedMutex<u64>) {
    assert_eq!(told_by_trying(lock), Told::HolderThreadEnded);
    assert_eq!(told(lock.lock_timeout(LONG)), Told::HolderThreadEnded);
    assert_eq!(told(lock.lock()), Told::HolderThreadEnded);
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

fn a_holder_whose_thread_started_later_than_its_process_is_not_robbed() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        in_a_later_thread(|| {
            let guard = stage.lock.lock().expect("free and whole");
            thread::scope(|scope| {
                let looker = scope.spawn(|| robs_nobody(&stage.lock));
                assert_eq!(told(stage.lock.try_lock()), Told::WouldBlock);
                stage.ready.set();
                looker.join().unwrap();
                assert_eq!(told(stage.lock.try_lock()), Told::WouldBlock);
                stage.over.wait();
                drop(guard);
            });
        });
    });
    stage.meet(&holder);
    robs_nobody(&stage.lock);
    let next = child(|| assert_eq!(told(stage.lock.lock()), Told::Whole));
    until(|| sleeps_on(next.id(), &stage.lock));
    stage.over.set();
    passes(&holder);
    passes(&next);
}

fn holders_whose_threads_started_later_than_their_processes_exclude_each_other() {
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
    Forgotten,
}

const ENDS: [End; 4] = [End::Reaped, End::Killed, End::Unmarked, End::Forgotten];

/// A holder, and an observer that checks whether the holder lives.
#[derive(ShmSafe)]
#[repr(C)]
struct Scene {
    lock: SharedMutex<u64>,
    held: SharedEvent,
    looked: SharedEvent,
    gone: SharedEvent,
    holder: AtomicU32,
    looker: AtomicU32,
}

impl Scene {
    fn new() -> Shared<Self> {
        Shared::anonymous(Scene {
            lock: SharedMutex::new(0),
            held: SharedEvent::new(),
            looked: SharedEvent::new(),
            gone: SharedEvent::new(),
            holder: AtomicU32::new(0),
            looker: AtomicU32::new(0),
        })
        .unwrap()
    }

    /// Holds the lock until the process is killed.
    fn hold(&self, end: End) {
        let _guard;
        if end == End::Forgotten {
            thread::scope(|scope| {
                let thread = scope.spawn(|| std::mem::forget(self.lock.lock().unwrap()));
                thread.join().unwrap();
            });
            // The holder's own process receives the error, too.
            is_told_apart(&self.lock);
        } else {
            _guard = self.lock.lock().expect("free and whole");
        }
        if end == End::Unmarked {
            forget_the_robust_list();
        }
        self.holder.store(gettid(), SeqCst);
        self.held.set();
        loop {
            thread::park();
        }
    }

    fn look(&self, end: End) {
        if end == End::Forgotten {
            is_told_apart(&self.lock);
        } else {
            robs_nobody(&self.lock);
        }
        self.looker.store(gettid(), SeqCst);
        self.looked.set();
        if matches!(end, End::Reaped | End::Forgotten) {
            self.gone.wait();
            assert_eq!(told(self.lock.lock()), Told::FreshDeath, "{end:?}");
            return;
        }
        loop {
            let gone = self.gone.is_set();
            match told(self.lock.lock_timeout(LONG)) {
                // Until the process is reaped, an observer that sees little cannot distinguish it
                // from a living one.
                Told::HolderThreadEnded | Told::TimedOut if !gone => {}
                last => break assert_eq!(last, Told::FreshDeath, "{end:?}"),
            }
        }
    }
}

/// After this call the kernel marks no lock that this thread holds.
fn forget_the_robust_list() {
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
type World<'a> = &'a dyn Fn(&Scene, &dyn Fn());

fn as_it_is(_: &Scene, body: &dyn Fn()) {
    body();
}

/// An observer in one world checks a holder in another, for each way in which the holder can end. A
/// living holder never loses its lock, and its death is reported. Each pair is the world of the
/// observer and that of the holder.
fn look_from(worlds: &[(World, World)]) {
    let scenes: Vec<_> = worlds
        .iter()
        .flat_map(|worlds| ENDS.map(|end| (worlds, end, Scene::new())))
        .collect();
    let holders: Vec<_> = scenes
        .iter()
        .map(|((_, holders), end, scene)| {
            let holder = child(|| holders(scene, &|| scene.hold(*end)));
            meet(&scene.held, &holder);
            holder
        })
        .collect();
    let lookers: Vec<_> = scenes
        .iter()
        .map(|((lookers, _), end, scene)| child(|| lookers(scene, &|| scene.look(*end))))
        .collect();
    for (((_, end, scene), holder), looker) in scenes.iter().zip(&holders).zip(&lookers) {
        meet(&scene.looked, looker);
        if matches!(end, End::Killed | End::Unmarked) {
            // The observer sleeps on the lock, or elsewhere on its way there.
            until(|| state(scene.looker.load(SeqCst)) == Some('S'));
        }
        let id = Pid::from_raw(scene.holder.load(SeqCst).cast_signed());
        signal(id, Signal::SIGKILL).unwrap();
        // Waits for the holder, or for the process that waits for the holder.
        holder.wait().unwrap();
        scene.gone.set();
    }
    lookers.iter().for_each(passes);
}

/// Runs `leave` in a process that has already recorded its own identity, because it has used a
/// lock.
fn once_it_knows_itself(scene: &Scene, leave: &dyn Fn()) {
    if scene.held.is_set() {
        assert!(scene.lock.try_lock().is_err());
    } else {
        drop(scene.lock.lock().expect("free and whole"));
    }
    leave();
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

fn a_looker_without_a_free_descriptor_robs_nobody_and_is_told_of_deaths() {
    let without = |_: &Scene, body: &dyn Fn()| {
        let _files = use_up_descriptors();
        body();
    };
    look_from(&[
        (&without, &as_it_is),
        (
            &|scene, body| once_it_knows_itself(scene, &|| without(scene, body)),
            &as_it_is,
        ),
    ]);
}

fn a_holder_that_had_no_free_descriptor_when_it_first_locked_is_not_robbed_and_its_death_is_told() {
    let without_at_first = |_: &Scene, body: &dyn Fn()| {
        let files = use_up_descriptors();
        lock_something();
        drop(files);
        body();
    };
    look_from(&[(&as_it_is, &without_at_first)]);
}

fn a_looker_of_another_user_robs_nobody_and_is_told_of_deaths() {
    as_root();
    let other_user = |_: &Scene, body: &dyn Fn()| {
        become_nobody();
        body();
    };
    look_from(&[
        (&other_user, &as_it_is),
        (
            &|scene, body| once_it_knows_itself(scene, &|| other_user(scene, body)),
            &as_it_is,
        ),
    ]);
}

fn a_looker_of_another_user_to_whom_proc_hides_others_robs_nobody_and_is_told_of_deaths() {
    as_root();
    let hidden_from = |scene: &Scene, body: &dyn Fn()| {
        hide_others();
        become_nobody();
        let holder = scene.holder.load(SeqCst);
        assert!(File::open(format!("/proc/{holder}/stat")).is_err());
        body();
    };
    look_from(&[
        (&hidden_from, &as_it_is),
        (
            &|scene, body| once_it_knows_itself(scene, &|| hidden_from(scene, body)),
            &as_it_is,
        ),
    ]);
}

/// Gives the process another root, which is an empty directory.
fn leave_proc_behind(root: &Path) {
    nix::unistd::chroot(root).unwrap();
    nix::unistd::chdir("/").unwrap();
    assert!(!Path::new("/proc").exists());
}

/// Uses a lock in the calling thread.
fn lock_something() {
    let own = Shared::anonymous(SharedMutex::new(0_u64)).unwrap();
    drop(own.lock().unwrap());
}

fn a_looker_whose_root_has_no_proc_robs_nobody_and_is_told_of_deaths() {
    as_root();
    let empty = tempfile::tempdir().unwrap();
    let without = |_: &Scene, body: &dyn Fn()| {
        leave_proc_behind(empty.path());
        body();
    };
    look_from(&[
        (&without, &as_it_is),
        (
            &|scene, body| once_it_knows_itself(scene, &|| without(scene, body)),
            &as_it_is,
        ),
    ]);
}

fn a_holder_whose_root_has_no_proc_is_not_robbed_and_its_death_is_told() {
    as_root();
    let empty = tempfile::tempdir().unwrap();
    let without = |_: &Scene, body: &dyn Fn()| {
        leave_proc_behind(empty.path());
        lock_something();
        body();
    };
    look_from(&[
        (&as_it_is, &without),
        (&as_it_is, &|scene, body| {
            once_it_knows_itself(scene, &|| without(scene, body));
        }),
        (&without, &without),
    ]);
}

/// Uses a lock in a thread other than the process's first.
fn lock_something_in_a_thread() {
    thread::scope(|scope| scope.spawn(lock_something).join().unwrap());
}

fn a_process_whose_root_has_no_proc_and_whose_first_thread_locks_later_tells_and_is_told_of_deaths()
{
    as_root();
    let empty = tempfile::tempdir().unwrap();
    let without = |_: &Scene, body: &dyn Fn()| {
        leave_proc_behind(empty.path());
        lock_something_in_a_thread();
        body();
    };
    look_from(&[(&as_it_is, &without), (&without, &as_it_is)]);
}

/// Runs `body` in a child of this process. This process waits for the child and does nothing else.
fn in_a_child_of_one_that_knows_nothing(body: &dyn Fn()) {
    // SAFETY: the process has one thread.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Child => {
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            let passed = catch_unwind(AssertUnwindSafe(body)).is_ok();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(if passed { 0 } else { 101 }) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, 0) | WaitStatus::Signaled(_, Signal::SIGKILL, _) => {}
            status => panic!("{status:?}"),
        },
    }
}

fn a_grandchild_whose_root_has_no_proc_and_whose_parent_used_no_lock_tells_and_is_told_of_deaths() {
    as_root();
    let empty = tempfile::tempdir().unwrap();
    let without = |_: &Scene, body: &dyn Fn()| {
        in_a_child_of_one_that_knows_nothing(&|| {
            leave_proc_behind(empty.path());
            lock_something();
            body();
        });
    };
    look_from(&[(&as_it_is, &without), (&without, &as_it_is)]);
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
fn born_in_another_time(_: &Scene, body: &dyn Fn()) {
    unshare_time().unwrap();
    let status = child(body).wait().unwrap();
    // A holder is killed.
    assert!(
        status.success() || status.signal() == Some(libc::SIGKILL),
        "{status}"
    );
}

/// Runs `body` in a process that enters another time namespace.
fn gone_into_another_time(_: &Scene, body: &dyn Fn()) {
    unshare_time().unwrap();
    setns(
        File::open("/proc/self/ns/time_for_children").unwrap(),
        CloneFlags::empty(),
    )
    .unwrap();
    body();
}

fn a_looker_in_another_time_namespace_robs_nobody_and_is_told_of_deaths() {
    need_time_namespaces();
    let only_its_children = |_: &Scene, body: &dyn Fn()| {
        unshare_time().unwrap();
        body();
    };
    look_from(&[
        (&born_in_another_time, &as_it_is),
        (&only_its_children, &as_it_is),
        (
            &|scene, body| once_it_knows_itself(scene, &|| gone_into_another_time(scene, body)),
            &as_it_is,
        ),
    ]);
}

fn a_holder_in_another_time_namespace_is_not_robbed_and_its_death_is_told() {
    need_time_namespaces();
    look_from(&[
        (&as_it_is, &born_in_another_time),
        (&as_it_is, &gone_into_another_time),
        (&as_it_is, &|scene, body| {
            once_it_knows_itself(scene, &|| gone_into_another_time(scene, body))
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
    let passed = catch_unwind(AssertUnwindSafe(body)).is_ok();
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(if passed { 0 } else { 101 }) }
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
    looked: [SharedEvent; 2],
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
            looked: [const { SharedEvent::new() }; 2],
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
                Err(LockError::TimedOut) => self.looked[own].set(),
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
        while !met && self.looked[other].wait_timeout(short).is_err() && !self.done[other].is_set()
        {
        }
        if self.inside.swap(0, SeqCst) != 1 + own as u32 || met {
            self.together.add(1);
        }
        self.done[own].set();
    }
}

#[track_caller]
fn leaves(id: Pid) {
    assert_eq!(waitpid(id, None).unwrap(), WaitStatus::Exited(id, 0));
}

fn a_taker_with_the_dead_holders_thread_id_is_not_robbed_while_it_looks() {
    as_root();
    for taker_is_first in [true, false] {
        let contest = Contest::new();
        let holder = child(|| {
            let forgets = || {
                std::mem::forget(contest.lock.lock().unwrap());
                contest.dead.store(gettid(), SeqCst);
            };
            thread::scope(|scope| scope.spawn(forgets).join().unwrap());
            contest.held.set();
            contest.over.wait();
        });
        meet(&contest.held, &holder);
        let taker = || {
            // The thread was joined, but may keep its id for a moment.
            let dead = contest.dead.load(SeqCst);
            loop {
                if let Some(id) = child_with_id(dead, || contest.contend(0)) {
                    return id;
                }
            }
        };
        let looks = |id: Pid| sleeps_in(id.as_raw().cast_unsigned(), libc::SYS_clock_nanosleep);
        let second = || Pid::from_raw(child(|| contest.contend(1)).id().cast_signed());
        let first = if taker_is_first { taker() } else { second() };
        until(|| looks(first));
        let other = if taker_is_first { second() } else { taker() };
        // Both wait to learn whether the process is ending, and neither has the lock.
        until(|| looks(first) && looks(other));
        contest.over.set();
        passes(&holder);
        [first, other].into_iter().for_each(leaves);
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
            forget_the_robust_list();
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

fn a_process_with_the_dead_holders_ids_is_not_taken_for_it() {
    as_root();
    for marked in [true, false] {
        for asks_itself in [true, false] {
            let contest = Contest::new();
            let is_told = || assert_eq!(told(contest.lock.lock()), Told::FreshDeath);
            let namesake = namesake(&contest, marked, || {
                if asks_itself {
                    is_told();
                }
            });
            if !asks_itself {
                is_told();
            }
            contest.over.set();
            leaves(namesake);
        }
    }
}

fn a_process_with_the_dead_holders_ids_may_fork() {
    as_root();
    for marked in [true, false] {
        let contest = Contest::new();
        let namesake = namesake(&contest, marked, || passes(&child(|| ())));
        contest.over.set();
        leaves(namesake);
        assert_eq!(told(contest.lock.lock()), Told::FreshDeath);
    }
}

/// Runs `before` in the leader, which then ends by `SYS_exit` with an exit code. Another thread
/// runs `meanwhile` and stays until `over`.
fn leader_leaves(stage: &Stage, before: impl FnOnce(), meanwhile: impl FnOnce() + Send) {
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
fn forgets(lock: &SharedMutex<u64>) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| std::mem::forget(repaired(lock.lock(), 0)));
        thread.join().unwrap();
    });
}

fn lock_calls_return_while_a_process_whose_leader_left_with_an_exit_code_lives() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        leader_leaves(
            &stage,
            || forgets(&stage.lock),
            || is_told_apart(&stage.lock),
        );
    });
    stage.meet(&holder);
    // The process lives until `over` is set, so the test hangs if one of these calls does not
    // return.
    is_told_apart(&stage.lock);
    stage.over.set();
    passes(&holder);
    assert_eq!(told(stage.lock.lock()), Told::FreshDeath);
}

fn a_holder_whose_leader_left_with_an_exit_code_is_not_robbed() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        let hold = || std::mem::forget(stage.lock.lock().unwrap());
        leader_leaves(&stage, || (), hold);
    });
    stage.meet(&holder);
    robs_nobody(&stage.lock);
    stage.over.set();
    passes(&holder);
    assert_eq!(told(stage.lock.lock()), Told::FreshDeath);
}

fn try_lock_does_not_sleep_where_the_holders_thread_ended() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        forgets(&stage.lock);
        stage.ready.set();
        stage.over.wait();
    });
    stage.meet(&holder);
    // A running process may be ending.
    until(|| state(holder.id()) == Some('S'));
    let sleeps = || {
        getrusage(UsageWho::RUSAGE_THREAD)
            .unwrap()
            .voluntary_context_switches()
    };
    let fewest = (0..20)
        .map(|_| {
            let before = sleeps();
            assert_eq!(told(stage.lock.try_lock()), Told::HolderThreadEnded);
            sleeps() - before
        })
        .min();
    // The kernel may occasionally make the thread wait for a lock of the kernel's own.
    assert_eq!(fewest, Some(0));
    stage.over.set();
    passes(&holder);
}

/// Makes the file appear to be from another boot: inverts the boot id, wherever it lies in the
/// first page.
fn reboot(path: &Path) {
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

fn after_a_reboot_every_lock_tells_of_a_death_once() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Row {
        used: SharedMutex<u64>,
        unused: SharedMutex<u64>,
        held: SharedMutex<u64>,
        poisoned: SharedMutex<u64>,
    }
    let (_directory, path) = crate::files::place();
    let open = || crate::support::open::<Row>(&path);
    let row = crate::support::create(
        &path,
        Row {
            used: SharedMutex::new(1),
            unused: SharedMutex::new(2),
            held: SharedMutex::new(3),
            poisoned: SharedMutex::new(4),
        },
    );
    *row.used.lock().unwrap() += 1;
    passes(&child(|| {
        std::mem::forget(open().poisoned.lock().unwrap());
    }));
    assert_eq!(told(row.poisoned.lock()), Told::FreshDeath);
    passes(&child(|| {
        let row = open().leak();
        std::mem::forget(row.held.lock().unwrap());
        // SAFETY: the calls take a null head and numbers. The process ends at once and without the
        // kernel's mark, as when the machine stops.
        unsafe {
            libc::syscall(libc::SYS_set_robust_list, 0, 24);
            libc::_exit(0);
        }
    }));
    drop(row);
    for boot in 0..2 {
        reboot(&path);
        let row = open();
        let locks = [&row.used, &row.unused, &row.held, &row.poisoned];
        for (number, lock) in locks.into_iter().enumerate() {
            assert_eq!(
                told(lock.lock()),
                Told::FreshDeath,
                "boot {boot}, lock {number}"
            );
            assert_eq!(
                told(lock.lock()),
                Told::OldDeath,
                "boot {boot}, lock {number}"
            );
            passes(&child(|| assert_eq!(told(lock.lock()), Told::OldDeath)));
            *repaired(lock.lock(), 5) += 1;
            assert_eq!(told(lock.lock()), Told::Whole, "boot {boot}, lock {number}");
        }
        drop(row);
        // A process that opens the file later in the same boot receives no report.
        let row = open();
        for lock in [&row.used, &row.unused, &row.held, &row.poisoned] {
            assert_eq!(*lock.lock().unwrap(), 6);
        }
    }
}

/// Formats the lock repeatedly, in several processes. The next locker must still receive the first
/// report of the death.
fn shows_and_tells(lock: &SharedMutex<u64>) {
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
    assert_eq!(told(lock.lock()), Told::OldDeath);
    assert!(format!("{lock:?}").contains("Died"), "{lock:?}");
}

fn showing_a_lock_leaves_the_news_of_a_death_to_the_next_holder() {
    for reaped in [true, false] {
        let stage = Stage::anonymous();
        let holder = stage.holder();
        if reaped {
            kill(&holder);
        } else {
            kill_unreaped(&holder);
        }
        shows_and_tells(&stage.lock);
    }
}

fn showing_a_lock_leaves_the_news_of_an_unmarked_death_to_the_next_holder() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        let _guard = stage.lock.lock().unwrap();
        forget_the_robust_list();
        stage.ready.set();
        stage.over.wait();
    });
    stage.meet(&holder);
    kill(&holder);
    shows_and_tells(&stage.lock);
}
