//! No parameter makes a list on the heap `ShmSafe`, so the error appears at the type's definition.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Rows<T, const N: usize> {
    first: [T; N],
    rest: Vec<T>,
}

fn main() {}
