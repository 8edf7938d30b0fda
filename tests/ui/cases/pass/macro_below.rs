//! An attribute macro below the derive may expand to the same fields. Above the derive it may
//! change them, because the derive then sees the result.

#![forbid(unsafe_code)]
#![deny(warnings)]

use macro_below::{replace, unchanged};
use pshared::{SharedMutex, ShmData, ShmSafe};

#[derive(ShmSafe, ShmData)]
#[unchanged]
#[repr(C)]
pub struct Board<T, I: Iterator, const N: usize = 4> {
    pub rows: [T; N],
    pub item: I::Item,
    pub bytes: [u8; 4],
    pub level: Level,
    pub shape: Shape<T>,
    pub millimeters: Length,
}

#[derive(ShmSafe, ShmData)]
#[unchanged]
#[repr(u8)]
pub enum Level {
    Low,
    High,
}

#[derive(ShmSafe, ShmData)]
#[unchanged]
#[repr(i32)]
pub enum Shape<T> {
    Point = -1,
    Circle(T),
    Rectangle { width: T, height: f64 },
}

#[derive(ShmSafe, ShmData)]
#[unchanged]
#[repr(transparent)]
pub struct Meters(pub u64);

#[derive(ShmSafe, ShmData)]
#[unchanged]
#[repr(C)]
pub struct Nothing;

#[derive(ShmSafe)]
#[unchanged]
#[repr(C)]
pub struct Guarded<T> {
    pub lock: SharedMutex<T>,
    pub locks: [SharedMutex<Level>; 2],
}

#[derive(ShmSafe, ShmData)]
#[pshared(zeroed)]
#[unchanged]
#[repr(C, align(32))]
pub struct Aligned {
    pub small: u8,
    pub wide: Wide,
    pub list: [u16; 3],
}

#[derive(ShmSafe, ShmData)]
#[pshared(zeroed)]
#[unchanged]
#[repr(u64, align(16))]
pub enum Wide {
    Bytes([u8; 3]),
    Number { byte: u8, number: u64 },
}

/// A representation that changes nothing.
#[derive(ShmSafe, ShmData)]
#[replace(transparent => C)]
#[repr(transparent)]
pub struct Feet(pub u64);

/// Another name of the same type is the same type.
pub type Length = u64;

#[derive(ShmSafe, ShmData)]
#[replace(u64 => Length)]
#[repr(C)]
pub struct Renamed {
    pub length: u64,
}

#[replace(u64 => Meters)]
#[derive(ShmSafe, ShmData)]
#[repr(C)]
pub struct Above {
    pub length: u64,
}

fn both<T: ShmSafe + ShmData>() {}

fn safe<T: ShmSafe>() {}

fn main() {
    both::<Board<u64, std::vec::IntoIter<u16>>>();
    both::<Nothing>();
    both::<Aligned>();
    both::<Feet>();
    both::<Renamed>();
    both::<Above>();
    safe::<Guarded<u64>>();
    let _ = (Level::Low, Level::High, Shape::<u8>::Point, Shape::Circle(1));
    let _ = (Wide::Bytes([1; 3]), Wide::Number { byte: 1, number: 2 });
    let _ = Shape::Rectangle {
        width: 1,
        height: 1.0,
    };
}
