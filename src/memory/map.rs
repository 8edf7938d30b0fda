//! `Map`: bytes that processes share.

use crate::Error;
use crate::sys::mmap::{self as sys, Access, OpenMode};
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

mod bytes;
mod options;

pub use options::{Advice, MapOptions};

/// Bytes in memory that several processes can have at once.
///
/// | made by | shared with | the bytes live |
/// |---|---|---|
/// | [`anonymous`](Self::anonymous), [`dev_zero`](Self::dev_zero) | children that are forked later | until the last of them is gone |
/// | [`memfd`](Self::memfd) | the same, and whoever is given the descriptor | until the last user is gone |
/// | [`file`](Self::file), shared | everybody who maps the file | in the file |
/// | [`file`](Self::file), private | nobody | until this map is dropped |
///
/// A map is never empty, all sizes and offsets are in bytes, and new memory is all zero. A child that is forked has the
/// map too; dropping it unmaps it in the process that drops it, and nowhere else. Maps block nobody: whoever reads
/// bytes must learn by other means that they are there.
///
/// [`read_at`](Self::read_at) and [`write_at`](Self::write_at) are safe while other threads and processes write: each
/// byte is read or written whole, but a copy of several bytes may mix what was there before with what came after. For
/// values that are never seen torn, place a typed value in a map and lock it.
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
    /// What was asked for.
    len: usize,
    /// What the kernel made of it, and wants back: `len` rounded up to whole pages.
    mapped: usize,
    writable: bool,
    /// The memory file, or the file whose lock the typed layer holds. Closed after the pages are unmapped.
    fd: Option<OwnedFd>,
}

// SAFETY: the map belongs to the process, not to a thread: any thread may use and unmap it.
unsafe impl Send for Map {}
// SAFETY: through `&Map` bytes are reached only by relaxed atomic accesses of one byte each, or through a raw pointer
// whose user answers for them.
unsafe impl Sync for Map {}

impl Map {
    /// New memory, shared with children that are forked while it exists: `MAP_SHARED | MAP_ANONYMOUS`.
    ///
    /// It starts at a page boundary, and all of its `len` bytes are zero. Pages take up memory when they are first
    /// touched.
    ///
    /// # Errors
    ///
    /// [`ZeroLength`](Error::ZeroLength), [`LengthOverflow`](Error::LengthOverflow), and
    /// [`NoMemory`](Error::NoMemory) where the kernel does not grant so much.
    pub fn anonymous(len: usize) -> Result<Map, Error> {
        let (size, mapped) = extent(0, len, sys::page_size())?;
        Ok(Map {
            start: sys::map_anonymous(size)?,
            len,
            mapped,
            writable: true,
            fd: None,
        })
    }

