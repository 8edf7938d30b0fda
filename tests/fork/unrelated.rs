//! Processes that share only a file or a descriptor: exclusive use, reports of deaths, and
//! refusals.

mod boot;
mod exclusive;
mod memfd;
mod namespace;
mod partial_reset;
mod replaced;

pub use memfd::{ROLE, as_unrelated_process};

use crate::files::{create, open, open_or_create, place};
use pshared::{Shared, SharedMutex, ShmSafe};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub fn tests() -> Vec<crate::harness::Test> {
    [
        boot::tests(),
        exclusive::tests(),
        namespace::tests(),
        partial_reset::tests(),
        replaced::tests(),
        memfd::tests(),
    ]
    .concat()
}

/// Offsets in a file's header, in bytes.
const DIRTY: u64 = 12;
const VALUE_OFFSET: u64 = 16;
const BOOT: u64 = 64;
const NAMESPACE: u64 = 80;

fn bytes_at<const N: usize>(path: &Path, offset: u64) -> [u8; N] {
    let mut bytes = [0; N];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut bytes, offset)
        .unwrap();
    bytes
}

fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

/// Makes the lock at `offset` bytes into the value appear to be held by a thread that no longer
/// exists. A power cut, for example, leaves such a lock, because the kernel marks nothing then.
fn pretend_held(path: &Path, offset: u64) {
    let place = u64::from_ne_bytes(bytes_at(path, VALUE_OFFSET)) + offset;
    // Process 1 exists, so no process considers the holder dead.
    patch(path, place, &1_u32.to_ne_bytes());
}

/// Whether no process uses the file. An opener makes the same check.
fn is_unused(path: &Path) -> bool {
    use std::os::fd::AsRawFd;
    let file = File::open(path).unwrap();
    // SAFETY: the call takes only integers.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// Creates a file with a value in it, and stops using the file.
fn create_and_close<T: ShmSafe>(path: &Path, value: T) {
    drop(create(path, value).unwrap());
}

type Lock = SharedMutex<u64>;

fn open_lock(path: &Path) -> Shared<Lock> {
    open(path).unwrap()
}
