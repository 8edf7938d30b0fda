//! `Map`: a range of bytes that processes share.

use crate::Error;
use crate::sys::mmap::{self as sys, Access, OpenMode};
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

mod bytes;
mod options;
mod system;

pub use options::{Advice, MapOptions};
pub(in crate::memory) use system::{length_in_file_system, reserve};
use system::{map_file, no_memory, regular_file_size, set_len};

/// A memory map that several processes can share.
///
/// | constructor | shared with | bytes live until |
/// |---|---|---|
/// | [`anonymous`](Self::anonymous) | children forked later | the last process unmaps them |
/// | [`dev_zero`](Self::dev_zero) | children forked later | the last process unmaps them |
/// | [`memfd`](Self::memfd) | children, and receivers of the descriptor | the last user is gone |
/// | [`file`](Self::file), shared | all processes that map the file | file and maps are gone |
/// | [`file`](Self::file), private | no other process | this map is dropped |
///
/// A map is never empty. All sizes and offsets are in bytes, and new memory is zeroed.
///
/// A forked child inherits the map. Dropping a map unmaps it only in the process that drops it. A
/// map does not synchronize: a reader must learn by other means that the bytes it waits for are
/// there.
///
/// [`read_at`](Self::read_at) and [`write_at`](Self::write_at) are safe while other threads and
/// processes write. Each byte is read or written whole, but a copy of several bytes may mix old and
/// new ones. To get values that are never torn, place a typed value in a map and lock it.
///
/// # Examples
///
/// ```
/// use pshared::Map;
///
/// let map = Map::anonymous(4096)?;
/// map.write_at(0, b"hello mmap")?;
/// let mut greeting = [0; 10];
/// map.read_at(0, &mut greeting)?;
/// assert_eq!(&greeting, b"hello mmap");
/// # Ok::<(), pshared::Error>(())
/// ```
#[derive(Debug)]
pub struct Map {
    start: NonNull<u8>,
    /// The requested length.
    len: usize,
    /// The mapped length, which `munmap` takes: `len` rounded up to whole pages.
    mapped: usize,
    writable: bool,
    /// The memory file, or the file that the typed layer has locked. It is closed after the pages
    /// are unmapped.
    fd: Option<OwnedFd>,
}

// SAFETY: the map belongs to the process, not to a thread: any thread may use it and unmap it.
unsafe impl Send for Map {}
// SAFETY: `&Map` gives access to the bytes only by relaxed atomic accesses of one byte each, or
// through a raw pointer. The user of that pointer is responsible for its accesses.
unsafe impl Sync for Map {}

impl Map {
    /// Creates zeroed memory that is shared with children forked later:
    /// `MAP_SHARED | MAP_ANONYMOUS`.
    ///
    /// The map starts at a page boundary and has `len` bytes. A page takes up memory when it is
    /// first touched.
    ///
    /// # Errors
    ///
    /// Returns [`ZeroLength`](Error::ZeroLength) if `len` is 0,
    /// [`LengthOverflow`](Error::LengthOverflow) if it is too large to be mapped,
    /// [`NoMemory`](Error::NoMemory) if the kernel does not grant the memory, and
    /// [`LockedMemoryLimit`](Error::LockedMemoryLimit) if the process locks its new maps into
    /// memory, and may not lock so many bytes.
    pub fn anonymous(len: usize) -> Result<Map, Error> {
        let (size, mapped) = extent(0, len, sys::page_size())?;
        Ok(Map {
            start: sys::map_anonymous(size).map_err(|error| no_memory(error, len))?,
            len,
            mapped,
            writable: true,
            fd: None,
        })
    }

