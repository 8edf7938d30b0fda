//! A macro below the derives changes the order of fields or of variants, or a discriminant.

#![forbid(unsafe_code)]

use macro_below::replace;
use pshared::{ShmData, ShmSafe};

#[derive(ShmSafe, ShmData)]
#[replace(a: u32, b: u32 => b: u32, a: u32)]
#[repr(C)]
struct Fields {
    a: u32,
    b: u32,
}

#[derive(ShmSafe, ShmData)]
#[replace(a: u32, b: u32 => b: u32, a: u32)]
#[repr(u8)]
enum VariantFields {
    Only { a: u32, b: u32 },
}

#[derive(ShmSafe, ShmData)]
#[replace(First, Second(u32) => Second(u32), First)]
#[repr(u8)]
enum Variants {
    First,
    Second(u32),
}

#[derive(ShmSafe, ShmData)]
#[replace(0 => 2)]
#[repr(u8)]
enum Discriminant {
    First = 0,
    Second(u32) = 1,
}

/// A match on a single variant does not read the tag.
#[derive(ShmSafe, ShmData)]
#[pshared(zeroed)]
#[replace(0 => 1)]
#[repr(u8)]
enum OnlyVariant {
    Only(u32) = 0,
}

fn main() {}
