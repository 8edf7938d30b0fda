//! A placed value is never dropped, so its destructor would never run.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
}

impl Drop for Board {
    fn drop(&mut self) {}
}

fn main() {}
