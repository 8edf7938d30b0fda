//! A `String` in a shared struct: a reader in another process may die with SIGSEGV.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct TestMap {
    data: i32,
    str: String,
    id: i32,
}

fn main() {}
