//! Creation of files and memfds: a value appears whole or not at all.
//!
//! A file is built without a name (`O_TMPFILE`). If the file system does not support this, the file
//! is built under a temporary name. The file gets its final name in one step, which fails if that
//! name exists. No process ever opens an unfinished file.

use crate::Error;
use crate::memory::file::checks::through_proc;
use crate::memory::file::header::FileLayout;
use crate::memory::file::open::dup;
use crate::memory::map::{length_in_file_system, reserve};
use crate::memory::placeable::Placeable;
use crate::memory::reject_remote_fs;
use crate::memory::shared::{Write, copy_of, each, left_zero};
use crate::memory::{Map, Shared, ShmSafe};
use crate::sys::boot::mark;
use crate::sys::files::{self, FileLock};
use crate::sys::user::effective_user;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

impl<T: ShmSafe> Shared<T> {
    /// Places `value` in sealed memory that has a descriptor, for unrelated processes.
    ///
    /// Send the descriptor ([`as_fd`](Self::as_fd)) over a Unix socket, and open it in the
    /// receiving process with [`from_fd`](Self::from_fd). `/proc/PID/maps` shows `name`.
    ///
    /// # Errors
    ///
    /// As [`Shared::anonymous`]. Also returns [`Error::MemfdName`] if `name` is too long or
    /// contains a NUL, [`Error::NoSpace`] if the memory cannot be reserved, [`Error::TooLarge`]
    /// if the value is too large, and [`Error::NoDescriptors`] if no descriptor is left.
    pub fn memfd(name: &str, value: T) -> Result<Self, Error> {
        memfd_with(name, 1, &mut copy_of(value))
    }

    /// Places an all-zero value in sealed memory, as [`memfd`](Self::memfd) does. The value is
    /// never built on the stack, so it may be larger than the stack.
    ///
    /// A type for which zero bytes are not the initial state does not compile, as for
    /// [`zeroed`](Self::zeroed).
    ///
    /// # Errors
    ///
    /// As [`memfd`](Self::memfd).
    pub fn memfd_zeroed(name: &str) -> Result<Self, Error> {
        memfd_with(name, 1, &mut const { left_zero::<T, T>() })
    }

    /// Creates the file `path` with `value` in it. The file appears whole or not at all.
    ///
    /// The file has mode 0600. Its blocks are reserved, so that a full disk is an error here and
    /// does not raise SIGBUS later, with two exceptions:
    ///
    /// - A snapshot that contains the file, or a copy that shares its blocks (`cp --reflink`),
    ///   undoes the reservation, on btrfs and on XFS. The next write to each block needs another
    ///   block, and **raises SIGBUS** if the disk is full.
    /// - A file that another program made or copied, for example by `cp`, has no reservation. Only
    ///   the creation reserves blocks, and opening does not.
    ///
    /// On btrfs, the file is created without copy-on-write (`chattr +C`), because every write would
    /// need another block otherwise. Such a file has neither checksums nor compression. On a file
    /// system that always copies blocks (ZFS, bcachefs, NILFS2, UBIFS), the creation is refused.
    ///
    /// # Errors
    ///
    /// - [`Error::AlreadyExists`] if `path` exists.
    /// - [`Error::NoFileName`] if `path` does not end in a file name.
    /// - [`Error::NoSpace`] if the disk is full.
    /// - [`Error::CopyOnWrite`] if the file system copies each block that is written, so that no
    ///   block can be reserved.
    /// - [`Error::ProcMissing`] if no `/proc` is mounted.
    /// - [`Error::FileSizeLimit`] if the file would be larger than `RLIMIT_FSIZE` allows.
    /// - [`Error::RemoteFileSystem`] if the directory lies on NFS, 9p, FUSE or a similar file
    ///   system.
    /// - [`Error::OverAligned`], [`Error::TooLarge`], [`Error::RobustListUnusable`] or
    ///   [`Error::PidNamespaceUnknown`] if the value cannot be placed.
    /// - [`Error::NoDescriptors`] if fewer than three descriptors are left. Nothing is left behind
    ///   then.
    /// - [`Error::Os`] if another system call fails.
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    pub unsafe fn create(path: impl AsRef<Path>, value: T) -> Result<Self, Error> {
        create_with(path.as_ref(), 1, &mut copy_of(value))
    }

    /// Creates the file `path` with an all-zero value in it, as [`create`](Self::create) does. The
    /// value is never built on the stack, so it may be larger than the stack.
    ///
    /// A type for which zero bytes are not the initial state does not compile, as for
    /// [`zeroed`](Self::zeroed).
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    pub unsafe fn create_zeroed(path: impl AsRef<Path>) -> Result<Self, Error> {
        create_with(path.as_ref(), 1, &mut const { left_zero::<T, T>() })
    }

