//! A string's text lies on the heap, also when the string is under a lock.

#[derive(pshared::ShmData)]
#[repr(C)]
struct Board {
    count: u32,
    name: String,
}

fn main() {}
