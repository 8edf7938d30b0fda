//! What is done with the bytes of a map: read, written, brought to the disk, advised on.

use super::{Advice, Map};
use crate::Error;
use crate::sys::mmap::{self as sys, MsFlags};
use std::slice;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

impl Map {
    /// Copies `to.len()` bytes from `offset` on out of the map.
    ///
    /// Byte by byte, since others may write at the same time: a few gigabytes a second in an optimized build.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](Error::OutOfBounds); nothing was copied then.
    pub fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        let bytes = self.bytes(offset, to.len())?;
        for (to, from) in to.iter_mut().zip(bytes) {
            *to = from.load(Relaxed);
        }
        Ok(())
    }

    /// Copies all of `from` into the map, from `offset` on.
    ///
    /// # Errors
    ///
    /// [`ReadOnlyMap`](Error::ReadOnlyMap) and [`OutOfBounds`](Error::OutOfBounds); nothing was written then.
    pub fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), Error> {
        let bytes = self.bytes(offset, from.len())?;
        if !self.writable {
            return Err(Error::ReadOnlyMap {
                offset,
                len: from.len(),
            });
        }
        for (to, from) in bytes.iter().zip(from) {
            to.store(*from, Relaxed);
        }
        Ok(())
    }

    /// Waits until what was written to the map is on the disk: `msync(MS_SYNC)`.
    ///
    /// Other processes that map the file need no flush, they share the memory; it is for the day the power fails. A
    /// private map and memory without a file have nothing to write back, and this does nothing for them.
    ///
    /// # Errors
    ///
    /// [`Os`](Error::Os) with what the disk said, such as `EIO` or `ENOSPC`.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Map, MapOptions};
    ///
    /// let file = tempfile::tempfile()?;
    /// // SAFETY: nobody else has this temporary file, so nobody shortens it.
    /// let map = unsafe { Map::file(&file, MapOptions::shared().len(8192).reserve())? };
    /// map.write_at(5000, b"keep this")?;
    /// map.flush_range(5000, 9)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self) -> Result<(), Error> {
        self.flush_range(0, self.len)
    }

    /// As [`flush`](Self::flush), for the pages that hold any of the `len` bytes from `offset` on. An empty range is none.
    ///
    /// # Errors
    ///
    /// Those of `flush`, and [`OutOfBounds`](Error::OutOfBounds).
    pub fn flush_range(&self, offset: usize, len: usize) -> Result<(), Error> {
        self.sync(offset, len, MsFlags::MS_SYNC)
    }

    /// Asks for what was written to be brought to the disk, and does not wait for it: `msync(MS_ASYNC)`.
    ///
    /// Linux keeps track of written pages by itself and writes them back within about half a minute, with this call or
    /// without; it is here for what it says, and [`flush`](Self::flush) for certainty.
    ///
    /// # Errors
    ///
    /// [`Os`](Error::Os), which Linux has no occasion for.
    pub fn flush_async(&self) -> Result<(), Error> {
        self.flush_async_range(0, self.len)
    }

    /// As [`flush_async`](Self::flush_async), for the pages that hold any of the `len` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// Those of `flush_async`, and [`OutOfBounds`](Error::OutOfBounds).
    pub fn flush_async_range(&self, offset: usize, len: usize) -> Result<(), Error> {
        self.sync(offset, len, MsFlags::MS_ASYNC)
    }

    /// Makes sure that the map shows what is in the file now: `msync(MS_INVALIDATE)`.
    ///
    /// Linux has one copy of a file in memory, which `read(2)`, `write(2)` and all shared maps use, so they always agree
    /// and nothing is to be done; a private map keeps the pages that were written. POSIX allows systems where that is
    /// different.
    ///
    /// # Errors
    ///
    /// [`PagesLocked`](Error::PagesLocked): what is locked into memory cannot be invalidated.
    pub fn invalidate(&self) -> Result<(), Error> {
        self.invalidate_range(0, self.len)
    }

    /// As [`invalidate`](Self::invalidate), for the pages that hold any of the `len` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// Those of `invalidate`, and [`OutOfBounds`](Error::OutOfBounds).
    pub fn invalidate_range(&self, offset: usize, len: usize) -> Result<(), Error> {
        self.sync(offset, len, MsFlags::MS_INVALIDATE)
    }

    /// Tells the kernel how the whole map is going to be used: `madvise(2)`.
    ///
    /// # Errors
    ///
    /// [`AdviceRefused`](Error::AdviceRefused) where this kernel or this kind of map does not know the advice.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Map, memory::Advice};
    ///
    /// let secrets = Map::anonymous(4096)?;
    /// secrets.advise(Advice::DontDump)?;
    /// # Ok::<(), pshared::Error>(())
    /// ```
    pub fn advise(&self, advice: Advice) -> Result<(), Error> {
        // SAFETY: these are the extents of this one map, and no `Advice` changes a byte or who has the map.
        unsafe { sys::advise(self.start, self.mapped, advice.madvise()) }
    }

    fn bytes(&self, offset: usize, len: usize) -> Result<&[AtomicU8], Error> {
        self.check_bounds(offset, len)?;
        // SAFETY: the range lies in the map, which stays mapped and readable while `self` is borrowed; no process can or
        // may take pages away from under it (new memory is this crate's own, sealed or without a name; for files it is
        // the contract of `file`). An `AtomicU8` has the size, the alignment and the valid values of a `u8`. Others may
        // write at the same time: this process by `write_at`, by atomic accesses of the same size, so that there is no
        // data race; other processes as if they were threads here, by contract. In a read-only map only relaxed loads of
        // one byte are made, which are allowed in read-only memory (module documentation of `std::sync::atomic`).
        Ok(unsafe { slice::from_raw_parts(self.start.as_ptr().add(offset).cast(), len) })
    }

    fn sync(&self, offset: usize, len: usize, flags: MsFlags) -> Result<(), Error> {
        self.check_bounds(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let into_page = offset % sys::page_size();
        // SAFETY: `offset` is in the map, which starts with a page, so the start of its page is too.
        let first_page = unsafe { self.start.add(offset - into_page) };
        // SAFETY: the range begins with a page and ends where the caller's range ends, both inside the map.
        unsafe { sys::sync(first_page, into_page + len, flags) }
    }

    fn check_bounds(&self, offset: usize, len: usize) -> Result<(), Error> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Error::OutOfBounds {
                offset,
                len,
                map_len: self.len,
            }),
        }
    }
}
