//! A lock shares the value that it protects, but a string's text lies elsewhere.

use pshared::SharedMutex;

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    name: SharedMutex<String>,
}

fn main() {}
