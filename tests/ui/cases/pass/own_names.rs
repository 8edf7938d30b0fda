//! The errors name the standard library's types. A user's type that has such a name is judged by
//! what it is.

#![deny(warnings)]

use pshared::{ShmData, ShmSafe};

#[derive(ShmSafe, ShmData)]
#[repr(C)]
pub struct String {
    len: u32,
    bytes: [u8; 60],
}

#[derive(ShmSafe, ShmData)]
#[repr(C)]
pub struct Vec<T, const N: usize> {
    len: u32,
    items: [T; N],
}

type Mutex = u64;

#[derive(ShmSafe, ShmData)]
#[repr(C)]
pub struct Board<T> {
    name: String,
    rows: Vec<u32, 4>,
    more: Vec<T, 4>,
    lock: Mutex,
}

fn both<T: ShmSafe + ShmData>() {}

fn main() {
    both::<Board<u8>>();
}
