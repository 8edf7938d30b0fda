//! A lock of one process.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    table: std::sync::Mutex<u64>,
}

fn main() {}
