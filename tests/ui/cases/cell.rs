//! A cell may be written by whoever sees it.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    count_again: std::cell::Cell<u32>,
}

fn main() {}
