//! A number in one process's table of files.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    log: std::fs::File,
}

fn main() {}
