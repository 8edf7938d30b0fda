//! Whether the recorded owner of a lock still exists: the liveness check of a thread, and the check
//! of a process after one of its threads has ended.
//!
//! The kernel does not mark every word of a thread that ends. It marks at most 2,048 words of a
//! thread (the newest). It marks none if the out-of-memory reaper took the list away, and none of a
//! thread that calls `exec` and is not the leader of its process. Moreover, a mark does not
//! distinguish the end of a thread from the end of its process. Only the latter ends every borrow
//! of the data.
//!
//! An owner counts as dead only if there is evidence of its death. An owner that cannot be observed
//! counts as alive: the answer is then late, but not wrong. If descriptors are what is missing, the
//! caller may have some later, so it waits for the answer.

use super::Deadline;
use crate::sys::known_deaths::{forget_death, remember_death};
use crate::sys::limits::NoDescriptors;
use crate::sys::owner::{ImageId, Owner, OwnerId};
use crate::sys::proc::{self, Stat};
use crate::sys::process::thread_exists;
use crate::sys::thread;
use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::time::Duration;

/// Returns whether the thread of `owner` has certainly ended, or its process has certainly changed
/// its process image since.
///
/// This check is for a word that the kernel has not marked. A thread that is still exiting does not
/// count as ended, because it may still touch the data.
pub(crate) fn thread_is_gone(owner: Owner) -> bool {
    let is_gone = is_gone(owner);
    if !is_gone {
        // The ids were reused, and the image is not known.
        forget_death(owner);
    }
    is_gone
}

fn is_gone(owner: Owner) -> bool {
    if !is_of_own_namespace(owner.id) {
        // The thread has no id in this namespace. But if its process is not found anywhere, the
        // thread does not exist either.
        return observe_in_namespace(owner) == Observed::Dead;
    }
    let (pid, tid) = (owner.id.pid(), owner.id.tid());
    if !thread_exists(pid, tid) {
        return true;
    }
    // A process that waits to be reaped. Two calls show that, and files in `/proc` cost far more.
    if pid == tid && is_single_threaded(pid) && proc::gave_up_memory(pid) {
        return true;
    }
    let Ok(view) = ProcView::trusted() else {
        return false;
    };
    match Stat::of(&format!("/proc/{pid}/task/{tid}/stat")) {
        Ok(thread) if thread.has_ended() => true,
        Ok(_) => view.runs_another(pid, owner.image),
        // The thread ended between the two checks, or `/proc` hides it.
        Err(_) => !thread_exists(pid, tid),
    }
}

/// The state of a process, one of whose threads ended with a lock held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// It has ended or has changed its process image: it does not touch the data any more.
    Dead,
    /// It still runs the process image that acquired the lock, and it may touch the data.
    Alive,
    /// The deadline passed before the answer was certain.
    Undecided,
}

/// Returns the state of the process of `owner`, after the thread of `owner` ended with a lock held.
///
/// When a process dies, the kernel marks the words of one thread after another. When a process
/// calls `exec`, the kernel marks words before the new process image starts. So a process that
/// seems alive may be about to end. It is checked repeatedly for a grace period of a quarter of a
/// second before it counts as alive. A process that is known to be dying is checked for as long as
/// it takes: while one of its threads runs, it may touch the data. The same holds for a process
/// that the caller cannot observe for want of descriptors.
///
/// If `deadline` passes earlier, the last check decides. The process counts as alive if one of its
/// threads sleeps without a pending kill, or if the process cannot be observed. If no thread sleeps
/// but one runs, the process counts as alive only if this thread got an undecided answer about it
/// longer than a grace period ago. In all other cases the answer is [`ProcessState::Undecided`].
pub(crate) fn process_state(owner: Owner, deadline: Option<Deadline>) -> ProcessState {
    let state = state_until(owner, deadline);
    if state == ProcessState::Dead {
        remember_death(owner);
    }
    state
}

