//! How a file is mapped, and what advice the kernel gets about the use of a map.

use crate::sys::mmap::MmapAdvise;

/// Options that configure how [`Map::file`](super::Map::file) maps a file.
///
/// A map is either [`shared`](Self::shared) or [`private`](Self::private). There is no conversion
/// between the two, because the kernel's `MAP_SHARED` and `MAP_PRIVATE` exclude each other:
///
/// ```compile_fail,E0599
/// let both = pshared::MapOptions::shared().private();
/// ```
///
/// | options | the file must be open for | writes go to |
/// |---|---|---|
/// | `shared()` | reading and writing | the file, and every process that has it mapped shared |
/// | `shared().read_only()` | reading | nowhere: they are an error |
/// | `private()` | reading | this map only, until it is dropped |
/// | `private().read_only()` | reading | nowhere: they are an error |
///
/// # Examples
///
/// ```
/// use pshared::{Map, MapOptions};
/// use std::io::Write;
///
/// let mut file = tempfile::tempfile()?;
/// file.write_all(b"one two")?;
/// // SAFETY: no other process has this temporary file, so none shortens it.
/// let map = unsafe { Map::file(&file, MapOptions::shared().read_only().len(3))? };
/// let mut word = [0; 3];
/// map.read_at(0, &mut word)?;
/// assert_eq!(&word, b"one");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "options do nothing until passed to `Map::file`"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapOptions {
    pub(super) shared: bool,
    pub(super) read_only: bool,
    pub(super) offset: u64,
    pub(super) len: Option<usize>,
    pub(super) prefault: bool,
    pub(super) reserve: bool,
    pub(super) advice: Option<Advice>,
}

impl MapOptions {
    /// Maps the file shared: writes to the map go to the file, and every process that has the file
    /// mapped shared sees them.
    ///
    /// The file must be open for reading and writing, unless the map is
    /// [`read_only`](Self::read_only).
    pub const fn shared() -> Self {
        MapOptions {
            shared: true,
            read_only: false,
            offset: 0,
            len: None,
            prefault: false,
            reserve: false,
            advice: None,
        }
    }

    /// Maps the file copy-on-write: writes change only the map, and are lost when it is dropped.
    ///
    /// The file needs to be open only for reading. Until a page of the map is first written,
    /// changes to the file by others may be visible in it.
    pub const fn private() -> Self {
        MapOptions {
            shared: false,
            ..Self::shared()
        }
    }

    /// Makes the map read-only: [`Map::write_at`](super::Map::write_at) returns an error.
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Sets the byte of the file at which the map starts; the default is 0.
    ///
    /// The offset must be a multiple of the page size, which depends on the system (4,096 bytes on
    /// most machines). If it is not, the error contains the page size and the nearest valid offset
    /// below.
    pub const fn offset(mut self, bytes: u64) -> Self {
        self.offset = bytes;
        self
    }

    /// Sets the length of the map in bytes; the default is everything from the
    /// [`offset`](Self::offset) to the end of the file.
    ///
    /// The length need not be a multiple of the page size. The file must contain the whole range,
    /// unless [`reserve`](Self::reserve) is set.
    pub const fn len(mut self, bytes: usize) -> Self {
        self.len = Some(bytes);
        self
    }

    /// Allocates disk blocks for the range before it is mapped: `posix_fallocate(3)`.
    ///
    /// A shorter file is extended with zero bytes to the end of the range.
    ///
    /// Use this option to map a new file: a new file is empty, and a map needs a file that contains
    /// its range. [`File::set_len`](std::fs::File::set_len) leaves a hole in the file instead. With
    /// a hole, a full disk raises SIGBUS at the first write to the map; with this option, it is an
    /// error here. The file must be open for writing. If the allocation fails, the file may have
    /// been extended in part.
    ///
    /// # File systems that copy blocks
    ///
    /// A reservation helps only if a block is written in its place. If blocks are copied instead, a
    /// write on a full disk raises SIGBUS, reserved or not:
    ///
    /// - **btrfs:** an empty file gets the attribute that turns copies off, with checksums and
    ///   compression (`chattr +C`, `FS_NOCOW_FL`). An existing file without it is refused with
    ///   [`Error::CopyOnWrite`](crate::Error::CopyOnWrite).
    /// - **ZFS, bcachefs, NILFS2, UBIFS:** every file is refused with that error.
    /// - **XFS:** blocks that the file shares with a reflink copy (`cp --reflink`) are copied here,
    ///   so that the file has its own.
    /// - **A later snapshot or reflink copy undoes the reservation**, on btrfs and on XFS: the next
    ///   write to each block is made to a copy. No check can prevent it. On XFS, another map with
    ///   this option repeats the reservation.
    ///
    /// Without this option, such files are mapped nevertheless.
    ///
    /// ```
    /// use pshared::{Map, MapOptions};
    ///
    /// let new = tempfile::tempfile()?;
    /// // SAFETY: no other process has this temporary file, so none shortens it.
    /// let map = unsafe { Map::file(&new, MapOptions::shared().len(6000).reserve())? };
    /// map.write_at(5995, b"hello")?;
    /// assert_eq!(new.metadata()?.len(), 6000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn reserve(mut self) -> Self {
        self.reserve = true;
        self
    }

    /// Reads all pages in before the map is returned (`MAP_POPULATE`), so that no first access
    /// waits for the disk.
    ///
    /// A page that the kernel cannot read in is left for its first access; this is not an error. In
    /// a writable private map, every page is copied immediately.
    pub const fn prefault(mut self) -> Self {
        self.prefault = true;
        self
    }

    /// Gives this advice for the whole map after it is made, as [`Map::advise`](super::Map::advise)
    /// does.
    ///
    /// If this is called more than once, the last advice is used.
    pub const fn advice(mut self, advice: Advice) -> Self {
        self.advice = Some(advice);
        self
    }
}

/// Advice to the kernel about the use of a map: `madvise(2)`.
///
/// Advice affects speed, memory use or core dumps, but never changes a byte. Advice that drops
/// bytes (`MADV_DONTNEED`, `MADV_REMOVE`, `MADV_FREE`), or that hides the map from children
/// (`MADV_DONTFORK`, `MADV_WIPEONFORK`), is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// No special treatment, with some read-ahead. This is the default.
    Normal,
    /// Pages are read in order: read far ahead, and free pages that were read.
    Sequential,
    /// Pages are read in random order: reading ahead is not useful.
    Random,
    /// Pages are needed soon: start reading them now.
    WillNeed,
    /// Pages are not needed soon: reclaim them first when memory is short.
    Cold,
    /// Use huge pages if possible; the kernel may be built or configured without them.
    HugePage,
    /// Do not use huge pages.
    NoHugePage,
    /// Exclude the map from core dumps.
    DontDump,
    /// Include the map in core dumps again.
    DoDump,
}

impl Advice {
    pub(super) fn madvise(self) -> MmapAdvise {
        match self {
            Advice::Normal => MmapAdvise::MADV_NORMAL,
            Advice::Sequential => MmapAdvise::MADV_SEQUENTIAL,
            Advice::Random => MmapAdvise::MADV_RANDOM,
            Advice::WillNeed => MmapAdvise::MADV_WILLNEED,
            Advice::Cold => MmapAdvise::MADV_COLD,
            Advice::HugePage => MmapAdvise::MADV_HUGEPAGE,
            Advice::NoHugePage => MmapAdvise::MADV_NOHUGEPAGE,
            Advice::DontDump => MmapAdvise::MADV_DONTDUMP,
            Advice::DoDump => MmapAdvise::MADV_DODUMP,
        }
    }
}
