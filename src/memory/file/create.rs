//! Creation of files and memfds: a value appears whole or not at all.
//!
//! A file is built without a name (`O_TMPFILE`). If the file system does not support this, the file
//! is built under a temporary name. The file gets its final name in one step, which fails if that
//! name exists. No process ever opens an unfinished file.

use crate::Error;
use crate::memory::file::checks::through_proc;
use crate::memory::file::header::FileLayout;
use crate::memory::file::open::dup;
use crate::memory::map::reserve;
use crate::memory::placeable::Placeable;
use crate::memory::reject_remote_fs;
use crate::memory::{Map, Shared, ShmSafe};
use crate::sys::files::{self, FileLock};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
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
    /// contains a NUL, [`Error::NoSpace`] if the memory cannot be reserved, and [`Error::TooLarge`]
    /// if the value is too large.
    pub fn memfd(name: &str, value: T) -> Result<Self, Error> {
        let plan = FileLayout::of::<T>(1)?;
        let map = Map::memfd(name, plan.length()?)?;
        // SAFETY: the map is new, writable and as long as the plan requires, and no other thread or
        // process has seen it.
        unsafe { place(map, &plan, &mut copy_of(value)) }
    }

    /// Creates the file `path` with `value` in it. The file appears whole or not at all.
    ///
    /// The file has mode 0600. Its blocks are reserved, so that a full disk is an error here and
    /// does not raise SIGBUS later.
    ///
    /// # Errors
    ///
    /// - [`Error::AlreadyExists`] if `path` exists.
    /// - [`Error::NoFileName`] if `path` does not end in a file name.
    /// - [`Error::NoSpace`] if the disk is full.
    /// - [`Error::ProcMissing`] if no `/proc` is mounted.
    /// - [`Error::FileSizeLimit`] if the file would be larger than `RLIMIT_FSIZE` allows.
    /// - [`Error::RemoteFileSystem`] if the directory lies on NFS, 9p, FUSE or a similar file
    ///   system.
    /// - [`Error::OverAligned`], [`Error::TooLarge`] or [`Error::RobustListUnusable`] if the value
    ///   cannot be placed.
    /// - [`Error::Os`] if another system call fails.
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    pub unsafe fn create(path: impl AsRef<Path>, value: T) -> Result<Self, Error> {
        let path = path.as_ref();
        let built = Unpublished::new(path, &FileLayout::of::<T>(1)?, &mut copy_of(value))?;
        match built.publish(path)? {
            Ok(shared) => Ok(shared),
            Err(_) => Err(Error::AlreadyExists { path: path.into() }),
        }
    }

    /// Opens the file `path`, or creates it with `value()` in it if it does not exist.
    ///
    /// If several processes race, exactly one creates the file. The others may call `value` too;
    /// its result is discarded there.
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
        let path = path.as_ref();
        // SAFETY: guaranteed by the caller.
        if let Some(shared) = unsafe { Self::open_if_there(path) }? {
            return Ok(shared);
        }
        let mut value = Some(value);
        let mut built = Unpublished::new(path, &FileLayout::of::<T>(1)?, &mut |slot: *mut T| {
            if let Some(value) = value.take() {
                // SAFETY: `Unpublished` passes memory for a `T` in a new map, and calls this
                // closure once.
                unsafe { slot.write(value()) };
            }
        })?;
        loop {
            match built.publish(path)? {
                Ok(shared) => return Ok(shared),
                Err(unpublished) => built = unpublished,
            }
            // Another process has created the file first. Open that file, unless it has been
            // removed since.
            // SAFETY: guaranteed by the caller.
            if let Some(shared) = unsafe { Self::open_if_there(path) }? {
                return Ok(shared);
            }
        }
    }
}

impl<T: ShmSafe> Shared<[T]> {
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
        mut value: impl FnMut(usize) -> T,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        let built = Unpublished::new(
            path,
            &FileLayout::of::<[T]>(len)?,
            &mut |slots: *mut [T]| {
                for index in 0..len {
                    // SAFETY: `Unpublished` passes memory for `len` values in a new map.
                    unsafe { slots.cast::<T>().add(index).write(value(index)) };
                }
            },
        )?;
        match built.publish(path)? {
            Ok(shared) => Ok(shared),
            Err(_) => Err(Error::AlreadyExists { path: path.into() }),
        }
    }
}

/// Returns a closure that copies `value` to its final place, and is called once.
///
/// Callees take the closure by reference. If each call on the way copied a large value, the copies
/// would not fit on the stack.
fn copy_of<T: ShmSafe>(value: T) -> impl FnMut(*mut T) {
    // The value is moved to the map bit by bit, so this copy must not be dropped.
    let value = ManuallyDrop::new(value);
    // SAFETY: by the contract of `place` and by `Unpublished`, `slot` is memory for a `T` in a new
    // map.
    move |slot| unsafe { slot.copy_from_nonoverlapping(&raw const *value, 1) }
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
    write: &mut dyn FnMut(*mut T),
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
    fn new(path: &Path, plan: &FileLayout, write: &mut dyn FnMut(*mut T)) -> Result<Self, Error> {
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
        write: &mut dyn FnMut(*mut T),
    ) -> Result<Self, Error> {
        let failed = |source| creation_failed(path, source);
        // The creator is the first user. No other process has seen the file, or each has released
        // its lock (see `Temporary::new`).
        files::try_flock(&file, FileLock::Shared).map_err(failed)?;
        // The umask may have removed permissions.
        file.set_permissions(fs::Permissions::from_mode(files::MODE))
            .map_err(failed)?;
        let length = plan.length()?;
        // With the blocks reserved, a full disk is an error here and does not raise SIGBUS later.
        // (`length` checks that the length is valid for a file.)
        reserve(file.as_fd(), 0, length as u64, Some(path))?;
        // SAFETY: the file is new and no other process knows it.
        let map = unsafe { Map::file_shared(dup(&file)?, length) }?;
        // SAFETY: as above; `write` comes from the constructors, which write a whole value.
        let shared = unsafe { place(map, plan, write) }?;
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
    if metadata.is_file() && metadata.uid() == files::effective_user() {
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
