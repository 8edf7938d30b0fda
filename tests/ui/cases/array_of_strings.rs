//! What is inside of an array counts as what is beside it.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    names: [String; 4],
}

fn main() {}
