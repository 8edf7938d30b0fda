//! An enum whose layout nobody fixes.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    last: Option<u32>,
}

fn main() {}