    /// The same as [`anonymous`](Self::anonymous), the older way: a shared map of `/dev/zero`.
    ///
    /// # Errors
    ///
    /// Those of `anonymous`; [`Os`](Error::Os) where `/dev/zero` cannot be opened, as in a bare chroot, and
    /// [`NotMappable`](Error::NotMappable) where something else stands there.
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
        let zero = sys::open_dev_zero()?;
        Ok(Map {
            start: sys::map_file(zero.as_fd(), Access::SHARED, 0, size)?,
            len,
            mapped,
            writable: true,
            fd: None,
        })
    }

    /// New memory behind a descriptor, which unrelated processes can be given: a sealed `memfd_create(2)` file.
    ///
    /// All of its `len` bytes are zero, and their memory is reserved: where there is not enough, this fails, and no
    /// later access does. It is sealed with `F_SEAL_SHRINK`, `F_SEAL_GROW` and `F_SEAL_SEAL`, so that nobody who gets the
    /// descriptor can truncate it or seal it further. The descriptor is closed on exec. `name` is what
    /// `/proc/PID/maps` shows behind `memfd:`; it needs not be unique.
    ///
    /// [`fd`](Self::fd) hands the descriptor out, and [`from_memfd`](Self::from_memfd) maps a received one.
    ///
    /// # Errors
    ///
    /// Those of [`anonymous`](Self::anonymous); [`MemfdName`](Error::MemfdName), [`NoSpace`](Error::NoSpace), and
    /// [`Os`](Error::Os) where the process has no descriptor left.
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
        // A memory file takes page after page until the system has none left, and is not refused a size beforehand. An
        // anonymous map of that size is, by the kernel's own rule of what may be promised (vm.overcommit_memory).
        drop(Map::anonymous(len)?);
        let fd = sys::memory_file(name)?;
        sys::set_len(fd.as_fd(), len as i64)?;
        let start = sys::map_file(fd.as_fd(), Access::SHARED, 0, size)?;
        let map = Map {
            start,
            len,
            mapped,
            writable: true,
            fd: None,
        };
        // Last, when nothing else can refuse what was reserved.
        sys::reserve(fd.as_fd(), 0, len as i64)?;
        sys::seal_size(fd.as_fd())?;
        Ok(map.keeping(fd))
    }

    /// Maps a memory file that another process made with [`memfd`](Self::memfd) and handed over: inherited, sent over a
    /// Unix socket, or opened through `/proc/PID/fd`.
    ///
    /// # Safety
    ///
    /// Whoever else has the descriptor or a map of it is trusted to use it by this crate, or to write bytes as other
    /// threads of this program might. The seals are checked here and hold for ever: nobody can shorten the memory under
    /// the map.
    ///
    /// # Errors
    ///
    /// [`NotMemfd`](Error::NotMemfd) for another kind of file, [`MissingSeals`](Error::MissingSeals) where it can still
    /// be resized, [`SealedAgainstWriting`](Error::SealedAgainstWriting), [`FileReadOnly`](Error::FileReadOnly) or
    /// [`FileNotReadable`](Error::FileNotReadable) where the descriptor allows too little,
    /// [`NothingToMap`](Error::NothingToMap) where it has no bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::Map;
    ///
    /// let map = Map::memfd("board", 64)?;
    /// // SAFETY: the descriptor goes nowhere but into another map of this crate.
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
        // SAFETY: the size is sealed, so that no page goes away under the map; the caller answers for the bytes.
        let map = unsafe { Map::of_descriptor(fd.as_fd(), MapOptions::shared())? };
        Ok(map.keeping(fd))
    }

    /// Maps a file, or a part of it, as the options say. The file may be closed afterwards: the map stays.
    ///
    /// # Safety
    ///
    /// 1. While the map exists, **nobody shortens the file** below the map's end, this process or another
    ///    (`ftruncate`, `O_TRUNC`). Access to a page that the file has lost raises SIGBUS, which kills the process, and no
    ///    check can come before it. Where others are not trusted with that, share [`memfd`](Self::memfd) memory: it is
    ///    sealed, and cannot be truncated.
    /// 2. A file may have holes, ranges without blocks on the disk. The first write to one in a shared map needs a block,
    ///    and **raises SIGBUS where the disk is full**. [`MapOptions::reserve`] takes the blocks beforehand.
    /// 3. Whoever else writes to the file, by a map or by `write(2)`, does it as another thread of this program might:
    ///    a byte that [`read_at`](Self::read_at) reads may change at any time, and nothing may rely on that it does not.
    ///
    /// # Errors
    ///
    /// What would fail at the first access, or with a bare `EINVAL`, is refused before anything is mapped:
    ///
    /// - [`ZeroLength`](Error::ZeroLength), [`LengthOverflow`](Error::LengthOverflow),
    ///   [`UnalignedOffset`](Error::UnalignedOffset): what was asked for can be mapped of no file.
    /// - [`FileTooShort`](Error::FileTooShort), [`NothingToMap`](Error::NothingToMap): the file does not hold the range,
    ///   as a file that was just created does not.
    /// - [`FileReadOnly`](Error::FileReadOnly), [`FileNotReadable`](Error::FileNotReadable),
    ///   [`SealedAgainstWriting`](Error::SealedAgainstWriting): the file is open for less than the map needs.
    /// - [`NotMappable`](Error::NotMappable): a directory, FIFO, socket or device, or a file system that maps no files.
    /// - [`NoSpace`](Error::NoSpace): from [`MapOptions::reserve`]. [`NoMemory`](Error::NoMemory): no addresses left.
    /// - [`AdviceRefused`](Error::AdviceRefused): from [`MapOptions::advice`].
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Map, MapOptions};
    /// use std::io::{Read, Seek};
    ///
    /// let mut file = tempfile::tempfile()?;
    /// file.set_len(20)?;
    /// // SAFETY: nobody else has this temporary file, so nobody shortens it.
    /// let map = unsafe { Map::file(&file, MapOptions::shared())? };
    /// map.write_at(0, b"hello mmap")?;
    ///
    /// let mut text = String::new();
    /// file.read_to_string(&mut text)?;
    /// assert_eq!(text, "hello mmap\0\0\0\0\0\0\0\0\0\0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn file(file: &File, options: MapOptions) -> Result<Map, Error> {
        // SAFETY: the caller's promises are the same.
        unsafe { Map::of_descriptor(file.as_fd(), options) }
    }

    /// Maps the first `len` bytes of a file shared and writable, and keeps the descriptor, which may carry a lock, until
    /// the pages are unmapped.
    ///
    /// # Safety
    ///
    /// As for [`file`](Self::file).
    pub(crate) unsafe fn file_shared(file: OwnedFd, len: usize) -> Result<Map, Error> {
        // SAFETY: the caller's promises are the same.
        let map = unsafe { Map::of_descriptor(file.as_fd(), MapOptions::shared().len(len))? };
        Ok(map.keeping(file))
    }

    /// # Safety
    ///
    /// As for [`file`](Self::file).
    unsafe fn of_descriptor(fd: BorrowedFd<'_>, options: MapOptions) -> Result<Map, Error> {
        let offset = options.offset;
        let mut size = sys::regular_file_size(fd)?;
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
            sys::reserve(fd, offset as i64, len as i64)?;
            size = sys::regular_file_size(fd)?;
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
            start: sys::map_file(fd, access, offset as i64, request)?,
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

    /// How many bytes were asked for. The kernel maps whole pages; what follows in the last one is out of bounds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always `false`: a map of no bytes cannot be made.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Where the map starts in this process; a multiple of the page. In another process it may be elsewhere.
    ///
    /// To read through the pointer is `unsafe`, and up to whoever does it: up to [`len`](Self::len) bytes are there until
    /// the map is dropped. Other threads and processes may write to them at any time, [`write_at`](Self::write_at)
    /// among them, which counts as relaxed [`AtomicU8`](std::sync::atomic::AtomicU8) stores.
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// The same place, to be written to. Writing to a read-only map raises SIGSEGV.
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The descriptor of [`memfd`](Self::memfd) and [`from_memfd`](Self::from_memfd) memory, to be handed to another
    /// process, which maps it by `from_memfd`; `None` for other maps.
    ///
    /// # Safety
    ///
    /// Whoever is given the descriptor has the memory. Its size is sealed, but its bytes are not: all who get it are
    /// trusted to use it by this crate only, and **not to write to it past this crate** (`write(2)`, `fallocate(2)`, a map
    /// of their own); where a value with locks lies in the memory, that would break it. In this process the descriptor
    /// stays the map's own, and is not closed.
    pub unsafe fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor()
    }

    /// The descriptor that the map keeps, for calls that change neither the file's bytes nor its size.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// The same map, and the descriptor lives as long.
    fn keeping(mut self, fd: OwnedFd) -> Map {
        self.fd = Some(fd);
        self
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: these are the address that mmap returned and the whole pages it mapped; who borrowed from the map is
        // gone, and raw pointers into it are their users' to answer for.
        unsafe { sys::unmap(self.start, self.mapped) }
    }
}

