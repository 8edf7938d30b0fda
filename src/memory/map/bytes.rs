//! Operations on the bytes of a map: reading, writing, flushing and advice.

use super::{Advice, Map};
use crate::Error;
use crate::sys::Errno;
use crate::sys::mmap::{self as sys, MsFlags};
use std::slice;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

impl Map {
    /// Copies `to.len()` bytes, starting at `offset`, out of the map.
    ///
    /// The copy is made byte by byte, because other threads and processes may write at the same
    /// time. An optimized build copies a few gigabytes a second.
    ///
    /// # Errors
    ///
    /// Returns [`OutOfBounds`](Error::OutOfBounds) if the range is not inside the map; no byte is
    /// copied then.
    pub fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        let bytes = self.bytes(offset, to.len())?;
        for (to, from) in to.iter_mut().zip(bytes) {
            *to = from.load(Relaxed);
        }
        Ok(())
    }

    /// Copies all of `from` into the map, starting at `offset`.
    ///
    /// # Errors
    ///
    /// Returns [`OutOfBounds`](Error::OutOfBounds) if the range is not inside the map, and
    /// [`ReadOnlyMap`](Error::ReadOnlyMap) if the map is read-only; no byte is written then.
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

    /// Writes changes back to the disk and waits until they are there: `msync(MS_SYNC)`.
    ///
    /// Other processes that map the file see changes without a flush, because they share the
    /// memory. A flush protects the changes against a power failure. This call does nothing for a
    /// private map, and for memory without a file: they have nothing to write back.
    ///
    /// # Errors
    ///
    /// Returns [`Os`](Error::Os) if writing to the disk fails, for example with `EIO` or `ENOSPC`.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Map, MapOptions};
    ///
    /// let file = tempfile::tempfile()?;
    /// // SAFETY: no other process has this temporary file, so none shortens it.
    /// let map = unsafe { Map::file(&file, MapOptions::shared().len(8192).reserve())? };
    /// map.write_at(5000, b"keep this")?;
    /// map.flush_range(5000, 9)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self) -> Result<(), Error> {
        self.flush_range(0, self.len)
    }

    /// Flushes the pages that contain any of the `len` bytes starting at `offset`, as
    /// [`flush`](Self::flush) does. An empty range contains no page.
    ///
    /// # Errors
    ///
    /// Returns the errors of `flush`, and [`OutOfBounds`](Error::OutOfBounds) if the range is not
    /// inside the map.
    pub fn flush_range(&self, offset: usize, len: usize) -> Result<(), Error> {
        self.sync(offset, len, MsFlags::MS_SYNC)
    }

    /// Requests that changes be written back to the disk, without waiting for it:
    /// `msync(MS_ASYNC)`.
    ///
    /// Linux tracks written pages itself and writes them back within about half a minute, with or
    /// without this call. The call only documents the intention; use [`flush`](Self::flush) for a
    /// guarantee.
    ///
    /// # Errors
    ///
    /// Returns [`Os`](Error::Os) if the system call fails, which does not happen on Linux.
    pub fn flush_async(&self) -> Result<(), Error> {
        self.flush_async_range(0, self.len)
    }

    /// Requests write-back of the pages that contain any of the `len` bytes starting at `offset`,
    /// as [`flush_async`](Self::flush_async) does.
    ///
    /// # Errors
    ///
    /// Returns the errors of `flush_async`, and [`OutOfBounds`](Error::OutOfBounds) if the range is
    /// not inside the map.
    pub fn flush_async_range(&self, offset: usize, len: usize) -> Result<(), Error> {
        self.sync(offset, len, MsFlags::MS_ASYNC)
    }

    /// Makes the map show the current contents of the file: `msync(MS_INVALIDATE)`.
    ///
    /// Linux keeps one copy of a file in memory, which `read(2)`, `write(2)` and all shared maps
    /// use. They always agree, so there is nothing to do. A private map keeps the pages that were
    /// written. POSIX allows systems on which this differs.
    ///
    /// # Errors
    ///
    /// Returns [`PagesLocked`](Error::PagesLocked) if pages are locked into memory: such pages
    /// cannot be invalidated.
    pub fn invalidate(&self) -> Result<(), Error> {
        self.invalidate_range(0, self.len)
    }

    /// Invalidates the pages that contain any of the `len` bytes starting at `offset`, as
    /// [`invalidate`](Self::invalidate) does.
    ///
    /// # Errors
    ///
    /// Returns the errors of `invalidate`, and [`OutOfBounds`](Error::OutOfBounds) if the range is
    /// not inside the map.
    pub fn invalidate_range(&self, offset: usize, len: usize) -> Result<(), Error> {
        self.sync(offset, len, MsFlags::MS_INVALIDATE)
    }

    /// Advises the kernel how the whole map will be used: `madvise(2)`.
    ///
    /// # Errors
    ///
    /// Returns [`AdviceRefused`](Error::AdviceRefused) if this kernel, or this kind of map, does
    /// not support the advice.
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
        // SAFETY: these are the extents of this one map. No `Advice` changes a byte, or which
        // processes have the map.
        unsafe { sys::advise(self.start, self.mapped, advice.madvise()) }.map_err(|error| {
            match error.errno {
                Errno::EINVAL => Error::AdviceRefused {
                    advice: format!("{:?}", advice.madvise()),
                },
                _ => error.into(),
            }
        })
    }

    fn bytes(&self, offset: usize, len: usize) -> Result<&[AtomicU8], Error> {
        self.check_bounds(offset, len)?;
        // SAFETY: the range lies in the map, which stays mapped and readable while `self` is
        // borrowed. No process takes pages away from it: memory made by this crate is sealed or has
        // no name, and for files the contract of `file` excludes it. An `AtomicU8` has the size,
        // the alignment and the valid values of a `u8`. Others may write at the same time. This
        // process does so in `write_at`, by atomic accesses of the same size, so there is no data
        // race. Other processes count as threads of this one, by contract. A read-only map is
        // accessed only by relaxed loads of one byte, which are allowed in read-only memory (module
        // documentation of `std::sync::atomic`).
        Ok(unsafe { slice::from_raw_parts(self.start.as_ptr().add(offset).cast(), len) })
    }

    fn sync(&self, offset: usize, len: usize, flags: MsFlags) -> Result<(), Error> {
        self.check_bounds(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let into_page = offset % sys::page_size();
        // SAFETY: `offset` is in the map, which starts at a page boundary, so the start of its page
        // is in the map too.
        let first_page = unsafe { self.start.add(offset - into_page) };
        // SAFETY: the range starts at a page boundary and ends where the caller's range ends, both
        // inside the map.
        unsafe { sys::sync(first_page, into_page + len, flags) }.map_err(|error| {
            match error.errno {
                Errno::EBUSY => Error::PagesLocked,
                _ => error.into(),
            }
        })
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
