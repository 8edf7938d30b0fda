//! Nothing records which field of a union another process has written.

#[derive(pshared::ShmData)]
#[repr(C)]
union Number {
    int: u32,
    float: f32,
}

fn main() {}
