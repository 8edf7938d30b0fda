//! The elements of an array are checked like fields.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    names: [String; 4],
}

fn main() {}
