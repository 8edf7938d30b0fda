//! With two guards, `mem::swap` would move the inner lock away from its address.

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
