//! Values in files and memfds: created whole or not at all, opened with checks, and reset by whoever is alone with one.
//!
//! **Creation.** A file is built without a name (`O_TMPFILE`), or, where the file system has no such files, under a name of
//! its own, and gets its real name in one step that fails if something has it already. Nobody opens half a file.
//!
//! **Users.** Each opener holds a shared `flock` on its own open file description for as long as its map lives; children
//! share it, so it is dropped by closing and never by `LOCK_UN`. Whoever gets it exclusively is alone: what looks held is
//! then held by the dead of another time, and is reset. A reset sets `dirty` first and clears it last, and nobody touches
//! the value before holding the shared lock; so one that was killed half way is finished by the next opener.

use super::header::{Found, Header, Plan};
use super::placed::Placed;
use super::{Map, Primitive, Shared, ShmSafe, Walk};
use crate::Error;
use crate::sys::files::{self, FileLock};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// How long an opener waits for somebody else's reset, which takes microseconds unless its process is stopped in it.
const PATIENCE: Duration = Duration::from_secs(10);

impl<T: ShmSafe> Shared<T> {
    /// Places `value` in sealed memory that has a descriptor, for processes that are no relatives: hand the descriptor over
    /// a Unix socket ([`as_fd`](Self::as_fd)), and open it there with [`from_fd`](Self::from_fd). `name` is shown in
    /// `/proc/PID/maps`.
    ///
    /// # Errors
    ///
    /// As [`Shared::anonymous`], and where there is no room for it in memory.
    pub fn memfd(name: &str, value: T) -> Result<Self, Error> {
        let plan = Plan::of::<T>(1)?;
        let map = Map::memfd(name, plan.length()?)?;
        // SAFETY: the map is new, writable, as long as the plan asks, and nobody else has seen it.
        unsafe { place(map, &plan, |slot: *mut T| slot.write(value)) }
    }

    /// Creates the file `path` with `value` in it. The file appears whole, or not at all.
    ///
    /// Its mode is 0600; its blocks are reserved, so that a full disk is an error here and not a bus error later.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`]; [`Error::DistantFileSystem`] where the directory lies on NFS, 9p, FUSE or their kin;
    /// [`Error::Os`] where the kernel refuses; [`Error::RobustListUnusable`].
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    pub unsafe fn create(path: impl AsRef<Path>, value: T) -> Result<Self, Error> {
        let path = path.as_ref();
        let built = Built::new(path, Plan::of::<T>(1)?, |slot: *mut T| {
            // SAFETY: `Built` gives a place for a `T` in a new map.
            unsafe { slot.write(value) };
        })?;
        match built.publish(path)? {
            Ok(shared) => Ok(shared),
            Err(_) => Err(Error::AlreadyExists { path: path.into() }),
        }
    }

    /// Opens the file `path`, or creates it with `value()` in it where there is none. Of any number of processes that race,
    /// exactly one creates.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create`](Self::create), without their `NotFound` and `AlreadyExists`.
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    pub unsafe fn open_or_create(
        path: impl AsRef<Path>,
        value: impl FnOnce() -> T,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        if let Some(shared) = Self::open_if_there(path)? {
            return Ok(shared);
        }
        let mut built = Built::new(path, Plan::of::<T>(1)?, |slot: *mut T| {
            // SAFETY: `Built` gives a place for a `T` in a new map.
            unsafe { slot.write(value()) };
        })?;
        loop {
            match built.publish(path)? {
                Ok(shared) => return Ok(shared),
                Err(unpublished) => built = unpublished,
            }
            // Somebody was faster; unless the file has been removed since, it is theirs that we use.
            if let Some(shared) = Self::open_if_there(path)? {
                return Ok(shared);
            }
        }
    }
}

impl<T: ShmSafe> Shared<[T]> {
    /// As [`Shared::create`], for `len` values of which the one at index `i` is `value(i)`.
    ///
    /// # Errors
    ///
    /// As [`Shared::create`].
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    pub unsafe fn create_from_fn(
        path: impl AsRef<Path>,
        len: usize,
        mut value: impl FnMut(usize) -> T,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        let built = Built::new(path, Plan::of::<[T]>(len)?, |slots: *mut [T]| {
            for index in 0..len {
                // SAFETY: `Built` gives a place for `len` values in a new map.
                unsafe { slots.cast::<T>().add(index).write(value(index)) };
            }
        })?;
        match built.publish(path)? {
            Ok(shared) => Ok(shared),
            Err(_) => Err(Error::AlreadyExists { path: path.into() }),
        }
    }
}