    /// Creates memory as [`anonymous`](Self::anonymous) does, by the older method: a shared map of
    /// `/dev/zero`.
    ///
    /// # Errors
    ///
    /// Returns the errors of `anonymous`, [`NoDescriptors`](Error::NoDescriptors) if no descriptor
    /// is left, [`Os`](Error::Os) if `/dev/zero` cannot be opened (as in
    /// a bare chroot), and [`NotMappable`](Error::NotMappable) if `/dev/zero` is not the zero
    /// device.
    ///
    /// # Examples
    ///
    /// ```
    /// let map = pshared::Map::dev_zero(100)?;
    /// let mut bytes = [1; 100];
    /// map.read_at(0, &mut bytes)?;
    /// assert_eq!(bytes, [0; 100]);
    /// # Ok::<(), pshared::Error>(())
    /// ```
    pub fn dev_zero(len: usize) -> Result<Map, Error> {
        let (size, mapped) = extent(0, len, sys::page_size())?;
        let zero = sys::open_dev_zero()?.ok_or_else(|| Error::NotMappable {
            found: "something at /dev/zero that is not the zero device (character device 1:5)"
                .into(),
        })?;
        Ok(Map {
            start: map_file(zero.as_fd(), Access::SHARED, 0, size)?,
            len,
            mapped,
            writable: true,
            fd: None,
        })
    }

    /// Creates zeroed memory with a descriptor that can be passed to unrelated processes: a sealed
    /// `memfd_create(2)` file.
    ///
    /// All `len` bytes are reserved: if there is not enough memory, this call fails, and no later
    /// access does. The file is sealed with `F_SEAL_SHRINK`, `F_SEAL_GROW` and `F_SEAL_SEAL`. A
    /// process that receives the descriptor can neither truncate the file nor seal it further. The
    /// descriptor is closed on exec. `/proc/PID/maps` shows `name` after `memfd:`; the name need
    /// not be unique.
    ///
    /// [`fd`](Self::fd) returns the descriptor, and [`from_memfd`](Self::from_memfd) maps a
    /// received one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`anonymous`](Self::anonymous), [`MemfdName`](Error::MemfdName) if
    /// `name` is too long or contains a NUL, [`NoSpace`](Error::NoSpace) if the bytes cannot be
    /// reserved, [`NoDescriptors`](Error::NoDescriptors) if no descriptor is left, and
    /// [`Os`](Error::Os) if another system call fails.
    ///
    /// # Examples
    ///
    /// ```
    /// let map = pshared::Map::memfd("scoreboard", 4096)?;
    /// map.write_at(0, b"0:0")?;
    /// # Ok::<(), pshared::Error>(())
    /// ```
    pub fn memfd(name: &str, len: usize) -> Result<Map, Error> {
        let (size, mapped) = extent(0, len, sys::page_size())?;
        if name.len() > sys::MEMFD_NAME_MAX || name.contains('\0') {
            return Err(Error::MemfdName { name: name.into() });
        }
        // The kernel does not check a memory file's size against the available memory: the file
        // takes page after page until none is left. An anonymous map of that size is refused, if
        // the overcommit policy (vm.overcommit_memory) does not allow it.
        drop(Map::anonymous(len)?);
        let fd = sys::memory_file(name)?;
        set_len(fd.as_fd(), len as u64)?;
        let start = map_file(fd.as_fd(), Access::SHARED, 0, size)?;
        let map = Map {
            start,
            len,
            mapped,
            writable: true,
            fd: None,
        };
        // The reservation is made last, when nothing except the sealing can still fail.
        reserve(fd.as_fd(), 0, len as u64, None)?;
        sys::seal_size(fd.as_fd())?;
        Ok(map.keeping(fd))
    }

