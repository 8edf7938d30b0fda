//! A struct that derives nothing.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    // Not one of this file's own: whether the compiler shows where such a type is declared depends on its version.
    inner: std::alloc::Layout,
}

fn main() {}
