//! The header before a value in a file or a memfd: magic, version, textual layout, boot and PID
//! namespace.
//!
//! The header is a fixed part, followed by the layout's text ([`Layout`]'s `Display`), followed by
//! zeroes up to the value. The boot and the PID namespace are those in which the thread ids in the
//! value's locks are valid. The text is also the directory of primitives: a program that does
//! not know `T` finds each primitive with its offset, kind and field path. Its last line says which
//! C library the programs have: see [`c_library`](super::c_library).

use crate::memory::file::boot::BootRecord;
use crate::memory::file::c_library::CLibrary;
use crate::memory::file::layout_diff::first_difference;
use crate::memory::map::length_in_file_system;
use crate::memory::placeable::Placeable;
use crate::memory::{Layout, Map};
use crate::sys::boot::BootTime;
use crate::{Error, sys};
use std::alloc;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

const MAGIC: [u8; 8] = *b"pshared\0";

/// The version of the format of this header and of every primitive after it.
const VERSION: u32 = 3;

/// Value offsets are a multiple of this, for any page size of the machine that made the file.
const PAGE: usize = 4096;

/// The longest valid directory, in bytes. It limits how much of an unknown file is read when it is
/// opened.
const LONGEST_DIRECTORY: u64 = 16 << 20;

/// The value of [`Header::slice`] if the value is not a slice.
const NO_SLICE: u64 = u64::MAX;

/// The fixed part of the header.
#[repr(C)]
#[derive(Debug)]
pub(in crate::memory) struct Header {
    magic: [u8; 8],
    version: u32,
    /// Not 0 while a reset of the locks is in progress, or if the process died during a reset.
    pub(in crate::memory) dirty: AtomicU32,
    value_offset: u64,
    value_length: u64,
    alignment: u64,
    /// The number of elements of a slice, or [`NO_SLICE`].
    slice: u64,
    fingerprint: u64,
    directory_length: u64,
    boot_id: [AtomicU64; 2],
    namespace: AtomicU64,
    created: u64,
    /// Which parts of the boot's record are known: [`ID_IS_KNOWN`] and [`TIME_IS_KNOWN`].
    known: AtomicU32,
    boot_time_uncertainty: AtomicU32,
    boot_time: AtomicU64,
    boot_time_elapsed: AtomicU64,
    /// Zero in this version.
    reserved: u64,
}

const FIXED: usize = size_of::<Header>();
static_assertions::const_assert_eq!(FIXED, 128);

const ID_IS_KNOWN: u32 = 1;
const TIME_IS_KNOWN: u32 = 2;

/// The layout of a file that contains a `T`.
#[derive(Debug)]
pub(in crate::memory) struct FileLayout {
    value: alloc::Layout,
    is_slice: bool,
    count: usize,
    directory: String,
}

impl FileLayout {
    /// Returns the layout of a file for a `T` of `count` elements.
    pub(in crate::memory) fn of<T: ?Sized + Placeable>(count: usize) -> Result<Self, Error> {
        Ok(FileLayout {
            value: fits(T::memory_layout(count))?,
            is_slice: !T::IS_SIZED,
            count,
            directory: Layout::of(|layout| T::describe(count, layout)).to_string()
                + CLibrary::OWN.line(),
        })
    }

    /// Returns the number of elements of a slice, or 1.
    pub(in crate::memory) fn count(&self) -> usize {
        self.count
    }

    /// Returns the offset of the value.
    pub(in crate::memory) fn value_offset(&self) -> usize {
        (FIXED + self.directory.len()).next_multiple_of(PAGE)
    }

    /// Returns the length of the file, or an error if no file can be that long.
    pub(in crate::memory) fn length(&self) -> Result<usize, Error> {
        self.value_offset()
            .checked_add(self.value.size().max(1))
            .filter(|length| i64::try_from(*length).is_ok())
            .ok_or(Error::TooLarge)
    }

