//! Values in files and memfds that others made: everything is checked before anything is used.

use crate::Error;
use crate::memory::file::header::{FileHeader, Header};
use crate::memory::file::users::{self, Boot, OPEN_TIMEOUT};
use crate::memory::placed::Placeable;
use crate::memory::{Map, Primitive, PrimitiveVisitor, Shared};
use crate::sys::files;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl<T: ?Sized + Placeable> Shared<T> {
    /// Opens the value in the file `path`, which [`create`](Shared::create) or
    /// [`open_or_create`](Shared::open_or_create) made.
    ///
    /// Everything is checked before the value is used, and a file that fails a check is left as it was: it is a regular file
    /// under one name and no symbolic link, of the effective user, with no rights for others, with the length, magic, format
    /// version and layout of a `T`.
    ///
    /// The first user after all others are gone, by a reboot or by their deaths, finds itself alone: locks that look held
    /// are reset, and their next holders are told of a death. After a reboot every lock tells of one, held or not: where the
    /// machine stopped at a bad instant, only some of the pages have reached the disk.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::SymbolicLink`], [`Error::NotARegularFile`], [`Error::OwnerMismatch`],
    /// [`Error::InsecureMode`], [`Error::HardLinked`]; [`Error::InvalidHeader`], [`Error::LengthMismatch`],
    /// [`Error::VersionMismatch`], [`Error::LayoutMismatch`] (which names the first field that differs);
    /// [`Error::PidNamespaceMismatch`] and [`Error::BootIdMismatch`] while others use the file; [`Error::RemoteFileSystem`];
    /// [`Error::Busy`]; [`Error::RobustListUnusable`]; [`Error::Os`].
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
    /// let path = std::env::temp_dir().attach(format!("pshared-doc-open-{}", std::process::id()));
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
        // SAFETY: the caller's promise.
        let opened = unsafe { Self::open_if_there(path) }?;
        opened.ok_or_else(|| Error::NotFound { path: path.into() })
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
        crate::sys::check_robust_list()?;
        let file = File::from(dup(&descriptor)?);
        // SAFETY: the caller's promise.
        let map = unsafe { Map::from_memfd(descriptor) }?;
        let plan = FileHeader::read(&file, map.len() as u64, path)?.check::<T>(path)?;
        // SAFETY: the map starts with the header that was just checked.
        users::check_namespace(unsafe { Header::of(&map) }, path)?;
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

    /// Opens the file, or tells that there is none.
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    pub(in crate::memory) unsafe fn open_if_there(path: &Path) -> Result<Option<Self>, Error> {
        // What lies there may have to be locked by this thread.
        crate::sys::check_robust_list()?;
        let found = match files::open_path(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::os(format!("open of {}", path.display()), source)),
        };
        let file = open_checked(&found, path)?;
        let length = checked_metadata(&file, path)?.len();
        let plan = FileHeader::read(&file, length, path)?.check::<T>(path)?;
        // SAFETY: the file has the length of the plan, and by the caller's promise nobody shortens it.
        let map = unsafe { Map::file_shared(dup(&file)?, plan.length()?) }?;
        // SAFETY: the map starts with the header that was just checked.
        let header = unsafe { Header::of(&map) };
        users::attach(&file, header, path, OPEN_TIMEOUT, |boot| {
            // SAFETY: a `T` lies there by the header, and the caller promises that it tells the truth. Nobody else uses it
            // now, so it stays valid for the walk.
            let value = unsafe { &*Self::place_in(&map, plan.value_offset(), plan.count()) };
            value.visit_all(&mut PrimitiveVisitor::new(
                &mut |_, primitive: &dyn Primitive| {
                    // SAFETY: `join` has just seen to it that nobody else uses the file.
                    unsafe {
                        primitive.reset();
                        if boot == Boot::Changed {
                            primitive.mark_inconsistent();
                        }
                    }
                },
            ));
        })?;
        users::check_namespace(header, path)?;
        // SAFETY: as in the reset; and as a user of the file the caller is told of by its lock.
        Ok(Some(unsafe {
            Self::adopt(map, plan.value_offset(), plan.count())
        }))
    }
}

fn open_checked(found: &File, path: &Path) -> Result<File, Error> {
    checked_metadata(found, path)?;
    files::reject_remote_fs(found, path)?;
    files::reopen(found).map_err(|source| {
        // The file is there; what can be missing is /proc.
        Error::os(
            format!("open of {} by way of /proc/thread-self/fd", path.display()),
            source,
        )
    })
}

/// The file's metadata, where they are those of a file that this crate made and its user keeps to itself.
fn checked_metadata(file: &File, path: &Path) -> Result<Metadata, Error> {
    let metadata = file
        .metadata()
        .map_err(|source| Error::os(format!("stat of {}", path.display()), source))?;
    files::reject_irregular(metadata.file_type(), path)?;
    let path = path.to_path_buf();
    let user = files::effective_user();
    if metadata.uid() != user {
        return Err(Error::OwnerMismatch {
            path,
            found: metadata.uid(),
            expected: user,
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::InsecureMode { path, mode });
    }
    if metadata.nlink() > 1 {
        return Err(Error::HardLinked {
            path,
            names: metadata.nlink(),
        });
    }
    Ok(metadata)
}

/// A second descriptor of the same open file description.
pub(in crate::memory) fn dup(descriptor: &impl std::os::fd::AsFd) -> Result<OwnedFd, Error> {
    descriptor
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| Error::os("fcntl(F_DUPFD_CLOEXEC)", source))
}
