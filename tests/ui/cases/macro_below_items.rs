//! A macro below the derives adds a field or a variant, packs a struct, or makes it a union.

#![forbid(unsafe_code)]

use macro_below::replace;
use pshared::{ShmData, ShmSafe};

#[derive(ShmSafe, ShmData)]
#[replace(u32 => u32, added: String)]
#[repr(C)]
struct AddedField {
    value: u32,
}

#[derive(ShmSafe, ShmData)]
#[replace(Last => Last, Added(String))]
#[repr(u8)]
enum AddedVariant {
    First,
    Last,
}

#[derive(ShmSafe, ShmData)]
#[replace(C => C, packed)]
#[repr(C)]
struct Packed {
    small: u8,
    large: u32,
}

#[derive(ShmSafe, ShmData)]
#[replace(struct => union)]
#[repr(C)]
struct Union {
    value: u32,
}

fn main() {}
