//! The struct of the notes' reader and writer, which died with SIGSEGV in the reader.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct TestMap {
    data: i32,
    str: String,
    id: i32,
}

fn main() {}