    /// Writes the header of a new file.
    pub(in crate::memory) fn write(&self, map: &Map) -> Result<(), Error> {
        let created = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_secs());
        let mut bytes = Vec::with_capacity(FIXED + self.directory.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        for field in [
            self.value_offset() as u64,
            self.value.size() as u64,
            self.value.align() as u64,
            if self.is_slice {
                self.count as u64
            } else {
                NO_SLICE
            },
            fingerprint(&self.directory),
            self.directory.len() as u64,
            0,
            0,
            0,
            created,
        ] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.resize(FIXED, 0);
        bytes.extend(self.directory.as_bytes());
        map.write_at(0, &bytes)?;
        // SAFETY: the map starts with the header that was just written.
        unsafe { Header::of(map) }.stamp(&BootRecord::current());
        Ok(())
    }
}

/// A header that was read from a file and found valid.
#[derive(Debug)]
pub(in crate::memory) struct FileHeader {
    /// The number of elements of a slice.
    slice: Option<u64>,
    value_offset: u64,
    value_length: u64,
    alignment: u64,
    directory: String,
}

impl FileHeader {
    /// Reads the header of `file`, which is `length` bytes long, and checks everything that does
    /// not depend on `T`.
    ///
    /// The header is read, not mapped: if another process shortens the file meanwhile, the result
    /// is an error and not a SIGBUS.
    pub(in crate::memory) fn read(file: &File, length: u64, path: &Path) -> Result<Self, Error> {
        let not_ours = |why: String| Error::InvalidHeader {
            path: path.into(),
            why,
        };
        if length < FIXED as u64 {
            return Err(not_ours(format!(
                "its length of {length} bytes is less than the {FIXED} bytes of a header"
            )));
        }
        let unreadable = |source| Error::os(format!("read of {}", path.display()), source);
        let mut fixed = [0_u8; FIXED];
        file.read_exact_at(&mut fixed, 0).map_err(unreadable)?;
        if fixed[..8] != MAGIC {
            return Err(not_ours("it does not start with the magic bytes".into()));
        }
        let version = u32::from_ne_bytes(bytes_at(&fixed, 8));
        if version != VERSION {
            return Err(Error::VersionMismatch {
                path: path.into(),
                found: version,
                expected: VERSION,
            });
        }
        let [
            value_offset,
            value_length,
            alignment,
            slice,
            sum,
            directory_length,
        ] = [16, 24, 32, 40, 48, 56].map(|at| u64::from_ne_bytes(bytes_at(&fixed, at)));
        let content = value_offset.saturating_add(value_length.max(1));
        let expected = length_in_file_system(file.as_fd(), content)?;
        if expected != length {
            return Err(Error::LengthMismatch {
                path: path.into(),
                found: length,
                expected,
            });
        }
        if directory_length > LONGEST_DIRECTORY || FIXED as u64 + directory_length > value_offset {
            return Err(not_ours(format!(
                "its directory of {directory_length} bytes is too long"
            )));
        }
        let mut directory = vec![0; directory_length as usize];
        file.read_exact_at(&mut directory, FIXED as u64)
            .map_err(unreadable)?;
        let directory = String::from_utf8(directory)
            .ok()
            .filter(|text| fingerprint(text) == sum)
            .ok_or_else(|| not_ours("its directory does not match its fingerprint".into()))?;
        Ok(FileHeader {
            slice: (slice != NO_SLICE).then_some(slice),
            value_offset,
            value_length,
            alignment,
            directory,
        })
    }

    /// Checks that the value in the file is a `T`, and returns the plan by which such a file is
    /// made. With a `length`, a slice must have that many elements.
    pub(in crate::memory) fn check<T: ?Sized + Placeable>(
        &self,
        path: &Path,
        length: Option<usize>,
    ) -> Result<FileLayout, Error> {
        let other = |(expected, found)| Error::LayoutMismatch {
            path: path.into(),
            expected,
            found,
        };
        let count = match (T::IS_SIZED, self.slice) {
            (true, None) => 1,
            (false, Some(count)) => count as usize,
            (true, Some(count)) => {
                return Err(other(("one value".into(), format!("a slice of {count}"))));
            }
            (false, None) => return Err(other(("a slice".into(), "one value".into()))),
        };
        let plan = FileLayout::of::<T>(count)?;
        let library = CLibrary::of(&self.directory);
        if library != CLibrary::OWN {
            return Err(Error::CLibraryMismatch {
                path: path.into(),
                found: library.name(),
                expected: CLibrary::OWN.name(),
            });
        }
        if self.directory != plan.directory {
            let layouts = [&plan.directory, &self.directory].map(|text| CLibrary::layout_in(text));
            return Err(other(first_difference(layouts[0], layouts[1])));
        }
        if let Some(length) = length.filter(|length| *length != count && !T::IS_SIZED) {
            let slice = |length| format!("a slice of {length} elements");
            return Err(other((slice(length), slice(count))));
        }
        let place =
            |offset, length, align| format!("{length} bytes at {offset}, aligned to {align}");
        let ours = place(
            plan.value_offset() as u64,
            plan.value.size() as u64,
            plan.value.align() as u64,
        );
        let theirs = place(self.value_offset, self.value_length, self.alignment);
        if ours != theirs {
            return Err(other((ours, theirs)));
        }
        Ok(plan)
    }
}

