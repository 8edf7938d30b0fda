//! A list on the heap.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    rows: Vec<[u8; 16]>,
}

fn main() {}
