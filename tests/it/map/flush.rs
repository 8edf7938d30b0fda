//! Calls on an existing map: flush, invalidate, advice.

use super::*;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use pshared::memory::Advice;
use std::ffi::c_void;
use std::ptr::NonNull;

// P12: flush.

#[test]
fn every_kind_of_map_can_be_flushed_and_invalidated() {
    let file = file_of_len(3 * page());
    for map in [
        Map::anonymous(3 * page()).unwrap(),
        Map::dev_zero(3 * page()).unwrap(),
        Map::memfd("flushed", 3 * page()).unwrap(),
        map_file(&file, MapOptions::shared()).unwrap(),
        map_file(&file, MapOptions::shared().read_only()).unwrap(),
        map_file(&file, MapOptions::private()).unwrap(),
    ] {
        map.flush().unwrap();
        map.flush_async().unwrap();
        map.invalidate().unwrap();
        map.flush_range(page() - 1, 2).unwrap();
        map.flush_async_range(1, 3 * page() - 1).unwrap();
        map.invalidate_range(3 * page() - 1, 1).unwrap();
    }
}

/// Returns how many bytes are still dirty after `flush` of a map of five written pages and a byte.
/// Returns `None` if the file system has no disk, so that its pages stay dirty.
fn dirty_around(flush: impl Fn(&Map)) -> Option<usize> {
    let directory = env!("CARGO_TARGET_TMPDIR");
    fs::create_dir_all(directory).unwrap();
    let file = tempfile::tempfile_in(directory).unwrap();
    let map = map_file(&file, MapOptions::shared().len(5 * page() + 1).reserve()).unwrap();
    if fstatfs(&file).unwrap().filesystem_type() == TMPFS_MAGIC {
        return None;
    }
    map.flush().unwrap();
    map.write_at(0, &vec![1; 5 * page() + 1]).unwrap();
    flush(&map);
    Some(Vma::of(&map).dirty())
}

#[test]
fn flush_brings_all_written_pages_to_the_disk() {
    if let Some(after) = dirty_around(|map| map.flush().unwrap()) {
        assert_eq!(after, 0);
    }
}

#[test]
fn flush_of_a_range_covers_the_pages_of_its_first_and_its_last_byte() {
    // Two bytes on two pages. Some kernels write larger units, and another process may sync all
    // files; the kernel never writes less.
    if let Some(after) = dirty_around(|map| map.flush_range(2 * page() - 1, 2).unwrap()) {
        assert!(after <= 4 * page(), "{after} bytes are still dirty");
    }
    if let Some(after) = dirty_around(|map| map.flush_range(page() + 1, 4 * page()).unwrap()) {
        assert!(after <= page(), "{after} bytes are still dirty");
    }
}

#[test]
fn invalidate_covers_the_partial_pages_at_both_ends_of_its_range_and_no_others() {
    let map = Map::anonymous(5 * page()).unwrap();
    let third = NonNull::new(map.as_ptr().wrapping_add(2 * page()) as *mut c_void).unwrap();
    // Not mlock(3): AddressSanitizer replaces it by a function that does nothing.
    let call = |call: libc::c_long| {
        // SAFETY: the page is inside the map, and locking it changes no byte.
        unsafe { libc::syscall(call, third.as_ptr(), page()) }
    };
    assert_eq!(call(libc::SYS_mlock), 0);
    for (offset, len) in [
        (0, 5 * page()),
        (0, 2 * page() + 1),
        (2 * page() - 1, 2),
        (3 * page() - 1, 1),
        (3 * page() - 1, page()),
        (2 * page() + 9, 9),
    ] {
        refused!(
            map.invalidate_range(offset, len),
            Error::PagesLocked,
            "locked into memory",
            "munlock",
        );
    }
    refused!(map.invalidate(), Error::PagesLocked, "mlock");
    for (offset, len) in [
        (0, 2 * page()),
        (3 * page(), 2 * page()),
        (3 * page(), 1),
        (2 * page() + 1, 0),
    ] {
        map.invalidate_range(offset, len).unwrap();
    }
    // Locked pages may be flushed: flush, asynchronous flush and invalidate are three calls, not
    // one.
    map.flush().unwrap();
    map.flush_async().unwrap();
    assert_eq!(call(libc::SYS_munlock), 0);
    map.invalidate().unwrap();
}

// Advice.

#[test]
fn prefault_brings_all_pages_in_before_they_are_touched() {
    let len = 8 * page();
    let file = file_with(&vec![1; len]);
    for options in [
        MapOptions::shared(),
        MapOptions::private(),
        MapOptions::shared().read_only(),
    ] {
        let map = map_file(&file, options.prefault()).unwrap();
        assert_eq!(Vma::of(&map).bytes("Rss:"), len, "{options:?}");
        let lazy = map_file(&file, options).unwrap();
        assert_eq!(Vma::of(&lazy).bytes("Rss:"), 0, "{options:?}");
    }
}

#[test]
fn advice_reaches_the_kernel() {
    let file = file_of_len(4 * page());
    for (advice, flag) in [
        (Advice::Sequential, "sr"),
        (Advice::Random, "rr"),
        (Advice::DontDump, "dd"),
    ] {
        let has = |map: &Map| {
            Vma::of(map)
                .line("VmFlags:")
                .split(' ')
                .any(|word| word == flag)
        };
        let map = map_file(&file, MapOptions::shared().advice(advice)).unwrap();
        assert!(has(&map), "{advice:?}");
        map.advise(Advice::Normal).unwrap();
        map.advise(Advice::DoDump).unwrap();
        assert!(!has(&map), "{advice:?}");
        map.advise(advice).unwrap();
        assert!(has(&map), "{advice:?}");
    }
}

#[test]
fn advice_without_a_trace_changes_no_byte() {
    let map = Map::anonymous(3 * page()).unwrap();
    map.write_at(page(), b"stays").unwrap();
    let before = bytes_of(&map);
    map.advise(Advice::WillNeed).unwrap();
    map.advise(Advice::Cold).unwrap();
    for advice in [Advice::HugePage, Advice::NoHugePage] {
        match map.advise(advice) {
            Ok(()) => {}
            // The kernel has no transparent huge pages.
            refusal => refused!(
                refusal,
                Error::AdviceRefused { .. },
                "HUGEPAGE",
                "works without"
            ),
        }
    }
    assert_eq!(bytes_of(&map), before);
}
