//! Types whose syntax alone shows that they are addresses or have no layout.

use pshared::{ShmData, ShmSafe};
use std::fmt::Debug;

#[derive(ShmSafe)]
#[repr(C)]
struct Named {
    name: &'static str,
    rows: &'static [u64],
    value: &'static u64,
}

#[derive(ShmData)]
#[repr(C)]
struct Pointers(*const u8, *mut [u8; 4]);

#[derive(ShmSafe)]
#[repr(u8)]
enum Callback {
    None,
    Plain(fn(u32) -> u32),
    Named { handler: extern "C" fn() },
}

#[derive(ShmData)]
#[repr(C)]
struct Unfixed {
    pair: (u32, u64),
    many: [&'static str; 4],
    any: dyn Debug,
}

fn main() {}
