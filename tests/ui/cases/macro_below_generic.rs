//! A macro below the derives changes a generic type. The layout of each type that is made of it is
//! checked where it is used.

#![forbid(unsafe_code)]

use macro_below::replace;
use pshared::memory::Layout;
use pshared::{Shared, ShmData, ShmSafe};

#[derive(ShmData)]
#[replace(repr(C) => must_use)]
#[repr(C)]
struct NotC<T> {
    small: u8,
    value: T,
    last: u8,
}

#[derive(ShmSafe)]
#[pshared(zeroed)]
#[replace(0 => 1)]
#[repr(u8)]
enum Discriminant<T> {
    Only(T) = 0,
}

fn main() {
    <NotC<u32> as ShmData>::describe(&mut Layout::default());
    let _ = Shared::<Discriminant<u8>>::zeroed();
}
