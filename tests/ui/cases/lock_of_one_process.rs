//! A lock of one process.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    started: std::sync::OnceLock<u64>,
}

fn main() {}
