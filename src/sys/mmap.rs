//! Memory maps, memory files and their seals.

use super::error::SysError;
use super::kernel::Feature;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, posix_fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{self, MapFlags, ProtFlags};
use nix::sys::stat::{SFlag, fstat, major, minor};
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
use nix::unistd::{SysconfVar, ftruncate, sysconf};
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

pub(crate) use nix::sys::mman::{MmapAdvise, MsFlags};

/// The seals that a memory file gets before any process except its creator sees it. They make both
/// its size and its set of seals final.
pub(crate) const SIZE_SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SEAL);

/// The length of the longest name that memfd_create(2) accepts, in bytes.
pub(crate) const MEMFD_NAME_MAX: usize = 249;

/// The sharing, access and population of a map; see mmap(2) for `PROT_*` and `MAP_*`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    /// `MAP_SHARED`, else `MAP_PRIVATE`.
    pub(crate) shared: bool,
    /// `PROT_READ | PROT_WRITE`, else `PROT_READ`.
    pub(crate) writable: bool,
    /// `MAP_POPULATE`.
    pub(crate) prefault: bool,
}

impl Access {
    /// Shared between processes, readable and writable. All maps except those of files use it.
    pub(crate) const SHARED: Access = Access {
        shared: true,
        writable: true,
        prefault: false,
    };

    fn prot(self) -> ProtFlags {
        if self.writable {
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE
        } else {
            ProtFlags::PROT_READ
        }
    }

    fn flags(self) -> MapFlags {
        let sharing = if self.shared {
            MapFlags::MAP_SHARED
        } else {
            MapFlags::MAP_PRIVATE
        };
        if self.prefault {
            sharing | MapFlags::MAP_POPULATE
        } else {
            sharing
        }
    }
}

/// Returns the size of a page in bytes: `sysconf(_SC_PAGESIZE)`.
pub(crate) fn page_size() -> usize {
    match sysconf(SysconfVar::PAGE_SIZE) {
        Ok(Some(bytes)) => bytes as usize,
        // POSIX requires the value on every system; glibc takes it from the auxiliary vector.
        other => panic!("sysconf(_SC_PAGESIZE) returned {other:?}"),
    }
}

/// Returns the number of bytes of which the offsets and lengths of maps of this file are multiples.
/// It is the page size, or the huge page size of a hugetlbfs: mmap(2) rounds lengths up to it, and
/// munmap(2) requires it.
pub(crate) fn granule(fd: BorrowedFd<'_>) -> Result<usize, SysError> {
    Ok(huge_page_size(fd)?.unwrap_or_else(page_size))
}

/// Returns the number of bytes of which the length of this file is a multiple, if it lies on a
/// hugetlbfs: mmap(2) extends such a file to the end of its last huge page.
pub(crate) fn huge_page_size(fd: BorrowedFd<'_>) -> Result<Option<usize>, SysError> {
    let system = fstatfs(fd).map_err(|errno| SysError::new("fstatfs", errno))?;
    let is_huge = system.filesystem_type() == HUGETLBFS_MAGIC;
    Ok(is_huge.then_some(system.block_size() as usize))
}

/// `mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)`: new zeroed memory.
pub(crate) fn map_anonymous(len: NonZeroUsize) -> Result<NonNull<u8>, SysError> {
    let access = Access::SHARED;
    // SAFETY: the address is null and MAP_FIXED is not set, so the kernel chooses addresses that
    // nothing uses.
    let start = unsafe { mman::mmap_anonymous(None, len, access.prot(), access.flags()) };
    mapped(start, len, "mmap(MAP_SHARED | MAP_ANONYMOUS)")
}

/// `mmap(NULL, len, prot, flags, fd, offset)`.
pub(crate) fn map_file(
    fd: BorrowedFd<'_>,
    access: Access,
    offset: i64,
    len: NonZeroUsize,
) -> Result<NonNull<u8>, SysError> {
    // SAFETY: the address is null and MAP_FIXED is not set, so the kernel chooses addresses that
    // nothing uses.
    let start = unsafe { mman::mmap(None, len, access.prot(), access.flags(), fd, offset) };
    mapped(start, len, "mmap")
}

fn mapped<T>(
    start: Result<NonNull<T>, Errno>,
    len: NonZeroUsize,
    call: &str,
) -> Result<NonNull<u8>, SysError> {
    start
        .map(NonNull::cast)
        .map_err(|errno| SysError::new(format!("{call} of {len} bytes"), errno))
}

/// `munmap(start, len)`.
///
/// # Safety
///
/// `start` and `len` must be those of one whole map, which is no longer used.
pub(crate) unsafe fn unmap(start: NonNull<u8>, len: usize) {
    // SAFETY: the caller gives up the map, and no other map lies in its range.
    match unsafe { mman::munmap(start.cast(), len) } {
        Ok(()) => {}
        // The kernel had merged two neighbouring maps of one file, and the process may not have one
        // more map (vm.max_map_count). The map stays until the process ends: a leak that does no
        // harm.
        Err(Errno::ENOMEM) => {}
        Err(errno) => panic!("munmap({start:p}, {len}) of a whole map failed: {errno}"),
    }
}