fn state_until(owner: Owner, deadline: Option<Deadline>) -> ProcessState {
    if was_its_last_thread(owner.id) {
        return ProcessState::Dead;
    }
    let check: &dyn Fn() -> Observed = match () {
        () if is_of_own_namespace(owner.id) && owner.id.pid() == std::process::id() => {
            return match owner.image.may_be(super::current_thread().image()) {
                true => ProcessState::Alive,
                false => ProcessState::Dead,
            };
        }
        () if is_of_own_namespace(owner.id) => &|| observe(owner.id.pid(), owner.image),
        () => &|| observe_in_namespace(owner),
    };
    let mut pause = Duration::from_millis(1);
    let mut remaining = GRACE_PERIOD;
    loop {
        let observed = check();
        let is_late = deadline.is_some_and(Deadline::has_passed);
        match observed {
            Observed::Dead => return ProcessState::Dead,
            Observed::Running | Observed::Sleeping | Observed::Unknown if remaining.is_zero() => {
                return ProcessState::Alive;
            }
            Observed::Sleeping | Observed::Unknown if is_late => return ProcessState::Alive,
            Observed::Running if is_late => {
                return match grace_period_expired(owner) {
                    true => ProcessState::Alive,
                    false => ProcessState::Undecided,
                };
            }
            Observed::Dying | Observed::NoDescriptors if is_late => {
                return ProcessState::Undecided;
            }
            Observed::Running | Observed::Sleeping | Observed::Unknown => {
                remaining = remaining.saturating_sub(pause)
            }
            Observed::Dying | Observed::NoDescriptors => {}
        }
        let end = Deadline::after(pause);
        deadline.map_or(end, |deadline| deadline.min(end)).sleep();
        pause = (pause * 2).min(Duration::from_millis(128));
    }
}

/// Returns whether the thread `id`, whose lock is marked, was the last thread of its process.
///
/// A marked thread runs no more instructions of its process image. So if it was the last one, the
/// process does not touch the data any more. Waiting until the kernel has freed the memory of the
/// process would take longer than the wake.
///
/// The kernel counts the first thread (the leader) until the process has ended. So if the count is
/// one and `id` is the leader, there is no other thread. If the process id already belongs to
/// another process, the process of `id` has ended.
fn was_its_last_thread(id: OwnerId) -> bool {
    if !is_of_own_namespace(id) || id.pid() != id.tid() {
        return false;
    }
    is_single_threaded(id.pid())
}

/// Returns whether the process `pid` certainly has one thread, its first.
fn is_single_threaded(pid: u32) -> bool {
    thread::known_proc().is_some_and(|mount| proc::threads(pid) == Some((1, mount)))
}

/// The grace period: how long a process is checked before it counts as alive. The pauses between
/// the checks are 1, 2, 4 and so on up to 128 milliseconds.
const GRACE_PERIOD: Duration = Duration::from_millis(255);

/// The grace period of a caller that also checks other things, and therefore calls
/// [`process_state`] repeatedly without waiting.
#[derive(Debug)]
pub(crate) struct GracePeriod {
    end: Deadline,
    pause: Duration,
}

impl GracePeriod {
    pub(crate) fn new() -> Self {
        GracePeriod {
            end: Deadline::after(GRACE_PERIOD),
            pause: Duration::from_millis(1),
        }
    }

    /// Returns when to check next, or `deadline` if that is earlier.
    pub(crate) fn next_check(&mut self, deadline: Option<Deadline>) -> Deadline {
        let next = Deadline::after(self.pause);
        self.pause = (self.pause * 2).min(Duration::from_millis(128));
        deadline.map_or(next, |deadline| deadline.min(next))
    }

    /// Returns whether the period has ended, so that the result of the current check counts.
    pub(crate) fn is_over(&self) -> bool {
        self.end.has_passed()
    }
}

/// Returns whether this thread first asked about the same owner longer than a grace period ago. A
/// caller that polls without blocking has then waited as well.
///
/// The thread remembers the owners about which it began to ask most recently. Each thread of a
/// process is an owner of its own. The number of remembered owners is the number for which one
/// caller may wait in turn. If it were smaller, each owner would be forgotten before the next call
/// for it, and the grace period would never expire.
fn grace_period_expired(owner: Owner) -> bool {
    const MAX_OWNERS: usize = super::WaitvSet::MAX;
    thread_local! {
        static FIRST_ASKED: RefCell<[(Option<Owner>, u64); MAX_OWNERS]> =
            const { RefCell::new([(None, 0); MAX_OWNERS]) };
    }
    let now = crate::sys::clock::coarse_milliseconds();
    FIRST_ASKED.with_borrow_mut(|since| {
        let known = since.iter().find(|asked| asked.0 == Some(owner));
        if let Some((_, then)) = known {
            return u128::from(now.wrapping_sub(*then)) > GRACE_PERIOD.as_millis();
        }
        since.rotate_right(1);
        since[0] = (Some(owner), now);
        false
    })
}

