//! A struct of the user's own that derives nothing.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
    inner: Inner,
}

#[repr(C)]
struct Inner {
    value: u32,
}

fn main() {}
