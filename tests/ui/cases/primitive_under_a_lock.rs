//! Two guards and `mem::swap` would carry the inner lock away from its place.

use pshared::{SharedMutex, ShmData, ShmSafe};

#[derive(ShmData)]
#[repr(C)]
struct Inner {
    value: u32,
    lock: SharedMutex<u64>,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Board {
    inner: SharedMutex<Inner>,
}

fn main() {}
