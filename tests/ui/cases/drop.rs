//! A placed value is never dropped, so a destructor would be a promise that nobody keeps.

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct Board {
    count: u32,
}

impl Drop for Board {
    fn drop(&mut self) {}
}

fn main() {}
