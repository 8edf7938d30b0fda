//! Representations that specify too little or too much.

use pshared::{ShmData, ShmSafe};

#[derive(ShmSafe)]
#[repr(C)]
enum AsInC {
    Low,
    High,
}

#[derive(ShmSafe)]
#[repr(C, u8)]
enum TagAndUnion {
    Low(u32),
    High,
}

#[derive(ShmData)]
#[repr(transparent)]
enum Transparent {
    Only(u32),
}

#[derive(ShmData)]
#[repr(C, packed(2))]
struct Packed {
    small: u8,
    large: u64,
}

fn main() {}
