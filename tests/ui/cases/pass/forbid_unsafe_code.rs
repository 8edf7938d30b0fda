//! The derives work if `unsafe` is forbidden: the generated code upholds what the keyword promises.

#![forbid(unsafe_code)]
#![deny(warnings)]

use pshared::{ShmData, ShmSafe};

#[derive(ShmSafe, ShmData)]
#[pshared(zeroed)]
#[repr(C)]
pub struct Board<T, const N: usize = 4> {
    pub rows: [T; N],
    pub level: Level,
    pub shape: Shape,
}

#[derive(ShmSafe, ShmData)]
#[pshared(zeroed)]
#[repr(u8)]
pub enum Level {
    Low,
    High,
}

#[derive(ShmSafe, ShmData)]
#[pshared(zeroed)]
#[repr(i32)]
pub enum Shape {
    Point = -1,
    Circle(f64),
    Rectangle { width: f64, height: f64 },
}

fn both<T: ShmSafe + ShmData>() {}

fn main() {
    both::<Board<u64>>();
    let _ = (Level::Low, Level::High, Shape::Point, Shape::Circle(1.0));
    let _ = Shape::Rectangle {
        width: 1.0,
        height: 1.0,
    };
}
