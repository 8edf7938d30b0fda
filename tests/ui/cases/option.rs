//! An enum whose layout is not specified.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    last: Option<u32>,
}

fn main() {}