/// The length to ask mmap for, and the whole pages of `page` bytes it makes of that. Neither can be zero, and the end in
/// the file and in memory can be counted.
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

/// Whether the descriptor is open for what the options need: reading always, writing for shared changes and for blocks.
fn check_mode(fd: BorrowedFd<'_>, options: MapOptions) -> Result<(), Error> {
    match sys::open_mode(fd)? {
        OpenMode::ReadWrite => Ok(()),
        OpenMode::ReadOnly if options.shared && !options.read_only => Err(Error::FileReadOnly {
            asked: "a shared map that can be written to (MAP_SHARED, PROT_READ | PROT_WRITE)",
        }),
        OpenMode::ReadOnly if options.reserve => Err(Error::FileReadOnly {
            asked: "blocks to be reserved in it (posix_fallocate)",
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
        // SAFETY: nobody shortens this temporary file.
        let map = unsafe { Map::file_shared(locked(&path).unwrap(), 100).unwrap() };
        assert!(map.descriptor().is_some());
        assert_eq!(locked(&path).err(), Some(Errno::EWOULDBLOCK));
        drop(map);
        assert!(locked(&path).is_ok());
    }

    #[test]
    fn a_file_that_is_refused_is_closed_and_its_lock_gone() {
        let path = NamedTempFile::new().unwrap();
        // SAFETY: nobody shortens this temporary file.
        let on_timeout = unsafe { Map::file_shared(locked(&path).unwrap(), 1) };
        assert!(matches!(
            on_timeout,
            Err(Error::FileTooShort { size: 0, .. })
        ));
        assert!(locked(&path).is_ok());
    }

    /// Opens the file anew and locks it; the lock goes when the last copy of the descriptor is closed.
    fn locked(path: &NamedTempFile) -> Result<OwnedFd, Errno> {
        let file = OwnedFd::from(path.reopen().unwrap());
        // SAFETY: flock only takes a number, of a descriptor that `file` holds open.
        let answer = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        Errno::result(answer).map(|_| file)
    }
}
