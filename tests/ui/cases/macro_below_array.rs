//! A macro below the derives changes an array to a reference to an array.

#![forbid(unsafe_code)]

use macro_below::replace;
use pshared::{ShmData, ShmSafe};

#[derive(ShmSafe, ShmData)]
#[replace([u8; 4] => &'static [u8; 4])]
#[repr(C)]
struct Named {
    id: u32,
    value: [u8; 4],
}

#[derive(ShmSafe, ShmData)]
#[replace([u8; 4] => &'static [u8; 4])]
#[repr(C)]
struct Tuple(u32, [u8; 4]);

#[derive(ShmSafe, ShmData)]
#[replace([u8; 4] => &'static [u8; 4])]
#[repr(u8)]
enum NamedVariant {
    None,
    Some { id: u32, value: [u8; 4] },
}

#[derive(ShmSafe, ShmData)]
#[replace([u8; 4] => &'static [u8; 4])]
#[repr(u8)]
enum TupleVariant {
    None,
    Some(u32, [u8; 4]),
}

#[derive(ShmSafe, ShmData)]
#[replace([u8; 4] => &'static [u8; 4])]
#[repr(C)]
struct Generic<T, const N: usize> {
    items: [T; N],
    value: [u8; 4],
}

fn main() {}
