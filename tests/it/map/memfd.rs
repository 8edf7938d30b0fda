//! Memory files: sealed, passed on, and checked by the receiver.

use super::*;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use pshared::memory::Advice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// Returns a copy of the descriptor of a memory file map.
fn descriptor(map: &Map) -> OwnedFd {
    // SAFETY: these tests write to the memory only through this crate.
    let fd = unsafe { map.fd() }.unwrap();
    fd.try_clone_to_owned().unwrap()
}

fn from_memfd(fd: impl Into<OwnedFd>) -> Result<Map, Error> {
    // SAFETY: as above.
    unsafe { Map::from_memfd(fd.into()) }
}

fn bare_memfd(seals: SealFlag) -> File {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("bare", flags).unwrap());
    file.write_all(&[3; 10]).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file
}

const SIZE: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);

#[test]
fn a_memory_file_is_sealed_reserved_named_and_closed_on_exec() {
    let len = 4 * page() + 1;
    let map = Map::memfd("scoreboard", len).unwrap();
    let file = File::from(descriptor(&map));
    let seals = SealFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GET_SEALS).unwrap());
    assert!(seals.contains(SIZE | SealFlag::F_SEAL_SEAL));
    assert!(!seals.intersects(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_FUTURE_WRITE));
    // SAFETY: only its flags are read.
    let own = unsafe { map.fd() }.unwrap();
    let flags = FdFlag::from_bits_retain(fcntl(own, FcntlArg::F_GETFD).unwrap());
    assert!(flags.contains(FdFlag::FD_CLOEXEC));
    let status = file.metadata().unwrap();
    assert_eq!(status.len() as usize, len);
    assert!(status.blocks() as usize * 512 >= len);
    assert!(Vma::of(&map).lines[0].contains("/memfd:scoreboard"));
}

#[test]
fn a_received_memory_file_is_the_same_memory() {
    let map = Map::memfd("handed over", 100).unwrap();
    let same = from_memfd(descriptor(&map)).unwrap();
    assert_eq!(same.len(), 100);
    same.write_at(90, b"over there").unwrap();
    drop(same);
    assert!(bytes_of(&map).ends_with(b"\0over there"));
    let again = from_memfd(descriptor(&from_memfd(descriptor(&map)).unwrap())).unwrap();
    assert!(bytes_of(&again).ends_with(b"\0over there"));
}

#[test]
fn a_descriptor_that_is_no_memory_file_is_refused() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut on_disk = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    on_disk.write_all(b"bytes").unwrap();
    refused!(
        from_memfd(reader),
        Error::NotMemfd,
        "no seals",
        "Map::memfd"
    );
    if fstatfs(&on_disk).unwrap().filesystem_type() != TMPFS_MAGIC {
        refused!(
            from_memfd(on_disk),
            Error::NotMemfd,
            "Map::memfd",
            "Map::file"
        );
    }
}

#[test]
fn a_resizable_memory_file_is_refused_and_the_missing_seals_are_named() {
    for (has, missing) in [
        (
            SealFlag::empty(),
            "F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW,",
        ),
        (
            SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL,
            "lacks the seals F_SEAL_GROW,",
        ),
        (
            SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL,
            "lacks the seals F_SEAL_SHRINK,",
        ),
        (SIZE, "lacks the seals F_SEAL_SEAL,"),
    ] {
        refused!(
            from_memfd(bare_memfd(has)),
            Error::MissingSeals { .. },
            missing,
            "F_ADD_SEALS"
        );
    }
    let map = from_memfd(bare_memfd(SIZE | SealFlag::F_SEAL_SEAL)).unwrap();
    assert_eq!(bytes_of(&map), [3; 10]);
}

#[test]
fn a_memory_file_sealed_against_writing_is_refused_for_writing_and_can_be_read() {
    for seal in [SealFlag::F_SEAL_WRITE, SealFlag::F_SEAL_FUTURE_WRITE] {
        let file = bare_memfd(SIZE | SealFlag::F_SEAL_SEAL | seal);
        refused!(
            from_memfd(file.try_clone().unwrap()),
            Error::SealedAgainstWriting,
            "F_SEAL_WRITE",
            "read_only()",
            "private()",
        );
        let private = map_file(&file, MapOptions::private()).unwrap();
        private.write_at(0, b"mine").unwrap();
        assert_eq!(content(&file), [3; 10]);
    }
}