    /// Maps a memory file that another process made with [`memfd`](Self::memfd). Its descriptor may
    /// be inherited, received over a Unix socket, or opened through `/proc/PID/fd`.
    ///
    /// # Safety
    ///
    /// Every other process that has the descriptor or a map of the memory must use it only through
    /// this crate, or write bytes only as another thread of this program might. The seals are
    /// checked here and cannot be removed: no process can shorten the memory under the map.
    ///
    /// # Errors
    ///
    /// Returns [`NotMemfd`](Error::NotMemfd) if the descriptor is not that of a memory file,
    /// [`MissingSeals`](Error::MissingSeals) if the file can still be resized,
    /// [`SealedAgainstWriting`](Error::SealedAgainstWriting), [`FileReadOnly`](Error::FileReadOnly)
    /// or [`FileNotReadable`](Error::FileNotReadable) if the descriptor does not allow reading and
    /// writing, and [`NothingToMap`](Error::NothingToMap) if the file is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::Map;
    ///
    /// let map = Map::memfd("state", 64)?;
    /// // SAFETY: the descriptor is only passed to another map of this crate.
    /// let fd = unsafe { map.fd() }.unwrap().try_clone_to_owned()?;
    /// // SAFETY: as above.
    /// let same = unsafe { Map::from_memfd(fd)? };
    /// map.write_at(60, b"news")?;
    /// let mut news = [0; 4];
    /// same.read_at(60, &mut news)?;
    /// assert_eq!(&news, b"news");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn from_memfd(fd: OwnedFd) -> Result<Map, Error> {
        let seals = sys::seals(fd.as_fd())?.ok_or(Error::NotMemfd)?;
        let missing = sys::SIZE_SEALS.difference(seals);
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter_names().map(|(name, _)| name).collect();
            return Err(Error::MissingSeals {
                missing: names.join(" | "),
            });
        }
        // SAFETY: the size is sealed, so no page disappears under the map; the caller guarantees
        // how the bytes are used.
        let map = unsafe { Map::of_descriptor(fd.as_fd(), MapOptions::shared())? };
        Ok(map.keeping(fd))
    }

    /// Maps a file, or a part of it, according to the options.
    ///
    /// The file may be closed afterwards: the map remains valid.
    ///
    /// # Safety
    ///
    /// 1. While the map exists, **no process may shorten the file** below the map's end
    ///    (`ftruncate`, `O_TRUNC`), this process included. Access to a page that the file has lost
    ///    raises SIGBUS, which kills the process, and no check can prevent it. If other processes
    ///    are not trusted to comply, share [`memfd`](Self::memfd) memory: it is sealed and cannot
    ///    be truncated.
    /// 2. A file may have holes: ranges without blocks on the disk. The first write to a hole
    ///    through a shared map needs a block, and **raises SIGBUS if the disk is full**.
    ///    [`MapOptions::reserve`] allocates the blocks beforehand. It also lists the file systems
    ///    that copy a block when it is written, where this can happen without holes.
    /// 3. Other processes that write to the file, through a map or by `write(2)`, must do so only
    ///    as another thread of this program might. A byte that [`read_at`](Self::read_at) reads may
    ///    change at any time, and no code may rely on it staying the same.
    ///
    /// # Errors
    ///
    /// An operation that would fail at the first access, or with a bare `EINVAL`, is refused before
    /// anything is mapped:
    ///
    /// - [`ZeroLength`](Error::ZeroLength), [`LengthOverflow`](Error::LengthOverflow),
    ///   [`UnalignedOffset`](Error::UnalignedOffset): no file can be mapped with the requested
    ///   range.
    /// - [`FileTooShort`](Error::FileTooShort), [`NothingToMap`](Error::NothingToMap): the file
    ///   does not contain the range. A newly created file is empty.
    /// - [`FileReadOnly`](Error::FileReadOnly), [`FileNotReadable`](Error::FileNotReadable),
    ///   [`SealedAgainstWriting`](Error::SealedAgainstWriting): the descriptor does not allow the
    ///   access that the map needs.
    /// - [`NotMappable`](Error::NotMappable): the file is a directory, FIFO, socket or device, or
    ///   its file system does not support maps.
    /// - [`NoSpace`](Error::NoSpace), [`CopyOnWrite`](Error::CopyOnWrite): [`MapOptions::reserve`]
    ///   failed.
    ///   [`NoMemory`](Error::NoMemory): no memory or addresses are left.
    ///   [`LockedMemoryLimit`](Error::LockedMemoryLimit): the process locks its new maps into
    ///   memory, and may not lock so many bytes.
    /// - [`AdviceRefused`](Error::AdviceRefused): [`MapOptions::advice`] failed.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Map, MapOptions};
    /// use std::io::{Read, Seek};
    ///
    /// let mut file = tempfile::tempfile()?;
    /// file.set_len(20)?;
    /// // SAFETY: no other process has this temporary file, so none shortens it.
    /// let map = unsafe { Map::file(&file, MapOptions::shared())? };
    /// map.write_at(0, b"hello mmap")?;
    ///
    /// let mut text = String::new();
    /// file.read_to_string(&mut text)?;
    /// assert_eq!(text, "hello mmap\0\0\0\0\0\0\0\0\0\0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn file(file: &File, options: MapOptions) -> Result<Map, Error> {
        // SAFETY: guaranteed by the caller; the contracts are the same.
        unsafe { Map::of_descriptor(file.as_fd(), options) }
    }

    /// Maps the first `len` bytes of a file, shared and writable.
    ///
    /// The map keeps the descriptor, which may carry a lock, until the pages are unmapped.
    ///
    /// # Safety
    ///
    /// As for [`file`](Self::file).
    pub(crate) unsafe fn file_shared(file: OwnedFd, len: usize) -> Result<Map, Error> {
        // SAFETY: guaranteed by the caller; the contracts are the same.
        let map = unsafe { Map::of_descriptor(file.as_fd(), MapOptions::shared().len(len))? };
        Ok(map.keeping(file))
    }

    /// Maps the file behind `fd`; see [`file`](Self::file).
    ///
    /// # Safety
    ///
    /// As for [`file`](Self::file).
    unsafe fn of_descriptor(fd: BorrowedFd<'_>, options: MapOptions) -> Result<Map, Error> {
        let offset = options.offset;
        let mut size = regular_file_size(fd)?;
        check_mode(fd, options)?;
        let page = sys::granule(fd)?;
        let beyond = offset % page as u64;
        if beyond != 0 {
            return Err(Error::UnalignedOffset {
                offset,
                page,
                below: offset - beyond,
            });
        }
        let len = match options.len {
            Some(len) => len,
            None if offset < size => (size - offset) as usize,
            None => return Err(Error::NothingToMap { size, offset }),
        };
        let (request, mapped) = extent(offset, len, page)?;
        if options.reserve {
            reserve(fd, offset, len as u64, None)?;
            size = regular_file_size(fd)?;
        }
        if offset + len as u64 > size {
            return Err(Error::FileTooShort { size, offset, len });
        }
        let access = Access {
            shared: options.shared,
            writable: !options.read_only,
            prefault: options.prefault,
        };
        let map = Map {
            start: map_file(fd, access, offset as i64, request)?,
            len,
            mapped,
            writable: access.writable,
            fd: None,
        };
        if let Some(advice) = options.advice {
            map.advise(advice)?;
        }
        Ok(map)
    }

    /// Returns the requested length in bytes.
    ///
    /// The kernel maps whole pages; the bytes after `len` in the last page are out of bounds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns `false`: a map of zero bytes cannot be made.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Returns a page-aligned pointer to the start of the map. The address may differ in another
    /// process.
    ///
    /// Reading through the pointer is `unsafe`, and the caller is responsible for it.
    /// [`len`](Self::len) bytes are readable until the map is dropped. Other threads and processes
    /// may write to them at any time. [`write_at`](Self::write_at) counts as relaxed
    /// [`AtomicU8`](std::sync::atomic::AtomicU8) stores.
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// Returns the same address for writing. Writing to a read-only map raises SIGSEGV.
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Returns the descriptor of [`memfd`](Self::memfd) or [`from_memfd`](Self::from_memfd) memory,
    /// or `None` for other maps.
    ///
    /// Another process that receives the descriptor maps it with `from_memfd`. In this process the
    /// descriptor still belongs to the map and is not closed.
    ///
    /// # Safety
    ///
    /// Every process that receives the descriptor has access to the memory. The size is sealed, but
    /// the bytes are not. The caller must ensure that each of these processes uses the memory only
    /// through this crate, and **does not write to it in any other way** (`write(2)`,
    /// `fallocate(2)`, a map of its own). Such a write could corrupt a value with locks.
    pub unsafe fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor()
    }

    /// Returns the descriptor that the map keeps. It is for calls that change neither the file's
    /// bytes nor its size.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Stores the descriptor in the map, which closes it when it is dropped.
    fn keeping(mut self, fd: OwnedFd) -> Map {
        self.fd = Some(fd);
        self
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: these are the address that mmap returned and the length of the whole pages it
        // mapped. No borrow of the map is left; the users of raw pointers into it are responsible
        // for them.
        unsafe { sys::unmap(self.start, self.mapped) }
    }
}

