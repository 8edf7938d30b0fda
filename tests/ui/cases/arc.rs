//! A reference count on the heap.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    rows: std::sync::Arc<u64>,
}

fn main() {}