/// `msync(start, len, flags)`. The kernel rounds `len` up to whole pages.
///
/// # Safety
///
/// The range must lie in a map, and `start` must be a multiple of the page size.
pub(crate) unsafe fn sync(start: NonNull<u8>, len: usize, flags: MsFlags) -> Result<(), SysError> {
    loop {
        // SAFETY: the caller guarantees that the range is mapped; msync changes no byte of it.
        match unsafe { mman::msync(start.cast(), len, flags) } {
            Ok(()) => return Ok(()),
            // A file system that waits for a server can be interrupted.
            Err(Errno::EINTR) => {}
            Err(errno @ (Errno::EINVAL | Errno::ENOMEM)) => {
                panic!("msync({start:p}, {len}, {flags:?}) inside a map failed: {errno}")
            }
            Err(errno) => return Err(SysError::new(format!("msync({flags:?})"), errno)),
        }
    }
}

/// `madvise(start, len, advice)`.
///
/// # Safety
///
/// `start` and `len` must be those of one whole map. `advice` must change neither its bytes nor
/// which processes have it.
pub(crate) unsafe fn advise(
    start: NonNull<u8>,
    len: usize,
    advice: MmapAdvise,
) -> Result<(), SysError> {
    // SAFETY: the caller guarantees that the range is one whole map and that the advice changes no
    // byte.
    unsafe { mman::madvise(start.cast(), len, advice) }
        .map_err(|errno| SysError::new(format!("madvise({advice:?})"), errno))
}

/// The access mode with which a descriptor was opened, from `fcntl(fd, F_GETFL)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenMode {
    ReadOnly,
    WriteOnly,
    ReadWrite,
    /// `O_PATH`, or Linux's mode 3: the descriptor identifies a file but cannot access its bytes.
    Neither,
}

/// `fcntl(fd, F_GETFL)`.
pub(crate) fn open_mode(fd: BorrowedFd<'_>) -> Result<OpenMode, SysError> {
    let flags =
        fcntl(fd, FcntlArg::F_GETFL).map_err(|errno| SysError::new("fcntl(F_GETFL)", errno))?;
    let flags = OFlag::from_bits_retain(flags);
    if flags.contains(OFlag::O_PATH) {
        return Ok(OpenMode::Neither);
    }
    Ok(match flags & OFlag::O_ACCMODE {
        OFlag::O_RDONLY => OpenMode::ReadOnly,
        OFlag::O_WRONLY => OpenMode::WriteOnly,
        OFlag::O_RDWR => OpenMode::ReadWrite,
        _ => OpenMode::Neither,
    })
}

/// The kind of file to which a descriptor refers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A regular file with this size in bytes.
    Regular(u64),
    /// Any other kind, as an error message names it.
    Other(String),
}

/// Returns the kind of file to which the descriptor refers: `fstat(fd)`.
pub(crate) fn file_kind(fd: BorrowedFd<'_>) -> Result<FileKind, SysError> {
    let status = fstat(fd).map_err(|errno| SysError::new("fstat", errno))?;
    let device = || format!("{}:{}", major(status.st_rdev), minor(status.st_rdev));
    let found = match SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => return Ok(FileKind::Regular(status.st_size as u64)),
        SFlag::S_IFDIR => "a directory".into(),
        SFlag::S_IFIFO => "a FIFO or a pipe".into(),
        SFlag::S_IFSOCK => "a socket".into(),
        SFlag::S_IFCHR => format!("the character device {}", device()),
        SFlag::S_IFBLK => format!("the block device {}", device()),
        SFlag::S_IFLNK => "a symbolic link".into(),
        // epoll, eventfd, timerfd, signalfd or pidfd: a kernel file without a type.
        _ => "a descriptor without a file".into(),
    };
    Ok(FileKind::Other(found))
}

/// `open("/dev/zero", O_RDWR | O_CLOEXEC)`. Returns `None` if the file is not the zero device.
pub(crate) fn open_dev_zero() -> Result<Option<OwnedFd>, SysError> {
    let zero = File::options()
        .read(true)
        .write(true)
        .open("/dev/zero")
        .map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(0);
            SysError::new("open(\"/dev/zero\")", Errno::from_raw(errno))
        })?;
    let status = fstat(&zero).map_err(|errno| SysError::new("fstat(\"/dev/zero\")", errno))?;
    let is_device = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    let is_zero = is_device && (major(status.st_rdev), minor(status.st_rdev)) == (1, 5);
    Ok(is_zero.then(|| zero.into()))
}

