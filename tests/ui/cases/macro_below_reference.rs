//! A macro below the derives changes a number to a reference to a number. A reference to the
//! reference coerces to a reference to the number.

#![forbid(unsafe_code)]

use macro_below::replace;
use pshared::{ShmData, ShmSafe};

#[derive(ShmSafe, ShmData)]
#[replace(u64 => &'static u64)]
#[repr(C)]
struct Named {
    id: u32,
    value: u64,
}

#[derive(ShmSafe, ShmData)]
#[replace(u64 => &'static u64)]
#[repr(C)]
struct Tuple(u32, u64);

#[derive(ShmSafe, ShmData)]
#[replace(u64 => &'static u64)]
#[repr(u8)]
enum NamedVariant {
    None,
    Some { id: u32, value: u64 },
}

#[derive(ShmSafe, ShmData)]
#[replace(u64 => &'static u64)]
#[repr(u8)]
enum TupleVariant {
    None,
    Some(u32, u64),
}

#[derive(ShmSafe, ShmData)]
#[replace(u64 => &'static u64)]
#[repr(C)]
struct Generic<T, const N: usize> {
    items: [T; N],
    value: u64,
}

fn main() {}
