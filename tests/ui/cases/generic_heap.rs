//! No parameter makes a list on the heap `ShmSafe`, so that is told where the type is defined.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Rows<T, const N: usize> {
    first: [T; N],
    rest: Vec<T>,
}

fn main() {}