/// `memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL)`.
///
/// `MFD_NOEXEC_SEAL` exists since Linux 6.3. If the sysctl `vm.memfd_noexec` is 2, the kernel
/// requires it. An older kernel returns EINVAL, and the call is repeated without the flag. `name`
/// is at most [`MEMFD_NAME_MAX`] bytes without a NUL.
pub(crate) fn memory_file(name: &str) -> Result<OwnedFd, SysError> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let no_exec = match Feature::MemfdNoExecSeal.is_hidden() {
        true => MFdFlags::empty(),
        false => MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL),
    };
    match memfd_create(name, flags | no_exec) {
        Err(Errno::EINVAL) => memfd_create(name, flags),
        made => made,
    }
    .map_err(|errno| SysError::new(format!("memfd_create({name:?})"), errno))
}

/// `ftruncate(fd, len)`.
pub(crate) fn set_len(fd: BorrowedFd<'_>, len: i64) -> Result<(), SysError> {
    loop {
        match ftruncate(fd, len) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(SysError::new(format!("ftruncate to {len} bytes"), errno)),
        }
    }
}

/// `posix_fallocate(fd, offset, len)`: allocates the blocks of the range, or fails. A shorter file
/// grows to `offset + len` bytes.
///
/// The caller has checked that `offset + len` does not overflow.
pub(crate) fn reserve(fd: BorrowedFd<'_>, offset: i64, len: i64) -> Result<(), SysError> {
    in_pieces(offset, len, |offset, len| posix_fallocate(fd, offset, len))
        .map_err(|errno| SysError::new(format!("posix_fallocate of {len} bytes"), errno))
}

/// Reserves the range with `reserve(offset, len)`, in smaller pieces when signals interrupt it.
///
/// On older kernels, any signal makes tmpfs stop and undo the reservation. Newer kernels react only
/// to fatal signals. With a periodic signal (that of a profiler), there may never be enough time
/// between two signals for the whole range, but there is for a small enough piece. The first
/// request is for the whole range, so that a range that can never fit is refused before any part of
/// it is taken.
fn in_pieces(
    offset: i64,
    len: i64,
    mut reserve: impl FnMut(i64, i64) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let (mut from, end) = (offset, offset + len);
    let mut piece = len;
    while from < end {
        let now = piece.min(end - from);
        match reserve(from, now) {
            Ok(()) => from += now,
            Err(Errno::EINTR) => piece = (now / 2).max(page_size() as i64),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// `fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)`.
pub(crate) fn seal_size(fd: BorrowedFd<'_>) -> Result<(), SysError> {
    fcntl(fd, FcntlArg::F_ADD_SEALS(SIZE_SEALS))
        .map(drop)
        .map_err(|errno| SysError::new("fcntl(F_ADD_SEALS)", errno))
}

/// `fcntl(fd, F_GET_SEALS)`. Returns `None` if files of this kind have no seals.
pub(crate) fn seals(fd: BorrowedFd<'_>) -> Result<Option<SealFlag>, SysError> {
    match fcntl(fd.as_fd(), FcntlArg::F_GET_SEALS) {
        Ok(seals) => Ok(Some(SealFlag::from_bits_retain(seals))),
        // EBADF means an O_PATH descriptor, because a BorrowedFd is open.
        Err(Errno::EINVAL | Errno::EBADF) => Ok(None),
        Err(errno) => Err(SysError::new("fcntl(F_GET_SEALS)", errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_interrupted_by_signals_is_done_in_smaller_pieces_without_gaps() {
        let page = page_size() as i64;
        let (offset, len) = (3 * page, 100 * page + 1);
        let mut requests = Vec::new();
        let done = in_pieces(offset, len, |from, piece| {
            requests.push((from, piece));
            // A signal arrives before more than seven pages are reserved.
            if piece > 7 * page {
                Err(Errno::EINTR)
            } else {
                Ok(())
            }
        });
        assert_eq!(done, Ok(()));
        assert_eq!(
            requests[0],
            (offset, len),
            "the first request is for the whole range"
        );
        requests.retain(|(_, piece)| *piece <= 7 * page);
        let mut end = offset;
        for (from, piece) in requests {
            assert_eq!(from, end);
            end += piece;
        }
        assert_eq!(end, offset + len);
    }

    #[test]
    fn a_piece_is_never_smaller_than_a_page_and_other_errors_end_the_reservation() {
        let page = page_size() as i64;
        let mut interruptions = 50;
        let refused = in_pieces(0, 1000 * page, |_, piece| {
            assert!(piece >= page);
            interruptions -= 1;
            Err(if interruptions > 0 {
                Errno::EINTR
            } else {
                Errno::ENOSPC
            })
        });
        assert_eq!((refused, interruptions), (Err(Errno::ENOSPC), 0));
    }
}
