//! A `NonNull` is an address too.

#[derive(pshared::ShmData)]
#[repr(C)]
struct Board {
    count: u32,
    head: std::ptr::NonNull<u8>,
}

fn main() {}