/// Returns whether this thread has checked the same word with the same value in the last 10 ms. A
/// caller that polls then pays for a check only from time to time.
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

/// Returns whether the process of `owner` is being killed and writes a core dump. False if that is
/// not known.
pub(crate) fn is_dumping_core(owner: Owner) -> bool {
    let pid = owner.id.pid();
    is_of_own_namespace(owner.id)
        && ProcView::trusted().is_ok_and(|view| !view.runs_another(pid, owner.image))
        && proc::is_dumping_core(pid).unwrap_or(false)
}

/// Waits until the process of `owner` has ended: its threads have ended and given up its memory.
/// Returns false if `timeout` passes first, or if the process is in another PID namespace.
pub(crate) fn wait_for_exit(owner: Owner, timeout: Duration) -> bool {
    const PAUSE: Duration = Duration::from_millis(10);
    if !is_of_own_namespace(owner.id) {
        return false;
    }
    let deadline = Deadline::after(timeout);
    while observe(owner.id.pid(), owner.image) != Observed::Dead {
        if let Ok(pidfd) = crate::sys::process::pidfd_open(owner.id.pid()) {
            // The id is looked up after the pidfd was opened. If the process then runs `image`, it
            // is the process of the pidfd: a process that took over the id in between would have
            // started later.
            let is_another = ProcView::trusted()
                .is_ok_and(|view| view.runs_another(owner.id.pid(), owner.image));
            let left = Some(deadline.remaining());
            return is_another || crate::sys::process::pidfd_wait(&pidfd, left).unwrap_or(false);
        }
        // No pidfd can be opened now.
        if deadline.has_passed() {
            return false;
        }
        deadline.min(Deadline::after(PAUSE)).sleep();
    }
    true
}

/// Returns whether the ids in `id` are valid in the PID namespace of the caller.
fn is_of_own_namespace(id: OwnerId) -> bool {
    id.namespace() != 0 && id.namespace() == super::current_thread().id().namespace()
}

fn process_exists(pid: u32) -> bool {
    // SAFETY: signal 0 is not sent.
    let answer = unsafe { libc::kill(pid as i32, 0) };
    answer == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// A view of a `/proc` that can be trusted now. It is mounted in the PID namespace of the caller,
/// and it shows the caller as it was when the caller started. (After a checkpoint was restored, or
/// the caller entered another time namespace, it does not.)
struct ProcView {
    start_time_offset: i64,
}

impl ProcView {
    /// Returns the view, or what counts as the result of a check that needs one.
    fn trusted() -> Result<Self, Observed> {
        let here = Stat::of("/proc/self/stat").map_err(|error| Observed::from_error(&error))?;
        let start_time_offset = thread::start_time_offset().ok_or(Observed::Unknown)?;
        let is_trusted = here.image(start_time_offset) == thread::shown_image()
            && proc::shows_own_namespace().map_err(|error| Observed::from_error(&error))?;
        is_trusted
            .then_some(ProcView { start_time_offset })
            .ok_or(Observed::Unknown)
    }

    /// Returns whether the process `pid` is certainly not the process of `image`, or certainly has
    /// another process image.
    fn runs_another(&self, pid: u32, image: ImageId) -> bool {
        Stat::of(&format!("/proc/{pid}/stat"))
            .is_ok_and(|leader| self.is_another(pid, &leader, image))
    }

    /// Like [`runs_another`](Self::runs_another), for a process whose `stat` file was read.
    ///
    /// A process that was restored from a checkpoint (CRIU) has its old ids, stack and memory, but
    /// another start time. It may hold its locks and must keep them. So another start time is no
    /// evidence in two cases:
    ///
    /// - The process has another time namespace than the caller. CRIU restores a process into a new
    ///   one (Linux 5.6).
    /// - The process has the recorded stack, and the caller has another. `exec` places the stack at
    ///   random, and a restore keeps it.
    ///
    /// Processes that were forked from one process image have the same stack. One of them often
    /// reuses the id of another. So if the caller has that stack too, the stack is no sign of a
    /// restore, and only the time namespace is.
    fn is_another(&self, pid: u32, leader: &Stat, image: ImageId) -> bool {
        let shown = leader.image(self.start_time_offset);
        let may_be_restored =
            || has_stack_of_a_restored(shown, image) || proc::has_other_clock(pid);
        !shown.may_be(image) && (shown.has_start_of(image) || !may_be_restored())
    }
}

fn has_stack_of_a_restored(shown: ImageId, recorded: ImageId) -> bool {
    shown.has_stack_of(recorded) && !shown.has_stack_of(thread::shown_image())
}

/// The result of one check of a process or of one of its threads. The result of a process is the
/// greatest result of its threads, but at most [`Dying`](Self::Dying) if it is being killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Observed {
    Dead,
    /// It is being killed, and one of its threads may still run.
    Dying,
    /// Its threads run. A running thread may be about to end the process or to call `exec`.
    Running,
    /// One of its threads sleeps, and it is not being killed.
    Sleeping,
    /// It may be alive. The caller cannot observe it.
    Unknown,
    /// It may be alive. The caller has no descriptor to observe it, but may have one later.
    NoDescriptors,
}

