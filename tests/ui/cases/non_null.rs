//! An address is one by any other name.

#[derive(pshared::ShmData)]
#[repr(C)]
struct Board {
    count: u32,
    head: std::ptr::NonNull<u8>,
}

fn main() {}
