//! Whether a lock's recorded owner still exists: the safety net's look, and the question after a thread's end.
//!
//! The kernel marks the words of a thread that ends, but not all: 2,048 of a thread's (the newest), none whose list the
//! out-of-memory reaper took away, none when another thread than the leader calls `exec`. And its mark does not tell a
//! thread's end from its process's, while only the latter ends every borrow of the data.
//!
//! An owner is gone only where something says so. What cannot be seen lives: the answer is then late, and not wrong.

use super::Deadline;
use crate::sys::owner::{ImageId, Owner, OwnerId};
use crate::sys::proc::{self, Stat};
use crate::sys::thread;
use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::time::Duration;

/// Whether the thread of `who` (see [`CurrentThread::who`](super::CurrentThread::who)) has certainly ended, or its process runs another program
/// than `image` since.
///
/// For a word that the kernel has not marked: a thread that still exits may yet touch the data.
pub(crate) fn owner_is_dead(owner: Owner) -> bool {
    if !is_of_own_namespace(owner.id) {
        // Its threads have no ids here; but a process that is nowhere has none.
        return observe_in_namespace(owner) == Observed::Dead;
    }
    let (pid, tid) = (owner.id.pid(), owner.id.tid());
    if !thread_exists(pid, tid) {
        return true;
    }
    let Some(seen) = Seen::now() else {
        return false;
    };
    match Stat::of(&format!("/proc/{pid}/task/{tid}/stat")) {
        Ok(thread) if thread.has_ended() => true,
        Ok(_) => seen.runs_another(pid, owner.image),
        // Gone between the two, or hidden.
        Err(_) => !thread_exists(pid, tid),
    }
}

/// What is known of a process, one of whose threads ended with a lock held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// It has ended, or runs another program: it does not touch the data any more.
    Dead,
    /// It runs the program that acquired the lock, and it may touch the data.
    Alive,
    /// The deadline passed before the answer was certain.
    Undecided,
}

/// Whether the process of `owner` still runs `image`, one of whose threads has ended with a lock in its hands. [`ProcessState::Undecided`] if
/// `deadline` passed before an answer.
///
/// A process that dies is marked thread by thread, and one that calls `exec` before its new program starts; so one that
/// looks alive may be on its way. It is looked at again, for a quarter of a second, before it counts as living, and for
/// as long as it takes where it is known to be dying: while one of its threads runs, it may touch the data. Who has no time
/// for that is told that it lives only where a thread of it was seen that nobody has told to die.
pub(crate) fn process_state(owner: Owner, deadline: Option<Deadline>) -> ProcessState {
    if was_its_last_thread(owner.id) {
        return ProcessState::Dead;
    }
    let look: &dyn Fn() -> Observed = match () {
        () if is_of_own_namespace(owner.id) && owner.id.pid() == std::process::id() => {
            return match owner.image.may_be(super::current_thread().image()) {
                true => ProcessState::Alive,
                false => ProcessState::Dead,
            };
        }
        () if is_of_own_namespace(owner.id) => &|| observe(owner.id.pid(), owner.image),
        () => &|| observe_in_namespace(owner),
    };
    let mut timer = Duration::from_millis(1);
    let mut patience = PATIENCE;
    loop {
        let observed = look();
        let is_late = deadline.is_some_and(Deadline::has_passed);
        match observed {
            Observed::Dead => return ProcessState::Dead,
            Observed::Running | Observed::Sleeping | Observed::Unknown if patience.is_zero() => {
                return ProcessState::Alive;
            }
            Observed::Sleeping | Observed::Unknown if is_late => return ProcessState::Alive,
            Observed::Running if is_late => {
                return match grace_period_expired(owner) {
                    true => ProcessState::Alive,
                    false => ProcessState::Undecided,
                };
            }
            Observed::Dying if is_late => return ProcessState::Undecided,
            Observed::Running | Observed::Sleeping | Observed::Unknown => {
                patience = patience.saturating_sub(timer)
            }
            Observed::Dying => {}
        }
        let end = Deadline::after(timer);
        deadline.map_or(end, |deadline| deadline.min(end)).sleep();
        timer = (timer * 2).min(Duration::from_millis(128));
    }
}

/// Whether the thread of `who`, whose lock is marked, was the last one of its process. It runs no instruction of its program
/// any more, so the process is as good as gone; to wait until the kernel has taken its memory apart would take longer than
/// the wake.
///
/// A first thread is counted until its process has ended. So where there is one, and it is this one, there is no other; and
/// where the id is another process's by now, this one's has ended.
fn was_its_last_thread(id: OwnerId) -> bool {
    if !is_of_own_namespace(id) || id.pid() != id.tid() {
        return false;
    }
    thread::known_proc().is_some_and(|mount| proc::threads(id.pid()) == Some((1, mount)))
}