impl Header {
    /// Returns the header at the start of a map.
    ///
    /// # Safety
    ///
    /// The map must start with a header and must be writable.
    pub(in crate::memory) unsafe fn of(map: &Map) -> &Header {
        // SAFETY: guaranteed by the caller; the start of a map is page-aligned, and all fields that
        // another process may write are atomic.
        unsafe { &*map.as_mut_ptr().cast::<Header>() }
    }

    /// Returns what is recorded about the boot in which the file was created or last reset.
    pub(in crate::memory) fn boot(&self) -> BootRecord {
        let known = self.known.load(Relaxed);
        let is_known = |part| known & part != 0;
        let [low, high] = self.boot_id.each_ref().map(|half| half.load(Relaxed));
        BootRecord {
            id: is_known(ID_IS_KNOWN).then_some(u128::from(high) << 64 | u128::from(low)),
            time: is_known(TIME_IS_KNOWN).then(|| BootTime {
                earliest: self.boot_time.load(Relaxed),
                uncertainty: self.boot_time_uncertainty.load(Relaxed),
                elapsed: self.boot_time_elapsed.load(Relaxed),
            }),
        }
    }

    /// Returns the PID namespace of the ids in the lock words, if it is not the caller's.
    pub(in crate::memory) fn other_namespace(&self) -> Option<u64> {
        let namespace = self.namespace.load(Relaxed);
        (namespace != u64::from(sys::own_namespace())).then_some(namespace)
    }

    #[cfg(test)]
    pub(in crate::memory) fn set_namespace(&self, namespace: u64) {
        self.namespace.store(namespace, Relaxed);
    }

    /// Records a boot and the caller's PID namespace in the header.
    pub(in crate::memory) fn stamp(&self, boot: &BootRecord) {
        let mut known = 0;
        if let Some(id) = boot.id {
            known |= ID_IS_KNOWN;
            self.boot_id[0].store(id as u64, Relaxed);
            self.boot_id[1].store((id >> 64) as u64, Relaxed);
        }
        if let Some(time) = boot.time {
            known |= TIME_IS_KNOWN;
            self.boot_time.store(time.earliest, Relaxed);
            self.boot_time_uncertainty.store(time.uncertainty, Relaxed);
            self.boot_time_elapsed.store(time.elapsed, Relaxed);
        }
        self.known.store(known, Relaxed);
        self.namespace.store(sys::own_namespace().into(), Relaxed);
    }
}

/// Checks that a value of `layout` can be placed: it must not be too large or need more than a
/// page's alignment.
pub(in crate::memory) fn fits(layout: Option<alloc::Layout>) -> Result<alloc::Layout, Error> {
    match layout {
        Some(layout) if layout.align() <= PAGE => Ok(layout),
        Some(layout) => Err(Error::OverAligned {
            asked: layout.align(),
            page: PAGE,
        }),
        None => Err(Error::TooLarge),
    }
}

fn bytes_at<const N: usize>(fixed: &[u8; FIXED], at: usize) -> [u8; N] {
    std::array::from_fn(|index| fixed[at + index])
}

/// Returns the 64-bit FNV-1a hash of `text`.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_fnv_1a() {
        assert_eq!(fingerprint(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint("foobar"), 0x8594_4171_f739_67e8);
    }
}
