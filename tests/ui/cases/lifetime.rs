//! What borrows cannot outlive the process that it borrows from.

use std::marker::PhantomData;

#[derive(pshared::ShmSafe)]
#[repr(C)]
struct View<'a, T> {
    value: T,
    mark: PhantomData<&'a T>,
}

fn main() {}