impl Observed {
    /// The result of a check that failed.
    fn from_error(error: &io::Error) -> Self {
        match NoDescriptors::of(error) {
            Some(_) => Observed::NoDescriptors,
            None => Observed::Unknown,
        }
    }
}

fn observe(pid: u32, image: ImageId) -> Observed {
    if !process_exists(pid) {
        return Observed::Dead;
    }
    // A pidfd is readable once every thread of the process has ended. The kernel reports this
    // without /proc.
    let ended = crate::sys::process::pidfd_open(pid)
        .and_then(|pidfd| crate::sys::process::pidfd_wait(&pidfd, Some(Duration::ZERO)));
    if matches!(ended, Ok(true)) {
        return Observed::Dead;
    }
    let observed = ProcView::trusted().map(|view| match observe_in_proc(&view, pid, image) {
        // While the list is read, a thread may start another one and end. This does not happen
        // twice, so a second pass confirms the result.
        Observed::Dead => observe_in_proc(&view, pid, image),
        observed => observed,
    });
    match observed.unwrap_or_else(|unobserved| unobserved) {
        Observed::NoDescriptors => observe_without_descriptors(pid),
        observed => observed,
    }
}

/// Checks the process `pid` by calls that need no descriptor. If the id belongs to a later process,
/// and that process has ended, the earlier one has ended too.
fn observe_without_descriptors(pid: u32) -> Observed {
    match proc::gave_up_memory(pid) {
        // The first thread has given the memory up, and there is no other thread.
        true if is_single_threaded(pid) => Observed::Dead,
        true => Observed::NoDescriptors,
        // A running process may be about to end, but the caller cannot see that.
        false => Observed::Running,
    }
}

/// Checks the process that `/proc` shows as `pid`. It counts as dead if it does not run `image`.
fn observe_in_proc(view: &ProcView, pid: u32, image: ImageId) -> Observed {
    let unseen = |error: io::Error| match process_exists(pid) {
        true => Observed::from_error(&error),
        false => Observed::Dead,
    };
    let leader = match Stat::of(&format!("/proc/{pid}/stat")) {
        Ok(leader) => leader,
        Err(error) => return unseen(error),
    };
    if view.is_another(pid, &leader, image) {
        return Observed::Dead;
    }
    // The leader may have ended before its other threads.
    let threads = match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(threads) => threads,
        Err(error) => return unseen(error),
    };
    let mut observed = Observed::Dead;
    let mut is_killed = leader.group_is_exiting(None);
    for thread in threads {
        let Ok(thread) = thread else {
            return Observed::Unknown;
        };
        let is_first = thread.file_name().to_str() == Some(&pid.to_string());
        let thread = thread.path();
        // The order of the two reads matters. A killed thread first dequeues the signal and then
        // shows that it is dying. So if a thread had no pending kill and is asleep afterwards, no
        // thread of the process had been killed before.
        let kill_pending = proc::kill_is_pending(&thread.join("status").to_string_lossy());
        let stat = Stat::of(&thread.join("stat").to_string_lossy());
        let here = match kill_pending.and_then(|kill_pending| Ok((kill_pending, stat?))) {
            Ok((kill_pending, stat)) => {
                // The kernel kills all threads of a process together.
                is_killed |= kill_pending || stat.was_killed();
                is_killed |= is_first && leader.group_is_exiting(Some(&stat));
                match () {
                    () if stat.has_ended() || stat.is_exiting() => Observed::Dead,
                    () if stat.is_about_to_exit() => Observed::Dying,
                    () if stat.sleeps() => Observed::Sleeping,
                    () => Observed::Running,
                }
            }
            Err(error) if proc::is_missing(&error) => Observed::Dead,
            Err(error) => Observed::from_error(&error),
        };
        observed = observed.max(here);
    }
    if is_killed {
        observed.min(Observed::Dying)
    } else {
        observed
    }
}

