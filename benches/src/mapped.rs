//! An anonymous map that children inherit. It holds the arena and the contenders' locks.

use pshared::zerocopy::FromZeros;
use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::slice;

/// Values in `MAP_SHARED` memory, initialized to zero bytes.
#[derive(Debug)]
pub struct Mapped<T> {
    start: NonNull<T>,
    len: usize,
}

impl<T: FromZeros> Mapped<T> {
    pub fn new(len: usize) -> io::Result<Self> {
        const {
            assert!(
                !std::mem::needs_drop::<T>(),
                "values in a map are never dropped"
            );
            assert!(align_of::<T>() <= 4096, "a map is aligned to a page");
        }
        // SAFETY: a new map at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len * size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast())
            .ok_or_else(|| io::Error::other("mmap returned address 0"))?;
        Ok(Mapped { start, len })
    }
}

impl<T> Deref for Mapped<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the memory is mapped until `self` is dropped, and zero bytes are a valid `T`.
        // Everything that children change is atomic or in a cell.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: `new` mapped this memory with this length, and all borrows of it have ended.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

/// Memory for a `T` of a foreign type, on cache lines of its own.
#[derive(FromZeros)]
#[repr(C, align(128))]
pub struct Place<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Place<T> {
    /// Returns the address of the `T`. It stays mapped as long as the borrow lasts.
    #[inline]
    pub fn address(&self) -> *mut T {
        self.0.get().cast()
    }
}