impl<T: ?Sized + Placed> Shared<T> {
    /// Opens the value in the file `path`, which [`create`](Shared::create) or
    /// [`open_or_create`](Shared::open_or_create) made.
    ///
    /// Everything is checked before the value is used, and a file that fails a check is left as it was: it is a regular file
    /// under one name and no symbolic link, of the effective user, with no rights for others, with the length, magic, format
    /// version and layout of a `T`.
    ///
    /// The first user after all others are gone, by a reboot or by their deaths, finds itself alone: locks that look held
    /// are reset, and their next holders are told of a death.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::SymbolicLink`], [`Error::NotARegularFile`], [`Error::OtherOwner`],
    /// [`Error::OpenToOthers`], [`Error::ManyNames`]; [`Error::NotAPlacedValue`], [`Error::WrongLength`],
    /// [`Error::OtherVersion`], [`Error::OtherLayout`] (which names the first field that differs);
    /// [`Error::OtherPidNamespace`] and [`Error::OtherMachine`] while others use the file; [`Error::DistantFileSystem`];
    /// [`Error::Busy`]; [`Error::Os`].
    ///
    /// # Safety
    ///
    /// While the value is in use, by this process or another, the file is changed by nothing but this crate: nobody writes
    /// to it, shortens it (the next touch would be a bus error), or copies an old state over it. Whoever may write the file
    /// is trusted: this is no security boundary between processes.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Shared, SharedCounter};
    ///
    /// let path = std::env::temp_dir().join(format!("pshared-doc-open-{}", std::process::id()));
    /// // SAFETY: nobody else knows the file.
    /// let (ours, theirs) = unsafe {
    ///     (Shared::create(&path, SharedCounter::new(1))?, Shared::<SharedCounter>::open(&path)?)
    /// };
    /// ours.add(1);
    /// assert_eq!(theirs.get(), 2);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::open_if_there(path)?.ok_or_else(|| Error::NotFound { path: path.into() })
    }

    /// Opens a value in sealed memory by a descriptor that another process made with [`Shared::memfd`].
    ///
    /// # Errors
    ///
    /// [`Error::NotMemfd`], [`Error::MissingSeals`] and its kin where the descriptor is none of a sealed memfd; the errors of
    /// [`open`](Self::open) that concern what lies in it.
    ///
    /// # Safety
    ///
    /// The memory was made by this crate and is changed by nothing else; no process closes the descriptor while it uses the
    /// map. Whoever has the descriptor is trusted.
    pub unsafe fn from_fd(descriptor: OwnedFd) -> Result<Self, Error> {
        let path = Path::new("the memfd");
        // SAFETY: the caller's promise.
        let map = unsafe { Map::from_memfd(descriptor) }?;
        let file = duplicate(&map)?;
        let found = Found::read(&file, map.len() as u64, path)?;
        let plan = found.check::<T>(path)?;
        // SAFETY: the map starts with the header that was just checked.
        refuse_strangers(unsafe { Header::of(&map) }, path)?;
        // SAFETY: the header says that a `T` lies there, and the caller that the header tells the truth.
        Ok(unsafe { Self::adopt(map, plan.value_offset(), plan.count()) })
    }

    /// The descriptor of a value in sealed memory or in a file; `None` for anonymous memory.
    ///
    /// # Safety
    ///
    /// Whoever gets it changes the memory by this crate only, and nobody closes the descriptor, unlocks it, or replaces it
    /// by `dup2(2)`, while this value lives.
    pub unsafe fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.map().descriptor()
    }

    fn open_if_there(path: &Path) -> Result<Option<Self>, Error> {
        let found = match files::find(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::os(format!("open of {}", path.display()), source)),
        };
        let file = open_checked(&found, path)?;
        let length = checked_metadata(&file, path)?.len();
        let plan = Found::read(&file, length, path)?.check::<T>(path)?;
        let alone = join_users(&file, path)?;
        // SAFETY: the file has the length of the plan, and by the caller's promise nobody shortens it.
        let map = unsafe { Map::file_shared(file.into(), plan.length()?) }?;
        // SAFETY: a `T` lies there by the header, and the caller promises that it tells the truth.
        let shared = unsafe { Self::adopt(map, plan.value_offset(), plan.count()) };
        shared.settle(alone, path)?;
        Ok(Some(shared))
    }

    /// Resets the value where the caller is alone with it, and makes sure that a reset of somebody else is finished.
    fn settle(&self, mut alone: bool, path: &Path) -> Result<(), Error> {
        // SAFETY: a file's map starts with a header, which was checked.
        let header = unsafe { Header::of(self.map()) };
        loop {
            if alone {
                self.reset(header);
                // From here on beside others. Somebody may be alone between the two, and reset once more: nobody has
                // touched the value since.
                wait_for_lock(self.map(), path)?;
            }
            // The pair of the release in `reset`.
            if header.dirty.load(Acquire) == 0 {
                return refuse_strangers(header, path);
            }
            // A reset died half way, and its lock with it. Finish it, as soon as nobody else looks.
            alone = lock_of(self.map(), path, FileLock::Exclusive)?;
            if !alone {
                wait_for_lock(self.map(), path)?;
            }
        }
    }

    fn reset(&self, header: &Header) {
        header.dirty.store(1, Relaxed);
        header.stamp();
        self.walk_all(&mut Walk::new(&mut |_, primitive: &dyn Primitive| {
            // SAFETY: the caller holds the file's lock exclusively, so nobody uses the value.
            unsafe { primitive.reset() };
        }));
        header.dirty.store(0, Release);
    }
}

