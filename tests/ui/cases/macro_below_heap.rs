//! A macro below the derives changes a number to a type on the heap.

#![forbid(unsafe_code)]

use macro_below::replace;
use pshared::{ShmData, ShmSafe};

#[derive(ShmSafe, ShmData)]
#[replace(u64 => String)]
#[repr(C)]
struct Named {
    id: u32,
    value: u64,
}

#[derive(ShmSafe, ShmData)]
#[replace(u64 => String)]
#[repr(C)]
struct Tuple(u32, u64);

#[derive(ShmSafe, ShmData)]
#[replace(u64 => String)]
#[repr(u8)]
enum NamedVariant {
    None,
    Some { id: u32, value: u64 },
}

#[derive(ShmSafe, ShmData)]
#[replace(u64 => String)]
#[repr(u8)]
enum TupleVariant {
    None,
    Some(u32, u64),
}

#[derive(ShmSafe, ShmData)]
#[replace(u64 => String)]
#[repr(C)]
struct Generic<T, const N: usize> {
    items: [T; N],
    value: u64,
}

fn main() {}