/// Returns the length to request from mmap, and that length rounded up to whole pages of `page`
/// bytes.
///
/// Neither can be zero, and the end fits an `i64`, in the file and in memory.
fn extent(offset: u64, len: usize, page: usize) -> Result<(NonZeroUsize, usize), Error> {
    let request = NonZeroUsize::new(len).ok_or(Error::ZeroLength)?;
    let countable = |end: &u64| *end <= i64::MAX as u64;
    len.checked_next_multiple_of(page)
        .filter(|mapped| {
            offset
                .checked_add(*mapped as u64)
                .as_ref()
                .is_some_and(countable)
        })
        .map(|mapped| (request, mapped))
        .ok_or(Error::LengthOverflow { offset, len })
}

/// Checks that the descriptor is open for the access that the options need.
///
/// Every map needs read access. A writable shared map and the reservation of blocks also need write
/// access.
fn check_mode(fd: BorrowedFd<'_>, options: MapOptions) -> Result<(), Error> {
    match sys::open_mode(fd)? {
        OpenMode::ReadWrite => Ok(()),
        OpenMode::ReadOnly if options.shared && !options.read_only => Err(Error::FileReadOnly {
            asked: "a writable shared map (MAP_SHARED, PROT_READ | PROT_WRITE)",
        }),
        OpenMode::ReadOnly if options.reserve => Err(Error::FileReadOnly {
            asked: "block reservation (posix_fallocate)",
        }),
        OpenMode::ReadOnly => Ok(()),
        OpenMode::WriteOnly => Err(Error::FileNotReadable {
            mode: "write-only (O_WRONLY)",
        }),
        OpenMode::Neither => Err(Error::FileNotReadable {
            mode: "neither for reading nor for writing (O_PATH)",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use std::os::fd::AsRawFd;
    use tempfile::NamedTempFile;

    #[test]
    fn a_file_that_carries_a_lock_keeps_it_until_its_map_is_dropped() {
        let path = NamedTempFile::new().unwrap();
        path.as_file().set_len(100).unwrap();
        // SAFETY: no process shortens this temporary file.
        let map = unsafe { Map::file_shared(locked(&path).unwrap(), 100).unwrap() };
        assert!(map.descriptor().is_some());
        assert_eq!(locked(&path).err(), Some(Errno::EWOULDBLOCK));
        drop(map);
        assert!(locked(&path).is_ok());
    }

    #[test]
    fn a_file_that_is_refused_is_closed_and_its_lock_released() {
        let path = NamedTempFile::new().unwrap();
        // SAFETY: no process shortens this temporary file.
        let refusal = unsafe { Map::file_shared(locked(&path).unwrap(), 1) };
        assert!(matches!(refusal, Err(Error::FileTooShort { size: 0, .. })));
        assert!(locked(&path).is_ok());
    }

    /// Opens the file again and locks it. The lock is released when the last copy of the descriptor
    /// is closed.
    fn locked(path: &NamedTempFile) -> Result<OwnedFd, Errno> {
        let file = OwnedFd::from(path.reopen().unwrap());
        // SAFETY: flock takes only numbers; `file` keeps the descriptor open.
        let answer = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        Errno::result(answer).map(|_| file)
    }
}
