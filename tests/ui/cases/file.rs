//! A file descriptor is a number in the file table of one process.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    log: std::fs::File,
}

fn main() {}
