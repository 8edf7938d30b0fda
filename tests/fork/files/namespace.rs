//! File systems of other kinds: a full one, and one that a server in user space provides.

use super::{create, names, open, open_or_create};
use crate::disk::Disk;
use crate::harness::skip;
use crate::support::{child, passes};
use pshared::{Error, FileLock, Shared, SharedCounter};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

crate::tests!(
    a_full_disk_is_an_error_and_leaves_no_file,
    a_value_that_fills_the_disk_is_written_without_a_bus_error,
    a_file_system_of_a_server_in_user_space_is_refused,
);

/// A file system with space for 256 KiB.
fn small_disk() -> Disk {
    Disk::new("tmpfs", "size=256k")
}

fn create_slice(path: &Path, len: usize) -> Result<Shared<[SharedCounter]>, Error> {
    // SAFETY: only this test knows the directory.
    unsafe { Shared::create_from_fn(path, len, |_| SharedCounter::new(1)) }
}

fn a_full_disk_is_an_error_and_leaves_no_file() {
    let directory = small_disk();
    let path = directory.path().join("board");
    let refusal = create_slice(&path, 64 << 10).unwrap_err();
    assert!(
        matches!(refusal, Error::NoSpace { len: 528_384, .. }),
        "{refusal:?}"
    );
    let message = refusal.to_string();
    assert!(
        message.contains("board") && message.contains("528384 bytes"),
        "{message}"
    );
    assert!(message.contains("No space left on device"), "{message}");
    assert!(names(directory.path()).is_empty());

    std::fs::write(directory.path().join("ballast"), vec![1; 250 << 10]).unwrap();
    let refusal = open_or_create(&path, || SharedCounter::new(1)).unwrap_err();
    assert!(
        matches!(refusal, Error::NoSpace { len: 4104, .. }),
        "{refusal:?}"
    );
    std::fs::remove_file(directory.path().join("ballast")).unwrap();
    // The failed creations left nothing that uses space.
    drop(create_slice(&path, 25 << 10).unwrap());
    assert_eq!(names(directory.path()), ["board"]);
}

fn a_value_that_fills_the_disk_is_written_without_a_bus_error() {
    let directory = small_disk();
    let path = directory.path().join("board");
    let len = (256 - 4) << 10 >> 3;
    let value = create_slice(&path, len).unwrap();
    assert!(create(&directory.path().join("other"), SharedCounter::new(1)).is_err());
    value
        .iter()
        .for_each(|counter| assert_eq!(counter.add(1), 1));
    drop(value);
    assert!(
        open::<[SharedCounter]>(&path)
            .unwrap()
            .iter()
            .all(|counter| counter.get() == 2)
    );
}

fn a_file_system_of_a_server_in_user_space_is_refused() {
    let Ok(device) = File::options().read(true).write(true).open("/dev/fuse") else {
        skip("/dev/fuse cannot be opened")
    };
    let directory = Disk::new(
        "fuse",
        &format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        ),
    );
    // The server ends when the mount is gone.
    let _server = child(|| serve(&device));
    drop(device);
    let client = child(|| {
        for name in ["missing", "there"] {
            let path = directory.path().join(name);
            let created = create(&path, SharedCounter::new(1)).unwrap_err();
            assert!(
                matches!(created, Error::RemoteFileSystem { kind: "FUSE", .. }),
                "{created:?}"
            );
            let message = created.to_string();
            assert!(
                message.contains(name) && message.contains("lies on FUSE"),
                "{message}"
            );
            assert!(
                message.contains("use a local disk, or /dev/shm"),
                "{message}"
            );
        }
        for name in ["missing", "there"] {
            let locked = FileLock::flock(directory.path().join(name)).unwrap_err();
            assert!(
                matches!(locked, Error::RemoteFileSystem { kind: "FUSE", .. }),
                "{locked:?}"
            );
        }
        let opened = open::<SharedCounter>(&directory.path().join("there")).unwrap_err();
        assert!(
            matches!(opened, Error::RemoteFileSystem { kind: "FUSE", .. }),
            "{opened:?}"
        );
        let opened = open::<SharedCounter>(&directory.path().join("missing")).unwrap_err();
        assert!(matches!(opened, Error::NotFound { .. }), "{opened:?}");
    });
    passes(&client);
}

/// A FUSE server of one directory with one regular file, `there`. It answers the requests that look
/// up the file and identify the file system. It answers every other request with ENOSYS: no file is
/// opened, created or read.
fn serve(device: &File) {
    const LOOKUP: u32 = 1;
    const FORGET: u32 = 2;
    const GETATTR: u32 = 3;
    const STATFS: u32 = 17;
    const INIT: u32 = 26;
    const BATCH_FORGET: u32 = 42;
    const HEADER: usize = 40;

    let mut request = vec![0; 1 << 20];
    let mut device = device;
    // An error means that the mount is gone.
    while let Ok(length) = device.read(&mut request) {
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let is_root = word(16) == 1;
        let answer: Result<Vec<u8>, i32> = match word(4) {
            INIT => {
                // Version 7.31, and otherwise the minimum. The data of a request is at most one
                // page.
                let words = [7, 31, 0, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                Ok(bytes_of(&words))
            }
            // A validity of zero, then the attributes.
            GETATTR => Ok([&bytes_of(&[0; 4])[..], &attributes(is_root)].concat()),
            LOOKUP if &request[HEADER..length] == b"there\0" => {
                // Node 2, with a validity of zero, then the attributes.
                let entry = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                Ok([&bytes_of(&entry)[..], &attributes(false)].concat())
            }
            LOOKUP => Err(libc::ENOENT),
            STATFS => Ok(bytes_of(&[0; 20])),
            FORGET | BATCH_FORGET => continue,
            _ => Err(libc::ENOSYS),
        };
        let (error, data) = match answer {
            Ok(data) => (0, data),
            Err(errno) => (-errno, Vec::new()),
        };
        let mut reply = bytes_of(&[16 + data.len() as u32, error as u32]);
        reply.extend(&request[8..16]); // the request's number
        reply.extend(data);
        if device.write(&reply).is_err() {
            return;
        }
    }
}

/// Returns the kernel's `struct fuse_attr` of the directory or the file.
fn attributes(is_root: bool) -> Vec<u8> {
    let mode = if is_root {
        libc::S_IFDIR | 0o755
    } else {
        libc::S_IFREG | 0o600
    };
    let mut words = [0; 22];
    words[0] = if is_root { 1 } else { 2 }; // inode
    words[2] = if is_root { 0 } else { 4104 }; // size
    words[15] = mode;
    words[16] = 1; // links
    words[20] = 4096; // block size
    bytes_of(&words)
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
