//! A lock shares what is under it, and a string's text is not there.

use pshared::SharedMutex;

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    name: SharedMutex<String>,
}

fn main() {}
