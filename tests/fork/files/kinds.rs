//! Local file systems on which a file differs from one on ext4 or tmpfs: those of huge pages, and
//! those that copy a block when it is written.

use super::image::ImageDisk;
use super::{create, names, open, open_or_create};
use crate::disk::Disk;
use crate::harness::skip;
use crate::support::{as_root, child};
use pshared::{Error, Map, MapOptions, Shared, SharedCounter, SharedMutex};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

crate::tests!(
    a_file_of_huge_pages_is_opened_as_often_as_any_other,
    too_few_huge_pages_are_an_error_and_leave_no_file,
    on_a_full_btrfs_every_write_to_a_file_succeeds,
    on_btrfs_a_file_that_is_copied_on_write_is_not_reserved,
    on_a_full_btrfs_a_snapshot_undoes_a_reservation,
    on_a_full_xfs_a_copy_undoes_a_reservation_and_reserve_repeats_it,
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

const MAPPED: usize = 4 << 20;

/// Writes each page of the map and flushes it, three times, in a child. Returns whether no write
/// raised SIGBUS.
fn is_writable(map: &Map) -> bool {
    let writer = child(|| {
        for round in 1..=3 {
            map.write_at(0, &vec![round; MAPPED]).unwrap();
            map.flush().unwrap();
        }
    });
    let status = writer.wait().unwrap();
    assert!(
        status.success() || status.signal() == Some(libc::SIGBUS),
        "{status}"
    );
    status.success()
}

fn map_file(path: &Path, options: MapOptions) -> Result<Map, Error> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    // SAFETY: only this test knows the file, and does not shorten it.
    unsafe { Map::file(&file.unwrap(), options) }
}

/// Maps a file that the library created, to write all of its bytes.
fn created(path: &Path) -> Map {
    // SAFETY: only this test knows the directory.
    drop(unsafe { Shared::<[u8]>::create_zeroed_slice(path, MAPPED) }.unwrap());
    map_file(path, MapOptions::shared().len(MAPPED)).unwrap()
}

fn btrfs() -> ImageDisk {
    ImageDisk::new("btrfs", &["-q"], 256)
}

fn on_a_full_btrfs_every_write_to_a_file_succeeds() {
    let disk = btrfs();
    let compressed = disk.path().join("compressed");
    fs::create_dir(&compressed).unwrap();
    let chattr = Command::new("chattr").arg("+c").arg(&compressed).status();
    assert!(chattr.unwrap().success());
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| {
        let path = disk.path().join(name);
        fs::create_dir(&path).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let layers = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let flags = nix::mount::MsFlags::empty();
    let overlay = nix::mount::mount(
        Some("none"),
        &*merged,
        Some("overlay"),
        flags,
        Some(&*layers),
    );

    let mut maps = vec![
        created(&disk.path().join("created")),
        created(&compressed.join("created")),
        map_file(
            &disk.path().join("mapped"),
            MapOptions::shared().len(MAPPED).reserve(),
        )
        .unwrap(),
    ];
    if overlay.is_ok() {
        maps.push(created(&Path::new(&merged).join("created")));
    }
    assert!(maps.iter().all(is_writable));
    disk.fill();
    for (index, map) in maps.iter().enumerate() {
        assert!(is_writable(map), "{index}");
    }
    drop(maps);
    let _ = nix::mount::umount(&*merged);
}

fn on_btrfs_a_file_that_is_copied_on_write_is_not_reserved() {
    let disk = btrfs();
    let path = disk.path().join("file");
    fs::write(&path, "not empty").unwrap();
    let refusal = map_file(&path, MapOptions::shared().len(MAPPED).reserve()).unwrap_err();
    assert!(
        matches!(refusal, Error::CopyOnWrite { kind: "btrfs", .. }),
        "{refusal:?}"
    );
    let message = refusal.to_string();
    assert!(
        message.contains("SIGBUS") && message.contains("chattr +C"),
        "{message}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"not empty");
    drop(map_file(&path, MapOptions::shared()).unwrap());
}

fn on_a_full_btrfs_a_snapshot_undoes_a_reservation() {
    let disk = btrfs();
    let map = created(&disk.path().join("board"));
    assert!(is_writable(&map));
    let snapshot = Command::new("btrfs")
        .args(["-q", "subvolume", "snapshot"])
        .args([disk.path(), &disk.path().join("snapshot")])
        .status();
    assert!(snapshot.unwrap().success());
    disk.fill();
    assert!(!is_writable(&map));
}

fn on_a_full_xfs_a_copy_undoes_a_reservation_and_reserve_repeats_it() {
    let disk = ImageDisk::new("xfs", &["-q"], 320);
    let (path, copy) = (disk.path().join("board"), disk.path().join("copy"));
    let map = created(&path);
    assert!(is_writable(&map));
    let copied = Command::new("cp")
        .arg("--reflink=always")
        .args([&path, &copy])
        .status();
    if !copied.unwrap().success() {
        skip("this XFS has no copies that share blocks");
    }
    let options = MapOptions::shared().len(MAPPED).reserve();
    let reserved_again = map_file(&copy, options).unwrap();
    disk.fill();
    assert!(is_writable(&reserved_again));
    // The other file has its blocks for itself now.
    assert!(is_writable(&map));

    fs::remove_file(disk.path().join("filler-16777216-0")).unwrap();
    let copied = Command::new("cp")
        .arg("--reflink=always")
        .args([&path, &disk.path().join("third")])
        .status();
    assert!(copied.unwrap().success());
    disk.fill();
    assert!(!is_writable(&map), "a copy undoes a reservation");
}
