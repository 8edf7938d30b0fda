//! The state of a mutex. Its guards refer to this type and not to the mutex, so that the modules do
//! not import each other in a loop.

use crate::raw::RawLock;
use crate::raw::poison::Poison;
use std::cell::UnsafeCell;

/// The lock, the poison flag and the data of a [`SharedMutex`](crate::SharedMutex).
#[repr(C)]
pub(in crate::sync) struct Inner<T, R: RawLock> {
    pub(in crate::sync) raw: R,
    pub(in crate::sync) poison: Poison,
    pub(in crate::sync) data: UnsafeCell<T>,
}

impl<T, R: RawLock> Inner<T, R> {
    pub(in crate::sync) const fn new(value: T) -> Self {
        Inner {
            raw: R::NEW,
            poison: Poison::new(),
            data: UnsafeCell::new(value),
        }
    }
}
