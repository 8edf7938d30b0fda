//! Local file systems on which a file differs from one on ext4 or tmpfs: those of huge pages, and
//! those that copy a block when it is written.

use super::{create, names, open, open_or_create};
use crate::disk::Disk;
use crate::harness::skip;
use crate::support::as_root;
use pshared::{Error, Map, MapOptions, Shared, SharedCounter, SharedMutex};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

crate::tests!(
    a_file_of_huge_pages_is_opened_as_often_as_any_other,
    too_few_huge_pages_are_an_error_and_leave_no_file,
);

/// Huge pages of the system, added for a test.
struct HugePages {
    before: String,
}

impl HugePages {
    const COUNT: &str = "/proc/sys/vm/nr_hugepages";

    /// Adds `number` pages, or skips the test.
    fn add(number: usize) -> Self {
        as_root();
        let read = || fs::read_to_string(Self::COUNT).unwrap_or_default();
        let pages = HugePages { before: read() };
        let before: usize = pages.before.trim().parse().unwrap_or(0);
        let _ = fs::write(Self::COUNT, (before + number).to_string());
        if read()
            .trim()
            .parse()
            .is_ok_and(|now: usize| now >= before + number)
        {
            return pages;
        }
        drop(pages);
        skip("the kernel has no huge pages to give");
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = fs::write(Self::COUNT, &self.before);
    }
}

fn a_file_of_huge_pages_is_opened_as_often_as_any_other() {
    let _pages = HugePages::add(4);
    let disk = Disk::new("hugetlbfs", "");
    let path = disk.path().join("board");
    let value = || SharedMutex::new(1_u64);
    for round in 1..=3 {
        let mutex = open_or_create(&path, value).unwrap();
        let mut count = mutex.lock().unwrap();
        assert_eq!(*count, round);
        *count += 1;
    }
    let huge = fs::metadata(&path).unwrap().blksize();
    assert!(huge > 4096);
    assert_eq!(fs::metadata(&path).unwrap().len(), huge);
    let first = open::<SharedMutex<u64>>(&path).unwrap();
    let second = open::<SharedMutex<u64>>(&path).unwrap();
    *first.lock().unwrap() += 1;
    assert_eq!(*second.lock().unwrap(), 5);
    let again = create(&path, value()).unwrap_err();
    assert!(matches!(again, Error::AlreadyExists { .. }), "{again:?}");

    // A slice that needs more than one page.
    let slice = disk.path().join("slice");
    let len = huge as usize / 8;
    let fill = |at| SharedCounter::new(at as u64);
    // SAFETY: only this test knows the directory.
    let made = unsafe { Shared::open_or_create_from_fn(&slice, len, fill) }.unwrap();
    made[len - 1].add(1);
    drop(made);
    assert_eq!(fs::metadata(&slice).unwrap().len(), 2 * huge);
    let opened = open::<[SharedCounter]>(&slice).unwrap();
    assert_eq!((opened.len(), opened[len - 1].get()), (len, len as u64));

    // The length is still checked.
    drop((first, second, opened));
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(2 * huge).unwrap();
    let refusal = open::<SharedMutex<u64>>(&path).unwrap_err();
    let lengths = (2 * huge, huge);
    assert!(
        matches!(refusal, Error::LengthMismatch { found, expected, .. } if (found, expected) == lengths),
        "{refusal:?}"
    );
}

fn too_few_huge_pages_are_an_error_and_leave_no_file() {
    as_root();
    let disk = Disk::new("hugetlbfs", "size=2M");
    let path = disk.path().join("slice");
    // SAFETY: only this test knows the directory.
    let refusal = unsafe { Shared::<[u8]>::create_zeroed_slice(&path, 8 << 20) }.unwrap_err();
    assert!(matches!(refusal, Error::NoSpace { .. }), "{refusal:?}");
    let message = refusal.to_string();
    assert!(message.contains("vm.nr_hugepages"), "{message}");
    assert!(names(disk.path()).is_empty());
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(disk.path().join("file"))
        .unwrap();
    file.set_len(8 << 20).unwrap();
    // SAFETY: as above.
    let refusal = unsafe { Map::file(&file, MapOptions::shared()) }.unwrap_err();
    assert!(matches!(refusal, Error::NoMemory { .. }), "{refusal:?}");
    let message = refusal.to_string();
    assert!(message.contains("vm.nr_hugepages"), "{message}");
}