#[test]
fn a_memory_file_received_for_reading_only_is_refused() {
    let map = Map::memfd("for reading", 10).unwrap();
    let own = descriptor(&map);
    let reading = File::open(format!("/proc/self/fd/{}", own.as_raw_fd())).unwrap();
    refused!(
        from_memfd(reading),
        Error::FileReadOnly { .. },
        "O_RDONLY",
        "PROT_WRITE"
    );
}

#[test]
fn a_memory_file_without_bytes_is_refused() {
    let empty = memfd_create("empty", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    fcntl(&empty, FcntlArg::F_ADD_SEALS(SIZE | SealFlag::F_SEAL_SEAL)).unwrap();
    refused!(
        from_memfd(empty),
        Error::NothingToMap { size: 0, offset: 0 },
        "holds 0 bytes"
    );
}

#[test]
fn the_name_of_a_memory_file_has_at_most_249_bytes_and_no_nul() {
    let longest = "n".repeat(249);
    assert!(Map::memfd(&longest, 1).is_ok());
    refused!(
        Map::memfd(&"n".repeat(250), 1),
        Error::MemfdName { .. },
        "(250 bytes)",
        "at most 249 bytes"
    );
    refused!(
        Map::memfd("a\0b", 1),
        Error::MemfdName { .. },
        "\"a\\0b\"",
        "no NUL"
    );
}

#[test]
fn only_memory_files_have_a_descriptor_to_hand_out() {
    let file = file_of_len(1);
    for map in [
        Map::anonymous(1).unwrap(),
        Map::dev_zero(1).unwrap(),
        map_file(&file, MapOptions::shared()).unwrap(),
    ] {
        // SAFETY: these maps have no descriptor.
        assert!(unsafe { map.fd() }.is_none());
    }
}

#[test]
fn sealed_memory_cannot_be_resized_through_a_received_descriptor() {
    let map = Map::memfd("sealed", page()).unwrap();
    let file = File::from(descriptor(&map));
    for len in [0, page() as u64 - 1, page() as u64 + 1] {
        let refusal = file.set_len(len).unwrap_err();
        assert_eq!(refusal.raw_os_error(), Some(libc::EPERM));
    }
    let more = fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
    assert_eq!(more, Err(Errno::EPERM));
}

/// On a hugetlbfs, `munmap` accepts only whole huge pages, whatever length `mmap` received.
#[test]
fn huge_pages_are_mapped_from_their_multiples_and_unmapped_whole() {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_HUGETLB;
    let name = "pshared-test-huge-pages";
    let Ok(file) = memfd_create(name, flags).map(File::from) else {
        return;
    };
    let huge = file.metadata().unwrap().blksize() as usize;
    file.set_len(2 * huge as u64).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SIZE | SealFlag::F_SEAL_SEAL)).unwrap();
    refused!(
        map_file(&file, MapOptions::shared().offset(page() as u64).len(1)),
        Error::UnalignedOffset { below: 0, .. },
        format!("{huge} bytes here"),
    );
    let small = match map_file(&file, MapOptions::shared().offset(huge as u64).len(1)) {
        // The machine has reserved no huge pages.
        Err(Error::NoMemory { len: 1 }) => return,
        small => small.unwrap(),
    };
    small.write_at(0, b"x").unwrap();
    small.flush().unwrap();
    small.advise(Advice::DontDump).unwrap();
    drop(small);
    let whole = from_memfd(file).unwrap();
    let mut there = [0];
    whole.read_at(huge, &mut there).unwrap();
    assert_eq!((whole.len(), there), (2 * huge, *b"x"));
    drop(whole);
    assert!(!Vma::all().iter().any(|vma| vma.lines[0].contains(name)));
}
