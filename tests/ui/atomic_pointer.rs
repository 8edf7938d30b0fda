//! An address that is written atomically is an address.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    head: std::sync::atomic::AtomicPtr<u8>,
}

fn main() {}
