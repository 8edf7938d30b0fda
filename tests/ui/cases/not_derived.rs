//! A struct that derives nothing.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    // A foreign type: whether the compiler shows a type's declaration depends on its version.
    inner: std::alloc::Layout,
}

fn main() {}
