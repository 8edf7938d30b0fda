//! Without a representation, the compiler may lay a type out anew with every version.

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