/// Checks a process of another PID namespace. The initial namespace sees all processes, if `/proc`
/// hides none from the caller. From any other namespace the result is [`Observed::Unknown`].
fn observe_in_namespace(owner: Owner) -> Observed {
    const INITIAL: u32 = 0xEFFF_FFFC; // the kernel's PROC_PID_INIT_INO
    // A /proc that hides the processes of other users (`hidepid`) also hides process 1.
    if owner.id.namespace() == 0 || proc::own_namespace() != INITIAL {
        return Observed::Unknown;
    }
    let first = Stat::of("/proc/1/stat").map_err(|error| Observed::from_error(&error));
    let view = match first.and_then(|_| ProcView::trusted()) {
        Ok(view) => view,
        Err(unobserved) => return unobserved,
    };
    let processes = match fs::read_dir("/proc") {
        Ok(processes) => processes,
        Err(error) => return Observed::from_error(&error),
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
            // A single id means that the process is in the initial namespace itself.
            Ok(ids) if ids.len() == 1 || ids.last() != Some(&owner.id.pid()) => Observed::Dead,
            Ok(_) => match proc::namespace(&format!("/proc/{pid}/ns/pid")) {
                Ok(there) if there & 0xf_ffff != owner.id.namespace() => Observed::Dead,
                // A zombie has no namespaces any more, and those of the processes of another user
                // are not shown.
                _ => observe_in_proc(&view, pid, owner.image),
            },
            Err(error) if proc::is_missing(&error) => Observed::Dead,
            Err(error) => Observed::from_error(&error),
        };
        observed = observed.max(here);
    }
    observed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_foreign_stack_that_stayed_the_same_is_that_of_a_restored_process() {
        let own = thread::shown_image();
        let image = |start: u64, stack: u64| ImageId(start << 24 | stack);
        let own_stack = own.0 & 0xff_ffff;
        let foreign = own_stack ^ 1;
        assert!(has_stack_of_a_restored(
            image(9, foreign),
            image(8, foreign)
        ));
        assert!(
            !has_stack_of_a_restored(image(9, foreign), image(8, foreign ^ 2)),
            "a later process"
        );
        assert!(
            !has_stack_of_a_restored(image(9, 0), image(8, 0)),
            "hidden stacks"
        );
        assert!(
            !has_stack_of_a_restored(image(9, own_stack), image(8, own_stack)),
            "forked from the caller's process image"
        );
    }

    #[test]
    fn a_word_was_checked_recently_if_it_had_the_same_value_a_moment_ago() {
        let (word, other) = (
            super::super::AtomicU32::new(0),
            super::super::AtomicU32::new(0),
        );
        // The clock may advance between two calls, by a tick of a few milliseconds or more.
        let again = || {
            (0..100).any(|_| {
                checked_recently(&word, 1);
                checked_recently(&word, 1)
            })
        };
        assert!(!checked_recently(&word, 1));
        assert!(again());
        assert!(!checked_recently(&word, 2), "another value");
        assert!(again());
        assert!(!checked_recently(&other, 1), "another word");
        assert!(again());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!checked_recently(&word, 1), "long ago");
    }

    #[test]
    fn a_later_process_and_a_later_program_are_another_process() {
        let view = ProcView::trusted().expect("/proc is mounted");
        let pid = std::process::id();
        let leader = Stat::of("/proc/self/stat").unwrap();
        let own = leader.image(view.start_time_offset);
        let is_another = |image| view.is_another(pid, &leader, image);
        assert!(!is_another(own) && !is_another(ImageId::UNKNOWN));
        assert!(is_another(ImageId(own.0 ^ 1)), "before an exec");
        assert!(is_another(ImageId(own.0 - (1 << 24))), "an earlier process");
    }
}
