//! Under a lock a string is as far away as anywhere else.

#[derive(pshared::ShmData)]
#[repr(C)]
struct Board {
    count: u32,
    name: String,
}

fn main() {}
