//! Opening of files and memfds that other processes made: everything is checked before the value is
//! used.

use crate::Error;
use crate::memory::file::boot::Boot;
use crate::memory::file::header::{FileHeader, Header};
use crate::memory::file::users::{self, OPEN_TIMEOUT};
use crate::memory::placeable::Placeable;
use crate::memory::{Map, Primitive, PrimitiveVisitor, Shared};
use crate::memory::{reject_irregular, reject_remote_fs, reopen};
use crate::sys::{files, user};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl<T: ?Sized + Placeable> Shared<T> {
    /// Opens the value in the file `path`, which [`create`](Shared::create) or
    /// [`open_or_create`](Shared::open_or_create) made.
    ///
    /// The path names the file that was opened at an instant at which this process was already its
    /// user. If the file is removed or replaced later, the value remains usable, but a process that
    /// opens the path then gets another file: see [`is_current`](Self::is_current).
    ///
    /// Everything is checked before the value is used, and a file that fails a check is not
    /// changed. The file must be a regular file with a single name, and not a symbolic link. It
    /// must belong to the effective user, and grant no permissions to others. Its length, magic,
    /// format version and layout must be those of a `T`.
    ///
    /// When all users are gone, by a reboot or by their deaths, the next opener resets the locks. A
    /// lock that appears held is marked, and its next holder receives an error that reports a
    /// death. After a reboot, every lock reports a death, held or not: the machine may have stopped
    /// when only some of the pages were on the disk. So does a file of which
    /// [it is not known](crate::guide::crash#files-and-a-machine-that-crashes) whether there was a
    /// reboot.
    ///
    /// # Errors
    ///
    /// - [`Error::NotFound`] if `path` does not exist.
    /// - [`Error::SymbolicLink`], [`Error::NotARegularFile`], [`Error::OwnerMismatch`],
    ///   [`Error::InsecureMode`] or [`Error::HardLinked`] if the file is not a regular file that
    ///   only the effective user can access.
    /// - [`Error::InvalidHeader`], [`Error::LengthMismatch`] or [`Error::VersionMismatch`] if the
    ///   file does not contain a valid header of this format version.
    /// - [`Error::CLibraryMismatch`] if the file was created by a program with another C library:
    ///   glibc or musl.
    /// - [`Error::LayoutMismatch`] if the value has another layout; the error names the first field
    ///   that differs.
    /// - [`Error::PidNamespaceMismatch`] if processes in another PID namespace use the file.
    /// - [`Error::RemoteFileSystem`] if the file lies on a file system that other machines or a
    ///   server may change.
    /// - [`Error::Busy`] if another process's lock on the file prevents opening it for more than 10
    ///   seconds.
    /// - [`Error::RobustListUnusable`] if the calling thread has no robust list to join.
    /// - [`Error::PidNamespaceUnknown`] before Linux 6.11 without a `/proc`.
    /// - [`Error::NoDescriptors`] if fewer than three descriptors are left.
    /// - [`Error::Os`] if another system call fails.
    ///
    /// # Safety
    ///
    /// While any process uses the value, the file must be changed only by this crate. No process
    /// may write to it, shorten it (the next access would raise SIGBUS), or copy an old state over
    /// it. Every process that can write to the file is trusted: the file is not a security boundary
    /// between processes.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Shared, SharedCounter};
    ///
    /// let path = std::env::temp_dir().join(format!("pshared-doc-open-{}", std::process::id()));
    /// // SAFETY: no other process knows the file.
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
        // SAFETY: guaranteed by the caller.
        let opened = unsafe { Self::open_if_there(path, None) }?;
        opened.ok_or_else(|| Error::NotFound { path: path.into() })
    }

    /// Opens a value in sealed memory through a descriptor that another process made with
    /// [`Shared::memfd`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Map::from_memfd`] if the descriptor is not that of a sealed memfd
    /// that can be read and written. Also returns the errors of [`open`](Self::open) that concern
    /// the header, the layout, the PID namespace and the robust list.
    ///
    /// # Safety
    ///
    /// The memory must have been made by this crate, and must be changed only by this crate. No
    /// process may close the descriptor while it uses the map. Every process that has the
    /// descriptor is trusted.
    pub unsafe fn from_fd(descriptor: OwnedFd) -> Result<Self, Error> {
        let path = Path::new("the memfd");
        crate::sys::check_robust()?;
        let file = File::from(dup(&descriptor)?);
        // SAFETY: guaranteed by the caller.
        let map = unsafe { Map::from_memfd(descriptor) }?;
        let plan = FileHeader::read(&file, map.len() as u64, path)?.check::<T>(path, None)?;
        drop(file);
        // SAFETY: the map starts with the header that was just checked.
        users::check_namespace(unsafe { Header::of(&map) }, path)?;
        // SAFETY: the header says that a `T` lies there, and the caller guarantees that the header
        // is true.
        Ok(unsafe { Self::adopt(map, plan.value_offset(), plan.count()) })
    }

    /// Returns the descriptor of a value in sealed memory or in a file, or `None` for anonymous
    /// memory.
    ///
    /// # Safety
    ///
    /// A process that receives the descriptor must change the memory only through this crate. No
    /// code may close the descriptor, unlock it, or replace it by `dup2(2)` while this value lives.
    pub unsafe fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.map().descriptor()
    }

    /// Opens the file, or returns `None` if it does not exist. With a `count`, a slice must have
    /// that many elements.
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    pub(in crate::memory) unsafe fn open_if_there(
        path: &Path,
        count: Option<usize>,
    ) -> Result<Option<Self>, Error> {
        // This thread may have to acquire locks in the file.
        crate::sys::check_robust()?;
        loop {
            let found = match files::open_path(path) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => {
                    return Err(Error::os(format!("open of {}", path.display()), source));
                }
            };
            // SAFETY: guaranteed by the caller.
            if let Some(shared) = unsafe { Self::open_found(found, path, count) }? {
                return Ok(Some(shared));
            }
        }
    }

    /// Opens the file that the path named when it was found, or returns `None` if the path names
    /// another file or none now.
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    unsafe fn open_found(
        found: File,
        path: &Path,
        count: Option<usize>,
    ) -> Result<Option<Self>, Error> {
        let file = open_checked(&found, path)?;
        let length = checked_metadata(&file, path)?.len();
        let plan = FileHeader::read(&file, length, path)?.check::<T>(path, count)?;
        // SAFETY: the file has the length of the plan, and the caller guarantees that no process
        // shortens it.
        let map = unsafe { Map::file_shared(dup(&file)?, plan.length()?) }?;
        // SAFETY: the map starts with the header that was just checked.
        let header = unsafe { Header::of(&map) };
        // The reset has to read the boot id. This leaves it a descriptor, unless another thread
        // takes it.
        drop(found);
        let attached = users::attach(&file, header, path, OPEN_TIMEOUT, |boot| {
            // SAFETY: the header says that a `T` lies there, and the caller guarantees that the
            // header is true. No other process uses the value now, so it stays valid for the visit.
            let value = unsafe { &*Self::place_in(&map, plan.value_offset(), plan.count()) };
            value.visit_all(&mut PrimitiveVisitor::new(
                &mut |_, primitive: &dyn Primitive| {
                    // SAFETY: `attach` has just made sure that no other process uses the file.
                    unsafe {
                        primitive.reset();
                        if boot == Boot::Changed {
                            primitive.mark_inconsistent();
                        }
                    }
                },
            ));
        })?;
        if !attached {
            return Ok(None);
        }
        // SAFETY: as in the reset. This process is now a user of the file, and its shared lock
        // shows that to other processes.
        let shared = unsafe { Self::adopt(map, plan.value_offset(), plan.count()) };
        shared.opened_by(path).map(Some)
    }
}

fn open_checked(found: &File, path: &Path) -> Result<File, Error> {
    checked_metadata(found, path)?;
    reject_remote_fs(found, path)?;
    reopen(found, path)
}

/// Returns the file's metadata, if the file can be one that this crate made and that only its owner
/// can access.
fn checked_metadata(file: &File, path: &Path) -> Result<Metadata, Error> {
    let metadata = file
        .metadata()
        .map_err(|source| Error::os(format!("stat of {}", path.display()), source))?;
    reject_irregular(metadata.file_type(), path)?;
    let path = path.to_path_buf();
    let user = user::effective_user();
    if metadata.uid() != user {
        return Err(Error::OwnerMismatch {
            path,
            found: metadata.uid(),
            expected: user,
            is_mapped: !user::may_be_unmapped(metadata.uid()),
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

/// Duplicates the descriptor: both refer to the same open file description.
pub(in crate::memory) fn dup(descriptor: &impl std::os::fd::AsFd) -> Result<OwnedFd, Error> {
    descriptor
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| Error::os("fcntl(F_DUPFD_CLOEXEC)", source))
}
