//! Maps of files: which size, access mode and kind a file must have.

use super::*;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use tempfile::NamedTempFile;

/// Creates a file of 100 bytes and opens it again with `options`.
fn reopened(options: &mut fs::OpenOptions) -> (NamedTempFile, File) {
    let named = NamedTempFile::new().unwrap();
    named.as_file().write_all(&[7; 100]).unwrap();
    let file = options.open(named.path()).unwrap();
    (named, file)
}

// W1, W9: sizes of files.

#[test]
fn an_empty_file_is_refused_before_it_is_mapped_and_the_error_states_both_sizes() {
    refused!(
        map_file(&file_with(b""), MapOptions::shared().len(4096)),
        Error::FileTooShort {
            size: 0,
            offset: 0,
            len: 4096
        },
        "holds 0 bytes",
        "bytes 0 to 4096",
        "reserve",
        "File::set_len(4096)",
    );
}

#[test]
fn an_empty_file_has_nothing_to_map_to_its_end() {
    refused!(
        map_file(&file_with(b""), MapOptions::private()),
        Error::NothingToMap { size: 0, offset: 0 },
        "holds 0 bytes",
        "from offset 0",
        "MapOptions::len",
        "reserve",
    );
}

#[test]
fn a_file_that_ends_inside_the_range_is_refused_also_within_its_last_page() {
    let file = file_of_len(page() + 10);
    for (offset, len) in [
        (0, page() + 11),
        (page(), 11),
        (0, 3 * page()),
        (2 * page(), 1),
    ] {
        let end = offset + len;
        refused!(
            map_file(&file, MapOptions::shared().offset(offset as u64).len(len)),
            Error::FileTooShort { .. },
            format!("holds {} bytes", page() + 10),
            format!("bytes {offset} to {end} were to be mapped ({len} bytes)"),
            format!("File::set_len({end})"),
        );
    }
    assert_eq!(
        map_file(&file, MapOptions::shared().offset(page() as u64).len(10))
            .unwrap()
            .len(),
        10
    );
}

#[test]
fn an_offset_at_the_end_of_the_file_leaves_nothing_to_map() {
    let size = page() as u64;
    refused!(
        map_file(&file_of_len(page()), MapOptions::shared().offset(size)),
        Error::NothingToMap { .. },
        format!("holds {size} bytes"),
        format!("from offset {size}"),
    );
}

#[test]
fn a_new_file_is_extended_by_reserve_and_has_blocks_for_all_of_the_range() {
    let new = file_with(b"");
    let len = 3 * page() + 1;
    let map = map_file(
        &new,
        MapOptions::shared()
            .offset(page() as u64)
            .len(len)
            .reserve(),
    )
    .unwrap();
    map.write_at(len - 3, b"end").unwrap();
    let status = new.metadata().unwrap();
    assert_eq!(status.len() as usize, page() + len);
    assert!(status.blocks() as usize * 512 >= len);
    assert!(content(&new).ends_with(b"\0end"));
}

#[test]
fn reserve_without_a_length_fills_the_holes_of_the_file_and_keeps_its_size() {
    let sparse = file_of_len(5 * page() + 1);
    assert_eq!(sparse.metadata().unwrap().blocks(), 0);
    let map = map_file(&sparse, MapOptions::shared().reserve()).unwrap();
    assert_eq!(map.len(), 5 * page() + 1);
    let status = sparse.metadata().unwrap();
    assert_eq!(status.len() as usize, 5 * page() + 1);
    assert!(status.blocks() as usize * 512 > 5 * page());
}

#[test]
fn reserve_never_shortens_a_file() {
    let file = file_with(&[1; 50]);
    let map = map_file(&file, MapOptions::shared().len(20).reserve()).unwrap();
    assert_eq!(bytes_of(&map), [1; 20]);
    assert_eq!(content(&file), [1; 50]);
}

// W3, W4, W10: access modes.

#[test]
fn a_shared_writable_map_of_a_read_only_file_is_refused_and_both_modes_are_named() {
    let (_named, file) = reopened(File::options().read(true));
    refused!(
        map_file(&file, MapOptions::shared()),
        Error::FileReadOnly { .. },
        "open read-only (O_RDONLY)",
        "MAP_SHARED, PROT_READ | PROT_WRITE",
        "File::options().read(true).write(true)",
        "MapOptions::shared().read_only()",
        "MapOptions::private()",
    );
    let map = map_file(&file, MapOptions::shared().read_only()).unwrap();
    assert_eq!(bytes_of(&map), [7; 100]);
}

#[test]
fn blocks_are_not_reserved_in_a_file_opened_read_only() {
    let (_named, file) = reopened(File::options().read(true));
    refused!(
        map_file(&file, MapOptions::private().reserve()),
        Error::FileReadOnly { .. },
        "open read-only (O_RDONLY)",
        "posix_fallocate",
        "read(true).write(true)",
    );
}

#[test]
fn a_file_opened_write_only_is_refused_for_every_kind_of_map() {
    let (_named, file) = reopened(File::options().write(true));
    for options in [
        MapOptions::shared(),
        MapOptions::shared().read_only(),
        MapOptions::private(),
        MapOptions::private().read_only(),
    ] {
        refused!(
            map_file(&file, options),
            Error::FileNotReadable { .. },
            "open write-only (O_WRONLY)",
            "needs read access",
            "File::options().read(true)",
        );
    }
}