/// How long a process is looked at before it counts as living: 1, 2, 4 and so on up to 128 milliseconds.
const PATIENCE: Duration = Duration::from_millis(255);

/// The same patience of a caller who looks at other things too, and asks [`process_lives`] again and again without waiting.
#[derive(Debug)]
pub(crate) struct GracePeriod {
    end: Deadline,
    pause: Duration,
}

impl GracePeriod {
    pub(crate) fn new() -> Self {
        GracePeriod {
            end: Deadline::after(PATIENCE),
            pause: Duration::from_millis(1),
        }
    }

    /// When to ask next, or the caller's own deadline where that is earlier.
    pub(crate) fn next_check(&mut self, deadline: Option<Deadline>) -> Deadline {
        let next = Deadline::after(self.pause);
        self.pause = (self.pause * 2).min(Duration::from_millis(128));
        deadline.map_or(next, |deadline| deadline.min(next))
    }

    /// Whether what is told now counts.
    pub(crate) fn is_over(&self) -> bool {
        self.end.has_passed()
    }
}

/// Whether this thread asked for the same process before, and that long ago: whoever asks again and again without waiting
/// has waited too. It remembers those that it began to ask for last, each thread of a process for itself: as many as one may wait
/// for by turns. Were there fewer, each would be forgotten before it is asked for again, and the answer would never come.
fn grace_period_expired(owner: Owner) -> bool {
    const SOME: usize = super::WaitvSet::MAX;
    thread_local! {
        static SINCE: RefCell<[(Option<Owner>, u64); SOME]> = const { RefCell::new([(None, 0); SOME]) };
    }
    let now = crate::sys::clock::coarse_milliseconds();
    SINCE.with_borrow_mut(|since| {
        let known = since.iter().find(|asked| asked.0 == Some(owner));
        if let Some((_, then)) = known {
            return u128::from(now.wrapping_sub(*then)) > PATIENCE.as_millis();
        }
        since.rotate_right(1);
        since[0] = (Some(owner), now);
        false
    })
}

/// Whether this thread has looked at the same word with the same value in the last 10 ms, so that a caller who polls
/// pays for a look only now and then.
pub(crate) fn checked_recently(word: &super::AtomicU32, value: u32) -> bool {
    thread_local! {
        static LAST: Cell<(usize, u32, u64)> = const { Cell::new((0, 0, 0)) };
    }
    let now = crate::sys::clock::coarse_milliseconds();
    let address = word.as_ptr().addr();
    LAST.with(|last| {
        let (same_word, same_value, then) = last.get();
        let lately = same_word == address && same_value == value && now.wrapping_sub(then) < 10;
        if !lately {
            last.set((address, value, now));
        }
        lately
    })
}

/// Whether the ids of `who` mean the same to the caller.
fn is_of_own_namespace(id: OwnerId) -> bool {
    id.namespace() != 0 && id.namespace() == super::current_thread().id().namespace()
}

