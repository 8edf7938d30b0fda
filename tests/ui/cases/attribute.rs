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

#[derive(ShmSafe)]
#[pshared(zeroed)]
#[pshared(zeroed)]
#[repr(C)]
struct ZeroedTwice;

#[derive(ShmSafe)]
#[pshared(zeroed = true)]
#[repr(C)]
struct ZeroedValue;

fn main() {}