    /// Opens the file `path`, or creates it with `value()` in it if it does not exist.
    ///
    /// If several processes race, exactly one creates the file. The others may call `value` too;
    /// its result is discarded there.
    ///
    /// `value` builds the value on the stack. For a value that is larger than the stack, use
    /// [`open_or_create_zeroed`](Self::open_or_create_zeroed), or a slice and
    /// [`open_or_create_from_fn`](Shared::open_or_create_from_fn).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create`](Self::create), except `NotFound` and `AlreadyExists`.
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    pub unsafe fn open_or_create(
        path: impl AsRef<Path>,
        value: impl FnOnce() -> T,
    ) -> Result<Self, Error> {
        let mut value = Some(value);
        // SAFETY: guaranteed by the caller.
        unsafe { open_or_create_with(path.as_ref(), 1, &mut |slot| write_once(slot, &mut value)) }
    }

    /// Opens the file `path`, or creates it with an all-zero value in it if it does not exist.
    ///
    /// This is [`open_or_create`](Self::open_or_create) for a value that may be larger than the
    /// stack. A type for which zero bytes are not the initial state does not compile, as for
    /// [`zeroed`](Self::zeroed).
    ///
    /// # Errors
    ///
    /// As [`open_or_create`](Self::open_or_create).
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Shared, SharedCounter};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("counters");
    /// // SAFETY: no other process knows the file.
    /// let counters =
    ///     unsafe { Shared::<[SharedCounter; 2 << 20]>::open_or_create_zeroed(&path)? }; // 16 MiB
    /// counters[1_000_000].add(1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn open_or_create_zeroed(path: impl AsRef<Path>) -> Result<Self, Error> {
        // SAFETY: guaranteed by the caller.
        unsafe { open_or_create_with(path.as_ref(), 1, &mut const { left_zero::<T, T>() }) }
    }
}

impl<T: ShmSafe> Shared<[T]> {
    /// Places `len` values in sealed memory, as [`Shared::memfd`] does. The element at index `i` is
    /// `value(i)`.
    ///
    /// # Errors
    ///
    /// As [`Shared::memfd`].
    pub fn memfd_from_fn(
        name: &str,
        len: usize,
        value: impl FnMut(usize) -> T,
    ) -> Result<Self, Error> {
        memfd_with(name, len, &mut each(value))
    }

    /// Places `len` all-zero values in sealed memory, as [`Shared::memfd_zeroed`] does.
    ///
    /// # Errors
    ///
    /// As [`Shared::memfd`].
    pub fn memfd_zeroed_slice(name: &str, len: usize) -> Result<Self, Error> {
        memfd_with(name, len, &mut const { left_zero::<T, [T]>() })
    }

    /// Creates the file `path` with `len` values in it, as [`Shared::create`] does. The element at
    /// index `i` is `value(i)`.
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
        value: impl FnMut(usize) -> T,
    ) -> Result<Self, Error> {
        create_with(path.as_ref(), len, &mut each(value))
    }

    /// Creates the file `path` with `len` all-zero values in it, as [`Shared::create_zeroed`] does.
    ///
    /// # Errors
    ///
    /// As [`Shared::create`].
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    pub unsafe fn create_zeroed_slice(path: impl AsRef<Path>, len: usize) -> Result<Self, Error> {
        create_with(path.as_ref(), len, &mut const { left_zero::<T, [T]>() })
    }

    /// Opens the file `path`, or creates it with `len` values in it if it does not exist. The
    /// element at index `i` of a new file is `value(i)`.
    ///
    /// If several processes race, exactly one creates the file, as for
    /// [`Shared::open_or_create`]. The elements are built one at a time in their final place.
    ///
    /// # Errors
    ///
    /// As [`Shared::open_or_create`]. Also returns [`Error::LayoutMismatch`], with both lengths, if
    /// the slice in the file has another length. [`open`](Self::open) accepts any length.
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Shared, SharedCounter};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("workers");
    /// let workers = 3;
    /// // SAFETY: no other process knows the file.
    /// let done = unsafe {
    ///     Shared::<[SharedCounter]>::open_or_create_from_fn(&path, workers, |_| {
    ///         SharedCounter::new(0)
    ///     })?
    /// };
    /// assert_eq!(done.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn open_or_create_from_fn(
        path: impl AsRef<Path>,
        len: usize,
        value: impl FnMut(usize) -> T,
    ) -> Result<Self, Error> {
        // SAFETY: guaranteed by the caller.
        unsafe { open_or_create_with(path.as_ref(), len, &mut each(value)) }
    }

    /// Opens the file `path`, or creates it with `len` all-zero values in it if it does not exist.
    ///
    /// # Errors
    ///
    /// As [`open_or_create_from_fn`](Self::open_or_create_from_fn).
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    pub unsafe fn open_or_create_zeroed_slice(
        path: impl AsRef<Path>,
        len: usize,
    ) -> Result<Self, Error> {
        // SAFETY: guaranteed by the caller.
        unsafe { open_or_create_with(path.as_ref(), len, &mut const { left_zero::<T, [T]>() }) }
    }
}