/// Writes the header and the value into a new map, and arms it.
///
/// # Safety
///
/// The map is new, writable, as long as the plan for a `T` asks, and nobody else has seen it; `write` writes a whole `T`.
unsafe fn place<T: ?Sized + Placed>(
    map: Map,
    plan: &Plan,
    write: impl FnOnce(*mut T),
) -> Result<Shared<T>, Error> {
    plan.write(&map)?;
    // SAFETY: the plan's length has room for the value behind the header. It is not read before it is written.
    let place = unsafe { Shared::<T>::place_in(&map, plan.value_offset(), plan.count()) };
    write(place);
    // SAFETY: the value is whole now, by the caller's promise.
    unsafe { Shared::arm_new(map, plan.value_offset(), plan.count()) }
}

/// A file with a value in it that has no name, or not the right one yet.
struct Built<T: ?Sized + Placed> {
    shared: Shared<T>,
    file: File,
    /// The name it was built under, where it has one.
    temporary: Option<Temporary>,
}

/// The name of an unfinished file, removed when it is dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the file got its real name there is nothing left to remove.
        let _ = fs::remove_file(&self.0);
    }
}

impl<T: ?Sized + Placed> Built<T> {
    fn new(path: &Path, plan: Plan, write: impl FnOnce(*mut T)) -> Result<Self, Error> {
        let name = path.file_name().ok_or_else(|| Error::NoFileName { path: path.into() })?;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        match files::nameless(directory) {
            Ok(file) => Self::fill(file, None, path, &plan, write),
            Err(error) if has_no_nameless_files(&error) => {
                Self::under_a_temporary_name(directory, name, path, plan, write)
            }
            Err(source) => Err(Error::os(format!("creation of {}", path.display()), source)),
        }
    }

    /// Builds the file under a name that tells what it is for, so that the next creator can remove it if this one dies.
    fn under_a_temporary_name(
        directory: &Path,
        name: &OsStr,
        path: &Path,
        plan: Plan,
        write: impl FnOnce(*mut T),
    ) -> Result<Self, Error> {
        let failed = |source| Error::os(format!("creation of {}", path.display()), source);
        remove_what_the_dead_left(directory, name);
        let mut temporary = temporary_prefix(name);
        temporary.push(format!("{:016x}", files::random().map_err(failed)?));
        let temporary = directory.join(temporary);
        let file = files::named(&temporary).map_err(failed)?;
        Self::fill(file, Some(Temporary(temporary)), path, &plan, write)
    }

    fn fill(
        file: File,
        temporary: Option<Temporary>,
        path: &Path,
        plan: &Plan,
        write: impl FnOnce(*mut T),
    ) -> Result<Self, Error> {
        let failed = |source| Error::os(format!("creation of {}", path.display()), source);
        refuse_distant(&file, path)?;
        // Nobody else knows the file, so the lock is free; it says that this creator lives.
        files::try_flock(&file, FileLock::Shared).map_err(failed)?;
        // The umask may have taken rights away.
        file.set_permissions(fs::Permissions::from_mode(files::MODE)).map_err(failed)?;
        let length = plan.length()?;
        files::reserve(&file, length as u64).map_err(|source| Error::NoRoom {
            path: path.into(),
            length: length as u64,
            source,
        })?;
        let second = file.try_clone().map_err(failed)?;
        // SAFETY: the file is new and nobody else knows it.
        let map = unsafe { Map::file_shared(second.into(), length) }?;
        // SAFETY: as above; and `write` is the constructors'.
        let shared = unsafe { place(map, plan, write) }?;
        Ok(Built { shared, file, temporary })
    }

    /// Gives the file its name; gives itself back where something has that name already.
    fn publish(self, path: &Path) -> Result<Result<Shared<T>, Self>, Error> {
        let outcome = match &self.temporary {
            None => files::link(&self.file, path),
            Some(Temporary(temporary)) => files::rename_new(temporary, path),
        };
        match outcome {
            Ok(()) => Ok(Ok(self.shared)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Err(self)),
            Err(source) => Err(Error::os(format!("giving {} its name", path.display()), source)),
        }
    }
}

