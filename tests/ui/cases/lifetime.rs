//! A placed value may outlive the process, so it must not borrow from the process.

use std::marker::PhantomData;

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct View<'a, T> {
    value: T,
    mark: PhantomData<&'a T>,
}

fn main() {}
