//! A macro below the derives changes a representation. The fields and their types remain.

#![forbid(unsafe_code)]

use macro_below::replace;
use pshared::{ShmData, ShmSafe};

/// The language may then swap the fields.
#[derive(ShmSafe, ShmData)]
#[replace(repr(C) => must_use)]
#[repr(C)]
struct NotC {
    small: u8,
    large: u32,
    last: u8,
}

#[derive(ShmSafe, ShmData)]
#[replace(C => C, align(16))]
#[repr(C)]
struct Aligned {
    value: u32,
}

#[derive(ShmSafe, ShmData)]
#[replace(align(16) => align(8))]
#[repr(C, align(16))]
struct LessAligned {
    value: u32,
}

#[derive(ShmSafe, ShmData)]
#[replace(u8 => u16)]
#[repr(u8)]
enum WiderUnit {
    Zero,
    One,
}

#[derive(ShmSafe, ShmData)]
#[replace(repr(u32) => must_use)]
#[repr(u32)]
enum NotU32Unit {
    Zero,
    One,
}

/// The field has the same offset behind either tag.
#[derive(ShmSafe, ShmData)]
#[replace(u8 => u16)]
#[repr(u8)]
enum Wider {
    Zero,
    One(u32),
}

#[derive(ShmSafe, ShmData)]
#[replace(u16 => u8)]
#[repr(u16)]
enum Narrower {
    Zero,
    One(u32),
}

#[derive(ShmSafe, ShmData)]
#[replace(repr(u8) => repr(u16))]
#[repr(u8)]
enum MovedField {
    Zero([u8; 3]),
    One(u32),
}

#[derive(ShmSafe, ShmData)]
#[replace(repr(u8) => must_use)]
#[repr(u8)]
enum NotU8 {
    Zero(bool),
    One,
}

/// The tag of C has 32 bits, and 32 bits of padding follow it.
#[derive(ShmSafe, ShmData)]
#[replace(u64 => C)]
#[repr(u64)]
enum TagOfC {
    Zero(i64),
    One { value: i64 },
}

#[derive(ShmSafe, ShmData)]
#[replace(isize => C)]
#[repr(isize)]
enum OnlyTagOfC {
    Zero(i64),
}

fn main() {}
