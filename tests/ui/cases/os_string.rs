//! A path on the heap.

use std::path::PathBuf;

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    path: PathBuf,
}

fn main() {}
