//! A map on the heap.

use std::collections::HashMap;

#[derive(pshared::ShmData)]
#[repr(C)]
struct Board {
    count: u32,
    rows: HashMap<u32, u32>,
}

fn main() {}
