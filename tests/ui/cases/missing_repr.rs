//! Without a representation, each compiler version may lay the type out differently.

use pshared::{ShmData, ShmSafe};

#[derive(ShmSafe)]
struct Board {
    count: u32,
}

#[derive(ShmData)]
struct Meters(f64);

#[derive(ShmData)]
#[repr(align(64))]
struct Aligned(u8);

#[derive(ShmSafe)]
enum Level {
    Low,
    High,
}

fn main() {}
