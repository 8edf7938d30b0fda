//! Processes that have nothing in common but a file or a descriptor: who is alone with it, who is told of the dead, and
//! who is refused.

mod exclusive;
mod memfd;
mod namespace;
mod partial_reset;

pub use memfd::{ROLE, as_unrelated_process};

use crate::files::{create, open, open_or_create, place};
use pshared::{Shared, SharedMutex, ShmSafe};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub fn tests() -> Vec<crate::harness::Test> {
    [
        exclusive::tests(),
        namespace::tests(),
        partial_reset::tests(),
        memfd::tests(),
    ]
    .concat()
}

/// Where in a file's header stand...
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

/// Makes the lock `offset` bytes into the value look held, by a thread of long ago: of a power cut, say, when the kernel
/// marks nothing.
fn pretend_held(path: &Path, offset: u64) {
    let place = u64::from_ne_bytes(bytes_at(path, VALUE_OFFSET)) + offset;
    // The first process lives, so that nobody takes the holder for gone.
    patch(path, place, &1_u32.to_ne_bytes());
}

/// Whether nobody uses the file: what an opener asks.
fn is_alone(path: &Path) -> bool {
    use std::os::fd::AsRawFd;
    let file = File::open(path).unwrap();
    // SAFETY: takes numbers.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// Creates a file with a value in it, and leaves it.
fn leave<T: ShmSafe>(path: &Path, value: T) {
    drop(create(path, value).unwrap());
}

type Lock = SharedMutex<u64>;

fn open_lock(path: &Path) -> Shared<Lock> {
    open(path).unwrap()
}
