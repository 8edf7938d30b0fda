//! [`Error`]: the errors of maps, files, placed values and primitives.

use crate::raw::outcome::AcquireError;
use crate::sys::limits::NoDescriptors;
use crate::sys::{ROBUST_LIST_REMEDY, RobustListUnusable, RobustUnusable, SysError};
use std::io;
use std::path::PathBuf;

/// An error of a map, a file, a placed value or a primitive.
///
/// It covers:
///
/// - creating, opening, reading, writing and flushing maps;
/// - creating and opening files, and the checks of their contents;
/// - placing values in a map;
/// - all primitives: locks, barriers, semaphores, permits, rosters, events, and one-time
///   initialization.
///
/// A lock that can be poisoned returns a [`LockError`](crate::LockError), which converts into this
/// type.
///
/// Every message says what was requested, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A robust primitive was to be placed, but the calling thread has no robust futex list to add
    /// it to.
    #[error("no usable robust futex list: {found}. {ROBUST_LIST_REMEDY}")]
    RobustListUnusable {
        /// What was found instead.
        found: String,
    },

    /// A robust primitive was to be placed or opened, but the process cannot find out its PID
    /// namespace. The lock of a process that died could never be given to another one.
    #[error(
        "the PID namespace of this process is not known: there is no /proc, and Linux shows the namespace elsewhere only since 6.11. Mount a /proc, or place or open a value before the process changes its root"
    )]
    PidNamespaceUnknown,

    /// A map of zero bytes was requested.
    #[error(
        "a map of 0 bytes was requested, but the kernel maps at least 1: ask for 1 byte or more"
    )]
    ZeroLength,

    /// The range ends beyond the largest file offset or address.
    #[error(
        "{len} bytes from offset {offset} end beyond {max}, the largest offset of a file or an address: ask for less",
        max = i64::MAX
    )]
    LengthOverflow {
        /// The start of the range, in bytes from the start of the file; 0 for memory without a
        /// file.
        offset: u64,
        /// The requested number of bytes.
        len: usize,
    },

    /// The kernel has no memory or no address range for the map.
    #[error(
        "no memory for a map of {len} bytes: ask for less, drop other maps, or raise the limit (RLIMIT_AS; RLIMIT_DATA for a private map; or the sysctls vm.overcommit_memory, vm.max_map_count and, on a hugetlbfs, vm.nr_hugepages)"
    )]
    NoMemory {
        /// The requested number of bytes.
        len: usize,
    },

    /// The process locks all its future maps (`mlockall(MCL_FUTURE)`), and the map would exceed the
    /// bytes that it may lock (`RLIMIT_MEMLOCK`).
    #[error(
        "this process locks all its new maps into memory (mlockall(MCL_FUTURE)), and with a map of {len} bytes it would lock more than its limit of {limit} bytes (RLIMIT_MEMLOCK; `ulimit -l` counts in KiB): raise the limit, give it CAP_IPC_LOCK, create the map before mlockall, or call munlockall before the map is created"
    )]
    LockedMemoryLimit {
        /// The requested number of bytes.
        len: usize,
        /// The soft limit, in bytes, for all locked pages of the process together.
        limit: u64,
    },

    /// The process or the system has no file descriptor left. Nothing was left behind: no file and
    /// no descriptor.
    #[error(
        "{call} failed: {}. A call of pshared opens up to {needed} at once, and this one left nothing behind. {}",
        match limit {
            Some(limit) => format!("this process has no file descriptor left of the {limit} that it may have (RLIMIT_NOFILE)"),
            None => "the system has no open file left for any process (sysctl fs.file-max)".to_owned(),
        },
        match limit {
            Some(_) => "Close some, or raise the limit (`ulimit -n`)",
            None => "End programs that keep many files open, or raise the sysctl",
        }
    )]
    NoDescriptors {
        /// The system call, with the path that it used, if any.
        call: String,
        /// The largest number of descriptors that the process may have, or `None` if the limit of
        /// the whole system is reached.
        limit: Option<u64>,
        /// The largest number of descriptors that any call of this crate opens at once.
        needed: u32,
    },

    /// The bytes could not be reserved, on the file's disk or in the memory of a memory file.
    #[error(
        "no space for {len} bytes{}: {source}. Free some space (on a hugetlbfs, raise the sysctl vm.nr_hugepages), or ask for less",
        path.as_ref().map_or_else(String::new, |path| format!(" of {}", path.display()))
    )]
    NoSpace {
        /// The file, if it was opened by its path.
        path: Option<PathBuf>,
        /// The number of bytes to reserve.
        len: u64,
        /// The kernel's error.
        source: io::Error,
    },

    /// The file system copies each block of the file that is written, so no block can be reserved:
    /// on a full disk, a write to the map would raise SIGBUS.
    #[error(
        "no space can be reserved{}: {kind} copies each block that is written, and a write to the map would raise SIGBUS on a full disk. {}",
        path.as_ref().map_or_else(String::new, |path| format!(" for {}", path.display())),
        match *kind {
            "btrfs" => "Use a new file in a directory with `chattr +C`, or another file system; without `MapOptions::reserve`, the file is mapped nevertheless",
            _ => "Use another file system or /dev/shm; without `MapOptions::reserve`, an existing file is mapped nevertheless",
        }
    )]
    CopyOnWrite {
        /// The file, if it was opened by its path.
        path: Option<PathBuf>,
        /// The file system.
        kind: &'static str,
    },

    /// There is no `/proc`. A file is opened and named through its descriptor there, so that no
    /// other file can take its place between a check and the use.
    #[error(
        "{} cannot be used without /proc, and none is mounted here: mount it (`mount -t proc proc /proc`), or share memory without a file (`Shared::memfd`, `Shared::anonymous`)",
        path.display()
    )]
    ProcMissing {
        /// The file to create, open or lock.
        path: PathBuf,
    },

    /// The file would become larger than the process may make files (`RLIMIT_FSIZE`). The kernel
    /// would kill the process with SIGXFSZ.
    #[error(
        "{len} bytes were asked for{}, but this process may make files of at most {limit} bytes (RLIMIT_FSIZE; `ulimit -f` counts in units of 1024 or 512 bytes): raise the limit, or ask for less",
        path.as_ref().map_or_else(String::new, |path| format!(" in {}", path.display()))
    )]
    FileSizeLimit {
        /// The file, if it was opened by its path. A memfd has none.
        path: Option<PathBuf>,
        /// The length that the file would need, in bytes.
        len: u64,
        /// The soft limit, in bytes.
        limit: u64,
    },

    /// The file does not contain the range to map. An access to the missing part would raise
    /// SIGBUS.
    #[error(
        "the file holds {size} bytes, but bytes {offset} to {end} were to be mapped ({len} bytes): extend it first (`MapOptions::reserve`, or `File::set_len({end})`), or map less",
        end = offset.saturating_add(*len as u64)
    )]
    FileTooShort {
        /// The file's size in bytes.
        size: u64,
        /// The start of the range, in bytes from the start of the file.
        offset: u64,
        /// The requested number of bytes.
        len: usize,
    },

    /// The file was to be mapped to its end, but it ends at or before the offset. A new file is
    /// empty.
    #[error(
        "the file holds {size} bytes, so there is nothing to map from offset {offset} to its end: write to the file first, or set its length (`MapOptions::len` with `reserve`)"
    )]
    NothingToMap {
        /// The file's size in bytes.
        size: u64,
        /// The requested start of the map, in bytes from the start of the file.
        offset: u64,
    },

    /// The offset is not a multiple of the page size. A map starts at a page of the file.
    #[error(
        "the offset {offset} is not a multiple of the page size, which is {page} bytes here: map from {below}, the nearest multiple below, and start {ahead} bytes into the map",
        ahead = offset - below
    )]
    UnalignedOffset {
        /// The requested offset, in bytes.
        offset: u64,
        /// The page size in bytes; on a hugetlbfs, that of a huge page.
        page: usize,
        /// The nearest multiple of the page size below the offset.
        below: u64,
    },

    /// The file is open for reading only, but the request needs write access.
    #[error(
        "the file is open read-only (O_RDONLY), but {asked} was requested: open it with `File::options().read(true).write(true)`, or map it with `MapOptions::shared().read_only()`, or with `MapOptions::private()` for changes that are not kept"
    )]
    FileReadOnly {
        /// The request that needs write access.
        asked: &'static str,
    },

    /// The file is not open for reading. Every map needs read access, even one that is only written
    /// to.
    #[error(
        "the file is open {mode}, but every map needs read access: open it with `File::options().read(true)`, and `.write(true)` for a shared map"
    )]
    FileNotReadable {
        /// The access for which the file is open.
        mode: &'static str,
    },

    /// The file to map is not a regular file, or its file system supports no maps.
    #[error(
        "only regular files can be mapped, and this is {found}: copy its bytes to a file, or use `Map::anonymous`, `Map::dev_zero` or `Map::memfd` for memory without a file"
    )]
    NotMappable {
        /// What it is.
        found: String,
    },

    /// The received descriptor does not refer to a memory file.
    #[error(
        "the descriptor has no seals, so it does not refer to a memory file (memfd_create): create the memory with `Map::memfd`, or map the file with `Map::file`"
    )]
    NotMemfd,

    /// The received memory file can still be resized or sealed further.
    #[error(
        "the memory file lacks the seals {missing}, so it could be shortened while it is mapped: create it with `Map::memfd`, or add them by fcntl(F_ADD_SEALS) before the descriptor is passed on"
    )]
    MissingSeals {
        /// The missing seals, by their names in `fcntl(2)`.
        missing: String,
    },

    /// The memory file is sealed against writing (`F_SEAL_WRITE` or `F_SEAL_FUTURE_WRITE`).
    #[error(
        "the memory file is sealed against writing (F_SEAL_WRITE or F_SEAL_FUTURE_WRITE), but a writable shared map was requested: map it with `Map::file` and `MapOptions::shared().read_only()` or `MapOptions::private()`"
    )]
    SealedAgainstWriting,

    /// The name is not possible for a memory file.
    #[error(
        "a memory file cannot be named {name:?} ({len} bytes): use at most 249 bytes and no NUL",
        len = name.len()
    )]
    MemfdName {
        /// The requested name.
        name: String,
    },

    /// The range is not inside the map.
    #[error(
        "{len} bytes at offset {offset} are not inside the map, which has {map_len} bytes: use a range inside it"
    )]
    OutOfBounds {
        /// The start of the range, in bytes from the start of the map.
        offset: usize,
        /// The requested number of bytes.
        len: usize,
        /// The length of the map in bytes.
        map_len: usize,
    },

    /// A read-only map was to be written to.
    #[error(
        "{len} bytes were to be written at offset {offset} of a read-only map: create the map without `MapOptions::read_only`"
    )]
    ReadOnlyMap {
        /// The start of the range to write, in bytes from the start of the map.
        offset: usize,
        /// The number of bytes to write.
        len: usize,
    },

    /// The pages to invalidate are locked into memory.
    #[error(
        "pages of the range are locked into memory (mlock, mlockall), and such pages cannot be invalidated: unlock them first (munlock)"
    )]
    PagesLocked,

    /// The kernel does not accept this advice for this map.
    #[error(
        "the kernel refuses the advice {advice} for this map: it was built without support for the advice, or cannot apply it to this map. The map works without it"
    )]
    AdviceRefused {
        /// The advice, by its name in `madvise(2)`.
        advice: String,
    },

    /// A lock was acquired, but its data may be inconsistent. This variant is made from a
    /// [`Poisoned`](crate::Poisoned).
    #[error("the lock is poisoned: {cause}. Match on LockError::Poisoned to repair the data")]
    Poisoned {
        /// What happened.
        cause: crate::Cause,
    },

    /// The call would wait for the calling thread itself. The thread already holds the lock or all
    /// the permits or slots, or it is inside the initialization.
    #[error(
        "deadlock: the calling thread already holds what it would wait for: a lock, all the permits or slots, or an initialization that it runs. Drop the guard first, or pass the guard to the callee"
    )]
    Deadlock,

    /// The thread that held a lock, a permit or a slot, or ran an initialization, ended without
    /// releasing it, and its process still runs.
    #[error(
        "the thread that held the lock ended while its guard was leaked, and its process still runs and may still use the data. End that process; the next locker then receives a report of the death"
    )]
    HolderThreadEnded,

    /// A party of the barrier died or panicked.
    #[error(
        "the barrier is broken: the party at slot {slot} ({party}) died or panicked, or its thread ended without leaving it. Reset the barrier once every party has seen this error, and let another party join",
        party = process.map_or_else(|| "which was joining".to_owned(), |id| format!("process {id}"))
    )]
    BarrierBroken {
        /// The slot of the party, from 0.
        slot: usize,
        /// The party's process id, in its own PID namespace; `None` if it died while it joined.
        process: Option<u32>,
    },

    /// The call does not wait, and what it needs is not available.
    #[error(
        "the call would block: the lock, permit or slot is not available now. Try again later, or use a method that waits"
    )]
    WouldBlock,

    /// The timeout expired, or the deadline passed.
    #[error(
        "timed out: what the call waited for did not happen in time. Try again, or use a longer timeout"
    )]
    TimedOut,

    /// The timeout expired, or the deadline passed, while the process of the holder wrote a core
    /// dump.
    #[error(
        "timed out: the process that holds the lock is being killed and writes a core dump, and the kernel releases the lock only afterwards. Wait longer, or make such dumps small: prctl(PR_SET_DUMPABLE), /proc/PID/coredump_filter, or Advice::DontDump for the map"
    )]
    HolderDumpsCore,

    /// A semaphore has as many permits as it can count.
    #[error(
        "the semaphore has {max} permits, the most it can count (SEM_VALUE_MAX): check why the program posts more often than it waits"
    )]
    SemaphoreFull {
        /// The largest number of permits.
        max: u32,
    },

    /// A file lock was used in a process other than the one that opened it.
    #[error("{} was opened for locking before a fork, by another process: both processes share one open file description, so the lock would not exclude one from the other. Open it in each process, after the fork", path.display())]
    InheritedFileLock {
        /// The file.
        path: PathBuf,
    },

    /// The System V semaphore set does not exist, or no longer exists.
    #[error(
        "there is no System V semaphore set {id}: it was removed (by its creator, by `ipcrm -s {id}`, or by systemd's RemoveIPC), or it lies in another IPC namespace. Create another one, and pass its id to the other processes"
    )]
    SemaphoreRemoved {
        /// The id of the set.
        id: i32,
    },

    /// The System V semaphore set was created by another program.
    #[error(
        "the System V semaphore set {id} has {found} semaphores, but one that this crate creates has 1: it belongs to another program. Check the id"
    )]
    SemaphoreSetMismatch {
        /// The id of the set.
        id: i32,
        /// Its number of semaphores.
        found: u64,
    },

    /// A System V semaphore was to have more permits than it can count.
    #[error(
        "{asked} permits were requested, but a System V semaphore counts to {max} (SEMVMX, which no sysctl changes): ask for less, or use SharedSemaphore"
    )]
    TooManyPermits {
        /// The requested number of permits.
        asked: u32,
        /// The largest number of permits.
        max: u32,
    },

    /// A process was to hold more permits of a System V semaphore than the kernel can release at
    /// the end of the process.
    #[error(
        "this process holds {max} permits of the System V semaphore set {id}, and the kernel records no more for release at the end of the process (SEMAEM): a program adds permits that were never taken. Check the programs that use the set"
    )]
    TooManyPermitsHeld {
        /// The id of the set.
        id: i32,
        /// The largest number of permits that a process can hold.
        max: u32,
    },

    /// The kernel's limit on System V semaphores is reached.
    #[error(
        "no space for another System V semaphore set: the second number of the sysctl kernel.sem limits all semaphores, the fourth all sets. Remove sets whose programs have ended (`ipcs -s`, `ipcrm -s ID`), or raise the limit"
    )]
    SemaphoreLimit,

    /// The value is too large for the address space.
    #[error("the value is too large for the address space: ask for fewer elements")]
    TooLarge,

    /// The file does not exist.
    #[error("{} does not exist: create it with Shared::create, or use Shared::open_or_create", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },

    /// The file already exists.
    #[error("{} already exists: open it with Shared::open, or use Shared::open_or_create", path.display())]
    AlreadyExists {
        /// The file.
        path: PathBuf,
    },

    /// The path no longer names the file of the value.
    #[error("{} {found} while this process used it: a process that opens the path now gets other locks, which exclude none of this process's. Drop the value, and open it again", path.display())]
    FileReplaced {
        /// The path by which the file was opened, made absolute.
        path: PathBuf,
        /// What happened to the file.
        found: &'static str,
    },

    /// The path does not end in a file name.
    #[error("{} names no file: give a path that ends in a file name", path.display())]
    NoFileName {
        /// The path.
        path: PathBuf,
    },

    /// The path is a symbolic link. Links are not followed, because the target could be any file.
    #[error("{} is a symbolic link, and links are not followed because the target could be any file: give the path it points at", path.display())]
    SymbolicLink {
        /// The link.
        path: PathBuf,
    },

    /// The path does not name a regular file.
    #[error("{} is {found}, but a value or a lock needs a regular file: give another path", path.display())]
    NotARegularFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },

    /// The file belongs to another user.
    #[error("{} belongs to user {}, and this process is user {expected}: the owner of the file could change the data despite its locks. {}, or use another file", path.display(),
        match is_mapped {
            true => found.to_string(),
            false => format!("{found}, which stands for each user that has no id in the user namespace of this process"),
        },
        match is_mapped {
            true => format!("Run as user {found}"),
            false => "Give the owner an id in the namespace (/proc/PID/uid_map), and run as that user; or run outside of the namespace, as the owner".to_owned(),
        }
    )]
    OwnerMismatch {
        /// The file.
        path: PathBuf,
        /// The user id of the file's owner.
        found: u32,
        /// The effective user id of this process.
        expected: u32,
        /// Whether `found` is the id of one user. If not, it is the overflow id
        /// (`/proc/sys/kernel/overflowuid`) of all users that have no id in the user namespace of
        /// this process.
        is_mapped: bool,
    },

    /// Other users may read or write the file.
    #[error("{} has mode {mode:04o}, which gives access to users other than its owner: chmod it to 0600 once you know that no other user has written to it", path.display())]
    InsecureMode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },

    /// The file has several names.
    #[error("{} has {names} names (hard links), so it could be changed through another name. Remove the others", path.display())]
    HardLinked {
        /// The file.
        path: PathBuf,
        /// Its number of names.
        names: u64,
    },

    /// The file lies on a file system where futexes and file locks do not reach all users of the
    /// file.
    #[error("{} lies on {kind}, where other machines or a server may change files, and futexes and file locks may not reach them: use a local disk, or /dev/shm", path.display())]
    RemoteFileSystem {
        /// The file.
        path: PathBuf,
        /// The file system.
        kind: &'static str,
    },

    /// The file does not contain a value of this crate.
    #[error("{} holds no value placed by pshared: {why}. It was left as it is: give another path, or remove it", path.display())]
    InvalidHeader {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },

    /// The file was shortened or extended.
    #[error("{} is {found} bytes long and must be {expected}: it was shortened or extended, and its content cannot be trusted. Remove it", path.display())]
    LengthMismatch {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The length in bytes that its header states.
        expected: u64,
    },

    /// The file has another version of the format.
    #[error("{} has format version {found}, and this pshared reads version {expected}: end its users and remove it, or use the version of pshared that created it", path.display())]
    VersionMismatch {
        /// The file.
        path: PathBuf,
        /// The version that its header states.
        found: u32,
        /// The version that this crate reads.
        expected: u32,
    },

    /// The file was created by a program with another C library.
    #[error("{} was created by a program with {found}, and this program has {expected}: their semaphores and mutexes have other layouts, and they register a thread's robust list in other ways. Build all its users for one C library, or use another file", path.display())]
    CLibraryMismatch {
        /// The file.
        path: PathBuf,
        /// The C library of the program that created it.
        found: &'static str,
        /// The C library of this program.
        expected: &'static str,
    },

    /// The file contains a value of another type.
    #[error("{} holds a value of another layout. The first difference: expected {expected}; found {found}. Build both programs from the same types, or use another file", path.display())]
    LayoutMismatch {
        /// The file.
        path: PathBuf,
        /// The first differing part, in the caller's type.
        expected: String,
        /// The same part, in the file.
        found: String,
    },

    /// The file is in use in another PID namespace.
    #[error("{} is in use in PID namespace {found}, and this process is in {own}: the thread ids in its locks refer to other threads there. End its users first (a process that is its only user may open it), or join their namespace", path.display())]
    PidNamespaceMismatch {
        /// The file.
        path: PathBuf,
        /// The number of the namespace in which it is used.
        found: u64,
        /// The number of the caller's namespace.
        own: u64,
    },

    /// Another process has held the file's exclusive lock for longer than a reset takes.
    #[error("{} has been locked by one process for {seconds} s, but a reset takes microseconds: that process is stopped, or another program locks the file. Find it with `lslocks`", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// How long this call waited, in seconds.
        seconds: u64,
    },

    /// The type needs a larger alignment than a page's.
    #[error(
        "the type needs an alignment of {asked} bytes, but a map guarantees only {page}: reduce its repr(align)"
    )]
    OverAligned {
        /// The type's alignment in bytes.
        asked: usize,
        /// The alignment in bytes of every map.
        page: usize,
    },

    /// A system call failed with an error that has no variant of its own.
    #[error("{call} failed: {source}")]
    Os {
        /// The system call, with the path that it used, if any.
        call: String,
        /// The kernel's error.
        source: io::Error,
    },
}

