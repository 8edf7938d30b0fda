//! The errors of making and opening maps.

use crate::sys::{RobustListUnusable, SysError};
use std::io;
use std::path::PathBuf;

/// Why a map could not be made, opened, read or flushed.
///
/// Every message says what was asked, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A robust primitive was to be placed, and this thread has no robust futex list that it could join.
    #[error(
        "no robust futex list to join: {found}. pshared needs the list that 64-bit glibc registers for every thread; run under glibc 2.36 or later on Linux 5.15 or later, without a filter on get_robust_list(2)"
    )]
    RobustListUnusable {
        /// What `get_robust_list(2)` gave instead.
        found: String,
    },

    /// A map of zero bytes was asked for.
    #[error("a map of 0 bytes was asked for, and the kernel maps none: ask for 1 byte or more")]
    ZeroLength,

    /// The end of the range lies beyond what the system can count.
    #[error(
        "{len} bytes from offset {offset} end beyond the last byte that a file or an address can have ({max}): ask for less",
        max = i64::MAX
    )]
    LengthOverflow {
        /// Where the range starts, in bytes from the start of the file; 0 for memory without a file.
        offset: u64,
        /// How many bytes were asked for.
        len: usize,
    },

    /// The kernel has no memory, or no addresses, for the map.
    #[error(
        "no memory for a map of {len} bytes: ask for less, drop other maps, or raise what limits it (RLIMIT_AS, the sysctls vm.overcommit_memory and vm.max_map_count)"
    )]
    NoMemory {
        /// How many bytes were asked for.
        len: usize,
    },

    /// The bytes could not be reserved, on the disk of the file or in the memory of a memory file.
    #[error(
        "no space for {len} bytes{}: {source}. Free some space, or ask for less",
        path.as_ref().map_or_else(String::new, |path| format!(" of {}", path.display()))
    )]
    NoSpace {
        /// The file, if it was opened by its path.
        path: Option<PathBuf>,
        /// How many bytes were to be reserved.
        len: u64,
        /// What the kernel answered.
        source: io::Error,
    },

    /// The file does not hold the range that was to be mapped. Touching what is missing would raise SIGBUS.
    #[error(
        "the file holds {size} bytes, but bytes {offset} to {end} were to be mapped ({len} bytes): extend it first (`MapOptions::reserve`, or `File::set_len({end})`), or map less",
        end = offset.saturating_add(*len as u64)
    )]
    FileTooShort {
        /// The file's size in bytes.
        size: u64,
        /// Where the range starts, in bytes from the start of the file.
        offset: u64,
        /// How many bytes were asked for.
        len: usize,
    },

    /// The file was to be mapped to its end, and it ends at the offset or before; a new file is empty.
    #[error(
        "the file holds {size} bytes, so there is nothing to map from offset {offset} to its end: write to it first, or say how much it shall hold (`MapOptions::len` with `reserve`)"
    )]
    NothingToMap {
        /// The file's size in bytes.
        size: u64,
        /// Where the map was to start, in bytes from the start of the file.
        offset: u64,
    },

    /// A map starts at a page of the file, and the offset is inside one.
    #[error(
        "the offset {offset} is not a multiple of the page, which has {page} bytes here: map from {below}, the nearest multiple below, and look {ahead} bytes into the map",
        ahead = offset - below
    )]
    UnalignedOffset {
        /// The offset that was asked for, in bytes.
        offset: u64,
        /// The size of a page in bytes; on a hugetlbfs, of a huge page.
        page: usize,
        /// The nearest multiple of the page below the offset.
        below: u64,
    },

    /// The file is open for reading only, and more was asked for.
    #[error(
        "the file is open read-only (O_RDONLY), but {asked} was asked for: open it with `File::options().read(true).write(true)`, or map it with `MapOptions::shared().read_only()`, or with `MapOptions::private()` for changes that are not kept"
    )]
    FileReadOnly {
        /// What needs a file that is open for writing too.
        asked: &'static str,
    },

    /// The file is not open for reading, and every map needs that, also one that is only written to.
    #[error(
        "the file is open {mode}, but every map needs read access: open it with `File::options().read(true)`, and `.write(true)` for a shared map"
    )]
    FileNotReadable {
        /// For what the file is open.
        mode: &'static str,
    },

    /// What was to be mapped is no regular file, or lies in a file system that maps none.
    #[error(
        "only regular files can be mapped, and this is {found}: copy its bytes to a file, or use `Map::anonymous`, `Map::dev_zero` or `Map::memfd` for memory without one"
    )]
    NotMappable {
        /// What it is.
        found: String,
    },

    /// The descriptor that was received is not that of a memory file.
    #[error(
        "the descriptor has no seals, so it is not that of a memory file (memfd_create): make the memory with `Map::memfd`, or open the file with `Map::file`"
    )]
    NotMemfd,

    /// The memory file that was received can still be resized, or sealed further.
    #[error(
        "the memory file lacks the seals {missing}, so its memory could be taken away under the map: make it with `Map::memfd`, or add them by fcntl(F_ADD_SEALS) before it is handed over"
    )]
    MissingSeals {
        /// The seals it should carry and does not, as `fcntl(2)` names them.
        missing: String,
    },

    /// The memory file is sealed against writing (`F_SEAL_WRITE` or `F_SEAL_FUTURE_WRITE`).
    #[error(
        "the memory file is sealed against writing (F_SEAL_WRITE or F_SEAL_FUTURE_WRITE), but a shared map that can be written to was asked for: map it with `Map::file` and `MapOptions::shared().read_only()` or `MapOptions::private()`"
    )]
    SealedAgainstWriting,

    /// A memory file cannot have this name.
    #[error(
        "a memory file cannot be named {name:?} ({len} bytes): a name has at most 249 bytes and no NUL",
        len = name.len()
    )]
    MemfdName {
        /// The name that was asked for.
        name: String,
    },

    /// The range is not inside the map.
    #[error("{len} bytes at offset {offset} are not inside the map, which has {map_len} bytes")]
    OutOfBounds {
        /// Where the range starts, in bytes from the start of the map.
        offset: usize,
        /// How many bytes were asked for.
        len: usize,
        /// The length of the map in bytes.
        map_len: usize,
    },

    /// A map that is only for reading was to be written to.
    #[error(
        "{len} bytes were to be written at offset {offset} of a map that is only for reading: make the map without `MapOptions::read_only`"
    )]
    ReadOnlyMap {
        /// Where they were to be written, in bytes from the start of the map.
        offset: usize,
        /// How many bytes were to be written.
        len: usize,
    },

    /// Pages that are locked into memory were to be invalidated.
    #[error(
        "pages of the range are locked into memory (mlock, mlockall), and such pages cannot be invalidated: unlock them first (munlock)"
    )]
    PagesLocked,

    /// The kernel does not take this advice for this map.
    #[error(
        "the kernel refuses the advice {advice} for this map: it is built without it, or has no use for it here; the map works without"
    )]
    AdviceRefused {
        /// The advice, as `madvise(2)` names it.
        advice: String,
    },

    /// A lock was acquired whose data may be broken; see [`Poisoned`](crate::Poisoned), which this was made from.
    #[error("the lock is poisoned: {cause}. Match on LockError::Poisoned to repair the data")]
    Poisoned {
        /// What happened.
        cause: crate::Cause,
    },

    /// A lock was asked for by the thread that holds it, or an initialization by the one that makes it.
    #[error(
        "deadlock: the calling thread holds this lock already, or is inside this initialization. Drop the guard first, or hand the guard down"
    )]
    Deadlock,

    /// A lock's holder ended without releasing it, or whoever made an initialization without an end of that, and its process
    /// lives.
    #[error(
        "the thread that held the lock ended with its guard forgotten, and its process, which may still use the data, lives. End that process; the next locker is then told of a death"
    )]
    HolderThreadEnded,

    /// A barrier was waited at, and one of its parties died.
    #[error(
        "the barrier is broken: the party at slot {slot} ({who}) died, or ended or panicked without leaving it. Reset the barrier when everybody knows, and let another party join",
        who = process.map_or_else(|| "which had just joined".to_owned(), |id| format!("process {id}"))
    )]
    BarrierBroken {
        /// The slot of the party, from 0 on.
        slot: usize,
        /// The id of its process, in its own PID namespace, if it had sat down.
        process: Option<u32>,
    },

    /// A wait for any of several things was asked for, and the kernel has no sleep on several futexes.
    #[error(
        "no sleep on several futexes: futex_waitv(2) is missing or denied. Run on Linux 5.16 or later, without a filter on that call; or use the forms that do not wait"
    )]
    FutexWaitvUnsupported,

    /// Something was asked for at once that somebody else has.
    #[error("it would block: somebody else holds what was asked for at once")]
    WouldBlock,

    /// The time was over.
    #[error("timed out: nobody released what was waited for in the time that was given")]
    TimedOut,

    /// A semaphore has as many permits as it can count.
    #[error(
        "the semaphore holds {max} permits, the most it can count (SEM_VALUE_MAX): something posts more often than it waits"
    )]
    SemaphoreFull {
        /// The largest number of permits.
        max: u32,
    },

    /// A file lock was to be locked by another process than the one that opened it.
    #[error("{} was opened for locking before a fork, by another process: the two share one open file description, so the lock would exclude neither. Open it in each process, after the fork", path.display())]
    InheritedFileLock {
        /// The file.
        path: PathBuf,
    },

    /// There is no such System V semaphore set, or there is none any more.
    #[error(
        "there is no System V semaphore set {id}: it was removed (by its maker, by `ipcrm -s {id}`, by systemd's RemoveIPC), or it lies in another IPC namespace. Make another one, and tell its id"
    )]
    SemaphoreRemoved {
        /// The id of the set.
        id: i32,
    },

    /// A System V semaphore set that another program made.
    #[error(
        "the System V semaphore set {id} has {found} semaphores, and one that this crate makes has 1: it is another program's. Check the id"
    )]
    SemaphoreSetMismatch {
        /// The id of the set.
        id: i32,
        /// How many semaphores it has.
        found: u64,
    },

    /// A System V semaphore was to have more permits than it can count.
    #[error(
        "{asked} permits were asked for, and a System V semaphore counts to {max} (SEMVMX, which no sysctl changes): ask for less, or use SharedSemaphore"
    )]
    TooManyPermits {
        /// How many permits were asked for.
        asked: u32,
        /// The largest number of permits.
        max: u32,
    },

    /// A process was to hold more permits of a System V semaphore than the kernel can give back for it.
    #[error(
        "this process holds {max} permits of the System V semaphore set {id}, and the kernel notes no more of them for the moment that the process ends (SEMAEM): somebody adds permits that nobody gave back"
    )]
    TooManyPermitsHeld {
        /// The id of the set.
        id: i32,
        /// The largest number of permits that a process can hold.
        max: u32,
    },

    /// The kernel has no room for another System V semaphore set.
    #[error(
        "no room for another System V semaphore set: the second number of the sysctl kernel.sem limits all semaphores, the fourth all sets. Remove sets whose programs are gone (`ipcs -s`, `ipcrm -s ID`), or raise the limit"
    )]
    SemaphoreLimit,

    /// A value is too large for the address space.
    #[error("the value is too large for the address space: ask for fewer elements")]
    TooLarge,

    /// There is no file of that name.
    #[error("{} does not exist: create it with Shared::create, or use Shared::open_or_create", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },

    /// There is a file of that name already.
    #[error("{} exists already: open it with Shared::open, or use Shared::open_or_create", path.display())]
    AlreadyExists {
        /// The file.
        path: PathBuf,
    },

    /// A path that ends in no file name.
    #[error("{} names no file: give a path that ends in a file's name", path.display())]
    NoFileName {
        /// The path.
        path: PathBuf,
    },

    /// A symbolic link, which could lead anywhere.
    #[error("{} is a symbolic link, and following one could lead anywhere: give the path it points at", path.display())]
    SymbolicLink {
        /// The link.
        path: PathBuf,
    },

    /// Something that is no regular file.
    #[error("{} is {found}, and a value or a lock is given a regular file: give another path", path.display())]
    NotARegularFile {
        /// What was to be opened.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },

    /// Another user's file.
    #[error("{} belongs to user {found}, and this process is user {expected}: whoever owns the file could change it under its locks. Run as user {found}, or use another file", path.display())]
    OwnerMismatch {
        /// The file.
        path: PathBuf,
        /// Its owner's id.
        found: u32,
        /// The effective user's id.
        expected: u32,
    },

    /// A file that others may read or write.
    #[error("{} has mode {mode:04o}, which opens it to others than its owner: chmod it to 0600 once you know that nobody else has written to it", path.display())]
    InsecureMode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },

    /// A file with several names.
    #[error("{} has {names} names (hard links): a file that is also known elsewhere may be changed from there. Remove the others", path.display())]
    HardLinked {
        /// The file.
        path: PathBuf,
        /// How many names it has.
        names: u64,
    },

    /// A file on a file system where futexes and file locks do not reach all who use it.
    #[error("{} lies on {kind}, whose files other machines or a server may change, and no futex or file lock is sure to reach them: use a local disk, or /dev/shm", path.display())]
    RemoteFileSystem {
        /// The file.
        path: PathBuf,
        /// The file system.
        kind: &'static str,
    },

    /// A file in which no value of this crate lies.
    #[error("{} holds no value placed by pshared: {why}. It was left as it is; give another path, or remove it", path.display())]
    InvalidHeader {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },

    /// A file that was cut short, or added to.
    #[error("{} is {found} bytes long and must be {expected}: it was cut short or added to, and what lies in it cannot be trusted. Remove it", path.display())]
    LengthMismatch {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The length that its header tells.
        expected: u64,
    },

    /// A file of another version of the format.
    #[error("{} has format version {found}, and this pshared reads version {expected}: end its users and remove it, or use the pshared that made it", path.display())]
    VersionMismatch {
        /// The file.
        path: PathBuf,
        /// The version that its header tells.
        found: u32,
        /// The version of this crate.
        expected: u32,
    },

    /// A file in which a value of another type lies.
    #[error("{} holds a value of another layout. The first difference: expected {expected}; found {found}. Build both programs from the same types, or use another file", path.display())]
    LayoutMismatch {
        /// The file.
        path: PathBuf,
        /// What the type of the caller has there.
        expected: String,
        /// What the file has there.
        found: String,
    },

    /// A file that is in use in another PID namespace.
    #[error("{} is in use in PID namespace {found}, and this process lives in {own}: thread ids in its locks mean other threads there. End its users first (whoever is alone with it may use it), or join their namespace", path.display())]
    PidNamespaceMismatch {
        /// The file.
        path: PathBuf,
        /// The number of the namespace in which it is used.
        found: u64,
        /// The number of the caller's namespace.
        own: u64,
    },

    /// A file that is in use on another machine.
    #[error("{} is in use under another boot id: by another machine, or by processes of a snapshot. No futex reaches them; end them first", path.display())]
    BootIdMismatch {
        /// The file.
        path: PathBuf,
    },

    /// A file that another process is alone with, for longer than a reset takes.
    #[error("{} has been locked by one process for {seconds} s, and a reset takes microseconds: that process is stopped, or something else locks the file. Find it with `lslocks`", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },

    /// A map without a descriptor.
    #[error(
        "the map has no descriptor: it is anonymous. Use Shared::memfd for memory that is handed to strangers"
    )]
    NoDescriptor,

    /// A type that needs more than a page's alignment.
    #[error(
        "the type is to be aligned to {asked} bytes, and a map can promise {page}: reduce its repr(align)"
    )]
    OverAligned {
        /// The type's alignment.
        asked: usize,
        /// What every map has.
        page: usize,
    },

    /// A system call failed in a way that has no name of its own here.
    #[error("{call} failed: {source}")]
    Os {
        /// The system call, with the path it was about where there is one.
        call: String,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl From<SysError> for Error {
    fn from(error: SysError) -> Self {
        Error::os(error.call, error.errno)
    }
}

impl From<RobustListUnusable> for Error {
    fn from(RobustListUnusable(found): RobustListUnusable) -> Self {
        Error::RobustListUnusable { found }
    }
}

impl Error {
    pub(crate) fn os(call: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Os {
            call: call.into(),
            source: source.into(),
        }
    }
}
