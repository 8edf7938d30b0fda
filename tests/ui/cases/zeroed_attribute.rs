//! `#[pshared(zeroed)]` on a type for which zero bytes cannot be valid.

use pshared::{SharedMutex, ShmData, ShmSafe};
use std::num::NonZeroU32;

#[derive(ShmSafe, ShmData)]
#[pshared(zeroed)]
#[repr(C)]
struct NonZero {
    fine: u32,
    bad: NonZeroU32,
}

#[derive(ShmSafe, ShmData)]
#[repr(C)]
struct Ratio(u32, u32);

#[derive(ShmSafe)]
#[pshared(zeroed)]
#[repr(C)]
struct NotAllowed {
    ratios: [Ratio; 2],
    locked: SharedMutex<Ratio>,
}

#[derive(ShmSafe)]
#[pshared(zeroed)]
#[repr(u8)]
enum FromOne {
    One = 1,
    Two,
}

#[derive(ShmData)]
#[pshared(zeroed)]
#[repr(i16)]
enum FieldsFromOne<T> {
    One(T) = 1,
    Two { ratio: Ratio },
}

#[derive(ShmData)]
#[pshared(zeroed)]
#[repr(u32)]
enum FieldOfZero {
    Other(NonZeroU32) = 1,
    Zero(NonZeroU32) = 0,
}

/// A field that depends on the parameter may be valid, the other may not.
#[derive(ShmData)]
#[pshared(zeroed)]
#[repr(C)]
struct Generic<T> {
    value: T,
    ratio: Ratio,
}

fn main() {}