/// The largest number of descriptors that a call of this crate opens at once: creating or opening a
/// file needs the file, its map's copy, and one for a lookup.
const MOST_DESCRIPTORS: u32 = 3;

impl From<SysError> for Error {
    fn from(error: SysError) -> Self {
        Error::os(error.call, error.errno)
    }
}

impl From<RobustUnusable> for Error {
    fn from(why: RobustUnusable) -> Self {
        match why {
            RobustUnusable::List(RobustListUnusable(found)) => Error::RobustListUnusable { found },
            RobustUnusable::NamespaceUnknown => Error::PidNamespaceUnknown,
        }
    }
}

impl Error {
    /// Why a primitive that hands out no guard was not acquired.
    pub(crate) fn from_acquire(error: AcquireError) -> Self {
        match error {
            AcquireError::WouldBlock => Error::WouldBlock,
            AcquireError::TimedOut => Error::TimedOut,
            AcquireError::Deadlock => Error::Deadlock,
            AcquireError::HolderThreadEnded => Error::HolderThreadEnded,
            AcquireError::HolderDumpsCore => Error::HolderDumpsCore,
        }
    }

    /// The error of a system call. The one place that names a lack of descriptors.
    pub(crate) fn os(call: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let (call, source) = (call.into(), source.into());
        match NoDescriptors::of(&source) {
            Some(NoDescriptors { limit }) => Error::NoDescriptors {
                call,
                limit,
                needed: MOST_DESCRIPTORS,
            },
            None => Error::Os { call, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Errno;

    #[test]
    fn a_lack_of_descriptors_is_named_whichever_call_meets_it() {
        for (errno, parts) in [
            (Errno::EMFILE, ["this process has no file", "RLIMIT_NOFILE"]),
            (
                Errno::ENFILE,
                ["the system has no open file", "fs.file-max"],
            ),
        ] {
            let error = Error::os("open of board", errno);
            assert!(matches!(error, Error::NoDescriptors { .. }), "{error:?}");
            let message = error.to_string();
            for part in parts
                .into_iter()
                .chain(["open of board", "up to 3 at once"])
            {
                assert!(message.contains(part), "no {part:?} in {message:?}");
            }
        }
        let other = Error::os("open of board", Errno::EIO);
        assert!(matches!(other, Error::Os { .. }), "{other:?}");
    }
}