/// Asks the kernel, which needs no `/proc` for it. A thread of another user exists too (`EPERM`).
fn thread_exists(pid: u32, tid: u32) -> bool {
    // SAFETY: signal 0 is not sent; the kernel only looks for the thread.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) };
    answer == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

fn process_exists(pid: u32) -> bool {
    // SAFETY: signal 0 is not sent.
    let answer = unsafe { libc::kill(pid as i32, 0) };
    answer == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// A `/proc` that can be believed just now: mounted in the caller's own PID namespace, and showing the caller as it was
/// when it started. (A restored checkpoint, or another time namespace since, does not.)
struct Seen {
    boot_offset: i64,
}

impl Seen {
    fn now() -> Option<Self> {
        let boot_offset = thread::boot_offset()?;
        let here = Stat::of("/proc/self/stat").ok()?.image(boot_offset);
        let believed = here == super::current_thread().image() && proc::shows_own_namespace();
        believed.then_some(Seen { boot_offset })
    }

    /// Whether the process `pid` is certainly another than the one of `image`, or in another program.
    fn runs_another(&self, pid: u32, image: ImageId) -> bool {
        Stat::of(&format!("/proc/{pid}/stat"))
            .is_ok_and(|leader| !leader.image(self.boot_offset).may_be(image))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Observed {
    Dead,
    /// It has been told to die, and a thread of it may still run.
    Dying,
    /// Its threads run, and one that runs may be the one that ends the process, or changes its program, just now.
    Running,
    Sleeping,
    /// It may live.
    Unknown,
}

fn observe(pid: u32, image: ImageId) -> Observed {
    if !process_exists(pid) {
        return Observed::Dead;
    }
    // A pidfd is readable once every thread of the process has ended: the kernel's own word, which needs no /proc.
    let ended = crate::sys::process::pidfd_open(pid)
        .and_then(|pidfd| crate::sys::process::pidfd_wait(&pidfd, Some(Duration::ZERO)));
    if matches!(ended, Ok(true)) {
        return Observed::Dead;
    }
    match Seen::now() {
        None => Observed::Unknown,
        // A thread may start another one and end while the list is read; twice it does not.
        Some(seen) => match observe_in_proc(&seen, pid, image) {
            Observed::Dead => observe_in_proc(&seen, pid, image),
            observed => observed,
        },
    }
}

/// The observed of the process that `/proc` shows as `pid`, while it runs `image`.
fn observe_in_proc(seen: &Seen, pid: u32, image: ImageId) -> Observed {
    let unseen = || {
        if process_exists(pid) {
            Observed::Unknown
        } else {
            Observed::Dead
        }
    };
    let Ok(leader) = Stat::of(&format!("/proc/{pid}/stat")) else {
        return unseen();
    };
    if !leader.image(seen.boot_offset).may_be(image) {
        return Observed::Dead;
    }
    // The leader may have ended before its other threads.
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return unseen();
    };
    let mut observed = Observed::Dead;
    let mut is_killed = leader.group_is_exiting(None);
    for thread in threads {
        let Ok(thread) = thread else {
            return Observed::Unknown;
        };
        let is_first = thread.file_name().to_str() == Some(&pid.to_string());
        let thread = thread.path();
        // The order matters: a thread takes the signal first, and then shows what it does. Whoever sees one asleep after it
        // was not told knows that nobody was told before.
        let told = proc::kill_is_pending(&thread.join("status").to_string_lossy());
        let stat = Stat::of(&thread.join("stat").to_string_lossy());
        let here = match told.and_then(|told| Ok((told, stat?))) {
            Ok((told, stat)) => {
                // What one thread is told, all are.
                is_killed |= told || stat.was_killed();
                is_killed |= is_first && leader.group_is_exiting(Some(&stat));
                match () {
                    () if stat.has_ended() || stat.is_exiting() => Observed::Dead,
                    () if stat.is_about_to_exit() => Observed::Dying,
                    () if stat.sleeps() => Observed::Sleeping,
                    () => Observed::Running,
                }
            }
            Err(error) if is_missing(&error) => Observed::Dead,
            Err(_) => Observed::Unknown,
        };
        observed = observed.max(here);
    }
    if is_killed {
        observed.min(Observed::Dying)
    } else {
        observed
    }
}

/// The observed of a process of another PID namespace. The initial namespace sees them all, where nothing is hidden from the
/// caller; from another one the question has no answer.
fn observe_in_namespace(owner: Owner) -> Observed {
    const INITIAL: u32 = 0xEFFF_FFFC; // the kernel's PROC_PID_INIT_INO
    // A /proc that hides other users' processes (`hidepid`) hides the first one too.
    let sees_all = proc::own_namespace() == INITIAL && Stat::of("/proc/1/stat").is_ok();
    if owner.id.namespace() == 0 || !sees_all {
        return Observed::Unknown;
    }
    let (Some(seen), Ok(processes)) = (Seen::now(), fs::read_dir("/proc")) else {
        return Observed::Unknown;
    };
    let mut observed = Observed::Dead;
    for entry in processes {
        let Ok(entry) = entry else {
            return Observed::Unknown;
        };
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let here = match proc::pids(&format!("/proc/{pid}/status")) {
            // One id says that it lives in the initial namespace itself.
            Ok(ids) if ids.len() == 1 || ids.last() != Some(&owner.id.pid()) => Observed::Dead,
            Ok(_) => match proc::namespace(&format!("/proc/{pid}/ns/pid")) {
                Ok(there) if there & 0xf_ffff != owner.id.namespace() => Observed::Dead,
                // A zombie has no namespaces any more; and another user's are not shown.
                _ => observe_in_proc(&seen, pid, owner.image),
            },
            Err(error) if is_missing(&error) => Observed::Dead,
            Err(_) => Observed::Unknown,
        };
        observed = observed.max(here);
    }
    observed
}

/// The process or thread went away while it was looked at: `ESRCH` from a file that is open, `ENOENT` from its name.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}
