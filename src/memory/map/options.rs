//! How a file is mapped, and what the kernel is told about the use that follows.

use crate::sys::mmap::MmapAdvise;

/// How [`Map::file`](super::Map::file) maps a file.
///
/// A map is either [`shared`](Self::shared) or [`private`](Self::private): two ways to begin and no way from one to the
/// other, since the kernel's `MAP_SHARED` and `MAP_PRIVATE` exclude each other.
///
/// ```compile_fail,E0599
/// let both = pshared::MapOptions::shared().private();
/// ```
///
/// | options | the file must be open for | writes go to |
/// |---|---|---|
/// | `shared()` | reading and writing | the file, and everybody who has it mapped shared |
/// | `shared().read_only()` | reading | nowhere: they are an error |
/// | `private()` | reading | this map only; they are gone with it |
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
/// // SAFETY: nobody else has this temporary file, so nobody shortens it.
/// let map = unsafe { Map::file(&file, MapOptions::shared().read_only().len(3))? };
/// let mut word = [0; 3];
/// map.read_at(0, &mut word)?;
/// assert_eq!(&word, b"one");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "options do nothing until they are given to `Map::file`"]
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
    /// What is written to the map is written to the file, and seen by every process that has the file mapped shared.
    ///
    /// The file must be open for reading and writing, or the map be made [`read_only`](Self::read_only).
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

    /// Copy on write: what is written to the map stays in it, the file keeps its bytes, and all changes are dropped with
    /// the map.
    ///
    /// The file need only be open for reading. Until a page of the map is first written, changes that others make to the
    /// file may be seen in it.
    pub const fn private() -> Self {
        MapOptions {
            shared: false,
            ..Self::shared()
        }
    }

    /// The map is only read: [`Map::write_at`](super::Map::write_at) is an error.
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Maps from this byte of the file on; by default from byte 0.
    ///
    /// It must be a multiple of the page, whose size the system decides (4,096 bytes on most machines); the error names
    /// it and the nearest offset below.
    pub const fn offset(mut self, bytes: u64) -> Self {
        self.offset = bytes;
        self
    }

    /// Maps this many bytes; by default everything from the [`offset`](Self::offset) to the end of the file.
    ///
    /// It need not be a multiple of the page. The file must hold them all, unless they are [`reserve`](Self::reserve)d.
    pub const fn len(mut self, bytes: usize) -> Self {
        self.len = Some(bytes);
        self
    }

    /// Before it is mapped, the range gets its blocks on the disk, and a shorter file is extended with zero bytes to the
    /// range's end: `posix_fallocate(3)`.
    ///
    /// This is how a new file is mapped: it is created with 0 bytes, and a map needs a file that holds it. Compared to
    /// [`File::set_len`](std::fs::File::set_len), which leaves a hole where nothing was written, a full disk is an error
    /// here, and not a SIGBUS at the first write to the map. The file must be open for writing. Where this fails, the
    /// file may have been extended in part.
    ///
    /// ```
    /// use pshared::{Map, MapOptions};
    ///
    /// let new = tempfile::tempfile()?;
    /// // SAFETY: nobody else has this temporary file, so nobody shortens it.
    /// let map = unsafe { Map::file(&new, MapOptions::shared().len(6000).reserve())? };
    /// map.write_at(5995, b"hello")?;
    /// assert_eq!(new.metadata()?.len(), 6000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn reserve(mut self) -> Self {
        self.reserve = true;
        self
    }

    /// Brings all pages in before the map is handed out (`MAP_POPULATE`), so that no first touch has to wait for the
    /// disk.
    ///
    /// A page that the kernel cannot bring in is left for its first touch; this is no error. In a private map that may be
    /// written every page is copied at once.
    pub const fn prefault(mut self) -> Self {
        self.prefault = true;
        self
    }

    /// Gives this advice for the whole map once it is made, as [`Map::advise`](super::Map::advise) does. The last advice
    /// counts.
    pub const fn advice(mut self, advice: Advice) -> Self {
        self.advice = Some(advice);
        self
    }
}

/// What the kernel is told about the use of a map: `madvise(2)`.
///
/// Advice changes speed, memory use or core dumps, never a byte. What would drop bytes (`MADV_DONTNEED`, `MADV_REMOVE`,
/// `MADV_FREE`) or take the map away from children (`MADV_DONTFORK`, `MADV_WIPEONFORK`) is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// Nothing special: some read-ahead. How every map starts.
    Normal,
    /// Pages are read in order: read far ahead, and let go of what was read.
    Sequential,
    /// Pages are read in no order: reading ahead does not pay.
    Random,
    /// Pages are needed soon: start to read them now.
    WillNeed,
    /// Pages are not needed soon: when memory is short, reclaim them first.
    Cold,
    /// Use huge pages where the kernel can; it may be built or configured without.
    HugePage,
    /// Use no huge pages.
    NoHugePage,
    /// Leave the map out of core dumps.
    DontDump,
    /// Take the map into core dumps again.
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
