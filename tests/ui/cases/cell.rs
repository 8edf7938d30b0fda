//! Any process that sees a cell may write to it.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    count_again: std::cell::Cell<u32>,
}

fn main() {}
