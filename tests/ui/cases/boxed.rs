//! A value on the heap.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    row: Box<[u8; 16]>,
}

fn main() {}
