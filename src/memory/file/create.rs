//! New files and memfds: a value appears whole or not at all.
//!
//! A file is built without a name (`O_TMPFILE`), or, where the file system has no such files, under a name of its own. It
//! gets its real name in one step that fails if something has that name already. Nobody opens half a file.

use crate::Error;
use crate::memory::file::header::FileLayout;
use crate::memory::file::open::dup;
use crate::memory::placed::Placeable;
use crate::memory::{Map, Shared, ShmSafe};
use crate::sys::files::{self, FileLock};
use crate::sys::mmap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

impl<T: ShmSafe> Shared<T> {
    /// Places `value` in sealed memory that has a descriptor, for processes that are no relatives: hand the descriptor over
    /// a Unix socket ([`as_fd`](Self::as_fd)), and open it there with [`from_fd`](Self::from_fd). `name` is shown in
    /// `/proc/PID/maps`.
    ///
    /// # Errors
    ///
    /// As [`Shared::anonymous`], and where there is no room for it in memory.
    pub fn memfd(name: &str, value: T) -> Result<Self, Error> {
        let plan = FileLayout::of::<T>(1)?;
        let map = Map::memfd(name, plan.length()?)?;
        // SAFETY: the map is new, writable, as long as the plan asks, and nobody else has seen it.
        unsafe { place(map, &plan, &mut copy_of(value)) }
    }

    /// Creates the file `path` with `value` in it. The file appears whole, or not at all.
    ///
    /// Its mode is 0600; its blocks are reserved, so that a full disk is an error here and not a bus error later.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`]; [`Error::NoFileName`]; [`Error::NoRoom`] where the disk is full;
    /// [`Error::RemoteFileSystem`] where the directory lies on NFS, 9p, FUSE or their kin; [`Error::Os`] where the kernel
    /// refuses; [`Error::OverAligned`], [`Error::TooLarge`] and [`Error::RobustListUnusable`] where the value cannot
    /// be placed at all.
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