fn memfd_with<T: ?Sized + Placeable>(
    name: &str,
    count: usize,
    write: Write<'_, T>,
) -> Result<Shared<T>, Error> {
    let plan = FileLayout::of::<T>(count)?;
    let map = Map::memfd(name, plan.length()?)?;
    // SAFETY: the map is new, writable and as long as the plan requires, and no other thread or
    // process has seen it. `write` writes a whole value.
    unsafe { place(map, &plan, write) }
}

fn create_with<T: ?Sized + Placeable>(
    path: &Path,
    count: usize,
    write: Write<'_, T>,
) -> Result<Shared<T>, Error> {
    let built = Unpublished::new(path, &FileLayout::of::<T>(count)?, write)?;
    match built.publish(path)? {
        Ok(shared) => Ok(shared),
        Err(_) => Err(Error::AlreadyExists { path: path.into() }),
    }
}

/// Opens the file, or creates it. A slice in an existing file must have `count` elements.
///
/// # Safety
///
/// As for [`Shared::open`].
unsafe fn open_or_create_with<T: ?Sized + Placeable>(
    path: &Path,
    count: usize,
    write: Write<'_, T>,
) -> Result<Shared<T>, Error> {
    // SAFETY: guaranteed by the caller.
    if let Some(shared) = unsafe { Shared::open_if_there(path, Some(count)) }? {
        return Ok(shared);
    }
    let mut built = Unpublished::new(path, &FileLayout::of::<T>(count)?, write)?;
    loop {
        match built.publish(path)? {
            Ok(shared) => return Ok(shared),
            Err(unpublished) => built = unpublished,
        }
        // Another process has created the file first. Open that file, unless it has been removed
        // since.
        // SAFETY: guaranteed by the caller.
        if let Some(shared) = unsafe { Shared::open_if_there(path, Some(count)) }? {
            return Ok(shared);
        }
    }
}

/// Writes `value()` to its final place.
///
/// Not inlined: the stack frames of callers have no space for a `T` then, and a file with a large
/// `T` can be opened on a small stack.
#[inline(never)]
fn write_once<T: ShmSafe>(slot: *mut T, value: &mut Option<impl FnOnce() -> T>) {
    if let Some(value) = value.take() {
        // SAFETY: by the contract of `Write`, `slot` is memory for a `T` in a new map.
        unsafe { slot.write(value()) };
    }
}

/// Writes the header and the value into a new map, and initializes the primitives.
///
/// # Safety
///
/// The map must be new, writable and as long as the plan for a `T` requires, and no other thread or
/// process may have seen it. `write` must write a whole `T`.
unsafe fn place<T: ?Sized + Placeable>(
    map: Map,
    plan: &FileLayout,
    write: Write<'_, T>,
) -> Result<Shared<T>, Error> {
    plan.write(&map)?;
    // SAFETY: the plan's length includes space for the value after the header. The memory is not
    // read before it is written.
    let place = unsafe { Shared::<T>::place_in(&map, plan.value_offset(), plan.count()) };
    write(place);
    // SAFETY: the value is whole now; guaranteed by the caller.
    unsafe { Shared::init_new(map, plan.value_offset(), plan.count()) }
}

/// A file that contains a value, and that has no name or only a temporary one.
struct Unpublished<T: ?Sized + Placeable> {
    shared: Shared<T>,
    file: File,
    /// The temporary name under which the file was built, if any.
    temporary: Option<Temporary>,
}

impl<T: ?Sized + Placeable> Unpublished<T> {
    fn new(path: &Path, plan: &FileLayout, write: Write<'_, T>) -> Result<Self, Error> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::NoFileName { path: path.into() })?;
        let directory = files::directory_of(path);
        let failed = |source| creation_failed(path, source);
        reject_remote_fs(&files::open_directory(directory).map_err(failed)?, path)?;
        match files::open_tmpfile(directory) {
            Ok(file) => Self::fill(file, None, path, plan, write),
            Err(error) if lacks_tmpfile(&error) => {
                remove_stale_temporaries(directory, name);
                let (file, temporary) = Temporary::new(directory, name).map_err(failed)?;
                Self::fill(file, Some(temporary), path, plan, write)
            }
            Err(source) => Err(failed(source)),
        }
    }

