//! The derives' own attribute.

use pshared::ShmSafe;

#[derive(ShmSafe)]
#[pshared(krate = "pshared")]
#[repr(C)]
struct WrongKey;

#[derive(ShmSafe)]
#[pshared(crate = "pshared", crate = "pshared")]
#[repr(C)]
struct Twice;

fn main() {}