#[test]
fn a_descriptor_that_only_names_a_file_is_refused() {
    let named = NamedTempFile::new().unwrap();
    let (flags, mode) = (OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let file = File::from(nix::fcntl::open(named.path(), flags, mode).unwrap());
    refused!(
        map_file(&file, MapOptions::shared().read_only()),
        Error::FileNotReadable { .. },
        "O_PATH",
        "File::options().read(true)",
    );
}

#[test]
fn a_private_map_needs_only_read_permission_and_may_still_be_written() {
    let (named, file) = reopened(File::options().read(true));
    let map = map_file(&file, MapOptions::private()).unwrap();
    map.write_at(0, b"mine").unwrap();
    assert!(bytes_of(&map).starts_with(b"mine\x07"));
    assert_eq!(fs::read(named.path()).unwrap(), [7; 100]);
}

#[test]
fn a_read_only_map_refuses_writes_and_the_error_states_the_range() {
    let file = file_with(&[1; 30]);
    for options in [
        MapOptions::shared().read_only(),
        MapOptions::private().read_only(),
    ] {
        let map = map_file(&file, options).unwrap();
        refused!(
            map.write_at(10, b"four"),
            Error::ReadOnlyMap { offset: 10, len: 4 },
            "4 bytes",
            "at offset 10",
            "without `MapOptions::read_only`",
        );
        refused!(map.write_at(0, b""), Error::ReadOnlyMap { .. }, "0 bytes");
        refused!(
            map.write_at(27, b"four"),
            Error::OutOfBounds { .. },
            "30 bytes"
        );
        assert_eq!(bytes_of(&map), [1; 30]);
        assert_eq!(Vma::of(&map).permissions.get(..2), Some("r-"));
    }
}

// W5: the descriptor.

#[test]
fn the_file_may_be_closed_and_removed_after_it_is_mapped() {
    let (named, file) = reopened(File::options().read(true).write(true));
    let map = map_file(&file, MapOptions::shared()).unwrap();
    let again = named.reopen().unwrap();
    drop(file);
    drop(named);
    map.write_at(98, b"ok").unwrap();
    map.flush().unwrap();
    assert!(content(&again).ends_with(b"\x07ok"));
}

// W6: offsets.

#[test]
fn an_offset_inside_a_page_is_refused_with_the_page_size_and_the_nearest_below() {
    let file = file_of_len(3 * page());
    for (offset, below) in [(1000, 0), (page() + 1, page()), (2 * page() - 1, page())] {
        refused!(
            map_file(&file, MapOptions::shared().offset(offset as u64)),
            Error::UnalignedOffset { .. },
            format!("offset {offset} is not a multiple"),
            format!("{} bytes here", page()),
            format!("map from {below},"),
            format!("{} bytes into the map", offset - below),
        );
    }
}

#[test]
fn a_map_from_an_offset_shows_the_file_from_there_to_its_end() {
    let mut bytes = vec![1; page()];
    bytes.extend([2; 10]);
    let map = map_file(
        &file_with(&bytes),
        MapOptions::shared().offset(page() as u64),
    )
    .unwrap();
    assert_eq!(bytes_of(&map), [2; 10]);
}

// W13, P13: shared or private.

#[test]
fn shared_maps_of_a_file_see_each_others_writes_and_the_file_has_them() {
    let file = file_with(b"0123456789");
    let one = map_file(&file, MapOptions::shared()).unwrap();
    let two = map_file(&file, MapOptions::shared().read_only()).unwrap();
    one.write_at(2, b"ab").unwrap();
    assert_eq!(bytes_of(&two), b"01ab456789");
    assert_eq!(content(&file), b"01ab456789");
    assert_eq!(Vma::of(&one).permissions, "rw-s");
}

#[test]
fn changes_to_a_private_map_do_not_reach_the_file_and_end_with_the_map() {
    let file = file_with(b"0123456789");
    let options = MapOptions::private();
    let mine = map_file(&file, options).unwrap();
    let other = map_file(&file, options).unwrap();
    assert_eq!(Vma::of(&mine).permissions, "rw-p");
    mine.write_at(2, b"ab").unwrap();
    mine.flush().unwrap();
    assert_eq!(bytes_of(&mine), b"01ab456789");
    assert_eq!(bytes_of(&other), b"0123456789");
    drop(mine);
    assert_eq!(content(&file), b"0123456789");
    assert_eq!(bytes_of(&map_file(&file, options).unwrap()), b"0123456789");
}

// Kinds of files.

#[test]
fn anything_but_a_regular_file_is_refused_by_its_kind() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let both = |path: &Path| File::options().read(true).write(true).open(path).unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    for (file, found) in [
        (File::open(directory.path()).unwrap(), "a directory"),
        (both(&fifo), "a FIFO or a pipe"),
        (File::from(OwnedFd::from(socket)), "a socket"),
        (both(Path::new("/dev/null")), "the character device 1:3"),
        (both(Path::new("/dev/zero")), "the character device 1:5"),
    ] {
        refused!(
            map_file(&file, MapOptions::shared().len(10)),
            Error::NotMappable { .. },
            "only regular files",
            found,
            "Map::anonymous",
        );
    }
}

#[test]
fn a_file_system_that_maps_no_files_is_named_as_the_reason() {
    let Ok(file) = File::open("/sys/kernel/uevent_seqnum") else {
        return;
    };
    refused!(
        map_file(&file, MapOptions::shared().read_only()),
        Error::NotMappable { .. },
        "a file of a file system that maps none",
    );
}
