//! A macro below the derives changes fields that the derives check by a trait of the field or by a
//! bound: own types, parameters, primitives. The new types coerce to the old ones if possible.

#![forbid(unsafe_code)]

use macro_below::replace;
use pshared::{SharedMutex, ShmData, ShmSafe};

#[derive(ShmSafe, ShmData)]
#[repr(u8)]
enum Level {
    Low,
    High,
}

#[derive(ShmSafe, ShmData)]
#[replace(Level => Box<Level>)]
#[repr(C)]
struct Own {
    level: Level,
}

#[derive(ShmSafe)]
#[replace(SharedMutex<u32> => std::sync::Arc<SharedMutex<u32>>)]
#[repr(C)]
struct Primitive {
    lock: SharedMutex<u32>,
}

#[derive(ShmSafe, ShmData)]
#[replace([T; 2] => Box<[T; 2]>)]
#[repr(C)]
struct Parameter<T> {
    items: [T; 2],
}

#[derive(ShmSafe, ShmData)]
#[replace(I::Item => Box<I::Item>)]
#[repr(u8)]
enum Projection<I: Iterator> {
    Item(I::Item),
}

/// The new type is also allowed, but it is not the type that the layout describes.
#[derive(ShmSafe, ShmData)]
#[replace(u32 => i32)]
#[repr(C)]
struct AlsoAllowed {
    value: u32,
}

fn main() {}