    /// Opens the file `path`, or creates it with `value()` in it where there is none. Of any number of processes that race,
    /// exactly one creates; `value` may be called by others too, and what it gave there is forgotten.
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
        // SAFETY: the caller's promise.
        if let Some(shared) = unsafe { Self::open_if_there(path) }? {
            return Ok(shared);
        }
        let mut value = Some(value);
        let mut built = Unpublished::new(path, &FileLayout::of::<T>(1)?, &mut |slot: *mut T| {
            if let Some(value) = value.take() {
                // SAFETY: `Unpublished` gives a place for a `T` in a new map, and calls this once.
                unsafe { slot.write(value()) };
            }
        })?;
        loop {
            match built.publish(path)? {
                Ok(shared) => return Ok(shared),
                Err(unpublished) => built = unpublished,
            }
            // Somebody was faster; unless the file has been removed since, it is theirs that we use.
            // SAFETY: the caller's promise.
            if let Some(shared) = unsafe { Self::open_if_there(path) }? {
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
        let built = Unpublished::new(
            path,
            &FileLayout::of::<[T]>(len)?,
            &mut |slots: *mut [T]| {
                for index in 0..len {
                    // SAFETY: `Unpublished` gives a place for `len` values in a new map.
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

/// Copies a value to where it is placed, once. It is handed down by reference, since as many copies of a large one as there
/// are calls on the way would not fit on a stack.
fn copy_of<T: ShmSafe>(value: T) -> impl FnMut(*mut T) {
    // It is the same value there, and has nothing to drop here.
    let value = ManuallyDrop::new(value);
    // SAFETY: `slot` is a place for a `T` in a new map, by the contract of `place` and by `Unpublished`.
    move |slot| unsafe { slot.copy_from_nonoverlapping(&raw const *value, 1) }
}

/// Writes the header and the value into a new map, and arms it.
///
/// # Safety
///
/// The map is new, writable, as long as the plan for a `T` asks, and nobody else has seen it; `write` writes a whole `T`.
unsafe fn place<T: ?Sized + Placeable>(
    map: Map,
    plan: &FileLayout,
    write: &mut dyn FnMut(*mut T),
) -> Result<Shared<T>, Error> {
    plan.write(&map)?;
    // SAFETY: the plan's length has room for the value behind the header. It is not read before it is written.
    let place = unsafe { Shared::<T>::place_in(&map, plan.value_offset(), plan.count()) };
    write(place);
    // SAFETY: the value is whole now, by the caller's promise.
    unsafe { Shared::init_new(map, plan.value_offset(), plan.count()) }
}

/// A file with a value in it that has no name, or not the right one yet.
struct Unpublished<T: ?Sized + Placeable> {
    shared: Shared<T>,
    file: File,
    /// The name it was built under, where it has one.
    temporary: Option<Temporary>,
}

impl<T: ?Sized + Placeable> Unpublished<T> {
    fn new(path: &Path, plan: &FileLayout, write: &mut dyn FnMut(*mut T)) -> Result<Self, Error> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::NoFileName { path: path.into() })?;
        let directory = files::directory_of(path);
        let failed = |source| creation_failed(path, source);
        files::reject_remote_fs(&files::open_directory(directory).map_err(failed)?, path)?;
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
        // The creator is the first user. Nobody else has seen the file, or they let go of it (see `Temporary::new`).
        files::try_flock(&file, FileLock::Shared).map_err(failed)?;
        // The umask may have taken rights away.
        file.set_permissions(fs::Permissions::from_mode(files::MODE))
            .map_err(failed)?;
        let length = plan.length()?;
        // A full disk is an error here, and no bus error later. (`length` checks that it is one of a file.)
        mmap::reserve(file.as_fd(), 0, length as i64).map_err(|error| match error {
            Error::NoSpace {
                len: length,
                source,
            } => Error::NoRoom {
                path: path.into(),
                length,
                source,
            },
            other => other,
        })?;
        // SAFETY: the file is new and nobody else knows it.
        let map = unsafe { Map::file_shared(dup(&file)?, length) }?;
        // SAFETY: as above; and `write` is the constructors'.
        let shared = unsafe { place(map, plan, write) }?;
        Ok(Unpublished {
            shared,
            file,
            temporary,
        })
    }

    /// Gives the file its name; gives itself back where something has that name already.
    fn publish(self, path: &Path) -> Result<Result<Shared<T>, Self>, Error> {
        if files::open_path(path).is_ok() {
            return Ok(Err(self));
        }
        // What has the name is whole on the disk too, if the power fails later.
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
            Err(source) => Err(Error::os(
                format!("giving {} its name", path.display()),
                source,
            )),
        }
    }
}

/// The name of an unfinished file, removed when it is dropped.
struct Temporary(PathBuf);

impl Temporary {
    /// A new file under a name that tells what it is for, so that the next creator can remove it if this one dies. It is
    /// locked as long as its creator lives.
    fn new(directory: &Path, name: &OsStr) -> io::Result<(File, Self)> {
        loop {
            let mut temporary = temporary_prefix(name);
            temporary.push(format!("{:016x}", files::random()?));
            let path = directory.join(temporary);
            let file = files::create_exclusive(&path)?;
            let temporary = Temporary(path);
            // Before it is locked it looks like a dead creator's: somebody may be about to remove it, or have done so.
            if files::try_flock(&file, FileLock::Shared)? && file.metadata()?.nlink() > 0 {
                return Ok((file, temporary));
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the file got its real name there is nothing left to remove.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes unfinished files of creators that died: those whose lock nobody holds any more.
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
        // The lock is held until the name is gone, or a creator could take the file for its own between the two.
        if files::try_flock(&file, FileLock::Exclusive)? {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn temporary_prefix(name: &OsStr) -> OsString {
    // So that the whole is no longer than a name may be (255 bytes); whom two names have in common is no harm.
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
