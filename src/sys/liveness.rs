//! Whether a lock's recorded owner still exists: the safety net's look, and the question after a thread's end.
//!
//! The kernel marks the words of a thread that ends, but not all: 2,048 of a thread's (the newest), none whose list the
//! out-of-memory reaper took away, none when another thread than the leader calls `exec`. And its mark does not tell a
//! thread's end from its process's, while only the latter ends every borrow of the data. Both are read from `/proc`.

use super::identity::{self, namespace_of, pid_of, tid_of};
use std::cell::Cell;
use std::fs;
use std::time::Duration;

/// Whether the thread of `who` (see [`Me::who`](super::Me::who)) has certainly ended, or its process runs another program
/// than `image` since. Where nothing can be learned it has not.
///
/// For a word that the kernel has not marked: a thread that still exits may yet touch the data.
pub(crate) fn owner_is_gone(who: u64, image: u64) -> bool {
    if namespace_of(who) != namespace_of(super::me().who()) {
        return false;
    }
    let (pid, tid) = (pid_of(who), tid_of(who));
    // SAFETY: signal 0 is not sent; the kernel only looks for the thread.
    if unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) } != 0 && errno() == libc::ESRCH {
        return true;
    }
    if !identity::proc_is_ours() {
        return false;
    }
    // The list of a zombie has been walked already.
    Stat::of(&format!("/proc/{pid}/task/{tid}/stat"))
        .is_none_or(|thread| thread.has_ended() || !thread.may_be(image))
}

/// Whether the process of `who` still runs `image`, one of whose threads has ended with a lock in its hands.
///
/// A process that dies is marked thread by thread, and one that calls `exec` before its new program starts; so one that
/// looks alive may be on its way. It is looked at again, for a quarter of a second, before it counts as living, and for
/// as long as it takes where it is known to be dying: while one of its threads runs, it may touch the data.
pub(crate) fn process_lives(who: u64, image: u64) -> bool {
    if namespace_of(who) == namespace_of(super::me().who()) {
        if pid_of(who) == std::process::id() {
            return Stat::of("/proc/self/stat").is_none_or(|here| here.may_be(image));
        }
        return still_lives(|| life_of(pid_of(who), image));
    }
    // The initial namespace sees every process. From another one the question has no answer, and a process that may
    // live is never robbed.
    const INITIAL: u32 = 0xEFFF_FFFC; // the kernel's PROC_PID_INIT_INO
    if !identity::proc_is_ours() || own_namespace() != INITIAL {
        return true;
    }
    still_lives(|| life_in_namespace(who, image))
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Life {
    Gone,
    Lives,
    Dying,
}

fn still_lives(mut look: impl FnMut() -> Life) -> bool {
    let mut nap = Duration::from_millis(1);
    let mut patience = Duration::from_millis(255);
    loop {
        match look() {
            Life::Gone => return false,
            Life::Lives if patience.is_zero() => return true,
            Life::Lives => patience = patience.saturating_sub(nap),
            Life::Dying => {}
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(128));
    }
}

/// Whether this thread has looked at the same word with the same value in the last 10 ms, so that a caller who polls
/// pays for a look only now and then.
pub(crate) fn looked_lately(word: &super::AtomicU32, value: u32) -> bool {
    thread_local! {
        static LAST: Cell<(usize, u32, u64)> = const { Cell::new((0, 0, 0)) };
    }
    let now = super::clock::coarse_milliseconds();
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

fn life_of(pid: u32, image: u64) -> Life {
    // SAFETY: signal 0 is not sent.
    if unsafe { libc::kill(pid as i32, 0) } != 0 && errno() == libc::ESRCH {
        return Life::Gone;
    }
    if !identity::proc_is_ours() {
        return Life::Lives;
    }
    life_in_proc(pid, image)
}

/// The life of the process that `/proc` shows as `pid`, while it runs `image`.
fn life_in_proc(pid: u32, image: u64) -> Life {
    let Some(leader) = Stat::of(&format!("/proc/{pid}/stat")) else {
        return Life::Gone;
    };
    if !leader.may_be(image) {
        return Life::Gone;
    }
    // The leader may have ended before its other threads.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut life = Life::Gone;
    for thread in threads {
        let thread = thread.path();
        let runs = Stat::of(&thread.join("stat").to_string_lossy())
            .is_some_and(|stat| !stat.has_ended() && !stat.is_exiting());
        if runs {
            let told = leader.group_is_exiting() || kill_is_pending(&thread.join("status").to_string_lossy());
            life = life.max(if told { Life::Dying } else { Life::Lives });
        }
    }
    life
}

/// The life of a process of another PID namespace, seen from the initial one.
fn life_in_namespace(who: u64, image: u64) -> Life {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| namespace(&format!("/proc/{pid}/ns/pid")) & 0xf_ffff == namespace_of(who))
        .filter(|pid| innermost_pid(&format!("/proc/{pid}/status")) == Some(pid_of(who)))
        .map(|pid| life_in_proc(pid, image))
        .max()
        .unwrap_or(Life::Gone)
}

/// The number of the process's own PID namespace, or 0 where `/proc` does not tell.
pub(crate) fn own_namespace() -> u32 {
    namespace("/proc/self/ns/pid")
}

/// The number of the PID namespace that the process's next child would get, or 0 where `/proc` does not tell.
pub(super) fn childrens_namespace() -> u32 {
    namespace("/proc/self/ns/pid_for_children")
}

fn namespace(link: &str) -> u32 {
    // The link reads `pid:[4026531836]`.
    fs::read_link(link)
        .ok()
        .and_then(|target| target.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok())
        .unwrap_or(0)
}

/// Whether `/proc` was mounted in the process's own PID namespace, so that it knows the process by the id it knows
/// itself: the kernel lists an id for each namespace from the mount's inwards.
pub(super) fn proc_shows_own_namespace() -> bool {
    pids_seen("/proc/self/status").is_some_and(|ids| ids == [std::process::id()])
}

fn innermost_pid(status: &str) -> Option<u32> {
    pids_seen(status)?.last().copied()
}

fn pids_seen(status: &str) -> Option<Vec<u32>> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(line.split_whitespace().filter_map(|id| id.parse().ok()).collect())
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn kill_is_pending(status: &str) -> bool {
    const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);
    fs::read_to_string(status).is_ok_and(|text| {
        text.lines()
            .find_map(|line| u64::from_str_radix(line.strip_prefix("SigPnd:")?.trim(), 16).ok())
            .is_some_and(|pending| pending & SIGKILL != 0)
    })
}