/// Removes unfinished files of creators that died: those whose lock nobody holds any more.
fn remove_what_the_dead_left(directory: &Path, name: &OsStr) {
    let prefix = temporary_prefix(name);
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let is_unfinished = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(prefix.as_encoded_bytes());
        if !is_unfinished {
            continue;
        }
        let path = entry.path();
        let abandoned = files::find(&path)
            .and_then(|found| files::open_found(&found))
            .and_then(|file| files::try_flock(&file, FileLock::Exclusive));
        if matches!(abandoned, Ok(true)) {
            let _ = fs::remove_file(path);
        }
    }
}

fn temporary_prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".pshared-unfinished-");
    prefix
}

fn has_no_nameless_files(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)
    )
}

fn open_checked(found: &File, path: &Path) -> Result<File, Error> {
    checked_metadata(found, path)?;
    let file = files::open_found(found)
        .map_err(|source| Error::os(format!("open of {}", path.display()), source))?;
    refuse_distant(&file, path)?;
    Ok(file)
}

/// The file's metadata, where they are those of a file that this crate made and its user keeps to itself.
fn checked_metadata(file: &File, path: &Path) -> Result<fs::Metadata, Error> {
    let metadata = file
        .metadata()
        .map_err(|source| Error::os(format!("stat of {}", path.display()), source))?;
    let path = PathBuf::from(path);
    let kind = metadata.file_type();
    if kind.is_symlink() {
        return Err(Error::SymbolicLink { path });
    }
    if !kind.is_file() {
        let found = match () {
            () if kind.is_dir() => "a directory",
            () if kind.is_fifo() => "a FIFO",
            () if kind.is_socket() => "a socket",
            () if kind.is_char_device() => "a character device",
            () => "a block device",
        };
        return Err(Error::NotARegularFile { path, found });
    }
    let user = files::effective_user();
    if metadata.uid() != user {
        return Err(Error::OtherOwner {
            path,
            found: metadata.uid(),
            expected: user,
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::OpenToOthers { path, mode });
    }
    if metadata.nlink() > 1 {
        return Err(Error::ManyNames {
            path,
            names: metadata.nlink(),
        });
    }
    Ok(metadata)
}

fn refuse_distant(file: &File, path: &Path) -> Result<(), Error> {
    match files::distant_file_system(file) {
        Ok(None) => Ok(()),
        Ok(Some(kind)) => Err(Error::DistantFileSystem {
            path: path.into(),
            kind,
        }),
        Err(source) => Err(Error::os(format!("statfs of {}", path.display()), source)),
    }
}

/// Becomes a user of the file: true where the caller is the only one, with the lock held exclusively.
fn join_users(file: &File, path: &Path) -> Result<bool, Error> {
    let failed = |source| Error::os(format!("flock of {}", path.display()), source);
    let since = Instant::now();
    let mut pause = Duration::from_micros(50);
    loop {
        if files::try_flock(file, FileLock::Exclusive).map_err(failed)? {
            return Ok(true);
        }
        if files::try_flock(file, FileLock::Shared).map_err(failed)? {
            return Ok(false);
        }
        // Somebody is alone with it, resetting.
        if since.elapsed() > PATIENCE {
            return Err(Error::Busy {
                path: path.into(),
                seconds: PATIENCE.as_secs(),
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Changes the lock of a map's descriptor.
fn lock_of(map: &Map, path: &Path, lock: FileLock) -> Result<bool, Error> {
    let file = duplicate(map)?;
    files::try_flock(&file, lock).map_err(|source| Error::os(format!("flock of {}", path.display()), source))
}

/// Makes a map's lock a shared one, waiting for whoever is alone with the file.
fn wait_for_lock(map: &Map, path: &Path) -> Result<(), Error> {
    let since = Instant::now();
    while !lock_of(map, path, FileLock::Shared)? {
        if since.elapsed() > PATIENCE {
            return Err(Error::Busy {
                path: path.into(),
                seconds: PATIENCE.as_secs(),
            });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A second descriptor of a map's open file description.
fn duplicate(map: &Map) -> Result<File, Error> {
    let descriptor = map
        .descriptor()
        .ok_or(Error::NoDescriptor)?
        .try_clone_to_owned()
        .map_err(|source| Error::os("fcntl(F_DUPFD_CLOEXEC)", source))?;
    Ok(File::from(descriptor))
}

/// Refuses a value whose users live in another PID namespace, or on another machine: thread ids in its lock words mean
/// other threads there.
fn refuse_strangers(header: &Header, path: &Path) -> Result<(), Error> {
    if !header.is_of_this_boot() {
        return Err(Error::OtherMachine { path: path.into() });
    }
    match header.other_namespace() {
        None => Ok(()),
        Some(found) => Err(Error::OtherPidNamespace {
            path: path.into(),
            found,
            own: crate::sys::own_namespace().into(),
        }),
    }
}
