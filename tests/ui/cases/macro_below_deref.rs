//! A macro below the derives changes a number to a type that dereferences to a number. A reference
//! to such a type coerces to a reference to the number.

#![forbid(unsafe_code)]

use macro_below::replace;
use pshared::{ShmData, ShmSafe};

#[derive(ShmSafe, ShmData)]
#[replace(u64 => Pointer)]
#[repr(C)]
struct Named {
    id: u32,
    value: u64,
}

#[derive(ShmSafe, ShmData)]
#[replace(u64 => Pointer)]
#[repr(C)]
struct Tuple(u32, u64);

#[derive(ShmSafe, ShmData)]
#[replace(u64 => Pointer)]
#[repr(u8)]
enum NamedVariant {
    None,
    Some { id: u32, value: u64 },
}

#[derive(ShmSafe, ShmData)]
#[replace(u64 => Pointer)]
#[repr(u8)]
enum TupleVariant {
    None,
    Some(u32, u64),
}

#[derive(ShmSafe, ShmData)]
#[replace(u64 => Pointer)]
#[repr(C)]
struct Generic<T, const N: usize> {
    items: [T; N],
    value: u64,
}

struct Pointer(Box<u64>);

impl std::ops::Deref for Pointer {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.0
    }
}

impl std::ops::DerefMut for Pointer {
    fn deref_mut(&mut self) -> &mut u64 {
        &mut self.0
    }
}

fn main() {}