/// The start time of the calling process and a hash of where its stack starts.
///
/// The time tells the process from a later one with the same id; the stack, placed at random by every `exec`, tells its
/// program from the one before.
pub(super) fn own_image() -> u64 {
    Stat::of("/proc/self/stat").map_or(0, |stat| stat.image())
}

/// What is used of `/proc/PID/stat`, by proc_pid_stat(5).
struct Stat {
    state: u8,
    flags: u64,
    started: u64,
    stack: u64,
    exit_code: u64,
}

impl Stat {
    fn of(path: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    fn parse(line: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold anything.
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Stat {
            state: *fields.first()?.as_bytes().first()?,
            flags: number(9)?,
            started: number(22)?,
            stack: number(28)?,
            exit_code: number(52)?,
        })
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// The kernel's PF_EXITING: the thread is past the point of return.
    fn is_exiting(&self) -> bool {
        self.flags & 0x4 != 0
    }

    /// The whole process has been told to die by a signal. (A stopped one shows the signal that stopped it.)
    fn group_is_exiting(&self) -> bool {
        self.exit_code != 0 && !matches!(self.state, b'T' | b't')
    }

    fn image(&self) -> u64 {
        self.started << 24 | Self::hash(self.stack)
    }

    /// Whether this is the process and the program of `image`. Where the stack is not shown (another user's process,
    /// or one whose memory is gone) only the process can be compared.
    fn may_be(&self, image: u64) -> bool {
        let same_process = self.started << 24 == image & !0xff_ffff;
        let same_program = self.stack == 0 || Self::hash(self.stack) == image & 0xff_ffff;
        same_process && same_program
    }

    fn hash(stack: u64) -> u64 {
        // Multiplicative hashing by the golden ratio; the upper bits are the well mixed ones.
        stack.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40
    }
}