    fn fill(
        file: File,
        temporary: Option<Temporary>,
        path: &Path,
        plan: &FileLayout,
        write: Write<'_, T>,
    ) -> Result<Self, Error> {
        let failed = |source| creation_failed(path, source);
        // The creator is the first user. No other process has seen the file, or each has released
        // its lock (see `Temporary::new`).
        files::try_flock(&file, FileLock::Shared).map_err(failed)?;
        // The umask may have removed permissions.
        file.set_permissions(fs::Permissions::from_mode(files::MODE))
            .map_err(failed)?;
        mark(&file);
        let length = plan.length()?;
        // With the blocks reserved, a full disk is an error here and does not raise SIGBUS later.
        let in_file_system = length_in_file_system(file.as_fd(), length as u64)?;
        reserve(file.as_fd(), 0, in_file_system, Some(path))?;
        // SAFETY: the file is new and no other process knows it.
        let map = unsafe { Map::file_shared(dup(&file)?, length) }?;
        // SAFETY: as above; `write` comes from the constructors, which write a whole value.
        let shared = unsafe { place(map, plan, write) }?.opened_by(path)?;
        Ok(Unpublished {
            shared,
            file,
            temporary,
        })
    }

    /// Gives the file its final name. Returns `Ok(Err(self))` if that name exists.
    fn publish(self, path: &Path) -> Result<Result<Shared<T>, Self>, Error> {
        if files::open_path(path).is_ok() {
            return Ok(Err(self));
        }
        // The contents must be on the disk before the name is: a named file is then whole even
        // after a power failure.
        self.file
            .sync_all()
            .map_err(|source| creation_failed(path, source))?;
        let outcome = match &self.temporary {
            None => files::link(&self.file, path),
            Some(Temporary(temporary)) => files::rename_new(temporary, path),
        };
        match outcome {
            Ok(()) => Ok(Ok(self.shared)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Err(self)),
            Err(source) => {
                let call = format!("publishing {}", path.display());
                Err(through_proc(call, source, path))
            }
        }
    }
}

/// The name of an unfinished file. The file is removed when this is dropped.
struct Temporary(PathBuf);

impl Temporary {
    /// Creates a new file under a name that identifies it as unfinished, so that the next creator
    /// can remove it if this process dies. The file is locked as long as its creator lives.
    fn new(directory: &Path, name: &OsStr) -> io::Result<(File, Self)> {
        loop {
            let mut temporary = temporary_prefix(name);
            temporary.push(format!("{:016x}", files::random()?));
            let path = directory.join(temporary);
            let file = files::create_exclusive(&path)?;
            let temporary = Temporary(path);
            // Before the file is locked, it appears abandoned: another process may be about to
            // remove it, or may have removed it.
            if files::try_flock(&file, FileLock::Shared)? && file.metadata()?.nlink() > 0 {
                return Ok((file, temporary));
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the file got its final name, nothing is left to remove.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes unfinished files of creators that died. No process holds the lock of such a file.
fn remove_stale_temporaries(directory: &Path, name: &OsStr) {
    let prefix = temporary_prefix(name);
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let is_temporary = entry
            .file_name()
            .as_bytes()
            .strip_prefix(prefix.as_bytes())
            .is_some_and(|random| random.len() == 16 && random.iter().all(u8::is_ascii_hexdigit));
        if is_temporary {
            let _ = remove_if_stale(&entry.path());
        }
    }
}

fn remove_if_stale(path: &Path) -> io::Result<()> {
    let found = files::open_path(path)?;
    let metadata = found.metadata()?;
    if metadata.is_file() && metadata.uid() == effective_user() {
        let file = files::reopen(&found)?;
        // The lock is held until the name is gone. Otherwise the file's creator could lock it, and
        // keep it, between the check and the removal.
        if files::try_flock(&file, FileLock::Exclusive)? {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn temporary_prefix(name: &OsStr) -> OsString {
    // This limit keeps the whole name within 255 bytes, the longest file name. Two long names may
    // share a prefix, which is harmless.
    const LONGEST: usize = 200;
    let name = name.as_bytes();
    let mut prefix = OsString::from(".");
    prefix.push(OsStr::from_bytes(&name[..name.len().min(LONGEST)]));
    prefix.push(".pshared-unfinished-");
    prefix
}

fn lacks_tmpfile(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)
    )
}

fn creation_failed(path: &Path, source: io::Error) -> Error {
    Error::os(format!("creation of {}", path.display()), source)
}
